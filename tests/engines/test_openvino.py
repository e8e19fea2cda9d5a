from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support_bundles import HEIGHT, WIDTH, toy_answer, toy_bundle, toy_frames, toy_model
from vedette_engines.errors import LoadError, ManifestError, MissingRuntimeError, RunError
from vedette_engines.manifest import Backend, DetectorOutput, EngineFile
from vedette_engines.repository import EngineRepository, boxed_root
from vedette_engines.runners.base import BatchMode, RunnerSettings
from vedette_engines.runners.opening import open_engine
from vedette_engines.runners.signal_stack import signal_stack

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle
    from vedette_engines.runners.base import LoadedEngine

SHAPE = (HEIGHT, WIDTH, 3)
# Largest difference from ONNX Runtime, in pixels of a box or units of a score, on the engines in the box.
BOUND = 1e-3


def open_openvino(bundle: Bundle, **settings: Any) -> LoadedEngine:
    return open_engine(bundle, RunnerSettings(backends=(Backend.OPENVINO,), **settings))


def options(**properties: str) -> dict[str, dict[str, str]]:
    return {"openvino": properties}


def pictures(shape: tuple[int, int, int], count: int) -> list[NDArray[np.uint8]]:
    """Draw squares of pure colours on dark noise: something to detect."""
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(count):
        frame = random.integers(0, 60, shape, np.uint8)
        for channel in range(3):
            y, x = random.integers(8, shape[0] - 40), random.integers(8, shape[1] - 40)
            frame[y : y + 28, x : x + 28] = np.eye(3, dtype=np.uint8)[channel] * 255
        drawn.append(frame)
    return drawn


@pytest.mark.parametrize("name", ["blobs", "person"])
def test_the_engines_in_the_box_give_what_onnx_runtime_gives(name: str) -> None:
    bundle = EngineRepository([boxed_root()]).resolve(name)
    assert isinstance(bundle.manifest.output, DetectorOutput)
    floor = bundle.manifest.output.score_floor
    frames = pictures(bundle.manifest.slot_shape, 3)
    with open_engine(bundle) as reference, open_openvino(bundle) as engine:
        there, here = reference.open_lane(), engine.open_lane()
        for count in (1, 3, 2):
            wanted, found = there.run(frames[:count]), here.run(frames[:count])
            assert found.shape == wanted.shape
            np.testing.assert_allclose(found[..., 4], wanted[..., 4], atol=BOUND)
            for row, other in zip(found, wanted, strict=True):
                kept = row[:, 4] >= floor  # the other rows carry nothing, and stand in any order
                np.testing.assert_allclose(_ordered(row[kept]), _ordered(other[kept]), atol=BOUND)
            assert name == "person" or (found[..., 4] >= floor).any()


def _ordered(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Put rows into one order: those of equal score may stand in any."""
    return rows[np.lexsort(np.round(rows, 1).T)]


@pytest.mark.parametrize(
    ("fixed", "settings"),
    [
        (None, {}),
        (None, {"batch_mode": BatchMode.BUCKET, "max_batch": 5}),
        (None, {"intra_op_threads": 0}),
        (8, {"max_batch": 5}),
        (None, {"provider_options": options(PERFORMANCE_HINT="LATENCY")}),
        (None, {"provider_options": options(PERFORMANCE_HINT="THROUGHPUT", DEVICE="CPU")}),
    ],
    ids=["exact", "bucket", "all threads", "fixed", "latency", "throughput"],
)
def test_row_i_is_the_answer_to_frame_i_for_any_batch(
    tmp_path: Path, fixed: int | None, settings: dict[str, Any]
) -> None:
    bundle = toy_bundle(tmp_path, model=toy_model(fixed), files=(EngineFile("model.onnx", batch=fixed),))
    with open_openvino(bundle, **settings) as engine:
        assert engine.backend == "openvino:CPU"
        assert engine.bundle == bundle
        assert engine.max_batch == (settings.get("max_batch") or fixed)
        lane = engine.open_lane()
        for count in (1, 5, 2, 3, 1, 4):
            frames = toy_frames(count, start=10 * count)
            assert_answers(lane.run(frames), frames)
        lane.close()


def assert_answers(rows: NDArray[np.float32], frames: list[NDArray[np.uint8]]) -> None:
    np.testing.assert_array_equal(rows, np.stack([toy_answer(frame) for frame in frames]))


def test_one_frame_at_a_time_is_run_right_where_no_more_are_asked_for(tmp_path: Path) -> None:
    with open_openvino(toy_bundle(tmp_path), max_batch=1) as engine:
        lane = engine.open_lane()
        for frame in toy_frames(3):
            assert_answers(lane.run([frame]), [frame])
        with pytest.raises(RunError, match=r"a batch of 2 frames; allowed: 1\.\.1"):
            lane.run(toy_frames(2))


def test_lanes_run_at_the_same_time_without_mixing_their_frames(tmp_path: Path) -> None:
    with open_openvino(toy_bundle(tmp_path)) as engine, ThreadPoolExecutor(4) as threads:
        start = threading.Barrier(4)

        def run_often(number: int) -> None:
            lane = engine.open_lane()
            start.wait(timeout=10)
            for turn in range(50):
                frames = toy_frames(1 + turn % 3, start=40 * number + turn % 30)
                assert_answers(lane.run(frames), frames)
            lane.close()

        for future in [threads.submit(run_often, number) for number in range(4)]:
            future.result()


def test_frames_that_may_not_be_written_and_slices_are_run_right(tmp_path: Path) -> None:
    wide = np.random.default_rng(0).integers(0, 200, (HEIGHT, WIDTH * 2, 3), np.uint8)
    fixed = np.ascontiguousarray(wide[:, 1::2])
    fixed.flags.writeable = False
    with open_openvino(toy_bundle(tmp_path)) as engine:
        lane = engine.open_lane()
        assert_answers(lane.run([wide[:, ::2]]), [wide[:, ::2]])
        assert_answers(lane.run([fixed]), [fixed])


def test_frames_that_do_not_fit_are_refused_and_the_lane_goes_on(tmp_path: Path) -> None:
    with open_openvino(toy_bundle(tmp_path), max_batch=4) as engine:
        lane = engine.open_lane()
        with pytest.raises(RunError, match=r"a batch of 5 frames; allowed: 1\.\.4"):
            lane.run(toy_frames(5))
        with pytest.raises(RunError, match="a frame is float32"):
            lane.run([np.zeros(SHAPE, np.float32)])  # type: ignore[list-item]
        assert_answers(lane.run(toy_frames(2)), toy_frames(2))


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ({"NO_SUCH": "1"}, r"engine toy 1: OpenVINO refuses model\.onnx on CPU: .*Unsupported property NO_SUCH"),
        ({"PERFORMANCE_HINT": "FAST"}, "PERFORMANCE_HINT.*LATENCY"),
        ({"DEVICE": "NPU9"}, "OpenVINO has no device 'NPU9' here; it has .*CPU"),
    ],
)
def test_an_option_that_openvino_does_not_take_is_refused(
    tmp_path: Path, properties: dict[str, str], says: str
) -> None:
    with pytest.raises(LoadError, match=says):
        open_openvino(toy_bundle(tmp_path), provider_options=options(**properties))


def test_a_model_that_openvino_refuses_is_told_with_the_engine_and_the_file(tmp_path: Path) -> None:
    model = toy_model()
    model.graph.node[0].op_type, model.graph.node[0].domain = "NoSuchOp", "nowhere"

    with pytest.raises(LoadError, match=r"engine toy 1: OpenVINO refuses model\.onnx on CPU: "):
        open_openvino(toy_bundle(tmp_path, model=model))


def test_what_is_closed_says_so_and_may_be_closed_again(tmp_path: Path) -> None:
    engine = open_openvino(toy_bundle(tmp_path))
    lane = engine.open_lane()
    frames = toy_frames(2)

    engine.close()
    engine.close()
    rows = lane.run(frames)  # a lane that is still open may finish
    assert_answers(rows, frames)
    with pytest.raises(LoadError, match="engine toy 1 is closed"):
        engine.open_lane()

    lane.close()
    lane.close()
    assert_answers(rows, frames)
    with pytest.raises(RunError, match="the lane is closed"):
        lane.run(frames)


def test_without_openvino_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = toy_bundle(tmp_path)
    monkeypatch.delitem(sys.modules, "vedette_engines.runners.openvino", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)

    with pytest.raises(MissingRuntimeError, match=r"pip install 'vedette\[openvino\]'"):
        open_openvino(bundle)


def test_a_bundle_has_no_files_of_openvinos_own(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"model\.onnx is for openvino, which reads the files of onnxruntime"):
        toy_bundle(tmp_path, files=(EngineFile("model.onnx", backend=Backend.OPENVINO),))


@pytest.mark.skipif(sys.platform != "linux", reason="alternate signal stacks are looked at on Linux")
def test_signals_are_heard_after_another_thread_let_the_last_model_go() -> None:
    before = signal_stack()
    engine = open_openvino(EngineRepository([boxed_root()]).resolve("blobs"))
    assert signal_stack() == before
    closing = threading.Thread(target=engine.close)
    closing.start()
    closing.join()
    gc.collect()
    heard: list[int] = []
    former = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, former)
    assert heard == [signal.SIGINT]
