"""How full TensorRT 10 and 11 are called, which cannot run here: order and flags only, on a module of names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support_faketensorrt import FakeTensorRT
from support_plans import H100, machine, plain_model, wish
from vedette_engines.errors import BuildError, ImportRefusedError
from vedette_engines.plans.building import build_plan
from vedette_engines.plans.request import Profile

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_engines.plans.plan import Plan

VERSIONS = ("10.13.2.6", "11.4.0.106")


def build(fake: FakeTensorRT, folder: Path, **changes: Any) -> Plan:
    said: list[str] = []
    request = wish(plain_model(folder), **changes)
    return build_plan(request, fake.found, said.append, environment=machine(H100))


@pytest.mark.parametrize("version", VERSIONS)
def test_networks_are_strongly_typed_and_nothing_that_11_dropped_is_asked_for(version: str, tmp_path: Path) -> None:
    fake = FakeTensorRT(version)
    build(fake, tmp_path)
    ((flags,),) = fake.arguments("create_network")
    assert flags == 1 << fake.creation.index("STRONGLY_TYPED")
    assert fake.arguments("set_flag") == []
    assert fake.arguments("clear_flag") == [("TF32",)]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_order_is_network_parser_configuration_profiles_build_inspector(version: str, tmp_path: Path) -> None:
    fake = FakeTensorRT(version)
    plan = build(fake, tmp_path, profiles=(Profile(1, 1, 1), Profile(1, 4, 8)), workspace_bytes=1 << 20)
    steps = ["create_network", "parse", "workspace", "add_optimization_profile", "progress_monitor", "build"]
    steps.append("deserialize")
    assert [name for name in dict.fromkeys(fake.names()) if name in steps] == steps
    assert fake.arguments("workspace") == [(1 << 20,)]
    assert fake.arguments("profiling_verbosity") == [("DETAILED",)]
    assert fake.arguments("build") == [(True,)]
    assert fake.arguments("deserialize") == [(b"a plan", True)]
    assert [shapes for _, *shapes in fake.arguments("set_shape")] == [
        [(1, 8, 8, 3)] * 3,
        [(1, 8, 8, 3), (4, 8, 8, 3), (8, 8, 8, 3)],
    ]
    assert plan.layers == '{"Layers": [], "as": "JSON"}'
    assert (plan.info.gpu, plan.info.driver, plan.info.targets) == (H100.name, "580.65.06", ("sm_90",))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("changes", "flags", "level"),
    [
        ({"version_compatible": True}, [("VERSION_COMPATIBLE",)], []),
        ({"refit": True, "strip": True}, [("REFIT",), ("STRIP_PLAN",)], []),
        ({"tf32": True}, [("TF32",)], []),
        ({"hardware_compatibility": "ampere+"}, [], [("AMPERE_PLUS",)]),
        ({"hardware_compatibility": "same"}, [], [("SAME_COMPUTE_CAPABILITY",)]),
    ],
)
def test_flags_reach_the_builder(
    version: str, changes: dict[str, Any], flags: list[Any], level: list[Any], tmp_path: Path
) -> None:
    fake = FakeTensorRT(version)
    plan = build(fake, tmp_path, **changes)
    assert fake.arguments("set_flag") == flags
    assert fake.arguments("hardware_compatibility_level") == level
    assert plan.info.version_compatible == ("version_compatible" in changes)


def test_timings_are_kept_for_the_next_build(tmp_path: Path) -> None:
    cache = tmp_path / "new" / "timings"
    first = FakeTensorRT("11.4.0.106")
    plan = build(first, tmp_path, timing_cache=cache)
    assert cache.read_bytes() == b"new timings"
    assert first.arguments("set_timing_cache") == [(b"", False)]
    assert plan.notes == (f"timing cache {cache}: 11 bytes kept",)

    second = FakeTensorRT("11.4.0.106", matching=(b"new timings",))
    plan = build(second, tmp_path, timing_cache=cache)
    assert second.arguments("set_timing_cache") == [(b"new timings", False)]
    assert plan.notes[0] == f"timing cache {cache}: 11 bytes used"
    assert second.names().index("set_timing_cache") < second.names().index("build")
    assert [path.name for path in cache.parent.iterdir()] == ["timings"]


def test_timings_of_another_version_or_gpu_are_passed_over_and_replaced(tmp_path: Path) -> None:
    cache = tmp_path / "timings"
    cache.write_bytes(b"of another GPU")
    fake = FakeTensorRT("11.4.0.106")
    plan = build(fake, tmp_path, timing_cache=cache)
    assert fake.arguments("set_timing_cache") == [(b"of another GPU", False), (b"", False)]
    assert "belongs to another version or GPU, or is broken: passed over, and replaced" in plan.notes[0]
    assert cache.read_bytes() == b"new timings"


def test_a_failed_build_keeps_no_timings(tmp_path: Path) -> None:
    cache = tmp_path / "timings"
    with pytest.raises(ImportRefusedError):
        build(FakeTensorRT("11.4.0.106", answer=None), tmp_path, timing_cache=cache)
    assert not cache.exists()


def test_timings_that_cannot_be_kept_are_an_error_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BuildError, match="cannot be written"):
        build(FakeTensorRT("11.4.0.106"), tmp_path, timing_cache=tmp_path / "file" / "timings")


def test_a_build_is_judged_by_what_it_returns_and_not_by_what_it_logs(tmp_path: Path) -> None:
    noise = "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (cudaError 35: no driver)"
    assert build(FakeTensorRT("11.4.0.106", errors=(noise, "Error Code 4: odd")), tmp_path).content == b"a plan"
    with pytest.raises(ImportRefusedError, match=r"tensorrt 11\.4\.0\.106 refuses small\.onnx: it says nothing"):
        build(FakeTensorRT("11.4.0.106", answer=None, errors=(noise,)), tmp_path)
    why = "Could not find any implementation for node relu."
    real = f"IBuilder::buildSerializedNetwork: Error Code 10: Internal Error ({why})"
    with pytest.raises(ImportRefusedError, match=r"node relu \(Relu\): Could not find any implementation"):
        build(FakeTensorRT("11.4.0.106", answer=None, errors=(noise, real)), tmp_path)
