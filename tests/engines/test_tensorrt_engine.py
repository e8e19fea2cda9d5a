from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support_faketensorrt_runtime import Element, FakePlan, Format, Graphs, Kernels, Location, Mode, Strategy
from support_tensorrt_engine import PLAN_PATH, TOY, VERSION, HandLane, answers, opened, rtx_file, toy_plan
from vedette_engines.cuda.base import CudaError
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.errors import LoadError, RunError

if TYPE_CHECKING:
    from pathlib import Path

TWO = replace(TOY, profiles=((1, 1, 2), (1, 4, 4)), memory=(4096, 16384))
GAPS = replace(TOY, profiles=((1, 1, 1), (4, 4, 8)), memory=(256, 8192))


def test_a_plan_runs_every_batch_of_its_profiles(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path, TWO)
    on_device = engine.on_device
    assert on_device is not None
    lane = HandLane(on_device, (1, 2, 3, 4))
    for size in (4, 1, 3, 2):
        frames = lane.enqueue(size, start=size)
        np.testing.assert_array_equal(lane.result(size), answers(np.stack(frames)))
    lane.close()
    engine.close()
    on_device.device.close()


def test_what_it_is_can_be_read_from_it(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path, TWO)
    on_device = engine.on_device
    assert on_device is not None
    assert (engine.backend, on_device.backend) == (f"tensorrt:{VERSION}",) * 2
    assert (engine.max_batch, on_device.max_batch, on_device.sizes) == (4, 4, (1, 2, 3, 4))
    assert (on_device.input_shape, on_device.output_shape) == ((4, 6, 3), (3, 6))
    assert (engine.file.path, engine.fallback, on_device.lane_bytes) == (PLAN_PATH, "", 16384)
    engine.close()
    engine.close()
    assert engine.on_device is None


def test_a_batch_in_a_gap_between_profiles_is_no_size_but_the_next_profiles_smallest(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path, GAPS)
    assert engine.on_device is not None
    assert engine.on_device.sizes == (1, 4, 5, 6, 7, 8)
    with pytest.raises(LoadError, match=r"toy\.plan: no profile takes a batch of 2, 3"):
        HandLane(engine.on_device, (1, 2, 3))
    engine.close()


@pytest.mark.parametrize(
    ("wanted", "sizes"), [(1, (1,)), (2, (1, 4)), (3, (1, 4)), (5, (1, 4, 5)), (8, (1, 4, 5, 6, 7, 8))]
)
def test_a_smaller_largest_batch_keeps_the_size_that_it_is_padded_to(
    tmp_path: Path, wanted: int, sizes: tuple[int, ...]
) -> None:
    engine, _ = opened(tmp_path, GAPS, max_batch=wanted)
    assert engine.on_device is not None
    assert (engine.on_device.max_batch, engine.on_device.sizes) == (wanted, sizes)


def test_more_than_the_profiles_take_is_refused(tmp_path: Path) -> None:
    file = replace(toy_plan(), max_batch=None)
    with pytest.raises(LoadError, match=r"toy\.plan: max_batch is 9; its profiles take 1\.\.4"):
        opened(tmp_path, TOY, file=file, max_batch=9)


def test_a_plan_of_one_batch_runs_that_and_no_other(tmp_path: Path) -> None:
    plan = TOY.with_tensor(0, shape=(4, 4, 6, 3)).with_tensor(1, shape=(4, 3, 6))
    file = replace(toy_plan(replace(plan, profiles=((4, 4, 4),))), batch=4, max_batch=None)
    engine, _ = opened(tmp_path, replace(plan, profiles=((4, 4, 4),)), file=file)
    assert engine.on_device is not None
    assert engine.on_device.sizes == (4,)
    lane = HandLane(engine.on_device, (4,))
    frames = lane.enqueue(4)
    np.testing.assert_array_equal(lane.result(4), answers(np.stack(frames)))
    lane.close()
    engine.close()


def test_contexts_of_one_lane_work_in_one_piece_of_memory_and_lanes_in_one_each(tmp_path: Path) -> None:
    device = SimulatedDevice()
    engine, fake = opened(tmp_path, TWO, device=device)
    assert engine.on_device is not None
    before = device.free_bytes()
    lanes = [HandLane(engine.on_device, (1, 2, 4)) for _ in range(2)]
    used = before - device.free_bytes()
    buffers = sum(lane.batch.size_bytes + lane.rows.size_bytes for lane in lanes)
    assert used == buffers + 2 * engine.on_device.lane_bytes
    assert {context.strategy for context in fake.contexts} == {Strategy.USER_MANAGED}
    memory = [context.memory for context in fake.contexts]
    assert memory == [memory[0]] * 3 + [memory[3]] * 3
    assert memory[0] != memory[3]
    for lane in lanes:
        lane.enqueue(4)
    for lane in lanes:
        lane.close()
    assert device.free_bytes() == before
    engine.close()
    device.close()


def test_a_lane_takes_only_the_memory_of_the_profiles_that_it_uses(tmp_path: Path) -> None:
    engine, fake = opened(tmp_path, TWO)
    assert engine.on_device is not None
    lane = HandLane(engine.on_device, (1,))
    assert fake.contexts[0].memory[1] == 4096
    lane.close()
    engine.close()


def test_runs_of_one_lane_never_meet_in_the_shared_memory_because_they_are_in_one_stream(tmp_path: Path) -> None:
    device = SimulatedDevice()
    engine, _ = opened(tmp_path, replace(TWO, duration_s=lambda batch: batch * 1e-3), device=device)
    assert engine.on_device is not None
    lane = HandLane(engine.on_device, (1, 4))
    other = device.stream()
    lane.enqueue(4)
    with pytest.raises(RunError, match="running it"):
        lane.programs[1].enqueue(other)
    lane.close()
    other.close()
    engine.close()
    device.close()


def test_each_size_runs_in_the_profile_that_was_tuned_for_it(tmp_path: Path) -> None:
    plan = replace(TOY, profiles=((1, 1, 8), (1, 4, 8), (1, 8, 8)), memory=(256, 512, 1024))
    engine, fake = opened(tmp_path, plan)
    assert engine.on_device is not None
    lane = HandLane(engine.on_device, (1, 2, 4, 8))
    assert [(context.batch, context.profile) for context in fake.contexts] == [(1, 0), (2, 1), (4, 1), (8, 2)]
    lane.close()
    engine.close()


def test_lanes_share_out_profiles_that_were_built_several_times(tmp_path: Path) -> None:
    engine, fake = opened(tmp_path, replace(TOY, profiles=((1, 4, 4),) * 2, memory=(256, 256)))
    assert engine.on_device is not None
    lanes = [HandLane(engine.on_device, (4,)) for _ in range(2)]
    assert [context.profile for context in fake.contexts] == [0, 1]
    lanes.pop(1).close()
    lanes.append(HandLane(engine.on_device, (4,)))
    assert fake.contexts[-1].profile == 1
    for lane in lanes:
        lane.close()
    engine.close()


def test_a_graph_that_captured_a_run_computes_the_next_frames(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path, TWO)
    assert engine.on_device is not None
    lane = HandLane(engine.on_device, (2,))
    assert lane.programs[2].capturable
    lane.enqueue(2)
    lane.result(2)
    lane.stream.begin_capture()
    lane.enqueue(2)
    graph = lane.stream.end_capture()
    lane.given.array[:] = 7
    lane.stream.launch_graph(graph)
    np.testing.assert_array_equal(lane.result(2), np.full((2, 3, 6), 7 * 72, np.float32))
    graph.close()
    lane.close()
    engine.close()


def test_auxiliary_streams_are_the_lanes_and_shared_by_its_contexts(tmp_path: Path) -> None:
    device = SimulatedDevice()
    engine, fake = opened(tmp_path, replace(TWO, aux_streams=2), device=device)
    assert engine.on_device is not None
    lanes = [HandLane(engine.on_device, (1, 4)) for _ in range(2)]
    streams = [tuple(context.aux) for context in fake.contexts]
    assert streams[0] == streams[1] != streams[2] == streams[3]
    assert all(len(of) == 2 for of in streams)
    for lane in lanes:
        lane.close()
    engine.close()
    device.close()


def test_a_size_that_cannot_be_set_up_leaves_nothing_behind(tmp_path: Path) -> None:
    device = SimulatedDevice()
    engine, fake = opened(tmp_path, replace(TWO, aux_streams=1), device=device)
    assert engine.on_device is not None
    stream, batch, rows = device.stream(), device.allocate(4 * 72), device.allocate(4 * 72)
    free = device.free_bytes()
    fake.fails["create_execution_context"] = "no room for weights"
    with pytest.raises(
        LoadError, match="a batch of 1: setting it up: it makes no execution context; no room for weights"
    ):
        engine.on_device.open_programs(stream, batch, rows, (1, 4))
    del fake.fails["create_execution_context"]
    real = fake.allows
    fake.allows = lambda call, report: (  # type: ignore[method-assign]
        real(call, report) and not (call == "create_execution_context" and len(fake.contexts) == 1)
    )
    with pytest.raises(LoadError, match="a batch of 4: setting it up"):
        engine.on_device.open_programs(stream, batch, rows, (1, 4))
    assert device.free_bytes() == free
    stream.synchronize()
    for thing in (stream, batch, rows):
        thing.close()
    engine.close()
    device.close()


def test_a_lane_for_which_there_is_no_memory_is_refused_with_what_it_needs(tmp_path: Path) -> None:
    device = SimulatedDevice(memory_bytes=8192)
    engine, _ = opened(tmp_path, TWO, device=device)
    assert engine.on_device is not None
    stream, batch, rows = device.stream(), device.allocate(512), device.allocate(512)
    with pytest.raises(
        LoadError, match=r"a lane needs 16384 bytes of device memory to work in: CUDA_ERROR_OUT_OF_MEMORY"
    ):
        engine.on_device.open_programs(stream, batch, rows, (4,))


def test_a_closed_program_and_a_closed_engine_say_so(tmp_path: Path) -> None:
    engine, _ = opened(tmp_path)
    on_device = engine.on_device
    assert on_device is not None
    lane = HandLane(on_device, (1,))
    lane.programs[1].close()
    with pytest.raises(RunError, match="a batch of 1: the program is closed"):
        lane.programs[1].enqueue(lane.stream)
    lane.close()
    engine.close()
    with pytest.raises(LoadError, match="the engine is closed"):
        on_device.open_programs(lane.stream, lane.batch, lane.rows, (1,))
    with pytest.raises(LoadError, match="engine toy 1 is closed"):
        engine.open_lane()


WRONG_TENSORS = {
    r"it has pictures, candidates; wanted: frames, candidates": {"index": 0, "name": "pictures"},
    r"frames is INPUT FLOAT \[N, 4, 6, 3\]; wanted: INPUT UINT8": {"index": 0, "element": Element.FLOAT},
    r"frames is INPUT UINT8 \[N, 3, 4, 6\]; wanted: INPUT UINT8 \[N, 4, 6, 3\]": {"index": 0, "shape": (-1, 3, 4, 6)},
    r"frames is INPUT UINT8 \[2, 4, 6, 3\]; wanted": {"index": 0, "shape": (2, 4, 6, 3)},
    r"candidates is OUTPUT HALF \[N, 3, 6\]; wanted: OUTPUT FLOAT": {"index": 1, "element": Element.HALF},
    r"candidates is INPUT FLOAT": {"index": 1, "mode": Mode.INPUT},
    r"candidates is in the host's memory": {"index": 1, "location": Location.HOST},
    r"candidates is a CHW32 tensor; wanted: plain rows": {"index": 1, "format": Format.CHW32},
}


@pytest.mark.parametrize("said", WRONG_TENSORS)
def test_a_plan_with_other_tensors_is_refused(tmp_path: Path, said: str) -> None:
    with pytest.raises(LoadError, match=f"engine toy 1: plan toy.plan: checking its tensors: {said}"):
        opened(tmp_path, TOY.with_tensor(**WRONG_TENSORS[said]))


def test_a_refused_plan_says_why_in_tensorrts_words(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=rf"plan toy\.plan: loading it with tensorrt {VERSION}: out of tactics"):
        opened(tmp_path, fails={"deserialize_cuda_engine": "out of tactics"})


def test_a_stripped_plan_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"its weights were left out .* build it again without --strip"):
        opened(tmp_path, replace(TOY, stripped=1000))


def test_a_version_compatible_plan_may_bring_its_code_and_no_other_may(tmp_path: Path) -> None:
    plan = replace(TOY, brings_code=True)
    engine, _ = opened(tmp_path / "may", plan, file=toy_plan(plan, version_compatible=True))
    engine.close()
    with pytest.raises(LoadError, match="host code, which is not allowed"):
        opened(tmp_path / "may not", plan)


def test_a_plan_that_changed_since_it_was_checked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"toy\.plan was changed since the bundle was checked: its sha256 is"):
        opened(tmp_path, change=b"another plan")


def test_a_plan_of_another_machine_is_refused_before_tensorrt_sees_it(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"toy\.plan is refused: built for sm_75"):
        opened(tmp_path, file=toy_plan(targets=("sm_75",)))


def test_a_failed_run_is_one_batchs_error_and_the_next_one_runs(tmp_path: Path) -> None:
    engine, fake = opened(tmp_path)
    assert engine.on_device is not None
    lane = HandLane(engine.on_device, (2,))
    fake.fails["execute_async_v3"] = "Error Code 3: something is off"
    with pytest.raises(RunError, match=r"a batch of 2: running it: TensorRT does not run it; .*something is off"):
        lane.enqueue(2)
    del fake.fails["execute_async_v3"]
    frames = lane.enqueue(2)
    np.testing.assert_array_equal(lane.result(2), answers(np.stack(frames)))
    lane.close()
    engine.close()


def test_an_error_that_loses_the_device_is_sticky(tmp_path: Path) -> None:
    engine, fake = opened(tmp_path)
    assert engine.on_device is not None
    lane = HandLane(engine.on_device, (1,))
    fake.fails["execute_async_v3"] = "Error Code 1: Cuda Runtime (an illegal memory access was encountered)"
    with pytest.raises(CudaError, match=r"CUDA_ERROR_ILLEGAL_ADDRESS while .*running it") as raised:
        lane.enqueue(1)
    assert raised.value.sticky


def test_a_lost_device_is_found_where_tensorrt_says_nothing(tmp_path: Path) -> None:
    class Lost(SimulatedDevice):
        lost = False

        def free_bytes(self) -> int:
            if self.lost:
                raise CudaError("CUDA_ERROR_LAUNCH_FAILED", "asking for free memory", sticky=True)
            return super().free_bytes()

    device = Lost()
    engine, fake = opened(tmp_path, device=device)
    assert engine.on_device is not None
    lane = HandLane(engine.on_device, (1,))
    device.lost = True
    fake.fails["execute_async_v3"] = ""
    with pytest.raises(CudaError, match="CUDA_ERROR_LAUNCH_FAILED"):
        lane.enqueue(1)


@pytest.mark.parametrize("version", ["10.0.1.6", "10.13.2.6", "11.4.0.106"])
def test_all_versions_are_called_by_the_names_they_have(tmp_path: Path, version: str) -> None:
    engine, _ = opened(tmp_path, file=toy_plan(TWO, version=version), plan=TWO)
    assert engine.on_device is not None
    lane = HandLane(engine.on_device, (1, 4))
    frames = lane.enqueue(4)
    np.testing.assert_array_equal(lane.result(4), answers(np.stack(frames)))
    lane.close()
    engine.close()


def rtx(root: Path, plan: FakePlan = TWO, **more: Any) -> Any:
    return opened(root, plan, file=rtx_file(plan), **more)


def test_rtx_compiles_in_the_warm_up_and_captures_its_own_graphs(tmp_path: Path) -> None:
    engine, fake = rtx(tmp_path)
    lane = HandLane(engine.on_device, (1, 4))
    assert engine.backend == "tensorrt_rtx:1.7.1.116"
    for context in fake.contexts:
        assert context.config.cuda_graph_strategy is Graphs.WHOLE_GRAPH_CAPTURE
        assert context.config.dynamic_shapes_kernel_specialization_strategy is Kernels.EAGER
        assert context.strategy is Strategy.USER_MANAGED
    assert not any(program.capturable for program in lane.programs.values())
    lane.close()
    engine.close()


def test_rtx_finds_the_kernels_of_the_last_time(tmp_path: Path) -> None:
    engine, fake = rtx(tmp_path)
    lane = HandLane(engine.on_device, (1, 4))
    lane.enqueue(4)
    lane.close()
    engine.close()
    (kept,) = (tmp_path / "kernels").iterdir()
    assert kept.name.endswith("-sm_90.kernels")
    again, second = rtx(tmp_path / "again", runtime_cache=tmp_path / "kernels")
    assert second.compiled == fake.compiled == [(4, 1)]
    again.close()


@pytest.mark.parametrize("content", [b"of another version", b"", b"\xff"])
def test_kernels_that_rtx_refuses_are_compiled_anew(tmp_path: Path, content: bytes) -> None:
    engine, _ = rtx(tmp_path)
    lane = HandLane(engine.on_device, (1,))
    lane.enqueue(1)
    lane.close()
    engine.close()
    (kept,) = (tmp_path / "kernels").iterdir()
    good = kept.read_bytes()
    kept.write_bytes(content)
    again, fake = rtx(tmp_path / "again", runtime_cache=tmp_path / "kernels")
    assert fake.compiled == []
    lane = HandLane(again.on_device, (1,))
    lane.enqueue(1)
    lane.close()
    again.close()
    assert kept.read_bytes() == good


def test_kernels_that_cannot_be_kept_cost_nothing_but_time(tmp_path: Path) -> None:
    place = tmp_path / "a file"
    place.write_bytes(b"")
    engine, _ = rtx(tmp_path, runtime_cache=place)
    engine.close()


def test_a_plan_that_rtx_refuses_names_its_diagnostics(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"loading it with tensorrt_rtx 1\.7\.1\.116: MALFORMED_ENGINE; Serialization"):
        rtx(tmp_path, known=False)
