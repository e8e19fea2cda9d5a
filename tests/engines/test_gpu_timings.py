"""The times of batches on the executor's clock, what is made of them, and when the executor looks again."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_gpu import FRAME_BYTES, Endless, Rig
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.gpu.base import LaneTimes
from vedette_engines.gpu.pacing import Pace
from vedette_engines.gpu.timings import Anchors, Usage

if TYPE_CHECKING:
    from vedette_engines.cuda.base import Event

STARTED_S = 3600.0


class Float32Events:
    """A device whose events tell their times as CUDA does: in milliseconds, as float32."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def event(self, *, timing: bool = False) -> Any:
        event = self._inner.event(timing=timing)
        exact = event.milliseconds_since

        def rounded(earlier: Event) -> float:
            return float(np.float32(exact(earlier)))

        event.milliseconds_since = rounded
        return event


def test_times_stay_exact_however_long_the_executor_runs() -> None:
    inner = SimulatedDevice(copy_s=lambda _, size: 1.0e-3)
    rig = Rig(Float32Events(inner))
    source = Endless(rig.device, batches=0)
    rig.add(source, rig.engine(lambda _: 2e-3), lanes=2)
    for _ in range(12):
        source._left = 1
        rig.run(lambda: source.taken == len(source.outcomes) and not source._left)
        rig.clock.sleep(100.0)
    ends = [span.end_s for span in inner.timeline.spans if span.engine == "download"]
    told = [outcome.times.download[1] for outcome in source.outcomes if outcome.times]
    assert len(told) == 12
    assert told == pytest.approx(ends, abs=1e-6)
    source.pinned.close()
    rig.close()


Span = tuple[float, float]


def union_s(spans: list[Span], moments: list[float]) -> list[bool]:
    """Tell for each piece of time between two moments whether any span covers it."""
    return [any(low <= left and right <= high for low, high in spans) for left, right in itertools.pairwise(moments)]


@settings(max_examples=60)
@given(
    cuts=st.lists(st.lists(st.integers(0, 40), min_size=4, max_size=4).map(sorted), max_size=6),
    since=st.integers(-5, 30),
)
def test_busy_time_and_overlap_are_those_of_the_spans(cuts: list[list[int]], since: int) -> None:
    usage, now = Usage(), 50.0
    batches = [LaneTimes((a, b), (b, c), (c, d)) for a, b, c, d in cuts]
    for times in batches:
        usage.note(times.download[1], times)
    figures = usage.figures(float(since), now, 2)
    counted = [times for times in batches if times.download[1] > since]
    moments = sorted({float(since), now, *(float(m) for cut in cuts for m in cut if m >= since)})
    lengths = [right - left for left, right in itertools.pairwise(moments)]
    covers = [
        union_s([getattr(times, engine) for times in counted], moments) for engine in ("upload", "compute", "download")
    ]
    said = (figures.upload_s, figures.compute_s, figures.download_s)
    for seconds, cover in zip(said, covers, strict=True):
        assert seconds == pytest.approx(sum(length for length, on in zip(lengths, cover, strict=True) if on))
    at_once = [sum(on) for on in zip(*covers, strict=True)]
    busy = sum(length for length, count in zip(lengths, at_once, strict=True) if count)
    together = sum(length for length, count in zip(lengths, at_once, strict=True) if count > 1)
    assert figures.overlap == pytest.approx(together / busy if busy else 0.0)
    assert (figures.batches, figures.in_flight, figures.elapsed_s) == (len(counted), 2, now - since)


def test_an_anchor_that_stands_behind_something_long_is_not_set_anew_with_every_batch() -> None:
    device = SimulatedDevice()
    looks: list[float] = []
    stuck = True

    class Behind:
        """Events whose stream shares a queue of the hardware with one that computes."""

        def __getattr__(self, name: str) -> Any:
            return getattr(device, name)

        def event(self, *, timing: bool = False) -> Any:
            event = device.event(timing=timing)
            done = event.done

            def look() -> bool:
                looks.append(device.clock())
                return not stuck and done()

            event.done = look  # type: ignore[method-assign]
            return event

    anchors = Anchors(Behind(), device.clock)  # type: ignore[arg-type]
    assert anchors.take(STARTED_S) is None
    once = len(looks)
    assert anchors.take(STARTED_S + 0.01) is None
    assert len(looks) == once
    stuck = False
    assert anchors.take(STARTED_S + 1.0) is not None
    anchors.close()
    device.close()


def test_what_a_batch_waited_for_others_is_not_its_own_time() -> None:
    usage = Usage()
    usage.note(5.0, LaneTimes((0.0, 1.0), (1.0, 4.0), (4.0, 5.0)))
    times = usage.note(8.0, LaneTimes((0.5, 2.0), (2.0, 7.0), (7.0, 8.0)))
    assert times == LaneTimes((1.0, 2.0), (4.0, 7.0), (7.0, 8.0))


def test_figures_are_those_since_the_last_call_or_of_a_window() -> None:
    rig = Rig(SimulatedDevice(copy_s=lambda _, size: 1e-3))
    source = Endless(rig.device, batches=0)
    rig.add(source, rig.engine(lambda _: 1e-3), lanes=1)
    rig.executor.figures()
    for batches in (3, 2):
        source._left, done = batches, len(source.outcomes) + batches
        rig.run(lambda done=done: len(source.outcomes) == done)  # type: ignore[misc]
        figures = rig.executor.figures()
        assert figures.batches == batches
        assert figures.compute_s == pytest.approx(batches * 1e-3)
    assert rig.executor.figures().batches == 0
    assert rig.executor.figures(1.0).batches == 5
    rig.clock.sleep(2.0)
    assert rig.executor.figures(1.0).batches == 0
    source.pinned.close()
    rig.close()


# -- when to look again -------------------------------------------------------------------------


def test_before_anything_is_known_it_looks_soon_and_then_less_often() -> None:
    pace = Pace(1e-4)
    assert pace.wait_s(STARTED_S, STARTED_S) == 1e-4
    late = [pace.wait_s(STARTED_S + late_s, STARTED_S) for late_s in (0.001, 0.01, 0.1, 10.0)]
    assert late == pytest.approx([1e-4, 0.01 / 16, 0.1 / 16, 0.01])


def test_it_sleeps_until_no_batch_of_the_kind_was_ever_quicker() -> None:
    assert Pace(1e-4).wait_s(STARTED_S + 0.002, STARTED_S + 0.005) == pytest.approx(0.003, abs=1e-4)


def test_batches_that_end_at_a_pace_are_expected_at_that_pace() -> None:
    pace = Pace(1e-4)
    for index in range(5):
        pace.ended(STARTED_S + index * 0.01, after_s=STARTED_S - 1)
    # One that was enqueued long ago ends a stage's time after the one before it.
    assert pace.wait_s(STARTED_S + 0.041, STARTED_S) == pytest.approx(0.009, abs=1e-4)


def test_a_break_between_batches_is_no_pace() -> None:
    pace = Pace(1e-4)
    pace.ended(STARTED_S, after_s=STARTED_S - 1)
    # Enqueued after the one before had ended.
    pace.ended(STARTED_S + 5.0, after_s=STARTED_S + 4.0)
    assert pace.wait_s(STARTED_S + 5.0, STARTED_S) <= 0.01


def test_an_engine_that_becomes_quicker_is_noticed() -> None:
    durations = {"s": 20e-3}
    rig = Rig(SimulatedDevice(copy_s=lambda _, size: 1e-4))
    source = Endless(rig.device, batches=0)
    rig.add(source, rig.engine(lambda _: durations["s"]), lanes=1)
    for seconds in (20e-3, 2e-3):
        durations["s"] = seconds
        source._left, done = 60, len(source.outcomes) + 60
        rig.run(lambda done=done: len(source.outcomes) == done)  # type: ignore[misc]
    last = source.outcomes[-1]
    assert last.finished_s - last.started_s == pytest.approx(2.2e-3, abs=3e-4)
    source.pinned.close()
    rig.close()


@pytest.mark.parametrize("timing", [True, False])
def test_ends_are_seen_soon_with_and_without_events(*, timing: bool) -> None:
    rig = Rig(SimulatedDevice(copy_s=lambda _, size: FRAME_BYTES * 1e-5))
    source = Endless(rig.device, batches=100)
    rig.add(source, rig.engine(lambda _: 5e-3), lanes=1, timing=timing)
    rig.run(lambda: len(source.outcomes) == 100)
    took_s = [outcome.finished_s - outcome.started_s for outcome in source.outcomes[50:]]
    assert max(took_s) <= (5e-3 + 2 * FRAME_BYTES * 1e-5) * 1.1 + 1e-4
    source.pinned.close()
    rig.close()
