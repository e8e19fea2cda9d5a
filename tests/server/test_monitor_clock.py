"""The time line of a channel: it follows the clock it has, never runs back, and never runs away."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.data.packet import Packet
from vedette_server.monitor.clock import PacketClock

BEGIN_S = 1_800_000_000.0
TICK = Fraction(1, 90_000)
YEAR_S = 31_536_000.0


def packet(received_s: float, capture_s: float | None = None, pts: int | None = None, dts: int | None = None) -> Packet:
    capture = None if capture_s is None else round((BEGIN_S + capture_s) * 1e9)
    wall_ns = round((BEGIN_S + received_s) * 1e9)
    return Packet(0, b"x", received_s=received_s, received_wall_ns=wall_ns, capture_wall_ns=capture, pts=pts, dts=dts)


def line(packets: list[Packet], *, recorded: bool = False) -> list[float]:
    clock = PacketClock(TICK, recorded=recorded)
    return [clock.time_of(one) - BEGIN_S for one in packets]


def test_capture_times_go_before_all_others() -> None:
    packets = [packet(n / 10 + 0.3, capture_s=n / 10, pts=7 * n) for n in range(20)]
    for recorded in (False, True):
        assert line(packets, recorded=recorded) == pytest.approx([n / 10 for n in range(20)], abs=1e-5)


def test_a_recording_goes_by_presentation_times_and_a_camera_by_receipt() -> None:
    packets = [packet(n / 1000, pts=1000 + n * 9000) for n in range(20)]
    assert line(packets, recorded=True) == pytest.approx([n / 10 for n in range(20)], abs=1e-5)
    assert line(packets) == pytest.approx([n / 1000 for n in range(20)], abs=1e-5)


def test_pictures_that_are_shown_in_another_order_keep_their_times() -> None:
    order = [0, 3, 1, 2, 6, 4, 5]
    packets = [packet(n / 100, pts=shown * 9000) for n, shown in enumerate(order)]
    assert line(packets, recorded=True) == pytest.approx([shown / 10 for shown in order], abs=1e-5)


def test_a_slow_recording_whose_pictures_lie_seconds_apart_keeps_its_times_too() -> None:
    order = [0, 3, 1, 2, 6, 4, 5]
    packets = [
        packet(n / 100, pts=(shown + 2) * 450_000, dts=number * 450_000)
        for n, (number, shown) in enumerate(enumerate(order))
    ]
    assert line(packets, recorded=True) == pytest.approx([shown * 5 for shown in order], abs=1e-5)


def test_a_count_of_ticks_that_begins_anew_goes_on_from_where_it_was() -> None:
    wrap = 1 << 33
    packets = [packet(n / 100, pts=(wrap - 9000 * 10 + 9000 * n) % wrap) for n in range(40)]
    times = line(packets, recorded=True)
    assert times == sorted(times)
    assert times[-1] == pytest.approx(3.9, abs=0.11)


@pytest.mark.parametrize("back_s", [3.0, 3600.0, 10 * YEAR_S])
def test_a_clock_that_is_set_back_goes_on_from_where_it_was(back_s: float) -> None:
    packets = [packet(n / 10, capture_s=n / 10 - (back_s if n >= 10 else 0)) for n in range(30)]
    times = line(packets)
    assert times == sorted(times)
    assert times[-1] == pytest.approx(2.9, abs=0.11)


@pytest.mark.parametrize(
    ("apart_s", "recorded"),
    [(-10 * YEAR_S, True), *((apart_s, live) for apart_s in (-3600.0, 0.0, 3500.0) for live in (False, True))],
)
def test_where_only_some_packets_tell_when_they_were_taken_the_line_goes_at_its_pace(
    apart_s: float, recorded: bool
) -> None:
    packets = [packet(n / 10, n / 10 + apart_s if n % 3 == 0 else None, pts=n * 9000) for n in range(300)]
    times = line(packets, recorded=recorded)
    assert times == sorted(times)
    assert times[-1] - times[0] == pytest.approx(29.9, abs=0.01)
    assert times[0] == pytest.approx(apart_s, abs=1e-5), "on the clock of who took them"


def test_where_the_first_do_not_tell_and_the_others_do_the_line_neither_runs_back_nor_away() -> None:
    packets = [packet(n / 10, n / 10 - 3600 if n >= 5 and n % 2 else None) for n in range(100)]
    times = line(packets)
    assert times == sorted(times)
    assert times[-1] == pytest.approx(9.9, abs=0.2)


@pytest.mark.parametrize("wrong_s", [-BEGIN_S, -BEGIN_S - 5, YEAR_S, -BEGIN_S + 60, -YEAR_S, -100_000.0, 7200.0])
def test_a_clock_that_was_never_set_counts_as_none(wrong_s: float) -> None:
    packets = [packet(n / 10, wrong_s) for n in range(10)]
    assert line(packets) == pytest.approx([n / 10 for n in range(10)], abs=1e-5)


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("from_s", [0.0, 5.0])
def test_times_inside_a_recording_are_no_dates(recorded: bool, from_s: float) -> None:
    packets = [packet(n / 1000, from_s + n / 10 - BEGIN_S, pts=1000 + n * 9000) for n in range(20)]
    clock = PacketClock(TICK, recorded=recorded, dated=False)
    times = [clock.time_of(one) - BEGIN_S for one in packets]
    assert times == pytest.approx([n / 10 for n in range(20)], abs=1e-5), "from the receipt of the first on"


def test_no_time_is_zero_which_means_that_nobody_monitors() -> None:
    clock = PacketClock(TICK, recorded=False)
    assert clock.time_of(Packet(0, b"x", capture_wall_ns=0, received_wall_ns=0)) > 0


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("back_s", [3.0, 600.0])
def test_a_clock_that_went_back_and_comes_forward_again_is_the_lines_clock_again(back_s: float, recorded: bool) -> None:
    packets = [packet(n / 10, n / 10 - (back_s if 100 <= n < 130 else 0.0)) for n in range(300)]
    times = line(packets, recorded=recorded)
    assert times == sorted(times)
    assert times[-1] == pytest.approx(29.9, abs=0.2)


def test_capture_times_that_alternate_do_not_take_the_line_ahead_of_the_time_that_passes() -> None:
    ahead = [packet(n / 15, n / 15 + (3.0 if n % 2 else 0.0)) for n in range(1500)]
    assert max(time - one.received_s for time, one in zip(line(ahead), ahead, strict=True)) < 3.01
    now_and_then = [packet(at_s, at_s + off_s) for at_s in range(0, 40_000, 100) for off_s in (0.0, 3000.0, 0.0)]
    times = line(now_and_then)
    assert times == sorted(times)
    assert times[-1] - now_and_then[-1].received_s < 3001.0


def test_a_clock_that_slips_ahead_slowly_and_back_at_once_gains_nothing_each_time() -> None:
    packets = [packet(n / 10, n / 10 + (n % 300) / 10) for n in range(6000)]
    assert line(packets)[-1] - packets[-1].received_s < 31.0


def test_a_clock_that_jumps_about_is_not_believed_until_it_keeps_still_for_a_minute() -> None:
    def capture(n: int) -> float:
        return n / 10 - (50.0 if n < 100 and n % 10 == 9 else 40.0)

    packets = [packet(n / 10, capture(n)) for n in range(1000)]
    clock = PacketClock(TICK, recorded=False)
    times = [clock.time_of(one) - BEGIN_S for one in packets]
    assert times[-1] == pytest.approx(99.9 - 40.0, abs=1.1)
    assert max(after - before for before, after in itertools.pairwise(times)) < 3.0


@pytest.mark.parametrize("leap_s", [-3600.0, 3600.0, -3 * 86_400.0])
def test_a_leap_of_the_servers_own_clock_is_no_time_that_passes(leap_s: float) -> None:
    packets = [packet(n / 10, n / 10 if n % 2 and leap_s > 0 else None) for n in range(100)]
    for one in packets[50:]:
        one.received_wall_ns += round(leap_s * 1e9)
    times = line(packets)
    assert times == pytest.approx([n / 10 for n in range(100)], abs=1e-4)


def test_a_server_whose_clock_was_not_set_when_the_session_began_goes_by_it_once_it_is() -> None:
    packets = [packet(n / 10) for n in range(100)]
    for one in packets[:50]:
        one.received_wall_ns = round((1000 + one.received_s) * 1e9)
    assert line(packets)[50:] == pytest.approx([n / 10 for n in range(50, 100)], abs=1e-4)


def test_a_slow_recording_that_begins_anew_keeps_its_pace() -> None:
    packets = [packet(n / 100, pts=(n % 20) * 450_000) for n in range(60)]
    times = line(packets, recorded=True)
    assert times == sorted(times)
    assert times[-1] == pytest.approx(57 * 5, abs=0.1), "each step back costs one place"


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.tuples(st.floats(0, 30), st.floats(-90_000, 5000)), min_size=1, max_size=100))
def test_whatever_a_live_clock_says_the_line_is_ahead_of_receipt_by_an_hour_at_most(
    steps: list[tuple[float, float]],
) -> None:
    clock, now_s = PacketClock(TICK, recorded=False), 0.0
    for wait_s, apart_s in steps:
        now_s += wait_s
        assert -86_400.1 <= clock.time_of(packet(now_s, now_s + apart_s)) - BEGIN_S - now_s <= 3600.1


SPANS = st.floats(0, 5)
CLOCKS = st.one_of(st.none(), st.floats(-20 * YEAR_S, 20 * YEAR_S), st.floats(-4, 4))
TICKS = st.one_of(st.none(), st.integers(-(1 << 40), 1 << 40))


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(st.tuples(SPANS, CLOCKS, TICKS, TICKS), max_size=60), recorded=st.booleans())
def test_whatever_the_clocks_say_the_line_never_runs_back(
    steps: list[tuple[float, float | None, int | None, int | None]], recorded: bool
) -> None:
    clock = PacketClock(TICK, recorded=recorded)
    latest, now_s = float("-inf"), 0.0
    last_dts: int | None = None
    for wait_s, capture_s, pts, dts in steps:
        now_s += wait_s
        one = packet(now_s, capture_s, pts, dts)
        time_s = clock.time_of(one)
        assert time_s > 0
        coherent = pts is not None and dts is not None and last_dts is not None and pts >= dts > last_dts
        if not (recorded and coherent):
            assert time_s >= latest - 2.0 - 1e-5
        latest, last_dts = max(latest, time_s), dts


@settings(max_examples=200, deadline=None)
@given(
    tells=st.lists(st.booleans(), min_size=2, max_size=200), apart_s=st.floats(-86_000, 3500), recorded=st.booleans()
)
def test_a_session_that_lasts_for_so_long_is_so_long_whoever_tells_its_times(
    tells: list[bool], apart_s: float, recorded: bool
) -> None:
    packets = [packet(n / 10, n / 10 + apart_s if told else None, pts=n * 9000) for n, told in enumerate(tells)]
    times = line(packets, recorded=recorded)
    first = tells.index(True) if True in tells else 0
    # One step, where the first that tells stands elsewhere than receipt; behind it the line goes at its pace.
    assert times[-1] - times[first] == pytest.approx((len(tells) - 1 - first) / 10, abs=2.2)
