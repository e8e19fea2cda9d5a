from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from support_pipeline import FakeChannel, FakeInference
from vedette_server.data.config import ChannelConfig, DeliveryPolicy, EngineRef
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.outcome import SkipReason
from vedette_server.errors import UndecodableError
from vedette_server.frame import Binding
from vedette_server.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIVE, EVERY_FRAME = DeliveryPolicy.LIVE, DeliveryPolicy.EVERY_FRAME
PENDING = 3


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    made = Pipeline(2, PENDING)
    yield made
    made.close()


def config(policy: DeliveryPolicy = EVERY_FRAME, **fields: Any) -> ChannelConfig:
    return ChannelConfig("a", VideoFormat(Codec.H264), (EngineRef("toy"),), policy=policy, **fields)


def channel(pipeline: Pipeline, engines: tuple[FakeInference, ...], **fields: Any) -> FakeChannel:
    made = FakeChannel(pipeline, config(**fields), engines)
    pipeline.add(made)  # type: ignore[arg-type]
    return made


def engine(pipeline: Pipeline, slots: int) -> FakeInference:
    return FakeInference(slots, pipeline.slots_freed)


def run(inference: FakeInference, count: int = 1) -> None:
    """Let an engine answer the next surfaces, once they are there."""
    for _ in range(count):
        assert inference.arrived.acquire(timeout=20)
        inference.finish()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_frames_go_through_and_every_slot_comes_back(pipeline: Pipeline):
    inference = engine(pipeline, 2)
    camera = channel(pipeline, (inference,))
    camera.arrive(20)
    run(inference, 20)
    camera.wait_for(lambda: len(camera.analysed) == 20)
    assert camera.analysed == list(range(20))
    assert inference.pool.in_use == 0
    assert all(picture.closed for picture in camera.pictures)


def test_a_recorded_channel_pauses_while_its_pictures_wait(pipeline: Pipeline):
    inference = engine(pipeline, 1)
    camera = channel(pipeline, (inference,))
    camera.arrive(20)
    # One in the slot, and as many as may wait.
    eventually(lambda: camera.made == 1 + PENDING)
    time.sleep(0.02)
    assert camera.made == 1 + PENDING
    run(inference, 20)
    camera.wait_for(lambda: len(camera.analysed) == 20)
    assert not camera.skipped


def test_of_a_live_channel_the_newest_picture_waits(pipeline: Pipeline):
    inference = engine(pipeline, 1)
    camera = channel(pipeline, (inference,), policy=LIVE)
    camera.arrive(1)
    assert inference.arrived.acquire(timeout=20)
    camera.arrive(5)
    camera.wait_for(lambda: len(camera.skipped) == 4)
    inference.finish()
    run(inference)
    camera.wait_for(lambda: len(camera.analysed) == 2)
    assert camera.analysed == [0, 5]
    assert {reason for _, reason in camera.skipped} == {SkipReason.SUPERSEDED}


def test_a_picture_that_grew_too_old_is_skipped_and_its_slot_is_free(pipeline: Pipeline):
    inference = engine(pipeline, 1)
    camera = channel(pipeline, (inference,), policy=LIVE, max_age_s=0.001)
    camera.arrive(1)
    assert inference.arrived.acquire(timeout=20)
    camera.arrive(1)
    eventually(lambda: camera.made == 2)
    time.sleep(0.005)
    inference.finish()
    camera.wait_for(lambda: camera.skipped == [(1, SkipReason.STALE)])
    assert inference.pool.in_use == 0


@pytest.mark.parametrize("error", [UndecodableError, ValueError])
def test_a_picture_that_cannot_be_converted_costs_its_frame_and_no_slot(pipeline: Pipeline, error: type[Exception]):
    first, second = engine(pipeline, 1), engine(pipeline, 1)
    camera = channel(pipeline, (first, second))
    camera.picture_fails = error
    camera.arrive(3)
    camera.wait_for(lambda: len(camera.skipped) == 3)
    assert {reason for _, reason in camera.skipped} == {SkipReason.UNDECODABLE}
    assert (first.pool.in_use, second.pool.in_use) == (0, 0)


def test_a_channel_is_worked_on_by_one_worker_at_a_time(pipeline: Pipeline):
    inference = engine(pipeline, 4)
    camera = channel(pipeline, (inference,))
    camera.while_working = lambda: time.sleep(0.0005)
    answering = threading.Thread(target=run, args=(inference, 200))
    answering.start()
    for _ in range(200):
        camera.arrive()
    answering.join(20)
    camera.wait_for(lambda: len(camera.analysed) == 200)
    assert not camera.overlapped


def test_a_wake_that_comes_while_a_worker_leaves_is_not_lost(pipeline: Pipeline):
    """The channel says that it has no more, and is woken before the pool has noted that."""
    inference = engine(pipeline, 4)
    camera = channel(pipeline, (inference,))
    plain = camera.work

    def work() -> bool:
        plain()
        if camera.made == 1:
            camera.arrive(1)
        return False

    camera.work = work  # type: ignore[method-assign]
    camera.arrive(1)
    run(inference, 2)
    camera.wait_for(lambda: camera.analysed == [0, 1])


def test_a_channel_that_is_removed_while_it_works_gets_its_frame_back(pipeline: Pipeline):
    inference = engine(pipeline, 1)
    camera = channel(pipeline, (inference,))
    held: list[Any] = []

    def remove() -> None:
        held.extend(pipeline.remove(camera))  # type: ignore[arg-type]

    camera.arrive(1)
    assert inference.arrived.acquire(timeout=20)
    camera.while_working = remove
    camera.arrive(3)
    camera.wait_for(lambda: len(camera.skipped) == 1)
    assert camera.skipped == [(1, SkipReason.SESSION_LOST)]
    assert held == []
    # It is not worked on any more, and may come again.
    time.sleep(0.01)
    assert camera.made == 2
    camera.while_working = lambda: None
    pipeline.add(camera)  # type: ignore[arg-type]
    camera.arrive(0)
    inference.finish()
    run(inference, 2)
    camera.wait_for(lambda: camera.analysed == [0, 2, 3])


def test_a_removed_channel_returns_what_waited(pipeline: Pipeline):
    inference = engine(pipeline, 1)
    camera = channel(pipeline, (inference,))
    camera.arrive(10)
    eventually(lambda: camera.made == 1 + PENDING)
    frames = pipeline.remove(camera)  # type: ignore[arg-type]
    assert [frame.place for frame in frames] == [1, 2, 3]
    assert pipeline.remove(camera) == []  # type: ignore[arg-type]
    assert pipeline.depths[1] == 0


def test_a_removed_group_gives_back_the_part_of_its_slots(pipeline: Pipeline):
    first, second = engine(pipeline, 1), engine(pipeline, 1)
    busy = second.acquire()
    assert busy is not None
    both = channel(pipeline, (first, second))
    single = channel(pipeline, (first,))
    both.arrive(1)
    eventually(lambda: first.pool.in_use == 1)
    single.arrive(1)
    eventually(lambda: single.made == 1)
    assert len(pipeline.remove(both)) == 1  # type: ignore[arg-type]
    run(first)
    single.wait_for(lambda: single.analysed == [0])


def test_a_channel_with_two_engines_gets_its_share_beside_channels_with_one(pipeline: Pipeline):
    first, second = engine(pipeline, 2), engine(pipeline, 2)
    both = channel(pipeline, (first, second))
    singles = [channel(pipeline, (inference,)) for inference in (first, first, second, second)]
    for camera in (both, *singles):
        camera.arrive(1000)
    # Each engine answers one at a time: there is never a moment when both have a slot free by themselves.
    for turn in range(400):
        run(first if turn % 2 else second)
    least = min(len(camera.analysed) for camera in singles)
    assert len(both.analysed) >= 0.5 * least > 0


def test_a_switch_to_live_supersedes_what_waits(pipeline: Pipeline):
    inference = engine(pipeline, 1)
    camera = channel(pipeline, (inference,))
    camera.arrive(10)
    eventually(lambda: camera.made == 1 + PENDING)
    camera.config = config(LIVE)
    pipeline.update(camera)  # type: ignore[arg-type]
    camera.wait_for(lambda: len(camera.skipped) == 8)
    run(inference, 2)
    camera.wait_for(lambda: len(camera.analysed) == 2)
    assert camera.analysed == [0, 9]


def test_a_channel_whose_work_throws_hurts_nobody_else(pipeline: Pipeline):
    inference = engine(pipeline, 2)
    bad, good = channel(pipeline, (inference,)), channel(pipeline, (inference,))

    def fail() -> None:
        raise RuntimeError("a bug in one channel")

    bad.while_working = fail
    bad.arrive(3)
    good.arrive(30)
    run(inference, 30)
    good.wait_for(lambda: len(good.analysed) == 30)


def test_workers_end_also_while_frames_wait():
    pipeline = Pipeline(2, PENDING)
    inference = engine(pipeline, 1)
    camera = channel(pipeline, (inference,))
    camera.arrive(10)
    eventually(lambda: camera.made == 1 + PENDING)
    pipeline.close()
    pipeline.close()
    assert not [thread for thread in pipeline._threads if thread.is_alive()]


class Jobs:
    """A source of jobs that a test hands out."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def take(self, now: float) -> Callable[[], None] | None:
        return self.waiting.pop() if self.waiting else None

    def due_at(self) -> float | None:
        return 0.0 if self.waiting else None


def test_a_source_brings_its_workers_and_takes_them_along(pipeline: Pipeline):
    inference = engine(pipeline, 2)
    camera = channel(pipeline, (inference,))
    for _ in range(20):
        source = Jobs()
        pipeline.add_source(source, 2)
        done = threading.Event()
        source.waiting.append(done.set)
        camera.arrive()
        assert done.wait(20)
        pipeline.remove_source(source, 2)
        pipeline.remove_source(source, 2)
        run(inference)
    camera.wait_for(lambda: len(camera.analysed) == 20)
    eventually(lambda: len(pipeline._threads) == 2)


def test_a_channel_that_goes_over_takes_the_frames_along_that_wait(pipeline: Pipeline):
    old, new = engine(pipeline, 1), engine(pipeline, 2)
    camera = channel(pipeline, (old,))
    camera.arrive(4)
    eventually(lambda: camera.made == 1 + PENDING)
    camera.binding = Binding((new,), camera.binding.reader)  # type: ignore[arg-type]
    pipeline.rebind(camera)  # type: ignore[arg-type]
    run(new, 3)
    camera.wait_for(lambda: camera.analysed == [1, 2, 3])
    run(old)
    camera.wait_for(lambda: camera.analysed == [1, 2, 3, 0])


def test_a_job_that_comes_from_another_thread_is_done_by_idle_workers_at_once(pipeline: Pipeline):
    class Mailbox:
        """Work that nobody knows of before it is there."""

        def __init__(self) -> None:
            self.jobs: deque[Callable[[], None]] = deque()

        def take(self, now: float) -> Callable[[], None] | None:
            return self.jobs.popleft() if self.jobs else None

        def due_at(self) -> float | None:
            return 0.0 if self.jobs else None

    source, done = Mailbox(), threading.Semaphore(0)
    pipeline.add_source(source, 1)
    for count in (1, 5, 1):
        source.jobs.extend([lambda: done.release() and None] * count)
        pipeline.jobs_ready()
        for _ in range(count):
            assert done.acquire(timeout=20)
    pipeline.remove_source(source, 1)


def test_slots_that_become_free_with_a_job_are_taken(pipeline: Pipeline):
    inference = FakeInference(1, lambda: None)
    camera = channel(pipeline, (inference,))
    camera.arrive(2)
    assert inference.arrived.acquire(timeout=20)
    eventually(lambda: camera.made == 2)
    # As an executor's thread does it: the slot is free, and nobody else would ever say so.
    inference.finish()
    pipeline.jobs_ready()
    run(inference)
    camera.wait_for(lambda: len(camera.analysed) == 2)
