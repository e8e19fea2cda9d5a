"""Times go on over breaks; a recording is paced by its clock; a lost camera is left alone for longer and longer."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.data.packet import Packet
from vedette_server.pull.backoff import Backoff
from vedette_server.pull.timeline import Pacer, TimeLine

MS = Fraction(1, 1000)


def packet(dts: int | None, pts: int | None = None, duration: int | None = None) -> Packet:
    return Packet(0, b"x", pts=dts if pts is None else pts, dts=dts, duration=duration)


def placed(line: TimeLine, *packets: Packet) -> list[tuple[int | None, int | None]]:
    for one in packets:
        line.place(one)
    return [(one.dts, one.pts) for one in packets]


def test_the_first_connection_keeps_its_times() -> None:
    line = TimeLine(MS)
    line.join(MS, 5.0)
    assert placed(line, packet(-40, 0), packet(0, 80)) == [(-40, 0), (0, 80)]


def test_a_camera_that_comes_back_goes_on_after_the_pause_whatever_its_clock_says() -> None:
    line = TimeLine(MS)
    placed(line, packet(900_000, duration=40))
    line.join(MS, 2.0)
    assert placed(line, packet(7), packet(47)) == [(902_040, 902_040), (902_080, 902_080)]


def test_other_ticks_are_converted() -> None:
    line = TimeLine(MS)
    placed(line, packet(0, duration=40))
    line.join(Fraction(1, 90_000), 0.0)
    first, second = packet(90_000, duration=3600), packet(93_600, duration=3600)
    assert placed(line, first, second) == [(41, 41), (81, 81)]
    assert second.duration == 40


def test_packets_without_times_do_not_join() -> None:
    line = TimeLine(MS)
    placed(line, packet(100, duration=10))
    line.join(MS, 0.0)
    assert placed(line, packet(None), packet(5)) == [(None, None), (111, 111)]


@given(
    st.lists(
        st.tuples(
            st.integers(-(10**9), 10**9), st.lists(st.integers(1, 5000), min_size=1, max_size=6), st.floats(0, 99)
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([MS, Fraction(1, 90_000), Fraction(1, 25)]),
)
@settings(max_examples=60, deadline=None)
def test_time_never_runs_back_over_connections(
    connections: list[tuple[int, list[int], float]], time_base: Fraction
) -> None:
    line = TimeLine(MS)
    latest = None
    for number, (start, steps, gap_s) in enumerate(connections):
        line.join(MS if number == 0 else time_base, gap_s)
        dts = start
        for step in steps:
            one = packet(dts, dts + step)
            line.place(one)
            assert one.dts is not None
            assert one.pts is not None
            assert one.pts >= one.dts
            assert latest is None or one.dts >= latest
            latest = one.dts
            dts += step


def test_a_recordings_packets_are_due_by_its_clock() -> None:
    pacer = Pacer(MS, 25.0)
    waits = [pacer.wait_s(packet(dts), 100.0) for dts in (500, 540, 1500)]
    assert waits == pytest.approx([0, 0.04, 1.0])


def test_a_jump_of_the_clock_is_no_time_to_wait() -> None:
    pacer = Pacer(MS, 25.0)
    due = [pacer.due_s(packet(dts)) for dts in (0, 40, 3_600_000, 3_600_040, 0, 40)]
    assert due == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2])


def test_packets_without_times_come_at_the_containers_rate() -> None:
    pacer = Pacer(MS, 10.0)
    assert [pacer.due_s(packet(None)) for _ in range(3)] == pytest.approx([0, 0.1, 0.2])


def test_after_a_stall_the_schedule_slips_instead_of_catching_up() -> None:
    pacer = Pacer(MS, 25.0)
    pacer.wait_s(packet(0), 0.0)
    assert pacer.wait_s(packet(40), 30.0) == 0
    assert pacer.wait_s(packet(1040), 30.0) == pytest.approx(1.0)


def test_a_lost_camera_is_left_alone_twice_as_long_each_time_up_to_a_limit() -> None:
    backoff = Backoff(1.0, 60.0, 30.0, draw=lambda: 0.5)
    assert [backoff.wait_s(0.0) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_after_a_good_stretch_it_is_called_soon_again() -> None:
    backoff = Backoff(1.0, 60.0, 30.0, draw=lambda: 0.5)
    waits = [backoff.wait_s(stretch) for stretch in (0.0, 0.0, 29.0, 30.0, 0.0)]
    assert waits == [1, 2, 4, 1, 2]


def test_cameras_that_were_lost_together_do_not_come_back_together() -> None:
    waits = [Backoff(1.0, 60.0, 30.0, draw=lambda share=share / 10: share).wait_s(0.0) for share in range(11)]
    assert waits == sorted(set(waits))
    assert (waits[0], waits[-1]) == (0.75, 1.25)
