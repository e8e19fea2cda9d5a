"""The real builder of TensorRT for RTX, which needs no GPU: every head in every precision, and what it refuses."""

from __future__ import annotations

import functools
import os
import signal
import tempfile
import threading
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import helper
from rich.console import Console

from support_boxed import boxed
from support_heads import HEAD_EXAMPLES, HEAD_REQUESTS
from support_models import save
from support_plans import THREE, machine, plain_model, wish, write_model
from vedette_engines.errors import ImportInputError, MissingRuntimeError
from vedette_engines.graft.frames import made_samples
from vedette_engines.importing import ImportRequest, Made, make_engine
from vedette_engines.lower.fp16 import to_fp16
from vedette_engines.lower.int8 import to_int8
from vedette_engines.lower.plan import CalibrationPlan
from vedette_engines.plans import building
from vedette_engines.plans.building import PlanRefusedError
from vedette_engines.plans.module import find_tensorrt
from vedette_engines.plans.progress import Progress, ProgressView
from vedette_engines.plans.request import PlanRequest, Profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vedette_engines.plans.module import TensorRT
    from vedette_engines.plans.plan import Plan

node = helper.make_node


@pytest.fixture(scope="module")
def rtx() -> TensorRT:
    try:
        return find_tensorrt("tensorrt_rtx")
    except MissingRuntimeError as error:
        pytest.skip(str(error))


def build_plan(request: PlanRequest, rtx: TensorRT, say: Callable[[str], None], progress: Any = None) -> Plan:
    """Build as on a machine without a GPU, whatever is here."""
    return building.build_plan(request, rtx, say, progress, machine())


@functools.cache
def engine_of(head: str) -> Made:
    with tempfile.TemporaryDirectory() as folder:
        model = save(HEAD_EXAMPLES[head](), Path(folder) / "model.onnx")
        request = ImportRequest(model=model, name="small", version="1", root=Path(folder), **HEAD_REQUESTS[head])
        return make_engine(request, lambda _: None)


def build(content: bytes, folder: Path, rtx: TensorRT, **changes: Any) -> Plan:
    path = folder / "engine.onnx"
    path.write_bytes(content)
    return build_plan(wish(path, **changes), rtx, lambda _: None)


@pytest.mark.parametrize("head", HEAD_EXAMPLES)
def test_every_head_is_built_with_three_profiles(head: str, tmp_path: Path, rtx: TensorRT) -> None:
    plan = build(engine_of(head).content, tmp_path, rtx, profiles=THREE)
    assert len(plan.content) > 100_000
    assert plan.info.profiles == ((1, 1, 1), (1, 8, 8), (1, 16, 32))
    assert plan.info.targets == ("sm_80", "sm_86", "sm_89", "sm_120", "sm_121")
    assert (plan.info.module, plan.info.version, plan.info.gpu) == ("tensorrt_rtx", rtx.version, "")


@pytest.mark.parametrize("head", HEAD_EXAMPLES)
def test_every_head_is_built_in_half_precision(head: str, tmp_path: Path, rtx: TensorRT) -> None:
    assert build(to_fp16(engine_of(head).content, (), lambda _: None), tmp_path, rtx).content


@pytest.mark.parametrize("head", HEAD_EXAMPLES)
def test_every_head_is_built_in_eight_bits(head: str, tmp_path: Path, rtx: TensorRT) -> None:
    made = engine_of(head)
    frames = made_samples(made.manifest.input, 2)
    quantised = to_int8(made.content, frames, CalibrationPlan("minmax"), "tensorrt", tmp_path, lambda _: None)
    assert quantised.quantised_nodes
    assert build(quantised.content, tmp_path, rtx).content


@pytest.mark.parametrize("name", ["blobs", "person"])
def test_the_engines_in_the_box_are_built(name: str, rtx: TensorRT) -> None:
    bundle = boxed(name)
    profiles = THREE if name == "blobs" else (Profile(1, 1, 1),)
    request = PlanRequest(bundle.path_of(bundle.manifest.files[0]), profiles)
    assert build_plan(request, rtx, lambda _: None).info.profiles == tuple(
        (profile.smallest, profile.best, profile.largest) for profile in profiles
    )


def test_an_engine_of_single_frames_is_built_for_single_frames(tmp_path: Path, rtx: TensorRT) -> None:
    path = plain_model(tmp_path, batch=1)
    assert build_plan(wish(path, profiles=(Profile(1, 1, 1),)), rtx, lambda _: None).content
    with pytest.raises(ImportInputError, match="profile 1:2:4 is impossible: the engine takes batches of 1"):
        build_plan(wish(path), rtx, lambda _: None)


def test_a_gap_between_profiles_is_said(tmp_path: Path, rtx: TensorRT) -> None:
    said: list[str] = []
    build_plan(wish(plain_model(tmp_path), profiles=(Profile(1, 1, 1), Profile(4, 4, 8))), rtx, said.append)
    assert said == ["no profile takes a batch of 2, 3: such batches run padded to the next that one takes"]


def test_targets_are_those_that_were_asked_for(tmp_path: Path, rtx: TensorRT) -> None:
    one = build_plan(wish(plain_model(tmp_path), targets=("sm_120",)), rtx, lambda _: None)
    all_of_them = build_plan(wish(plain_model(tmp_path)), rtx, lambda _: None)
    assert one.info.targets == ("sm_120",)
    assert one.info.key != all_of_them.info.key
    assert one.content != all_of_them.content


def test_a_timing_cache_is_neither_read_nor_written_and_that_is_said(tmp_path: Path, rtx: TensorRT) -> None:
    said: list[str] = []
    cache = tmp_path / "timings"
    plan = build_plan(wish(plain_model(tmp_path), timing_cache=cache), rtx, said.append)
    (line,) = said
    assert line == f"timing cache {cache}: not read and not written, tensorrt_rtx measures nothing when it builds"
    assert plan.notes == tuple(said)
    assert not cache.exists()


def test_progress_is_told_in_phases_that_begin_and_end(tmp_path: Path, rtx: TensorRT) -> None:
    told: list[Progress] = []
    build_plan(wish(plain_model(tmp_path)), rtx, lambda _: None, told.append)
    begun = {event.phase for event in told if event.step == 0 and not event.over}
    ended = {event.phase for event in told if event.over}
    assert "Building engine" in begun
    assert begun == ended
    assert all(0 <= event.step <= event.steps for event in told)
    assert all(event.parent in begun or not event.parent for event in told)


def test_progress_is_drawn_on_a_terminal_and_nowhere_else() -> None:
    events = [
        Progress("Building engine", "", 0, 2),
        Progress("Timing", "Building engine", 1, 4),
        Progress("Timing", "Building engine", 4, 4, over=True),
        Progress("Building engine", "", 2, 2, over=True),
    ]
    for terminal in (True, False):
        out = StringIO()
        with ProgressView(Console(file=out, force_terminal=terminal, width=100)) as view:
            for event in events[:2]:
                view(event)
            view.draw()
            for event in events[2:]:
                view(event)
        assert ("  Timing" in out.getvalue()) == terminal


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Hear Ctrl-C, also where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.alone
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_a_build_at_its_next_step(tmp_path: Path, rtx: TensorRT) -> None:
    after: list[Progress] = []
    stopped = threading.Event()

    def press(progress: Progress) -> None:
        if stopped.is_set():
            after.append(progress)
        elif progress.phase == "Building engine" and progress.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
            # The build goes on when the main thread has heard it and asked for the end.
            stopped.wait(0.5)
            stopped.set()

    with pytest.raises(KeyboardInterrupt):
        build_plan(PlanRequest(_blobs(), THREE), rtx, lambda _: None, press)
    assert stopped.is_set()
    assert {event.phase for event in after if not event.over} <= {"Building engine", "Preparing graph for optimization"}


def _blobs() -> Path:
    bundle = boxed("blobs")
    return bundle.path_of(bundle.manifest.files[0])


def refusal(path: Path, rtx: TensorRT) -> PlanRefusedError:
    with pytest.raises(PlanRefusedError) as raised:
        build_plan(wish(path), rtx, lambda _: None)
    assert "/_src/" not in str(raised.value)
    assert "cudaError" not in str(raised.value)
    return raised.value


def test_every_unsupported_operator_is_named_with_what_to_do(tmp_path: Path, rtx: TensorRT) -> None:
    nodes = [node("Bernoulli", ["frames"], ["b"], name="model/dropout"), node("Det", ["b"], ["y"])]
    error = refusal(write_model(tmp_path, nodes), rtx)
    assert [(one.node, one.operator) for one in error.refusals] == [("model/dropout", "Bernoulli"), ("number 1", "Det")]
    assert all("rewrite it with other operators" in one.advice for one in error.refusals)
    assert "\n  node model/dropout (Bernoulli): the operator is not supported" in str(error)


@pytest.mark.parametrize(
    ("nodes", "constants", "says"),
    [
        (
            [
                node("QuantizeLinear", ["frames", "s", "z"], ["q"], name="q1"),
                node("DequantizeLinear", ["q", "s", "z"], ["y"]),
            ],
            {"s": np.float32(0.1), "z": np.int8(3)},
            r"node q1 \(QuantizeLinear\): .*Non-zero zero point.*signed, symmetric INT8 only: .*--int8-target tensorrt",
        ),
        (
            [node("DequantizeLinear", ["w", "s", "z"], ["b"], name="bias"), node("Add", ["frames", "b"], ["y"])],
            {"w": np.int32([1, 2, 3]), "s": np.float32(0.1), "z": np.int32(0)},
            r"node bias \(DequantizeLinear\): .*Int32.*a bias was quantised",
        ),
        (
            [
                node("DynamicQuantizeLinear", ["frames"], ["q", "s", "z"]),
                node("DequantizeLinear", ["q", "s", "z"], ["y"]),
            ],
            {},
            "dynamic and integer-only quantisation is ONNX Runtime's",
        ),
        (
            [
                node("Reshape", ["frames", "flat"], ["f"]),
                node("Concat", ["f"] * 30, ["g"], axis=1),
                node("TopK", ["g", "k"], ["y", "i"], name="vedette/yolox/topk_3", axis=1),
            ],
            {"flat": np.int64([0, -1]), "k": np.int64([5000])},
            r"node vedette/yolox/topk_3 \(TopK\): added by vedette: head \(yolox\): .*3840.*lower --max-candidates",
        ),
        (
            [node("Resize", ["frames", "", "", "sizes"], ["y"], name="up", axes=[1, 2])],
            {"sizes": np.int64([16, 16])},
            r"node up \(Resize\): .*the scales of all dimensions",
        ),
        (
            [node("Resize", ["frames", "", "scales"], ["y"], antialias=1, mode="linear")],
            {"scales": np.asarray([1, 2, 2, 1], np.float32)},
            r"antialias == 0.*export with `antialias=False`",
        ),
        (
            [node("Cast", ["frames"], ["h"], to=10), node("Add", ["h", "frames"], ["y"], name="sum")],
            {},
            r"node sum \(Add\): .*must have same input types.*put a Cast",
        ),
        (
            [node("NonZero", ["frames"], ["i"], name="mask"), node("Cast", ["i"], ["y"], to=1)],
            {},
            r"node mask \(NonZero\): .*the number of rows depends on the data",
        ),
        (
            [node("Fused", ["frames"], ["y"], name="fused", domain="com.microsoft")],
            {},
            r"node fused \(Fused\): .*the node's domain belongs to one runtime",
        ),
    ],
    ids=["zero point", "bias", "dynamic", "TopK", "Resize", "antialias", "mixed types", "NonZero", "domain"],
)
def test_known_refusals_are_explained(
    tmp_path: Path, rtx: TensorRT, nodes: list[Any], constants: dict[str, Any], says: str
) -> None:
    domains = [one.domain for one in nodes if one.domain]
    with pytest.raises(PlanRefusedError, match=says):
        build_plan(wish(write_model(tmp_path, nodes, constants, domains=domains)), rtx, lambda _: None)


def test_the_line_of_python_is_told_where_the_exporter_kept_it(tmp_path: Path, rtx: TensorRT) -> None:
    det = node("Det", ["frames"], ["y"], name="n0")
    stack = (
        'File "/home/me/model.py", line 41, in forward\n    return self.neck(x)\n'
        '  File "/home/me/neck.py", line 7, in forward\n    return torch.linalg.det(x)\n'
        '  File "/venv/lib/python3.11/site-packages/torch/nn/modules/module.py", line 1, in _call\n    return f(x)'
    )
    for key, value in (("pkg.torch.onnx.stack_trace", stack), ("pkg.torch.onnx.name_scopes", "['', 'neck', 'det']")):
        entry = det.metadata_props.add()
        entry.key, entry.value = key, value
    (one,) = refusal(write_model(tmp_path, [det]), rtx).refusals
    assert one.source == "layer neck, /home/me/neck.py:7 `return torch.linalg.det(x)`"


def test_float32_matrices_for_turing_are_refused_with_what_helps(rtx: TensorRT) -> None:
    with pytest.raises(PlanRefusedError, match=r"for Turing.*build from the FP16 file, or without sm_75"):
        build_plan(PlanRequest(_blobs(), (Profile(1, 2, 4),), targets=("sm_75",)), rtx, lambda _: None)


def test_after_a_refusal_the_next_build_is_as_if_nothing_had_been(tmp_path: Path, rtx: TensorRT) -> None:
    kept = refusal(write_model(tmp_path, [node("Det", ["frames"], ["y"])]), rtx)
    plan = build_plan(wish(plain_model(tmp_path)), rtx, lambda _: None)
    assert kept.refusals
    assert plan.notes == ()


@pytest.mark.parametrize("content", [b"", b"no model", b"\x00" * 64], ids=["empty", "text", "zeros"])
def test_a_file_that_is_no_model_is_refused(content: bytes, tmp_path: Path, rtx: TensorRT) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ImportInputError, match=r"bad\.onnx is not an ONNX model"):
        build_plan(wish(path), rtx, lambda _: None)


def test_a_model_that_is_no_engine_is_refused(tmp_path: Path, rtx: TensorRT) -> None:
    path = save(HEAD_EXAMPLES["yolov8"](), tmp_path / "raw.onnx")
    with pytest.raises(ImportInputError, match="the inputs are images; wanted is an engine, whose input is frames"):
        build_plan(wish(path), rtx, lambda _: None)
