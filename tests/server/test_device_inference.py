"""An engine on a GPU as the server sees it, in front of an executor that a test drives by hand."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_device import LANES, MAX_BATCH, WAIT_S, Desk
from vedette_engines.cuda.base import CudaError
from vedette_engines.errors import LoadError, RunError
from vedette_server.errors import UndecodableError
from vedette_server.execute.device import BATCHES_AHEAD
from vedette_server.execute.feeds import slot_stride
from vedette_server.execute.reckoning import FAILURES_UNTIL_UNHEALTHY
from vedette_server.execute.results import TOLD_AT_ONCE
from vedette_server.execute.spread import SpreadInference


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def pictures() -> Desk:
    """The device letterboxes."""
    return Desk(preprocess=True)


def spread(desk: Desk) -> SpreadInference:
    return SpreadInference(desk.parts, desk.metrics, desk._free)


def test_a_full_batch_leaves_at_once_and_a_lone_frame_when_its_wait_is_over(desk: Desk):
    desk.submit(1)
    assert not desk.executor.launch()
    assert desk.executor.members[0].source.due_at() == desk.now + WAIT_S
    for number in (2, 3, 4):
        desk.submit(number)
    assert desk.executor.launch()
    assert not desk.executor.launch()
    desk.now += WAIT_S
    assert desk.executor.launch()
    assert [len(batch.frames) for _, batch in desk.executor.flying] == [3, 1]


def test_every_frame_gets_its_own_row_and_its_slot_is_free_before_anybody_is_told(desk: Desk):
    for number in (3, 9, 7):
        desk.submit(number)
    desk.executor.launch()
    desk.executor.end()
    assert desk.part.depths.slots_in_use == 0
    assert desk.ready == 1
    assert not desk.told
    assert not desk.part.idle
    desk.tell()
    assert desk.values == {3: 3.0, 9: 9.0, 7: 7.0}
    assert {result.batch_size for result in desk.told.values()} == {3}
    assert desk.part.idle


def test_the_executor_is_stirred_by_the_first_of_a_batch_and_by_the_one_that_fills_it_and_by_no_other(desk: Desk):
    counts = []
    for number in range(MAX_BATCH + 2):
        desk.submit(number)
        counts.append(desk.executor.nudges)
    assert counts == [1, 1, 2, 2, 2]


def test_there_are_slots_for_every_lane_for_a_batch_that_gathers_and_one_that_is_converted(desk: Desk):
    slots = []
    while (slot := desk.part.acquire()) is not None:
        slots.append(slot)
    assert len(slots) == (LANES + BATCHES_AHEAD) * MAX_BATCH


def test_pinned_memory_bounds_the_slots_but_never_below_a_batch():
    stride = slot_stride(Desk().part.fit)
    assert Desk(pinned_bytes=16 * stride).part.depths.slots == 8
    assert Desk(pinned_bytes=1).part.depths.slots == MAX_BATCH
    assert Desk(slots=5).part.depths.slots == 5


def test_slots_lie_one_behind_the_other_in_one_piece_of_pinned_memory(desk: Desk):
    (memory,) = desk.devices[0].pinned
    slots = [desk.part.acquire() for _ in range(2)]
    for value, slot in enumerate(slots, 1):
        assert slot is not None
        slot.pixels[:] = value
        feed: Any = desk.part._feeds.feed(slot)
        assert feed.memory is memory
        assert set(memory.array[feed.at : feed.at + slot.pixels.size]) == {value}
    desk.part.close()
    assert not memory.open


def test_a_batch_that_fails_costs_its_frames_and_the_next_one_runs(desk: Desk):
    desk.submit(1)
    desk.now += WAIT_S
    desk.executor.launch()
    desk.executor.end(error="RunError: no kernel image")
    desk.submit(2)
    desk.run()
    desk.tell()
    assert desk.told[1].row is None
    assert desk.told[1].error == "RunError: no kernel image"
    assert desk.values == {2: 2.0}
    assert desk.metrics.failures == 1
    desk.check_accounts()


def test_several_failures_in_a_row_make_it_unhealthy_and_one_success_healthy_again(desk: Desk):
    for number in range(FAILURES_UNTIL_UNHEALTHY):
        assert desk.part.healthy
        desk.submit(number)
        desk.now += WAIT_S
        desk.executor.launch()
        desk.executor.end(error="failed")
    assert not desk.part.healthy
    desk.submit(99)
    desk.run()
    assert desk.part.healthy
    assert desk.health == 2


def test_a_batch_that_hangs_makes_it_unhealthy_and_keeps_its_memory(desk: Desk):
    desk.executor.members[0].hung_since = desk.now
    desk.executor.hangs = True
    assert not desk.part.healthy
    desk.part.close()
    assert desk.devices[0].pinned[0].open
    assert not desk.engines[0].closed


def test_a_gpu_that_refuses_to_be_attached_to_does_not_keep_the_rest_from_being_closed(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def refuse() -> NoReturn:
        raise CudaError("CUDA_ERROR_DEVICE_UNAVAILABLE", "entering the context", sticky=True)

    monkeypatch.setattr(desk.devices[0], "attached", refuse)
    desk.part.close()
    assert "engine not closed: toy 1" in caplog.text


def test_slots_of_a_batch_stand_in_the_order_in_which_they_lie_and_rows_still_find_their_frames(desk: Desk):
    slots = [desk.part.acquire() for _ in range(MAX_BATCH)]
    for number, slot in reversed(list(enumerate(slots))):
        assert slot is not None
        desk.part.fill(slot, desk.picture(number))  # type: ignore[arg-type]
        desk.part.submit(desk.surface(slot, number))
    desk.executor.launch()
    feeds: Any = desk.executor.flying[0][1].frames
    size = desk.part.fit.width * desk.part.fit.height * 3
    assert [feed.at for feed in feeds] == [0, size, 2 * size]
    desk.executor.end()
    desk.tell()
    assert desk.values == {0: 0.0, 1: 1.0, 2: 2.0}
    again = [desk.part.acquire() for _ in range(MAX_BATCH)]
    assert again == slots


def test_a_large_batch_is_told_by_several_workers(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vedette_server.execute.results.TOLD_AT_ONCE", 2)
    assert TOLD_AT_ONCE > 2
    for number in range(3):
        desk.submit(number)
    desk.executor.launch()
    desk.executor.end()
    jobs = [desk.part.take(desk.now), desk.part.take(desk.now)]
    assert desk.part.take(desk.now) is None
    for job in reversed(jobs):
        assert job is not None
        job()
    assert desk.values == {0: 0.0, 1: 1.0, 2: 2.0}


def test_when_results_are_told_too_slowly_no_more_frames_are_taken_in(desk: Desk):
    number = 0
    for _ in range(100):
        while desk.submit(number):
            number += 1
        desk.now += WAIT_S
        while desk.executor.launch():
            desk.executor.end()
    assert number < 3 * desk.part.depths.slots
    assert desk.part.acquire() is None
    assert desk.freed == 0
    desk.tell()
    assert desk.freed == 1
    assert len(desk.told) == number
    assert desk.submit(number)


def test_a_channel_that_fails_to_take_its_result_costs_the_others_nothing(desk: Desk):
    def refuse(_: object) -> None:
        raise RuntimeError("a bug in its books")

    for number in range(MAX_BATCH):
        slot = desk.part.acquire()
        assert slot is not None
        surface = desk.surface(slot, number)
        if number == 1:
            surface.done = refuse
        desk.part.submit(surface)
    desk.executor.launch()
    desk.executor.end()
    desk.tell()
    assert set(desk.told) == {0, 2}
    assert desk.part.idle


def test_what_waits_can_be_forgotten_and_what_is_under_way_is_forgotten_with_it(desk: Desk):
    for number in range(MAX_BATCH + 1):
        desk.submit(number)
    desk.executor.launch()
    desk.part.drop_waiting()
    assert desk.part.depths.slots_in_use == MAX_BATCH
    desk.executor.end()
    assert desk.part.idle
    assert not desk.tell()
    assert not desk.told
    desk.submit(9)
    desk.run()
    desk.tell()
    assert desk.values == {9: 9.0}


def test_a_job_that_was_given_out_before_its_surfaces_were_forgotten_leaves_no_debt(desk: Desk):
    desk.submit(1)
    desk.now += WAIT_S
    desk.executor.launch()
    desk.executor.end()
    job = desk.part.take(desk.now)
    desk.part.drop_waiting()
    assert job is not None
    job()
    assert desk.part.idle
    desk.submit(2)
    assert not desk.part.idle
    desk.now += WAIT_S
    desk.executor.launch()
    desk.executor.end()
    assert not desk.part.idle
    desk.tell()
    assert desk.part.idle


def test_at_a_close_what_waits_what_is_under_way_and_what_was_not_told_is_let_go_and_nobody_told(desk: Desk):
    for number in range(2 * MAX_BATCH + 1):
        desk.submit(number)
    desk.executor.launch()
    desk.executor.end()
    desk.executor.launch()
    desk.part.close()
    assert not desk.tell()
    assert not desk.told
    desk.check_accounts(forgotten=True)


def test_a_gpu_that_is_lost_answers_what_waits_and_whatever_comes_later(desk: Desk):
    for number in range(MAX_BATCH + 1):
        desk.submit(number)
    held = desk.part.acquire()
    assert held is not None
    desk.executor.launch()
    desk.executor.end(error="CUDA_ERROR_ILLEGAL_ADDRESS")
    desk.part.lose("GPU 0 is lost")
    assert desk.part.acquire() is None
    desk.picture(77)
    desk.part.submit(desk.surface(held, 77))
    desk.tell()
    assert desk.told[MAX_BATCH].error == "GPU 0 is lost"
    assert desk.told[77].error == "GPU 0 is lost"
    assert not desk.part.healthy
    desk.check_accounts()


def test_the_warm_up_runs_one_full_batch_that_nobody_counts(desk: Desk):
    def serve() -> None:
        # As the executor's thread would.
        assert desk.executor.launch()
        assert len(desk.executor.flying[0][1].frames) == MAX_BATCH
        desk.executor.end()

    desk.executor.nudge = serve  # type: ignore[method-assign]
    desk.part.warm_up()
    assert desk.part.idle
    assert sum(desk.metrics.batches.counts) == 0


def test_a_warm_up_that_fails_says_why_and_leaves_nothing_taken(desk: Desk):
    def serve() -> None:
        assert desk.executor.launch()
        desk.executor.end(error="no kernel image")

    desk.executor.nudge = serve  # type: ignore[method-assign]
    with pytest.raises(RunError, match="no kernel image"):
        desk.part.warm_up()
    assert desk.part.idle


def test_an_engine_that_is_not_on_a_device_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("support_device.HandEngine.__setattr__", _without_device, raising=False)
    with pytest.raises(LoadError, match="toy 1 is not on a device"):
        Desk()


def _without_device(engine: object, name: str, value: object) -> None:
    object.__setattr__(engine, name, None if name == "on_device" else value)


def test_without_pinned_memory_it_cannot_be_loaded_and_leaves_the_executor(monkeypatch: pytest.MonkeyPatch):
    removed: list[object] = []

    def refuse(*_: object) -> None:
        raise CudaError("CUDA_ERROR_OUT_OF_MEMORY", "pinning memory", sticky=False)

    monkeypatch.setattr("support_device.HandDevice.pin", refuse)
    monkeypatch.setattr("support_device.HandExecutor.remove", lambda _, member: removed.append(member))
    with pytest.raises(LoadError, match="no pinned memory for slots: CUDA_ERROR_OUT_OF_MEMORY"):
        Desk()
    assert len(removed) == 1


# -- pictures as they were decoded ------------------------------------------------------------------


def test_frames_of_all_kinds_mix_in_one_batch(pictures: Desk):
    for number, where in ((3, None), (5, "host"), (7, 0)):
        pictures.submit(number, where)
    pictures.executor.launch()
    kinds = [type(feed).__name__ for feed in pictures.executor.flying[0][1].frames]
    assert kinds == ["SlotFrame", "HostPicture", "DevicePicture"]
    pictures.executor.end()
    pictures.tell()
    assert pictures.values == {3: 3.0, 5: 5.0, 7: 7.0}
    assert pictures.metrics.ways == {"slot": 1, "host": 1, "device": 1}
    pictures.check_accounts()


def test_unless_the_device_letterboxes_no_picture_is_asked_where_it_lies(desk: Desk):
    desk.submit(3, 0)
    assert desk.pictures[3].held == 0
    assert desk.pictures[3].letterboxed == 1


def test_a_picture_on_another_gpu_is_let_go_at_once_and_letterboxed_by_the_cpu(pictures: Desk):
    pictures.submit(3, 1)
    assert pictures.released[3] == pictures.pictures[3].held == 1
    assert pictures.pictures[3].letterboxed == 1
    pictures.run()
    pictures.tell()
    assert pictures.values == {3: 3.0}


def test_a_picture_on_the_gpu_is_held_until_its_batch_is_done(pictures: Desk):
    pictures.submit(3, 0)
    pictures.now += WAIT_S
    pictures.executor.launch()
    assert pictures.released[3] == 0
    pictures.executor.end()
    assert pictures.released[3] == 1


def test_when_no_staging_memory_is_left_the_cpu_letterboxes():
    # Slots take their part; what is left is enough for two pieces.
    probe = Desk(preprocess=True)
    slots = probe.part.depths.slots * slot_stride(probe.part.fit)
    desk = Desk(preprocess=True, pinned_bytes=max(2 * slots, slots + 2 * 65536), slots=12)
    staging = desk.part._feeds.staging
    assert staging is not None
    for number in range(6):
        desk.submit(number, "host")
    assert [desk.pictures[number].letterboxed for number in range(6)] == [0, 0, 1, 1, 1, 1]
    desk.run()
    desk.tell()
    assert desk.values == {number: float(number) for number in range(6)}
    assert staging.in_use == 0
    assert staging.size_bytes == 2 * 65536
    desk.submit(6, "host")
    assert desk.pictures[6].letterboxed == 0


def test_a_broken_still_leaves_the_slot_with_whoever_fills_it(pictures: Desk):
    slot = pictures.part.acquire()
    assert slot is not None
    picture = pictures.picture(3, 1)
    picture.fails = UndecodableError
    with pytest.raises(UndecodableError):
        pictures.part.fill(slot, picture)  # type: ignore[arg-type]
    pictures.part.release(slot)
    assert pictures.released[3] == 1
    assert pictures.part.idle


def test_who_looks_at_a_picture_that_the_device_will_letterbox_gets_pixels_and_the_device_still_the_picture(
    pictures: Desk,
):
    slot = pictures.part.acquire()
    assert slot is not None
    picture: Any = pictures.picture(5, "host")
    pictures.part.fill(slot, picture)
    assert set(pictures.part.pixels(slot, picture).flat) == {5}
    assert type(pictures.part._feeds.feed(slot)).__name__ == "HostPicture"


def test_a_slot_that_is_filled_twice_lets_the_first_picture_go(pictures: Desk):
    slot = pictures.part.acquire()
    assert slot is not None
    first: Any = pictures.picture(5, 0)
    second: Any = pictures.picture(6, "host")
    pictures.part.fill(slot, first)
    pictures.part.fill(slot, second)
    assert pictures.released[5] == 1
    pictures.part.release(slot)
    assert pictures.part.idle


# -- several GPUs -----------------------------------------------------------------------------------


def test_frames_go_to_the_gpu_with_most_free_slots():
    desk = Desk(gpus=2)
    both = spread(desk)
    for number in range(4):
        desk.submit(number, into=both)
    assert [part.depths.slots_in_use for part in desk.parts] == [2, 2]
    desk.executors[0].end(0) if desk.executors[0].launch() else None
    desk.now += WAIT_S
    desk.executors[0].launch()
    desk.executors[0].end()
    for number in range(4, 6):
        desk.submit(number, into=both)
    assert [part.depths.slots_in_use for part in desk.parts] == [2, 2]
    desk.run()
    desk.tell(both)
    assert desk.values == {number: float(number) for number in range(6)}
    assert both.depths.slots == 2 * desk.parts[0].depths.slots
    desk.check_accounts()


def test_a_picture_goes_to_the_gpu_that_decoded_it():
    desk = Desk(gpus=2, preprocess=True)
    both = spread(desk)
    for number in range(6):
        desk.submit(number, 1, into=both)
    assert [part.depths.slots_in_use for part in desk.parts] == [0, 6]
    assert not any(picture.letterboxed for picture in desk.pictures.values())
    assert desk.freed > 0
    desk.run()
    desk.tell(both)
    assert desk.values == {number: float(number) for number in range(6)}
    desk.check_accounts()


def test_a_gpu_that_is_lost_takes_only_what_was_on_it():
    desk = Desk(gpus=2)
    both = spread(desk)
    for number in range(6):
        desk.submit(number, into=both)
    desk.parts[0].lose("GPU 0 is lost")
    assert both.healthy
    assert both.lost == ""
    for number in range(6, 9):
        desk.submit(number, into=both)
    desk.run()
    desk.tell(both)
    lost = [number for number, result in desk.told.items() if result.error]
    assert len(lost) == 3
    assert max(lost) < 6
    desk.parts[1].lose("GPU 1 is lost")
    assert both.lost == "GPU 1 is lost"
    assert not both.healthy
    assert both.acquire() is None
    desk.check_accounts()


WHERE = st.sampled_from([None, "host", 0, 1])
# Of a frame's own way more often than of what befalls it, so that something is under way when it does.
STEPS = st.one_of(
    *[st.tuples(st.just("take"), WHERE)] * 3,
    *[st.tuples(st.just("submit"), st.integers(0, 20))] * 3,
    *[st.tuples(st.just("launch"), st.integers(0, 1))] * 2,
    *[st.tuples(st.just("wait"), st.just(0))] * 2,
    st.tuples(st.just("end"), st.integers(0, 5)),
    st.tuples(st.just("fail"), st.integers(0, 5)),
    st.tuples(st.just("tell"), st.just(0)),
    st.tuples(st.just("give_up"), st.integers(0, 20)),
    st.tuples(st.just("drop"), st.just(0)),
    st.tuples(st.just("lose"), st.integers(0, 1)),
)


class Life:
    """One engine on two GPUs, taken through steps in any order."""

    def __init__(self) -> None:
        self.desk = Desk(gpus=2, preprocess=True, slots=4, pinned_bytes=5 * 65536)
        self.both = spread(self.desk)
        self.filled: list[tuple[Any, int]] = []
        self.dropped = False
        self.number = 0

    def do(self, step: str, choice: Any) -> None:
        getattr(self, step)(choice)

    def take(self, where: str | int | None) -> None:
        slot = self.both.acquire()
        if slot is not None:
            self.number += 1
            picture: Any = self.desk.picture(self.number, where)
            self.both.fill(slot, picture)
            self.filled.append((slot, self.number))

    def submit(self, choice: int) -> None:
        if self.filled:
            slot, number = self.filled.pop(choice % len(self.filled))
            self.both.submit(self.desk.surface(slot, number))

    def give_up(self, choice: int) -> None:
        if self.filled:
            slot, number = self.filled.pop(choice % len(self.filled))
            self.both.release(slot)
            assert self.desk.released[number] == self.desk.pictures.pop(number).held

    def launch(self, gpu: int) -> None:
        self.desk.executors[gpu].launch()

    def end(self, choice: int, error: str = "") -> None:
        executor = self.desk.executors[choice % 2]
        if executor.flying:
            executor.end(choice % len(executor.flying), error)

    def fail(self, choice: int) -> None:
        self.end(choice, "failed")

    def tell(self, _: int) -> None:
        self.desk.tell(self.both)

    def wait(self, _: int) -> None:
        self.desk.now += WAIT_S

    def drop(self, _: int) -> None:
        self.dropped = True
        self.both.drop_waiting()

    def lose(self, gpu: int) -> None:
        # Its executor has failed its batches by then.
        while self.desk.executors[gpu].flying:
            self.desk.executors[gpu].end(error="lost")
        self.desk.parts[gpu].lose("lost")

    def wind_up(self) -> None:
        for slot, number in self.filled:
            self.both.submit(self.desk.surface(slot, number))
        self.desk.run()
        self.desk.tell(self.both)


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, min_size=10, max_size=60))
def test_whatever_happens_every_slot_and_picture_is_let_go_once_and_every_frame_told_once(steps):
    life = Life()
    for step, choice in steps:
        life.do(step, choice)
    life.wind_up()
    life.desk.check_accounts(forgotten=life.dropped)
    assert life.both.idle
    for number, value in life.desk.values.items():
        assert value == number


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=10, max_size=40))
def test_a_close_in_the_midst_of_it_lets_everything_go_once_and_tells_nobody(steps):
    life = Life()
    for step, choice in steps:
        life.do(step, choice)
    for slot, _ in life.filled:
        # Whoever fills a slot submits or releases it before engines go: workers end first.
        life.both.release(slot)
    told = len(life.desk.told)
    life.both.close()
    life.both.close()
    life.desk.check_accounts(forgotten=True)
    assert not life.desk.tell(life.both)
    assert len(life.desk.told) == told
    assert all(engine.closed for engine in life.desk.engines)
    assert not any(memory.open for device in life.desk.devices for memory in device.pinned)
