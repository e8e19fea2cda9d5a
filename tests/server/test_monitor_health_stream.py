"""Camera health by what packets tell: each fault made from a healthy stream is told, and what is no fault is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_faults import START_S, STREAM_FAULTS, Sent, begun, clock_jump, healthy_stream, offline, play
from vedette_server.data.event import EventKind, EventState
from vedette_server.data.rules import HealthConfig
from vedette_server.monitor.health.camera import CameraHealth

# A group of pictures: one large, eleven small.
SIZES = (40_000, *[4_000] * 11)
AT_S = 120.0


@pytest.mark.parametrize("kind", STREAM_FAULTS)
@pytest.mark.parametrize("seed", range(4))
def test_each_fault_of_the_stream_is_told_and_nothing_else(kind, seed):
    stream = healthy_stream(SIZES, 12.5, 200.0, seed)
    told = play(STREAM_FAULTS[kind](stream, AT_S, seed), tail_s=30.0 if kind == "camera_offline" else 0.0)
    assert set(begun(told)) == {kind}
    assert begun(told)[kind] == pytest.approx(AT_S, abs=11.0)


@pytest.mark.parametrize("seed", range(6))
def test_jitter_and_a_network_that_stalls_raise_no_alarm(seed):
    assert play(healthy_stream(SIZES, 25.0, 240.0, seed)) == []


def test_a_quiet_night_that_needs_few_bytes_raises_no_alarm():
    day = healthy_stream(SIZES, 12.5, 300.0)
    night = [replace(s, size_bytes=s.size_bytes * 2 // 5) if s.capture_s >= 150 else s for s in day]
    assert play(night) == []


def test_offline_begins_with_the_last_packet_and_ends_with_the_next():
    stream = offline(healthy_stream(SIZES, 10.0, 60.0), 30.0)
    stream.append(Sent(75.0, 75.0, 4_000))
    told = play(stream)
    assert [event.kind for event in told] == [EventKind.CAMERA_OFFLINE] * len(told)
    assert told[0].start_s == pytest.approx(START_S + 30, abs=4)
    assert told[0].update_s - told[0].start_s == pytest.approx(10, abs=1.1)
    assert (told[-1].state, told[-1].end_s) == (EventState.ENDED, START_S + 75)


def test_a_gap_that_nobody_ticked_through_is_told_by_the_packet_after_it():
    health = CameraHealth("yard", HealthConfig())
    health.packet(START_S, 1000)
    told = health.packet(START_S + 60, 1000).events
    assert [event.state for event in told] == [EventState.ACTIVE, EventState.ENDED]
    assert told[0].event_id == told[1].event_id


def test_a_stream_that_ended_in_order_is_not_offline():
    health = CameraHealth("yard", HealthConfig())
    health.packet(START_S, 1000)
    health.close(START_S + 1)
    assert health.tick(START_S + 100).events == []


def test_a_clock_that_is_set_tells_by_how_much():
    told = play(clock_jump(healthy_stream(SIZES, 12.5, 160.0, 3), AT_S, 3))
    assert len({event.event_id for event in told}) == 1
    assert abs(told[0].measures["jump_s"]) > 4
    assert told[-1].state is EventState.ENDED


def test_a_stream_that_never_decodes_is_told_but_one_that_waits_for_its_keyframe_is_not():
    waits = [replace(s, sound=s.capture_s > 8) for s in healthy_stream(SIZES, 12.5, 60.0)]
    never = [replace(s, sound=False) for s in waits]
    assert play(waits) == []
    assert set(begun(play(never))) == {"camera_decode_errors"}


def test_a_camera_that_was_set_to_another_rate_is_well_again_after_a_quarter_of_an_hour():
    stream = [s for i, s in enumerate(healthy_stream([4_000], 10.0, 1200.0)) if s.capture_s < AT_S or i % 5 == 0]
    told = play(stream)
    assert {event.kind for event in told} == {EventKind.CAMERA_LOW_FRAME_RATE}
    assert told[-1].state is EventState.ENDED
    assert told[-1].end_s - told[-1].start_s == pytest.approx(900, abs=15)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 20), st.floats(-50, 50), st.integers(0, 10**6), st.booleans()), min_size=1, max_size=60
    )
)
def test_whatever_comes_events_begin_once_go_on_and_end_once(steps):
    health = CameraHealth("yard", HealthConfig(min_time_s=0.5, offline_after_s=5.0))
    told, now_s = [], START_S
    for passed, off, size, sound in steps:
        now_s += passed
        told += health.tick(now_s).events + health.packet(now_s, size, now_s + off).events
        told += health.answer(now_s, sound).events
    told += health.close(now_s).events
    state: dict[str, EventState] = {}
    for event in told:
        assert state.get(event.event_id) is not EventState.ENDED
        assert event.start_s <= event.update_s <= now_s
        state[event.event_id] = event.state
    assert set(state.values()) <= {EventState.ENDED}
    assert health.faults == ()


def test_a_camera_that_drops_what_the_network_held_up_has_not_set_its_clock():
    stream = []
    for s in healthy_stream(SIZES, 12.5, 150.0):
        if 100 <= s.capture_s < 101:
            stream.append(replace(s, receipt_s=105.0 + s.capture_s - 100))
        elif not 101 <= s.capture_s < 106:
            stream.append(s)
    stream.sort(key=lambda s: s.receipt_s)
    assert "camera_clock_jump" not in begun(play(stream))
