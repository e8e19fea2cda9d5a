"""A channel's monitor over sessions, clocks, masks, skips and changes of what is wanted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from support_channel_monitor import (
    EPOCH_S,
    LEFT,
    RULES,
    WATCH,
    NotingDesk,
    Scene,
    channel_config,
    found,
    packet_at,
    verdict_of,
)
from vedette_server.data.channel import ChannelRecord
from vedette_server.data.config import DeliveryPolicy
from vedette_server.data.event import EventKind, EventState
from vedette_server.data.outcome import SkipReason
from vedette_server.data.rules import (
    Absence,
    HealthConfig,
    Mask,
    MaskKind,
    Occupancy,
    Removed,
    Rule,
    TrackingConfig,
    WatchConfig,
)
from vedette_server.monitor.monitors import Monitors
from vedette_server.rpc.convert_event import event_to_wire
from vedette_server.session.identity import Identity


def ids(scene: Scene) -> set[str]:
    return {
        track_id
        for verdict in scene.verdicts
        for outcome in verdict.results
        if outcome.detections is not None
        for track_id in outcome.detections.track_ids
        if track_id
    }


def test_somebody_who_walks_over_the_line_into_the_zone_gives_one_event_of_each_rule_and_keeps_one_identity() -> None:
    scene = Scene()
    scene.walk((0.9, 0.8), (0.2, 0.8), 4.0)
    scene.monitor.ended("s1", "FINISHED")
    assert [len(scene.desk.of(rule)) for rule in ("in", "stay", "over")] == [1, 1, 1]
    assert all(event.state is EventState.ENDED for event in scene.desk.events)
    (crossing,) = scene.desk.of("over")
    assert crossing.engine_version == "toy@3"
    assert crossing.start_s == pytest.approx(EPOCH_S + 4.0 * 4 / 7, abs=0.11)
    assert len(ids(scene)) == 1
    assert crossing.track_ids == tuple(ids(scene))


def test_identities_survive_a_reconnect_with_the_token_and_begin_anew_where_nobody_was_looking() -> None:
    scene = Scene()
    scene.walk((0.9, 0.8), (0.7, 0.8), 2.0)
    scene.begin("s1", scene.at_s + 1.0)
    scene.walk((0.65, 0.8), (0.6, 0.8), 1.0)
    assert len(ids(scene)) == 1
    scene.monitor.ended("s1", "CLIENT_LOST")
    scene.begin("s2", scene.at_s + 60.0)
    scene.walk((0.6, 0.8), (0.6, 0.8), 1.0)
    assert len(ids(scene)) == 2


def test_a_clock_that_jumps_back_neither_ends_tracks_nor_gives_an_event_twice() -> None:
    scene = Scene()
    scene.walk((0.9, 0.8), (0.6, 0.8), 2.0)
    for _ in range(20):
        scene.frame(found((0.6, 0.8)), capture_s=scene.at_s - 3600)
    for n in range(20):
        scene.frame(found((0.6 - 0.02 * n, 0.8)), capture_s=scene.at_s - 3600)
    assert len(scene.desk.of("over")) == 1
    assert len(ids(scene)) == 1
    (crossing,) = scene.desk.of("over")
    assert crossing.start_s > EPOCH_S + 2.0, "its time goes on from where it was"


def test_a_recording_goes_by_its_own_time_however_fast_it_is_sent() -> None:
    scene = Scene(policy=DeliveryPolicy.EVERY_FRAME)
    for n in range(40):
        verdict = scene.frame(found((0.9 - 0.0175 * n, 0.8)))
        assert verdict.packet.time_s == pytest.approx(EPOCH_S + n / 10, abs=1e-3)
    assert not [event for event in scene.desk.events if event.kind.of_camera]


def test_a_file_that_is_sent_again_is_judged_again_from_its_start() -> None:
    scene = Scene()
    scene.walk((0.9, 0.8), (0.2, 0.8), 4.0)
    scene.monitor.ended("s1", "FINISHED")
    scene.begin("s2", EPOCH_S)
    scene.walk((0.9, 0.8), (0.2, 0.8), 4.0)
    scene.monitor.ended("s2", "FINISHED")
    assert len(scene.desk.of("over")) == 2
    assert len(ids(scene)) == 2


@pytest.mark.parametrize(("kind", "hidden"), [("privacy", True), ("detection", True), ("motion", False)])
def test_what_a_mask_hides_is_neither_told_nor_judged(kind: str, hidden: bool) -> None:
    masks = (Mask(MaskKind(kind), LEFT.vertices),)
    scene = Scene(watch=replace(WATCH, masks=masks))
    verdict = [scene.frame(found((0.2, 0.8), (0.8, 0.8))) for _ in range(10)][-1]
    (outcome,) = verdict.results
    assert outcome.detections is not None
    assert len(outcome.detections) == (1 if hidden else 2)
    assert len(outcome.detections.track_ids) == len(outcome.detections)
    assert len(scene.desk.of("in")) == (0 if hidden else 1)


def test_a_box_at_the_lower_edge_of_the_picture_stands_in_the_mask_that_ends_there() -> None:
    scene = Scene(watch=replace(WATCH, masks=(Mask(MaskKind.DETECTION, LEFT.vertices),)))
    (outcome,) = scene.frame(found((0.2, 1.0))).results
    assert outcome.detections is not None
    assert len(outcome.detections) == 0


def test_the_middle_of_a_box_in_a_privacy_mask_hides_it_though_it_stands_elsewhere() -> None:
    top = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.0, 0.5))
    scene = Scene(watch=replace(WATCH, masks=(Mask(MaskKind.PRIVACY, top),)))
    (outcome,) = scene.frame(found((0.5, 0.55), size=0.2)).results
    assert outcome.detections is not None
    assert len(outcome.detections) == 0


def test_frames_that_are_skipped_do_not_end_a_track() -> None:
    scene = Scene()
    for n in range(60):
        if n % 3:
            scene.frame(None, SkipReason.SUPERSEDED)
        else:
            scene.frame(found((0.9 - 0.01 * n, 0.8)))
    assert len(ids(scene)) == 1
    assert len(scene.desk.of("over")) == 1


def test_absence_is_judged_while_nothing_moves_but_not_while_nothing_comes() -> None:
    watch = WatchConfig(zones=(LEFT,), rules=(Rule("nobody", Absence("left", 3.0)),))
    scene = Scene(watch=watch)
    scene.frame(found())
    scene.tick(5.0)
    assert not scene.desk.of("nobody"), "nobody looked"
    for _ in range(40):
        scene.frame(None, SkipReason.NO_MOTION)
    assert len(scene.desk.of("nobody")) == 1


def test_nothing_is_missed_while_no_stream_was_there_and_what_waited_for_time_begins_anew() -> None:
    rules = (
        Rule("nobody", Absence("left", 3.0)),
        Rule("few", Occupancy("left", at_most=0), min_time_s=3.0),
        Rule("stolen", Removed("left", 3.0)),
    )
    scene = Scene(watch=WatchConfig(zones=(LEFT,), rules=rules, health=HealthConfig(enabled=False)))
    for _ in range(150):
        scene.frame(found((0.2, 0.8)))
    scene.monitor.ended("s1", "CLIENT_LOST")
    scene.begin("s2", scene.at_s + 600.0)
    for _ in range(60):
        scene.frame(found((0.2, 0.8)))
    assert not scene.desk.changes, "it stood there before and behind"
    for _ in range(80):
        scene.frame(found())
    assert {event.rule for event in scene.desk.active} == {"nobody", "few", "stolen"}
    assert all(event.start_s >= EPOCH_S + 600 + 15 + 6 for event in scene.desk.events)


def test_what_waited_for_time_begins_anew_where_a_stream_stalled_and_what_went_on_goes_on() -> None:
    rules = (
        Rule("nobody", Absence("left", 10.0)),
        Rule("few", Occupancy("left", at_most=0), min_time_s=10.0),
        Rule("stolen", Removed("left", 10.0)),
    )
    scene = Scene(watch=WatchConfig(zones=(LEFT,), rules=rules, health=HealthConfig(enabled=False)))
    for _ in range(150):
        scene.frame(found((0.2, 0.8)))
    for _ in range(60):
        scene.frame(found())
    scene.at_s += 25.0
    again_s = scene.at_s
    for _ in range(99):
        scene.frame(found())
    assert not scene.desk.changes, "who was there meanwhile, nobody knows"
    for _ in range(5):
        scene.frame(found())
    began = {event.rule: event.start_s for event in scene.desk.active}
    expected = {"nobody": again_s + 10.0, "few": again_s, "stolen": again_s + 10.0}
    assert began == pytest.approx(expected, abs=0.11)
    scene.begin("s1", scene.at_s + 25.0)
    scene.frame(found())
    assert {event.rule: event.start_s for event in scene.desk.active} == began
    assert len(scene.desk.events) == 3


def test_where_nothing_moves_behind_a_stall_absence_waits_from_the_first_picture_that_was_looked_at() -> None:
    scene = Scene(watch=WatchConfig(zones=(LEFT,), rules=(Rule("nobody", Absence("left", 10.0)),)))
    for _ in range(20):
        scene.frame(found())
    for _ in range(25):
        scene.frame(None, SkipReason.UNDECODABLE)
        scene.at_s += 0.9
    again_s = scene.at_s
    for _ in range(110):
        scene.frame(None, SkipReason.NO_MOTION)
    (event,) = scene.desk.of("nobody")
    assert event.start_s == pytest.approx(again_s + 10.0, abs=0.11)


@pytest.mark.parametrize("skipped", [0, 99])
def test_a_camera_or_a_rate_that_is_slow_is_no_stall(skipped: int) -> None:
    rules = (Rule("nobody", Absence("left", 60.0)),)
    scene = Scene(watch=WatchConfig(zones=(LEFT,), rules=rules), fps=0.1 * (1 + skipped))
    for _ in range(10):
        scene.frame(found())
        for _ in range(skipped):
            scene.frame(None, SkipReason.RATE_LIMIT)
    (event,) = scene.desk.of("nobody")
    assert event.start_s == pytest.approx(EPOCH_S + 10.0 + 60.0, abs=0.01), "of the first span, nobody can tell"


def test_what_begins_before_the_first_picture_of_a_stream_was_analysed_names_a_packet_that_there_was() -> None:
    scene = Scene(watch=WatchConfig(zones=(LEFT,), rules=(Rule("nobody", Absence("left", 3.0)),)))
    for _ in range(10):
        scene.frame(found())
    scene.monitor.ended("s1", "FINISHED")
    scene.begin("s2", scene.at_s + 60.0)
    scene.monitor.change(scene.monitor.record, scene.at_s)
    for _ in range(60):
        scene.frame(None, SkipReason.NO_MOTION)
    scene.frame(found())
    assert all(event.sequence >= 0 and event_to_wire(event, 1) for event in scene.desk.changes)
    for _ in range(40):
        scene.frame(found())
    (event,) = scene.desk.events
    assert (event.session, event.sequence) == ("s2", 30), "nothing moved in it, 3 s after the first one"
    assert event.engine_version == "toy@3"


def test_a_camera_that_is_cut_off_is_offline_and_one_that_ends_in_order_is_not() -> None:
    scene = Scene(watch=replace(WATCH, health=HealthConfig(offline_after_s=3.0)))
    for _ in range(30):
        scene.frame(found())
    scene.monitor.ended("s1", "CLIENT_LOST")
    scene.tick(4.0)
    (event,) = scene.desk.events
    assert event.kind is EventKind.CAMERA_OFFLINE
    assert scene.monitor.faults == (EventKind.CAMERA_OFFLINE,)
    scene.begin("s2", scene.at_s + 10.0)
    scene.frame(found())
    assert not scene.desk.active
    scene.monitor.ended("s2", "FINISHED")
    scene.tick(60.0)
    assert not scene.desk.active


def test_what_is_wanted_may_change_while_it_streams() -> None:
    scene = Scene()
    scene.walk((0.3, 0.8), (0.3, 0.8), 2.0)
    assert [event.rule for event in scene.desk.active] == ["stay"]
    quiet = replace(RULES[1], evidence=False)
    scene.monitor.change(ChannelRecord("gate", watch=replace(WATCH, rules=(RULES[0], quiet))), scene.at_s)
    scene.walk((0.3, 0.8), (0.3, 0.8), 2.0)
    first, second = scene.desk.of("stay")
    assert (first.state, second.state) == (EventState.ENDED, EventState.ACTIVE)
    assert scene.desk.wanted[first.event_id]
    assert not scene.desk.wanted[second.event_id]
    assert len(scene.desk.of("in")) == 1, "a rule that stayed as it was goes on"
    scene.monitor.change(ChannelRecord("gate", watch=WatchConfig()), scene.at_s)
    assert not scene.desk.active
    assert not scene.frame(found((0.3, 0.8))).results[0].detections.track_ids  # type: ignore[union-attr]


def test_a_channel_without_rules_is_followed_where_it_is_wanted() -> None:
    scene = Scene(watch=WatchConfig(tracking=TrackingConfig(enabled=True)))
    scene.walk((0.3, 0.8), (0.4, 0.8), 2.0)
    assert len(ids(scene)) == 1
    assert not scene.desk.events


@pytest.mark.parametrize(("floor", "followed"), [(0.25, False), (0.1, True)])
def test_what_begins_a_track_goes_by_what_the_engine_reports(floor: float, followed: bool) -> None:
    scene = Scene(min_score=floor)
    for _ in range(10):
        scene.frame(found((0.3, 0.8), score=0.3))
    assert bool(ids(scene)) == followed


def test_no_detections_at_all_are_no_reason_to_fail() -> None:
    scene = Scene()
    verdict = scene.frame(found())
    (outcome,) = verdict.results
    assert outcome.detections is not None
    assert outcome.detections.track_ids == ()
    assert outcome.detections.boxes.dtype == np.float32


@pytest.mark.parametrize(("clock", "jumps"), [(2, True), (3, False)])
def test_a_camera_whose_clock_jumps_is_told_of_but_a_recording_has_no_clock(clock: int, jumps: bool) -> None:
    scene = Scene(capture_clock=clock)
    for n in range(100):
        scene.frame(found(), capture_s=scene.at_s - (3600 if n > 50 else 0))
    kinds = {event.kind for event in scene.desk.events}
    assert (EventKind.CAMERA_CLOCK_JUMP in kinds) == jumps


def test_what_comes_late_of_a_session_that_was_displaced_is_masked_and_not_judged_as_the_new_ones() -> None:
    desk = NotingDesk()
    masks = (Mask(MaskKind.DETECTION, LEFT.vertices),)
    record = ChannelRecord("gate", watch=replace(WATCH, masks=masks, tracking=TrackingConfig(enabled=True)))
    monitors = Monitors([record], desk, None, lambda *_: None, clock=lambda: EPOCH_S)  # type: ignore[arg-type]
    config = channel_config()
    old, new = (monitors.watch(Identity("gate", session), config) for session in ("s1", "s2"))
    old.attached(config)
    late = packet_at(EPOCH_S)
    old.packet(late)
    new.attached(config)
    old.ended("TAKEN_OVER")
    verdict = verdict_of(late, found((0.2, 0.8), (0.8, 0.8)))
    old.judge(verdict)
    (outcome,) = verdict.results
    assert outcome.detections is not None
    assert (len(outcome.detections), outcome.detections.track_ids) == (1, ())
    for n in range(5):
        packet = packet_at(EPOCH_S + n / 10, n)
        new.packet(packet)
        assert packet.time_s, "the new session is monitored, whenever the old one ends"
        verdict = verdict_of(packet, found((0.8, 0.8)))
        new.judge(verdict)
    (outcome,) = verdict.results
    assert outcome.detections is not None
    assert outcome.detections.track_ids[0]


def test_a_leap_of_the_servers_clock_is_no_silence_and_hides_none() -> None:
    scene = Scene(watch=WatchConfig(health=HealthConfig(offline_after_s=5.0)))
    for _ in range(300):
        scene.frame(found())
    scene.leap_s = 3600.0
    scene.tick()
    scene.leap_s = 0.0
    for _ in range(3):
        scene.frame(found())
    assert not scene.desk.events
    for after_s in range(20):
        scene.tick(after_s)
    (event,) = scene.desk.active
    assert event.kind is EventKind.CAMERA_OFFLINE
    assert event.start_s == pytest.approx(scene.at_s - 0.1)


@pytest.mark.parametrize("leap_s", [-3600.0, -1.5, 1.5, 3600.0])
def test_a_clock_that_is_set_while_a_camera_streams_is_no_fault_of_it_and_dates_what_comes(leap_s: float) -> None:
    scene = Scene(watch=WatchConfig(health=HealthConfig(offline_after_s=5.0)))
    for n in range(1200):
        scene.leap_s = leap_s if n >= 600 else 0.0
        scene.frame(found())
    assert not scene.desk.events
    scene.tick(6.0)
    (event,) = scene.desk.active
    assert event.start_s == pytest.approx(scene.at_s - 0.1 + leap_s)


def test_an_event_lasts_as_long_as_it_lasts_though_the_clock_is_set_meanwhile() -> None:
    scene = Scene(watch=WatchConfig(health=HealthConfig(offline_after_s=5.0)))
    scene.frame(found())
    scene.tick(10.0)
    scene.leap_s = -3600.0
    scene.at_s += 60.0
    scene.frame(found())
    (event,) = scene.desk.events
    assert event.state is EventState.ENDED
    assert event.end_s is not None
    assert event.end_s - event.start_s == pytest.approx(60.1)
