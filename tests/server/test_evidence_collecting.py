"""One channel's evidence over events, better pictures, refusals, sessions and changes of what may be kept."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_collecting import FORMAT, LEFT, MASK, Yard
from support_evidence import FailingDisk
from vedette_server.data.channel import RecordingConfig, RetentionConfig
from vedette_server.data.event import EventKind, EvidenceState
from vedette_server.data.rules import EvidencePolicy, Mask, MaskKind
from vedette_server.evidence.left import noted_limits

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_server.data.event import Event

READY, FAILED, PENDING = EvidenceState.READY, EvidenceState.FAILED, EvidenceState.PENDING
ALL = ("annotated", "clip", "snapshot")
ORIGINAL, MASKED, NONE = EvidencePolicy.ORIGINAL, EvidencePolicy.MASKED, EvidencePolicy.NONE


def test_an_event_has_a_picture_one_with_boxes_and_a_clip_and_is_forgotten_then(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.stream(3)
    event = yard.take(yard.event())
    assert {event.snapshot.state, event.annotated.state, event.clip.state} == {PENDING}
    yard.workers.step()
    yard.stream(1)
    yard.over(event)
    yard.stream(2)
    yard.workers.run()
    assert yard.states() == dict.fromkeys(ALL, READY)
    assert sorted(one.path for one in yard.pieces().values()) == yard.files
    assert not yard.workers.waiting
    assert not yard.collector._under


def test_an_event_that_is_over_at_once_or_before_its_clip_begins_has_its_evidence_as_well(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.stream(2)
    yard.over(yard.event("momentary"))
    late = yard.event("late", start_s=yard.at_s + 0.5, update_s=yard.at_s + 0.5)
    yard.over(yard.take(late))
    yard.stream(3)
    yard.workers.run()
    for name in ("momentary", "late"):
        assert yard.states(name) == dict.fromkeys(ALL, READY), name
    assert not yard.collector._under


def test_of_a_rule_that_wants_no_evidence_there_is_none(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.stream(1)
    assert yard.take(yard.event(), wanted=False).clip.state is EvidenceState.NONE
    yard.over(yard.event())
    assert yard.workers.waiting
    assert not yard.collector._under


def test_a_thousand_events_in_a_second_hold_no_more_than_the_workers_take_and_every_one_is_told_what_became(
    tmp_path: Path,
) -> None:
    yard = Yard(tmp_path, max_jobs=10)
    yard.stream(2)
    for number in range(1000):
        yard.over(yard.event(f"e{number}"))
    assert len(yard.workers.waiting) == 10
    assert not yard.collector._under
    yard.stream(2)
    yard.workers.run()
    states = [yard.states(f"e{number}") for number in range(1000)]
    assert all(set(one) == set(ALL) for one in states), "none stays pending"
    assert sum(one["clip"] is READY for one in states) == 5
    refused = yard.pieces("e999")["clip"]
    assert (refused.state, refused.media_type) == (FAILED, "video/mp4")
    assert "10 pieces of evidence" in refused.detail


def test_a_better_picture_replaces_the_first_under_a_name_of_its_own_and_tells_what_it_replaces(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.stream(2, shade=100)
    event = yard.take(yard.event())
    yard.workers.step()
    first = yard.pieces()["snapshot"]
    yard.stream(1, shade=200)
    yard.over(event, peak_score=0.9, peak_sequence=yard.sequence - 1)
    assert (yard.store.root / first.path).read_bytes()
    yard.workers.step()
    second = yard.pieces()["snapshot"]
    assert second.path != first.path
    assert (yard.pixels(first.path).mean(), yard.pixels(second.path).mean()) == pytest.approx((100, 200), abs=3)
    replaced = [instead_of for change, instead_of in yard.told if change.snapshot == second]
    assert [sorted(one) for one in replaced] == [sorted([first.path, first.path.replace(".jpg", ".boxes.jpg")])]


def test_a_better_picture_that_is_not_held_any_more_leaves_the_first(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.stream(2)
    event = yard.take(yard.event())
    yard.workers.step()
    peak = yard.sequence + 1
    yard.stream(30)
    yard.over(event, peak_score=0.9, peak_sequence=peak)
    yard.stream(2)
    yard.workers.run()
    assert yard.states() == dict.fromkeys(ALL, READY)


def test_a_better_picture_is_taken_while_the_event_goes_on_but_not_at_every_turn(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.stream(2)
    event = yard.take(yard.event())
    yard.workers.step()
    for turn in range(20):
        yard.stream(1)
        score = min(0.5 + 0.06 * turn, 0.99)
        yard.take(replace(event, update_s=yard.at_s, peak_score=score, peak_sequence=yard.sequence - 1))
        yard.workers.step()
    taken = [change.snapshot for change, _ in yard.told if change.snapshot is not None]
    assert 2 <= len(taken) <= 5
    assert all(one.state is READY for one in taken)


@pytest.mark.parametrize("how", ["disk", "broken", "refused"])
def test_a_better_picture_that_fails_leaves_the_first_whatever_the_cause(tmp_path: Path, how: str) -> None:
    disk = FailingDisk("begin")
    disk.failing = False
    yard = Yard(tmp_path, disk=disk)
    yard.stream(2)
    event = yard.take(yard.event())
    yard.workers.step()
    disk.failing = how == "disk"
    yard.workers.max_jobs = 1 if how == "refused" else 512
    index = yard.collector.ring.index_of(yard.sequence - 1)
    if how == "broken":
        assert index is not None
        yard.collector.ring.read(index, 1)[0].packet.data = b"no picture"
    yard.over(event, peak_score=0.9)
    yard.workers.step()
    assert yard.states()["snapshot"] is READY


def test_a_picture_that_failed_in_between_does_not_hide_which_files_the_next_replaces(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.stream(2, shade=100)
    event = yard.take(yard.event())
    yard.workers.step()
    first = yard.pieces()
    for score, broken in ((0.7, True), (0.9, False)):
        yard.stream(6)
        index = yard.collector.ring.index_of(yard.sequence - 1)
        assert index is not None
        if broken:
            yard.collector.ring.read(index, 1)[0].packet.data = b"no picture"
        yard.take(replace(event, update_s=yard.at_s, peak_score=score, peak_sequence=yard.sequence - 1))
        yard.workers.step()
    (instead_of,) = [instead_of for change, instead_of in yard.told if change.snapshot == yard.pieces()["snapshot"]]
    assert set(instead_of) == {first["snapshot"].path, first["annotated"].path}


def test_a_picture_that_was_not_taken_yet_makes_room_for_the_better_one_and_leaves_nothing(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.stream(2, shade=100)
    event = yard.take(yard.event())
    yard.stream(1, shade=200)
    yard.over(event, peak_score=0.9, peak_sequence=yard.sequence - 1)
    yard.stream(2, shade=200)
    yard.workers.run()
    assert [change.snapshot.state for change, _ in yard.told if change.snapshot is not None] == [READY]
    assert yard.pixels(yard.pieces()["snapshot"].path).mean() == pytest.approx(200, abs=3)
    assert sorted(one.path for one in yard.pieces().values()) == yard.files


def test_when_neither_picture_can_be_taken_the_event_is_told_so(tmp_path: Path) -> None:
    disk = FailingDisk("begin")
    yard = Yard(tmp_path, disk=disk)
    yard.stream(2)
    event = yard.take(yard.event())
    yard.over(event, peak_score=0.9)
    yard.workers.run()
    assert yard.states() == dict.fromkeys(ALL, FAILED)
    assert "injected" in yard.pieces()["snapshot"].detail
    disk.failing = False
    yard.over(yard.event("after"))
    yard.stream(2)
    yard.workers.run()
    assert yard.states("after") == dict.fromkeys(ALL, READY), "the disk is well again"
    assert yard.store.trouble == ""


@pytest.mark.parametrize("policy", [MASKED, NONE])
@pytest.mark.parametrize("under_way", [0, 1, 3])
@pytest.mark.parametrize("recording", [False, True])
def test_nothing_unmasked_is_filed_once_the_policy_says_masked_or_none(
    tmp_path: Path, policy: EvidencePolicy, under_way: int, recording: bool
) -> None:
    yard = Yard(tmp_path, recording=RecordingConfig(recording, 60.0))
    yard.stream(2)
    event = yard.take(yard.event())
    for _ in range(under_way):
        yard.stream(0.3)
        yard.workers.step()
    filed = set(yard.files)
    filed = {path for path in filed if not path.startswith(".incoming")}
    yard.change(policy, MASK)
    yard.stream(1)
    yard.take(replace(event, update_s=yard.at_s, peak_score=0.9, peak_sequence=yard.sequence - 1))
    yard.workers.step()
    yard.over(event, peak_score=0.95, peak_sequence=yard.sequence - 1)
    yard.over(yard.event("after"))
    yard.stream(3)
    yard.workers.run()
    yard.collector.close()
    yard.workers.run()
    assert set(yard.unmasked()) <= filed
    assert set(yard.states()) == set(ALL), "whoever waits is told"
    assert yard.states()["clip"] is FAILED
    assert "was changed" in yard.pieces()["clip"].detail
    assert yard.states("after") == (dict.fromkeys(ALL, READY) if policy is MASKED else {})
    assert not yard.collector._under


def test_more_masks_hold_for_what_is_under_way_and_other_changes_leave_it_alone(tmp_path: Path) -> None:
    yard = Yard(tmp_path, MASKED, (Mask(MaskKind.PRIVACY, ((0.9, 0.9), (1.0, 0.9), (1.0, 1.0))),))
    yard.stream(2)
    yard.take(yard.event("one"))
    yard.change(MASKED, MASK)
    yard.stream(1)
    yard.take(yard.event("two"))
    yard.change(MASKED, (*MASK, Mask(MaskKind.DETECTION, LEFT)))
    yard.over(yard.event("two"))
    yard.stream(2)
    yard.workers.run()
    assert yard.states("one") == dict.fromkeys(ALL, FAILED)
    assert yard.states("two") == dict.fromkeys(ALL, READY)
    assert not yard.unmasked()


def test_a_file_that_is_being_filed_while_the_policy_changes_does_not_stay(tmp_path: Path) -> None:
    for kind in ("rename", "sync-folder", "sync-file"):
        disk = FailingDisk(kind)
        disk.failing = False
        yard = Yard(tmp_path / kind, disk=disk, recording=RecordingConfig(enabled=True, segment_s=60.0))
        yard.stream(2)
        yard.over(yard.event())

        def change_first(step: str, _path: Path, yard: Yard = yard, kind: str = kind) -> None:
            if step == kind:
                yard.change(NONE)

        disk._may_fail = change_first  # type: ignore[method-assign]
        yard.stream(2)
        yard.workers.run()
        yard.collector.close()
        yard.workers.run()
        assert yard.files == []
        assert yard.states() == dict.fromkeys(ALL, FAILED)


def test_a_channel_that_keeps_nothing_holds_no_packet(tmp_path: Path) -> None:
    yard = Yard(tmp_path, NONE)
    yard.stream(2)
    assert yard.collector.ring.latest() is None
    assert yard.take(yard.event()).clip.state is EvidenceState.NONE
    assert not yard.workers.waiting
    yard.change(ORIGINAL)
    yard.stream(2)
    assert yard.collector.ring.latest() is not None
    yard.take(yard.event())
    yard.workers.step()
    yard.change(NONE)
    yard.workers.step()
    yard.stream(1)
    assert yard.collector.ring.size_bytes == 0
    assert not yard.workers.waiting
    assert all(under.clip is None and under.latest is None for under in yard.collector._under.values())


def test_packets_that_come_while_the_policy_changes_are_not_left_behind(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    stop = threading.Event()

    def feed() -> None:
        while not stop.is_set():
            yard.stream(0.1)

    feeding = threading.Thread(target=feed)
    feeding.start()
    try:
        for _ in range(200):
            yard.change(NONE)
            assert yard.collector.ring.latest() is None
            yard.change(ORIGINAL)
    finally:
        stop.set()
        feeding.join(10)


def test_events_on_many_threads_and_changes_meanwhile_leave_nothing_unmasked_and_nobody_waiting(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.stream(3)
    names = [[f"t{thread}-{number}" for number in range(60)] for thread in range(4)]

    def judge(mine: list[str]) -> None:
        for name in mine:
            yard.over(yard.take(yard.event(name)))

    threads = [threading.Thread(target=judge, args=(mine,)) for mine in names]
    for thread in threads:
        thread.start()
    yard.change(NONE)
    for thread in threads:
        thread.join(20)
    yard.workers.run()
    assert yard.files == []
    assert not yard.workers.waiting
    asked = {change.event_id for change, _ in yard.told}
    assert all(yard.states(name) == dict.fromkeys(ALL, FAILED) for name in asked)
    assert not yard.collector._under


def test_a_recording_takes_no_place_of_a_clip_and_finds_one_where_there_is_none(tmp_path: Path) -> None:
    yard = Yard(tmp_path, recording=RecordingConfig(enabled=True, segment_s=60.0), max_jobs=2)
    yard.stream(1)
    event = yard.take(yard.event())
    yard.stream(1)
    yard.over(event)
    yard.stream(2)
    yard.collector.close()
    yard.workers.run()
    assert yard.states() == dict.fromkeys(ALL, READY)
    assert len(yard.collector.index.segments) == 1


def test_what_a_channel_says_of_retention_is_noted_when_it_is_made_and_when_it_changes(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    assert noted_limits(yard.store, ()) == {}
    for said in (RetentionConfig(60.0), RetentionConfig(None, 5, 9)):
        yard.collector.change(replace(yard.record(), retention=said))
        assert noted_limits(yard.store, ()) == {"yard": said}
    yard.collector.close()
    assert noted_limits(yard.store, ()) == {"yard": said}, "also when it is deleted"
    yard.collector.change(yard.record())
    assert noted_limits(yard.store, ()) == {}


def test_a_camera_that_is_silent_is_shown_as_it_was_last(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.stream(2, shade=80)
    yard.stream(0.1, shade=160)
    yard.take(
        yard.event(
            kind=EventKind.CAMERA_OFFLINE, rule="camera", sequence=9999, peak_s=None, peak_sequence=0, peak_score=None
        )
    )
    yard.workers.step()
    assert yard.pixels(yard.pieces()["snapshot"].path).mean() == pytest.approx(160, abs=3)


def test_another_sessions_packet_of_the_same_number_does_not_show_an_event(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.stream(2, shade=80)
    event = yard.event(peak_sequence=5)
    yard.collector.end()
    yard.collector.begin(FORMAT, "s2")
    yard.sequence = 0
    yard.stream(2, shade=160)
    yard.take(event)
    yard.workers.step()
    assert yard.states()["snapshot"] is FAILED
    assert "not held" in yard.pieces()["snapshot"].detail


def test_a_clip_of_a_session_whose_time_ran_ahead_does_not_show_the_next_session(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.stream(20, shade=80)
    event = yard.take(yard.event(start_s=yard.at_s - 2))
    yard.over(event)
    yard.collector.end()
    yard.at_s -= 15
    yard.collector.begin(FORMAT, "s2")
    yard.sequence = 0
    yard.stream(10, shade=160)
    other = yard.event("other", session="s2", start_s=yard.at_s - 3)
    yard.over(other)
    yard.stream(3, shade=160)
    yard.workers.run()
    first, second = yard.pieces("e1")["clip"], yard.pieces("other")["clip"]
    assert "another session" in first.detail
    assert shades(yard, first.path) == {80}
    assert shades(yard, second.path) == {160}


def shades(yard: Yard, path: str) -> set[int]:
    with av.open(str(yard.store.find(path))) as container:
        means = [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]
    return {min((80, 160), key=lambda shade, mean=mean: abs(shade - mean)) for mean in means}


def test_when_the_server_stops_what_is_under_way_is_completed_or_given_up_in_words(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.stream(2)
    yard.take(yard.event())
    yard.stream(1)
    yard.workers.waiting[0].step()
    yard.collector.close()
    yard.workers.abort()
    assert yard.states() == {"clip": READY, "snapshot": FAILED, "annotated": FAILED}
    assert "the server stopped" in yard.pieces()["snapshot"].detail


class Story:
    """Does to a yard what it is told, and notes what was promised to whom, and what was filed when it was allowed."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        self.promised: set[str] = set()
        self.allowed: set[str] = set()
        self.going: list[Event] = []
        self.number = 0

    def tell(self, event: Event, *, over: bool = False) -> Event:
        ready = self.yard.over(event) if over else self.yard.take(event)
        if ready.clip.state is PENDING:
            self.promised.add(ready.event_id)
        return ready

    def begin(self) -> None:
        self.number += 1
        session = self.yard.collector._session
        self.going.append(self.tell(self.yard.event(f"e{self.number}", session=session)))

    def momentary(self) -> None:
        self.number += 1
        self.tell(self.yard.event(f"e{self.number}"), over=True)

    def better(self) -> Event:
        event = self.going.pop(0)
        score = min((event.peak_score or 0) + 0.1, 1.0)
        return replace(event, peak_score=score, peak_sequence=self.yard.sequence - 1, update_s=self.yard.at_s)

    def update(self) -> None:
        if self.going:
            self.going.append(self.tell(self.better()))

    def end(self) -> None:
        if self.going:
            self.tell(self.better(), over=True)

    def work(self) -> None:
        self.yard.workers.step()

    def stream(self) -> None:
        self.yard.stream(2)

    def long(self) -> None:
        self.yard.stream(8)

    def session(self) -> None:
        self.yard.collector.end()
        self.yard.collector.begin(FORMAT, f"s{self.yard.sequence}")

    def full(self) -> None:
        self.yard.workers.max_jobs = 1

    def free(self) -> None:
        self.yard.workers.max_jobs = 512

    def original(self) -> None:
        self.yard.change(ORIGINAL)

    def masked(self) -> None:
        self._forbid(MASKED)

    def none(self) -> None:
        self._forbid(NONE)

    def _forbid(self, policy: EvidencePolicy) -> None:
        if self.yard.policy is ORIGINAL:
            self.allowed |= {path for path in self.yard.files if not path.startswith(".incoming")}
        self.yard.change(policy, MASK)

    def finish(self) -> None:
        self.free()
        for event in self.going:
            self.tell(event, over=True)
        self.yard.collector.close()
        self.yard.workers.run()


STEPS = [name for name in vars(Story) if not name.startswith("_") and name not in {"tell", "better", "finish"}]


@settings(max_examples=80, deadline=None)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=5, max_size=40))
def test_in_any_order_who_was_promised_evidence_hears_of_it_and_nothing_is_filed_that_may_not_be(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    yard = Yard(tmp_path_factory.mktemp("yard"))
    story = Story(yard)
    for step in steps:
        getattr(story, step)()
    story.finish()
    assert not yard.workers.waiting
    assert not yard.collector._under
    assert all(set(yard.states(name)) == set(ALL) for name in story.promised)
    named = {one.path for name in story.promised for one in yard.pieces(name).values() if one.state is READY}
    replaced = {path for _, instead_of in yard.told for path in instead_of}
    assert set(yard.files) - replaced == named, "no file is without its event, and none is missing"
    if yard.policy is not ORIGINAL:
        assert set(yard.unmasked()) <= story.allowed
