"""The simulated device keeps the driver's order, moves real bytes, tells the time, and catches misuse."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_engines.cuda.base import CudaError
from vedette_engines.cuda.ordering import MisuseError
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.cuda.simulated_stream import SimulatedKernel

if TYPE_CHECKING:
    from vedette_engines.cuda.simulated_memory import SimulatedBuffer, SimulatedPinned
    from vedette_engines.cuda.simulated_stream import SimulatedEvent, SimulatedStream

SIZE = 1000
COPY_S = 1.0


def double(source: Any, target: Any) -> None:
    target[:] = source * 2


DOUBLE = SimulatedKernel("double", lambda _: 1.0, double, reads=(0,), writes=(1,))


class Lane:
    """A stream with buffers of its own, doing upload, kernel and download of one batch."""

    def __init__(self, device: SimulatedDevice) -> None:
        self.device = device
        self.stream: SimulatedStream = device.stream()
        self.given: SimulatedPinned = device.pin(SIZE)
        self.taken: SimulatedPinned = device.pin(SIZE)
        self.before: SimulatedBuffer = device.allocate(SIZE)
        self.after: SimulatedBuffer = device.allocate(SIZE)
        self.done: SimulatedEvent = device.event()

    def begin(self, value: int) -> None:
        self.given.array[:] = value
        self.stream.upload(self.before, self.given, SIZE)
        self.stream.launch(DOUBLE, (1,), (1,), (self.before, self.after))
        self.stream.download(self.taken, self.after, SIZE)
        self.stream.record(self.done)

    def end(self) -> int:
        self.done.synchronize()
        values = set(self.taken.array.tolist())
        assert len(values) == 1
        return int(values.pop())

    def close(self) -> None:
        for thing in (self.done, self.before, self.after, self.given, self.taken, self.stream):
            thing.close()


@pytest.fixture
def device() -> SimulatedDevice:
    return SimulatedDevice(copy_bytes_per_s=SIZE / COPY_S, kernels={"double": DOUBLE})


def test_bytes_go_up_through_the_kernel_and_come_back(device: SimulatedDevice) -> None:
    lane = Lane(device)
    lane.begin(21)
    assert lane.end() == 42


def test_nothing_is_there_before_it_is_done(device: SimulatedDevice) -> None:
    lane = Lane(device)
    lane.begin(21)
    assert not lane.done.done()
    lane.device.clock.sleep(2.5)
    assert not lane.done.done()
    assert set(lane.taken.array.tolist()) == {0xA5}
    lane.device.clock.sleep(0.5)
    assert lane.done.done()
    assert set(lane.taken.array.tolist()) == {42}


@pytest.mark.parametrize(("lanes", "batch_s"), [(1, 3.0), (2, 1.5), (3, 1.0), (4, 1.0)])
def test_lanes_overlap_until_one_engine_is_always_busy(device: SimulatedDevice, lanes: int, batch_s: float) -> None:
    held = [Lane(device) for _ in range(lanes)]
    batches = 60
    for number in range(batches):
        lane = held[number % lanes]
        if number >= lanes:
            assert lane.end() == (number - lanes) % 100 * 2
        lane.begin(number % 100)
    for lane in held:
        lane.end()
    # The first batch takes all three stages, and so does the last.
    assert device.timeline.elapsed_s == pytest.approx(batches * batch_s, rel=0.05)
    assert (device.timeline.overlap() > 0.9) == (lanes > 1)
    for lane in held:
        lane.close()
    device.close()


def test_an_event_puts_two_streams_in_order(device: SimulatedDevice) -> None:
    one, other = Lane(device), Lane(device)
    one.given.array[:] = 7
    one.stream.upload(one.before, one.given, SIZE)
    one.stream.record(one.done)
    other.stream.wait(one.done)
    other.stream.launch(DOUBLE, (1,), (1,), (one.before, other.after))
    other.stream.download(other.taken, other.after, SIZE)
    other.stream.record(other.done)
    assert other.end() == 14
    one.close()
    other.close()
    device.close()


def test_the_same_without_the_event_is_caught(device: SimulatedDevice) -> None:
    one, other = Lane(device), Lane(device)
    one.stream.upload(one.before, one.given, SIZE)
    with pytest.raises(MisuseError, match="no stream, event or host wait"):
        other.stream.launch(DOUBLE, (1,), (1,), (one.before, other.after))


def test_an_event_that_was_recorded_too_early_orders_nothing(device: SimulatedDevice) -> None:
    one, other = Lane(device), Lane(device)
    one.stream.record(one.done)
    one.stream.upload(one.before, one.given, SIZE)
    other.stream.wait(one.done)
    with pytest.raises(MisuseError, match="no stream, event or host wait"):
        other.stream.launch(DOUBLE, (1,), (1,), (one.before, other.after))


def test_writing_what_another_stream_still_reads_is_caught(device: SimulatedDevice) -> None:
    one, other = Lane(device), Lane(device)
    one.stream.upload(one.before, one.given, SIZE)
    one.stream.record(one.done)
    one.done.synchronize()
    one.stream.launch(DOUBLE, (1,), (1,), (one.before, one.after))
    with pytest.raises(MisuseError, match="writes device memory"):
        other.stream.upload(one.before, other.given, SIZE)


def test_a_host_wait_puts_streams_in_order(device: SimulatedDevice) -> None:
    one, other = Lane(device), Lane(device)
    one.stream.upload(one.before, one.given, SIZE)
    one.stream.synchronize()
    other.stream.launch(DOUBLE, (1,), (1,), (one.before, other.after))


def test_polling_an_event_until_it_is_done_puts_streams_in_order(device: SimulatedDevice) -> None:
    one, other = Lane(device), Lane(device)
    one.stream.upload(one.before, one.given, SIZE)
    one.stream.record(one.done)
    while not one.done.done():
        device.clock.sleep(0.1)
    other.stream.launch(DOUBLE, (1,), (1,), (one.before, other.after))


def test_pinned_memory_that_is_written_during_its_upload_is_caught(device: SimulatedDevice) -> None:
    lane = Lane(device)
    lane.stream.upload(lane.before, lane.given, SIZE)
    lane.given.array[3] ^= 1
    with pytest.raises(MisuseError, match="written while an upload"):
        lane.stream.synchronize()


def test_pinned_memory_that_is_written_during_a_download_into_it_is_caught(device: SimulatedDevice) -> None:
    lane = Lane(device)
    lane.begin(1)
    device.clock.sleep(2.5)
    lane.taken.array[3] = 1
    with pytest.raises(MisuseError, match="written while a download"):
        lane.stream.synchronize()


def test_reading_what_nothing_has_written_is_caught(device: SimulatedDevice) -> None:
    lane = Lane(device)
    lane.stream.upload(lane.before, lane.given, SIZE - 1)
    with pytest.raises(MisuseError, match="which nothing has written"):
        lane.stream.launch(DOUBLE, (1,), (1,), (lane.before, lane.after))


def test_leaving_the_memory_is_caught(device: SimulatedDevice) -> None:
    lane = Lane(device)
    with pytest.raises(MisuseError, match="which has 1000"):
        lane.stream.upload(lane.before, lane.given, SIZE, target_at=1)


def test_giving_back_what_is_in_use_is_caught(device: SimulatedDevice) -> None:
    lane = Lane(device)
    lane.begin(1)
    device.clock.sleep(10)
    with pytest.raises(MisuseError, match="never waited"):
        lane.before.close()


def test_what_is_closed_is_not_used(device: SimulatedDevice) -> None:
    lane = Lane(device)
    lane.before.close()
    with pytest.raises(MisuseError, match="after it was closed"):
        lane.stream.upload(lane.before, lane.given, SIZE)


def test_what_is_left_open_is_named_when_the_device_closes(device: SimulatedDevice) -> None:
    device.allocate(64)
    device.pin(32)
    with pytest.raises(MisuseError, match="32 bytes of pinned memory, 64 bytes of device memory"):
        device.close()


def test_closing_a_stream_with_work_is_caught(device: SimulatedDevice) -> None:
    lane = Lane(device)
    lane.begin(1)
    with pytest.raises(MisuseError, match="closed while it has work"):
        lane.stream.close()


def test_memory_that_is_not_there_is_an_error_and_can_be_had_after_some_was_given_back() -> None:
    device = SimulatedDevice(memory_bytes=100)
    first = device.allocate(60)
    with pytest.raises(CudaError, match="CUDA_ERROR_OUT_OF_MEMORY while allocating 60 bytes") as caught:
        device.allocate(60)
    assert not caught.value.sticky
    first.close()
    device.allocate(60)


def test_a_graph_does_what_was_captured_with_the_same_buffers(device: SimulatedDevice) -> None:
    lane = Lane(device)
    lane.stream.begin_capture()
    lane.stream.upload(lane.before, lane.given, SIZE)
    lane.stream.launch(DOUBLE, (1,), (1,), (lane.before, lane.after))
    lane.stream.download(lane.taken, lane.after, SIZE)
    graph = lane.stream.end_capture()
    for value in (5, 6):
        lane.given.array[:] = value
        lane.stream.launch_graph(graph)
        lane.stream.record(lane.done)
        assert lane.end() == 2 * value
    graph.close()
    with pytest.raises(MisuseError, match="graph"):
        lane.stream.launch_graph(graph)


def test_a_library_without_graphs_says_so() -> None:
    stream = SimulatedDevice(graphs=False).stream()
    with pytest.raises(CudaError, match="capturing a graph"):
        stream.begin_capture()


def test_events_tell_the_time_between_them(device: SimulatedDevice) -> None:
    lane = Lane(device)
    first, last = device.event(timing=True), device.event(timing=True)
    lane.stream.record(first)
    lane.stream.upload(lane.before, lane.given, SIZE)
    lane.stream.record(last)
    with pytest.raises(CudaError, match="not done"):
        last.milliseconds_since(first)
    last.synchronize()
    assert last.milliseconds_since(first) == pytest.approx(1000 * COPY_S)


def test_memory_of_others_is_registered_and_stays_theirs(device: SimulatedDevice) -> None:
    shared = np.full(SIZE, 9, np.uint8)
    pinned, lane = device.register(shared), Lane(device)
    lane.stream.upload(lane.before, pinned, SIZE)
    lane.stream.synchronize()
    shared[:] = 1
    assert set(lane.before.array.tolist()) == {9}
    pinned.close()


@settings(max_examples=60, deadline=None)
@given(
    durations=st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=12),
    lanes=st.integers(1, 4),
)
def test_every_batch_comes_back_whole_whatever_the_stages_take(
    durations: list[tuple[int, int, int]], lanes: int
) -> None:
    takes = iter(durations)
    kernel = SimulatedKernel("double", lambda _: next(takes)[1] / 10, double, reads=(0,), writes=(1,))
    device = SimulatedDevice(copy_latency_s=0.2, kernels={"double": kernel})
    held = [Lane(device) for _ in range(lanes)]
    for number in range(len(durations)):
        lane = held[number % lanes]
        if number >= lanes:
            assert lane.end() == (number - lanes) * 2
        lane.begin(number)
    # No engine ever does two things at once.
    for lane in held:
        lane.done.synchronize()
    for engine in ("upload", "compute", "download"):
        spans = sorted((s.start_s, s.end_s) for s in device.timeline.spans if s.engine == engine)
        assert all(before[1] <= after[0] + 1e-9 for before, after in itertools.pairwise(spans))
    for lane in held:
        lane.close()
    device.close()
