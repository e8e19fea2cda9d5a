from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from support_plans import H100, H100_PCIE, RTX_3090, T4, machine, plain_model, wish
from vedette_engines.errors import ImportInputError
from vedette_engines.plans.module import TensorRT
from vedette_engines.plans.request import PlanRequest, Profile, check_profiles, plan_key, uncovered
from vedette_engines.plans.settling import settle

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_engines.plans.environment import Environment

ALL_FLAGS = dict.fromkeys(["VERSION_COMPATIBLE", "REFIT", "STRIP_PLAN", "TF32"])
CAPABILITIES = dict.fromkeys(["NONE", "CURRENT", "SM75", "SM80", "SM86", "SM89", "SM120"])


LEVELS = dict.fromkeys(["NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"])


def module(flags: dict[str, Any], levels: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(
        BuilderFlag=SimpleNamespace(**flags),
        ComputeCapability=SimpleNamespace(__members__=CAPABILITIES),
        HardwareCompatibilityLevel=SimpleNamespace(**levels),
    )


FULL = TensorRT(module(ALL_FLAGS, LEVELS), "tensorrt", "11.4.0.106")
RTX = TensorRT(module(ALL_FLAGS, LEVELS), "tensorrt_rtx", "1.7.1.116")
BARE = TensorRT(module({}, {}), "tensorrt", "12.0.0.1")
ON_H100, ON_3090, NOWHERE = machine(H100), machine(RTX_3090), machine()


@pytest.mark.parametrize(
    ("profiles", "batch", "says"),
    [
        ((), None, "at least one profile"),
        ((Profile(0, 1, 1),), None, "profile 0:1:1 is impossible"),
        ((Profile(1, 1, 1), Profile(4, 2, 8)), None, "profile 4:2:8 is impossible; allowed is 1 <= smallest <= best"),
        ((Profile(1, 8, 4),), None, "profile 1:8:4 is impossible"),
        ((Profile(1, 8, 32),), 1, "the engine takes batches of 1 and no others.*allowed is 1:1:1"),
    ],
)
def test_impossible_profiles_are_refused(profiles: tuple[Profile, ...], batch: int | None, says: str) -> None:
    with pytest.raises(ImportInputError, match=says):
        check_profiles(profiles, batch)


def test_possible_profiles_are_not() -> None:
    check_profiles((Profile(1, 1, 1), Profile(2, 4, 8)), None)
    check_profiles((Profile(1, 1, 1),), 1)


def test_batches_between_profiles_are_told() -> None:
    assert uncovered((Profile(1, 1, 1), Profile(4, 8, 8))) == (2, 3)
    assert uncovered((Profile(8, 8, 16),)) == tuple(range(1, 8))
    assert uncovered((Profile(1, 1, 1), Profile(1, 8, 32))) == ()


@pytest.mark.parametrize(
    ("tensorrt", "changes", "here", "says"),
    [
        (FULL, {"workspace_bytes": 0}, ON_H100, "workspace is 0 bytes"),
        (FULL, {"hardware_compatibility": "all"}, ON_H100, r"'all'; allowed is none, same, ampere\+"),
        (FULL, {"targets": ("86",)}, ON_H100, "target is '86'; allowed is a compute capability like sm_86"),
        (FULL, {}, NOWHERE, "tensorrt builds on the GPU that is to run the plan, and there is none here; tensorrt_rtx"),
        (FULL, {"targets": ("sm_86",)}, ON_H100, r"target is sm_86, but tensorrt builds for the GPU at hand.*ampere\+"),
        (FULL, {"hardware_compatibility": "ampere+"}, machine(T4), "wants sm_80 or later; here is sm_75"),
        (BARE, {"refit": True}, ON_H100, r"tensorrt 12\.0\.0\.1 has no flag REFIT"),
        (BARE, {"hardware_compatibility": "same"}, ON_H100, r"12\.0\.0\.1 has no hardware compatibility 'same'"),
        (RTX, {"version_compatible": True}, NOWHERE, "cannot build version-compatible plans: it has no lean runtime"),
        (RTX, {"hardware_compatibility": "same"}, ON_3090, "ignores hardware compatibility, so 'same' is refused"),
        (RTX, {"refit": True}, NOWHERE, "needs a driver to build with refit, and there is none here"),
        (RTX, {"strip": True}, NOWHERE, "needs a driver to build with strip"),
        (RTX, {"targets": ("sm_90",)}, NOWHERE, "1.7.1.116 does not build for sm_90; it knows sm_75, sm_80, sm_86"),
        (RTX, {}, ON_H100, "does not build for sm_90"),
    ],
)
def test_what_cannot_be_built_here_is_refused_by_name(
    tmp_path: Path, tensorrt: TensorRT, changes: dict[str, Any], here: Environment, says: str
) -> None:
    with pytest.raises(ImportInputError, match=says):
        settle(wish(tmp_path / "m.onnx", **changes), tensorrt, here)


@pytest.mark.parametrize(
    ("tensorrt", "changes", "here", "targets", "flags"),
    [
        (FULL, {}, ON_H100, ("sm_90",), ()),
        (FULL, {"targets": ("sm_90",)}, ON_H100, ("sm_90",), ()),
        (FULL, {"hardware_compatibility": "same"}, ON_H100, ("any-sm_90",), ()),
        (FULL, {"hardware_compatibility": "ampere+"}, ON_H100, ("ampere+",), ()),
        (
            FULL,
            {"version_compatible": True, "refit": True, "strip": True, "tf32": True},
            ON_H100,
            ("sm_90",),
            ("VERSION_COMPATIBLE", "REFIT", "STRIP_PLAN", "TF32"),
        ),
        (RTX, {}, NOWHERE, ("sm_80", "sm_86", "sm_89", "sm_120"), ()),
        (RTX, {}, ON_3090, ("sm_86",), ()),
        (RTX, {"targets": ("sm_75", "sm_120", "sm_75")}, NOWHERE, ("sm_75", "sm_120"), ()),
        (RTX, {"refit": True}, ON_3090, ("sm_86",), ("REFIT",)),
    ],
)
def test_a_request_says_what_the_plan_will_run_on(
    tmp_path: Path,
    tensorrt: TensorRT,
    changes: dict[str, Any],
    here: Environment,
    targets: tuple[str, ...],
    flags: tuple[str, ...],
) -> None:
    settled = settle(wish(tmp_path / "m.onnx", **changes), tensorrt, here)
    assert (settled.targets, settled.flags) == (targets, flags)
    assert settled.capabilities == (tuple(t.replace("sm_", "SM") for t in targets) if tensorrt.is_rtx else ())


def test_the_same_wish_has_the_same_key(tmp_path: Path) -> None:
    request = wish(plain_model(tmp_path))
    key = plan_key(request, FULL, ON_H100)
    assert key == plan_key(request, FULL, ON_H100)
    assert len(key) == 64
    moved = (tmp_path / "another.onnx").absolute()
    moved.write_bytes(request.onnx.read_bytes())
    assert plan_key(replace(request, onnx=moved, timing_cache=tmp_path / "cache"), FULL, ON_H100) == key


@pytest.mark.parametrize(
    "changes",
    [
        {"profiles": (Profile(1, 2, 8),)},
        {"profiles": (Profile(1, 2, 4), Profile(1, 1, 1))},
        {"workspace_bytes": 1 << 20},
        {"version_compatible": True},
        {"hardware_compatibility": "same"},
        {"hardware_compatibility": "ampere+"},
        {"refit": True},
        {"strip": True},
        {"tf32": True},
        {"detailed": False},
    ],
    ids=str,
)
def test_whatever_decides_the_bytes_decides_the_key(tmp_path: Path, changes: dict[str, Any]) -> None:
    request = wish(plain_model(tmp_path))
    assert plan_key(replace(request, **changes), FULL, ON_H100) != plan_key(request, FULL, ON_H100)


def test_model_module_version_and_gpu_decide_the_key_too(tmp_path: Path) -> None:
    request = wish(plain_model(tmp_path))
    keys = {
        plan_key(request, FULL, ON_H100),
        plan_key(request, FULL, machine(H100_PCIE)),
        plan_key(request, FULL, ON_3090),
        plan_key(request, FULL, machine(H100, platform="linux-aarch64")),
        plan_key(request, replace(FULL, version="11.4.1.1"), ON_H100),
        plan_key(request, RTX, ON_3090),
        plan_key(request, RTX, NOWHERE),
        plan_key(replace(request, targets=("sm_86", "sm_89")), RTX, NOWHERE),
    }
    plain_model(tmp_path, batch=4)
    keys.add(plan_key(request, FULL, ON_H100))
    assert len(keys) == 9
    # Compiled for the GPU when it is loaded: the model at hand does not matter, only the targets.
    assert plan_key(replace(request, targets=("sm_86",)), RTX, NOWHERE) == plan_key(request, RTX, ON_3090)


def test_a_model_that_is_not_there_has_no_key(tmp_path: Path) -> None:
    with pytest.raises(ImportInputError, match=r"absent\.onnx: cannot be read"):
        plan_key(PlanRequest(tmp_path / "absent.onnx"), RTX, NOWHERE)
