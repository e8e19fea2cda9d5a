"""What the executor promises to those that have batches: order, errors, ends, and a device that is lost or hangs."""

from __future__ import annotations

import contextlib
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from support_gpu import FRAME_BYTES, Endless, Rig, Store
from vedette_engines.cuda.base import CudaError
from vedette_engines.cuda.simulated import SimulatedDevice, WallClock
from vedette_engines.errors import LoadError, RunError
from vedette_engines.gpu.executor import Executor, LaneSettings
from vedette_engines.gpu.member import HANGS_AFTER_S
from vedette_engines.runners.base import BatchMode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support_gpu import Told
    from vedette_engines.gpu.base import Batch, Outcome

COPY_S = 1e-3


def slow(**options: Any) -> SimulatedDevice:
    return SimulatedDevice(copy_s=lambda _, size: COPY_S, **options)


def in_flight(rig: Rig) -> int:
    return rig.executor.figures().in_flight


@pytest.mark.parametrize("mode", BatchMode)
@pytest.mark.parametrize("graphs", [True, False])
def test_batches_of_all_sizes_give_the_engines_rows(mode: BatchMode, *, graphs: bool) -> None:
    rig = Rig(slow())
    store = Store(rig.device)
    member = rig.add(store, rig.engine(lambda _: 1e-3, max_batch=6), mode=mode, graphs=graphs, lanes=2)
    for count in (1, 2, 3, 4, 5, 6, 1):
        store.put(count)
    rig.settle(store.told)
    for told in store.told:
        told.check()
    padded = [1, 2, 4, 4, 6, 6, 1] if mode is BatchMode.BUCKET else [1, 2, 3, 4, 5, 6, 1]
    assert [told.outcome.size for told in store.told] == padded
    assert member.graphs == (4 if graphs and mode is BatchMode.BUCKET else 0)
    rig.close()


def test_an_outcome_tells_the_lane_and_when() -> None:
    rig = Rig(slow())
    store = Store(rig.device)
    rig.add(store, rig.engine(lambda _: 2e-3), lanes=2)
    began_s = rig.clock()
    for _ in range(2):
        store.put(1)
    rig.settle(store.told)
    outcomes = [told.outcome for told in store.told]
    assert sorted(outcome.lane for outcome in outcomes) == [0, 1]
    assert [outcome.started_s for outcome in outcomes] == [began_s, began_s]
    first = outcomes[0]
    assert first.times is not None
    assert first.times.upload == pytest.approx((began_s, began_s + COPY_S))
    assert first.times.compute == pytest.approx((began_s + COPY_S, began_s + COPY_S + 2e-3))
    assert first.times.download == pytest.approx((began_s + COPY_S + 2e-3, began_s + 2 * COPY_S + 2e-3))
    assert first.finished_s >= first.times.download[1]
    rig.close()


def test_without_timing_there_are_no_times_and_all_else() -> None:
    rig = Rig(slow())
    store = Store(rig.device)
    rig.add(store, rig.engine(lambda _: 2e-3), timing=False, lanes=3)
    for _ in range(20):
        store.put(4)
    rig.settle(store.told)
    for told in store.told:
        told.check()
        assert told.outcome.times is None
    assert rig.executor.figures().batches == 20
    assert rig.executor.figures(1.0).overlap == 0.0
    rig.close()


def test_frames_that_lie_side_by_side_go_up_in_one_copy() -> None:
    rig = Rig(slow())
    source = Endless(rig.device, count=4, batches=1)
    rig.add(source, lanes=1)
    before = len(rig.device.timeline.spans)
    rig.run(lambda: bool(source.outcomes))
    uploads = [span for span in rig.device.timeline.spans[before:] if span.engine == "upload"]
    assert len(uploads) == 1
    source.pinned.close()
    rig.close()


def test_a_batch_that_is_due_later_waits_and_the_executor_says_until_when() -> None:
    rig = Rig(slow())
    store = Store(rig.device)
    rig.add(store)
    assert rig.executor.step() is None
    due_s = rig.clock() + 0.5
    store.put(2, due_s)
    assert rig.executor.step() == pytest.approx(0.5)
    assert in_flight(rig) == 0
    rig.settle(store.told)
    assert store.told[0].outcome.started_s == pytest.approx(due_s)
    rig.close()


def test_a_frame_that_leaves_its_memory_costs_its_batch() -> None:
    rig = Rig(slow())
    source = Endless(rig.device, batches=1)
    source.pinned.close()
    source.pinned = rig.device.pin(FRAME_BYTES * 4 - 1)
    source._frames = [type(frame)(source.pinned, frame.at) for frame in source._frames]
    rig.add(source, lanes=1)
    rig.run(lambda: bool(source.outcomes))
    assert source.outcomes[0].error == "frame 3 takes bytes 72..96 of pinned memory of 95"
    source.pinned.close()
    rig.close()


def test_whoever_raises_when_told_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def raises(_: Outcome) -> None:
        raise ValueError("a bug")

    rig = Rig(slow())
    store = Store(rig.device)
    rig.add(store)
    store.put(1, then=raises)
    store.put(1)
    rig.settle(store.told)
    store.told[1].check()
    assert "a bug" in caplog.text
    rig.close()


def test_a_source_that_raises_hurts_no_other(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def take(self, now: float) -> Batch | None:
            raise ValueError("no batch")

        def due_at(self) -> float | None:
            return 0.0

    rig = Rig(slow())
    store = Store(rig.device)
    rig.add(Broken())
    rig.add(store)
    store.put(3)
    rig.settle(store.told)
    store.told[0].check()
    assert "no batch" in caplog.text
    rig.close()


def test_a_lost_device_fails_what_is_under_way_and_what_comes_and_tells_once() -> None:
    lost: list[CudaError] = []
    rig = Rig(slow(), on_lost=lost.append)
    store = Store(rig.device)
    rig.add(store, rig.engine(lambda _: 1e-3), lanes=2)
    for _ in range(4):
        store.put(2)
    store.put(1, rig.clock() + 10.0)
    rig.executor.step()
    assert in_flight(rig) == 2
    rig.device.lose()
    rig.executor.step()
    assert [len(told.outcomes) for told in store.told] == [1, 1, 0, 0, 0]
    wait_s = rig.executor.step()
    assert wait_s == pytest.approx(10.0)
    assert [len(told.outcomes) for told in store.told] == [1, 1, 1, 1, 0]
    rig.clock.sleep(wait_s)
    rig.executor.step()
    reasons = {told.outcome.error for told in store.told}
    assert len(store.told) == 5
    assert all("CUDA_ERROR_ILLEGAL_ADDRESS" in reason and "context is lost" in reason for reason in reasons)
    assert [error.name for error in lost] == ["CUDA_ERROR_ILLEGAL_ADDRESS"]
    assert rig.executor.lost is lost[0]
    with pytest.raises(LoadError, match="the GPU is lost"):
        rig.add(store)
    rig.close()


def test_whoever_is_told_that_the_device_is_lost_may_take_its_engines_out() -> None:
    removed: list[bool] = []
    rig = Rig(slow(), on_lost=lambda _: removed.append(rig.executor.remove(member)))
    store = Store(rig.device)
    member = rig.add(store)
    store.put(1)
    rig.executor.step()
    rig.device.lose()
    rig.executor.step()
    assert removed == [True]
    assert "context is lost" in store.told[0].outcome.error
    rig.close()


def test_a_batch_that_hangs_is_seen_and_given_up() -> None:
    rig = Rig(slow())
    store, other = Store(rig.device), Store(rig.device)
    # The warm-up's run ends.
    durations = iter([0.0])
    member = rig.add(store, rig.engine(lambda _: next(durations, math.inf), max_batch=1), lanes=1, graphs=False)
    fine = rig.add(other, rig.engine(), lanes=1)
    began_s = rig.clock()
    told = store.put(1)
    rig.executor.step()
    rig.clock.sleep(HANGS_AFTER_S - 1)
    assert member.hung_since is None
    rig.clock.sleep(2)
    assert member.hung_since == pytest.approx(began_s)
    assert fine.hung_since is None
    assert not rig.executor.remove(member, 5.0)
    assert told.outcome.error == "the batch did not end within 5.0 s and was given up"
    assert member.hung_since is None
    assert rig.executor.remove(fine)
    assert rig.executor.close()


def test_closing_gives_up_what_hangs_and_says_so() -> None:
    rig = Rig(slow())
    durations = iter([0.0])
    store = Store(rig.device)
    rig.add(store, rig.engine(lambda _: next(durations, math.inf), max_batch=1), lanes=1, graphs=False)
    told = store.put(1)
    rig.executor.step()
    assert not rig.executor.close(2.0)
    assert "did not end" in told.outcome.error
    assert not rig.executor.close()


def test_what_is_removed_ends_first_and_takes_no_more() -> None:
    rig = Rig(slow())
    store = Store(rig.device)
    member = rig.add(store, rig.engine(lambda _: 5e-3), lanes=2)
    for _ in range(5):
        store.put(2)
    rig.executor.step()
    assert rig.executor.remove(member)
    assert [len(told.outcomes) for told in store.told] == [1, 1, 0, 0, 0]
    for told in store.told[:2]:
        told.check()
    assert store.drop() == 3
    rig.close()


def test_closing_waits_for_what_is_under_way_and_may_be_done_twice() -> None:
    rig = Rig(slow())
    store = Store(rig.device)
    rig.add(store, rig.engine(lambda _: 5e-3), lanes=2)
    store.put(2)
    rig.executor.step()
    rig.close()
    assert rig.executor.close()
    store.told[0].check()
    with pytest.raises(LoadError, match="closed"):
        rig.add(store)


def test_from_within_a_callback_nothing_that_waits_may_be_called() -> None:
    rig = Rig(slow())
    store = Store(rig.device)
    member = rig.add(store)
    caught: list[RuntimeError] = []

    def removes(_: Outcome) -> None:
        for call in (lambda: rig.executor.remove(member), rig.executor.step, rig.executor.close):
            with contextlib.suppress(RuntimeError):
                call()
                continue
            caught.append(RuntimeError())

    store.put(1, then=removes)
    rig.settle(store.told)
    assert len(caught) == 3
    rig.close()


def test_each_stage_of_each_batch_is_annotated() -> None:
    names: list[str] = []

    @contextlib.contextmanager
    def annotate(name: str) -> Iterator[None]:
        names.append(name)
        yield

    rig = Rig(slow(), annotate=annotate)
    store = Store(rig.device)
    rig.add(store)
    store.put(1)
    rig.settle(store.told)
    assert names == ["upload", "compute", "download"]
    rig.close()


@pytest.mark.parametrize(("weight", "flights"), [(0.0, 0), (-1.0, 0), (math.nan, 0), (1.0, -1)])
def test_weights_and_bounds_that_make_no_sense_are_refused(weight: float, flights: int) -> None:
    device = slow()
    with pytest.raises(ValueError, match="allowed is"):
        Rig(device, max_in_flight=flights).add(Store(device), weight=weight)
    device.close()


# -- the thread ---------------------------------------------------------------------------------


class Driven:
    """An executor with its thread, in real time."""

    def __init__(self, **options: Any) -> None:
        self.device: Any = SimulatedDevice(WallClock(), copy_s=lambda _, size: 2e-4)
        self.lost: list[CudaError] = []
        self.executor = Executor(self.device, on_lost=self.lost.append, **options)
        self.executor.start()

    def add(self, source: Any, duration_s: float = 5e-4, **settings: Any) -> Any:
        rig: Any = Rig.__new__(Rig)
        rig.device = self.device
        return self.executor.add(rig.engine(lambda _: duration_s), source, LaneSettings(**settings))

    def wait(self, store: Store, count: int) -> None:
        """Wait until so many were told; a test that waits in vain ends by pytest's own limit."""
        while sum(len(told.outcomes) for told in store.told) < count:
            threading.Event().wait(1e-3)

    def close(self) -> None:
        assert self.executor.close()
        self.device.close()


def test_the_thread_runs_what_comes_when_it_is_nudged() -> None:
    driven = Driven()
    store = Store(driven.device)
    driven.add(store, lanes=3)
    for round_number in range(3):
        for _ in range(10):
            store.put(3)
        driven.executor.nudge()
        driven.wait(store, 10 * (round_number + 1))
    for told in store.told:
        told.check()
    driven.close()


def test_members_come_and_go_while_others_run() -> None:
    driven = Driven()
    store = Store(driven.device)
    driven.add(store, lanes=2)

    def come_and_go(_: int) -> list[Told]:
        own = Store(driven.device)
        for _ in range(5):
            member = driven.add(own, lanes=2)
            for _ in range(4):
                own.put(2)
            driven.executor.nudge()
            driven.wait(own, len(own.told))
            assert driven.executor.remove(member)
        return own.told

    with ThreadPoolExecutor(3) as pool:
        others = pool.map(come_and_go, range(3))
        for _ in range(100):
            store.put(4)
            driven.executor.nudge()
        driven.wait(store, 100)
        for told in [*store.told, *(told for other in others for told in other)]:
            told.check()
    driven.close()


def test_a_lost_device_is_told_from_the_thread_and_all_batches_end() -> None:
    driven = Driven()
    store = Store(driven.device)
    driven.add(store, lanes=2)
    for index in range(20):
        store.put(1, driven.device.clock() + index * 2e-3)
    driven.executor.nudge()
    driven.wait(store, 1)
    driven.device.lose()
    driven.wait(store, 20)
    assert len(driven.lost) == 1
    driven.close()


def test_what_is_under_way_ends_before_an_engine_is_taken_out_or_the_executor_closed() -> None:
    driven = Driven()
    for ends in ("remove", "close"):
        store = Store(driven.device)
        member = driven.add(store, 20e-3, lanes=2)
        for _ in range(2):
            store.put(2)
        driven.executor.nudge()
        while member.in_flight < 2:
            threading.Event().wait(1e-3)
        assert driven.executor.remove(member) if ends == "remove" else driven.executor.close()
        for told in store.told:
            told.check()
    driven.device.close()


def test_a_device_that_is_lost_while_lanes_are_opened_is_lost_for_all(caplog: pytest.LogCaptureFixture) -> None:
    lost: list[CudaError] = []

    def told(error: CudaError) -> None:
        lost.append(error)
        raise ValueError("a bug in whoever is told")

    rig = Rig(slow(), on_lost=told)
    store = Store(rig.device)
    rig.add(store)
    store.put(1)
    rig.executor.step()
    rig.device.lose()
    with pytest.raises(LoadError, match="lanes cannot be opened: CUDA_ERROR_ILLEGAL_ADDRESS"):
        rig.add(Store(rig.device))
    assert "context is lost" in store.told[0].outcome.error
    assert len(lost) == 1
    assert "a bug in whoever is told" in caplog.text
    rig.close()


def test_a_device_that_cannot_even_be_attached_to_is_lost_refuses_what_comes_and_is_closed() -> None:
    class Gone:
        """A device that is gone: nothing can be attached to it."""

        gone = False

        def __init__(self, inner: SimulatedDevice) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def attached(self) -> Any:
            if self.gone:
                raise CudaError("CUDA_ERROR_DEVICE_UNAVAILABLE", "entering the context", sticky=True)
            return self._inner.attached()

    device = Gone(slow())
    rig = Rig(device)
    store = Store(device)
    rig.add(store)
    store.put(1)
    late = store.put(1, rig.clock() + 10.0)
    rig.executor.step()
    device.gone = True
    rig.device.lose()
    rig.executor.step()
    assert "CUDA_ERROR_DEVICE_UNAVAILABLE" in store.told[0].outcome.error
    # It sleeps meanwhile.
    wait_s = rig.executor.step()
    assert wait_s == pytest.approx(10.0)
    rig.clock.sleep(wait_s)
    assert rig.executor.step() is None
    assert "CUDA_ERROR_DEVICE_UNAVAILABLE" in late.outcome.error
    rig.close()


def test_a_bug_in_the_thread_ends_as_a_lost_device_and_not_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    driven = Driven()
    store = Store(driven.device)
    member = driven.add(store, lanes=1)
    member.open_lanes.sizes = ()
    store.put(1)
    driven.executor.nudge()
    while not driven.lost:
        threading.Event().wait(1e-3)
    assert driven.lost[0].sticky
    assert "IndexError" in str(driven.lost[0])
    assert "the executor's thread failed" in caplog.text
    driven.executor.close()
    store.drop()


def test_a_member_whose_engine_has_another_device_is_refused() -> None:
    rig = Rig(slow())
    other = Rig(slow(index=1))
    with pytest.raises(LoadError, match="the engine is on GPU 1, its lanes are wanted on 0"):
        rig.add(Store(rig.device), other.engine())


def test_an_engine_that_fails_every_time_fails_its_batches_only() -> None:
    rig = Rig(slow())
    store, fine = Store(rig.device), Store(rig.device)
    engine = rig.engine()
    rig.add(store, engine, graphs=False, lanes=1)
    rig.add(fine, lanes=1)

    def refuse(*_: Any) -> None:
        raise RunError("never")

    member = rig.executor.members[0]
    for lane in member.open_lanes.lanes:
        for program in lane._programs.values():
            program.enqueue = refuse  # type: ignore[method-assign]
    for _ in range(6):
        store.put(2)
        fine.put(2)
    rig.settle([*store.told, *fine.told])
    assert {told.outcome.error for told in store.told} == {"never"}
    for told in fine.told:
        told.check()
    rig.close()


def test_a_driver_that_hangs_in_a_call_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    driven = Driven()
    source = Endless(driven.device, count=1, batches=1)
    inside, goes_on = threading.Event(), threading.Event()

    def hangs(_: Any) -> None:
        inside.set()
        goes_on.wait()

    idle = Store(driven.device)
    member = driven.add(idle, lanes=1, graphs=False)
    for program in member.open_lanes.lanes[0]._programs.values():
        program.enqueue = hangs
    member.source = source
    driven.executor.nudge()
    inside.wait()
    assert not driven.executor.close(0.05)
    assert "hangs in a call of the driver" in caplog.text
    goes_on.set()
    thread = driven.executor._thread
    assert thread is not None
    thread.join()
    # Whatever came of it later was not told again.
    assert [outcome.error for outcome in source.outcomes] == ["the GPU hangs"]
