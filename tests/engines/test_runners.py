from __future__ import annotations

import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_bundles import HEIGHT, WIDTH, toy_answer, toy_bundle, toy_frames, toy_model
from support_tensorrt_engine import OneDevice
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.errors import LoadError, MissingRuntimeError, RunError
from vedette_engines.manifest import EngineFile
from vedette_engines.runners.base import BatchMode, RunnerSettings
from vedette_engines.runners.gather import GatherBuffer
from vedette_engines.runners.opening import open_engine

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SHAPE = (HEIGHT, WIDTH, 3)
CPU = "CPUExecutionProvider"


def assert_answers(rows: NDArray[np.float32], frames: list[NDArray[np.uint8]]) -> None:
    """Check that there is one row for each frame, in order, with that frame's answer."""
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, np.stack([toy_answer(frame) for frame in frames]))


@pytest.mark.parametrize(
    ("fixed", "run_settings"),
    [
        (None, RunnerSettings()),
        (None, RunnerSettings(batch_mode=BatchMode.BUCKET)),
        (None, RunnerSettings(batch_mode=BatchMode.BUCKET, max_batch=5)),
        (None, RunnerSettings(providers=(CPU,), intra_op_threads=2)),
        (8, RunnerSettings()),
        (8, RunnerSettings(max_batch=5)),
    ],
    ids=["exact", "bucket", "bucket up to 5", "two threads", "fixed", "fixed, fewer asked for"],
)
def test_row_i_is_the_answer_to_frame_i_for_any_batch(
    tmp_path: Path, fixed: int | None, run_settings: RunnerSettings
) -> None:
    bundle = toy_bundle(tmp_path, model=toy_model(fixed), files=(EngineFile("model.onnx", batch=fixed),))
    with open_engine(bundle, run_settings) as engine:
        lane = engine.open_lane()
        for count in (1, 5, 2, 3, 1, 4):
            frames = toy_frames(count, start=10 * count)
            assert_answers(lane.run(frames), frames)
        lane.close()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.sampled_from(BatchMode), st.none() | st.integers(1, 20), st.none() | st.integers(1, 20))
def test_gathering_keeps_every_frame_in_its_place(
    count: int, mode: BatchMode, max_batch: int | None, fixed: int | None
) -> None:
    buffer = GatherBuffer(SHAPE, max_batch=max_batch or fixed, fixed_batch=fixed, mode=mode)
    most = min(max_batch or fixed or count, fixed or count)
    frames = toy_frames(min(count, most))

    batch = buffer.gather(frames)

    assert batch.flags.c_contiguous
    np.testing.assert_array_equal(batch[: len(frames)], np.stack(frames))
    if fixed is not None:
        assert len(batch) == fixed
    elif mode is BatchMode.EXACT:
        assert len(batch) == len(frames)
    else:
        assert len(batch) == max_batch or len(batch).bit_count() == 1


def test_a_lone_frame_is_not_copied() -> None:
    (frame,) = toy_frames(1)

    assert np.shares_memory(GatherBuffer(SHAPE).gather([frame]), frame)


def test_a_frame_that_is_a_slice_of_something_wider_is_run_right(tmp_path: Path) -> None:
    wide = np.random.default_rng(0).integers(0, 200, (HEIGHT, WIDTH * 2, 3), np.uint8)
    frame = wide[:, ::2]
    with open_engine(toy_bundle(tmp_path)) as engine:
        assert_answers(engine.open_lane().run([frame]), [frame])


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([], r"a batch of 0 frames; allowed: 1\.\.4"),
        (toy_frames(5), r"a batch of 5 frames; allowed: 1\.\.4"),
        ([np.zeros((HEIGHT, WIDTH), np.uint8)], r"a frame is uint8 \[4, 6\]; wanted: uint8 \[4, 6, 3\]"),
        ([np.zeros(SHAPE, np.float32)], "a frame is float32"),
    ],
)
def test_frames_that_do_not_fit_are_refused(tmp_path: Path, frames: list[NDArray[np.uint8]], says: str) -> None:
    with open_engine(toy_bundle(tmp_path), RunnerSettings(max_batch=4)) as engine:
        lane = engine.open_lane()
        with pytest.raises(RunError, match=says):
            lane.run(frames)


def test_a_lane_goes_on_after_a_batch_that_failed(tmp_path: Path) -> None:
    good = toy_frames(2)
    too_bright = np.full(SHAPE, 255, np.uint8)
    with open_engine(toy_bundle(tmp_path)) as engine:
        lane = engine.open_lane()
        with pytest.raises(RunError, match=r"ONNX Runtime failed on a batch of 2: .*[Ii]ndices"):
            lane.run([good[0], too_bright])
        assert_answers(lane.run(good), good)


def test_lanes_run_at_the_same_time_without_mixing_their_frames(tmp_path: Path) -> None:
    with open_engine(toy_bundle(tmp_path)) as engine, ThreadPoolExecutor(4) as threads:
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


def test_the_backend_is_what_really_runs(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path)
    with open_engine(bundle) as engine:
        assert engine.backend == f"onnxruntime:{CPU}"
        assert engine.bundle == bundle
        assert engine.max_batch is None


def test_a_provider_that_the_build_does_not_have_is_refused_unless_falling_back_is_allowed(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path)
    wanted = RunnerSettings(providers=("NoSuchExecutionProvider", CPU))

    with pytest.raises(LoadError, match=f"provider NoSuchExecutionProvider is not in this build.*{CPU}"):
        open_engine(bundle, wanted)
    with open_engine(bundle, RunnerSettings(providers=wanted.providers, allow_fallback=True)) as engine:
        assert engine.backend == f"onnxruntime:{CPU}"
        assert engine.fallback == "provider NoSuchExecutionProvider is not in this build of ONNX Runtime"


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="this build has CUDA")
def test_a_provider_that_is_named_but_not_really_used_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A build with CUDA lists it on a machine without a GPU, too; its sessions then run on the CPU.
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", CPU])
    bundle = toy_bundle(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ONNX Runtime warns of the provider it does not have
        with pytest.raises(LoadError, match=f"CUDAExecutionProvider was asked for, but .* would use {CPU}"):
            wanted = RunnerSettings(providers=("CUDAExecutionProvider",), memory_limit_bytes=1 << 30)
            open_engine(bundle, wanted, devices=OneDevice(SimulatedDevice()))
        with open_engine(bundle, RunnerSettings()) as engine:
            assert engine.backend == f"onnxruntime:{CPU}"


@pytest.mark.parametrize(
    ("file", "wanted", "most"),
    [
        (EngineFile("model.onnx", max_batch=8), None, 8),
        (EngineFile("model.onnx", max_batch=8), 4, 4),
        (EngineFile("model.onnx"), 32, 32),
    ],
)
def test_the_largest_batch_is_the_smaller_of_what_is_wanted_and_allowed(
    tmp_path: Path, file: EngineFile, wanted: int | None, most: int
) -> None:
    with open_engine(toy_bundle(tmp_path, files=(file,)), RunnerSettings(max_batch=wanted)) as engine:
        assert engine.max_batch == most


@pytest.mark.parametrize("wanted", [0, 9])
def test_a_batch_over_what_the_file_allows_is_refused(tmp_path: Path, wanted: int) -> None:
    bundle = toy_bundle(tmp_path, files=(EngineFile("model.onnx", max_batch=8),))

    with pytest.raises(LoadError, match=rf"max_batch is {wanted}; engine toy 1 allows 1\.\.8"):
        open_engine(bundle, RunnerSettings(max_batch=wanted))


def test_a_model_that_the_runtime_refuses_is_told_with_the_engine_and_the_file(tmp_path: Path) -> None:
    model = toy_model()
    model.graph.node.append(onnx.helper.make_node("NoSuchOp", ["frames"], ["nothing"], domain="nowhere"))
    bundle = toy_bundle(tmp_path, model=model)

    with pytest.raises(LoadError, match=r"engine toy 1: ONNX Runtime refuses model\.onnx on .*CPU.*NoSuchOp"):
        open_engine(bundle)


def test_what_is_closed_says_so_and_may_be_closed_again(tmp_path: Path) -> None:
    engine = open_engine(toy_bundle(tmp_path))
    lane = engine.open_lane()
    frames = toy_frames(1)

    engine.close()
    engine.close()
    assert_answers(lane.run(frames), frames)  # a lane that is still open may finish
    with pytest.raises(LoadError, match="engine toy 1 is closed"):
        engine.open_lane()

    lane.close()
    lane.close()
    with pytest.raises(RunError, match="the lane is closed"):
        lane.run(frames)


def test_without_a_runtime_the_error_names_the_extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = toy_bundle(tmp_path)
    monkeypatch.delitem(sys.modules, "vedette_engines.runners.onnxruntime", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(MissingRuntimeError, match=r"pip install 'vedette\[cpu\]', or 'vedette\[gpu\]'"):
        open_engine(bundle)
