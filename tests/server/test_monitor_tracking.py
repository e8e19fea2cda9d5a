"""Objects keep their identities: through misses, crossings, occlusion, gaps and uneven times; others get none."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from support_walkers import (
    ASPECT,
    LABELS,
    NO_FAULTS,
    START_S,
    Faults,
    Walk,
    Walker,
    evenly,
    found,
    irregularly,
    skipped,
)
from vedette_server.data.rules import TrackingConfig
from vedette_server.monitor.tracking import ChannelTracker

BOX = (0.4, 0.3, 0.5, 0.7)
ALONE = Walker(0.0, (0.05, 0.8), (0.09, 0.0))


def tracker(**options):
    return ChannelTracker(TrackingConfig(**options), prefix="session-a")


def identities(walk, times, follower=None):
    """Return the identities that each walker had, in order, and how many tracks were confirmed at all."""
    follower = follower or tracker()
    of_walker = defaultdict(list)
    for sample in walk.sample(times):
        tracked = follower.update(sample.detections, LABELS, sample.time_s, ASPECT)
        for track_id, source in zip(tracked.track_ids, sample.sources.tolist(), strict=True):
            if track_id and source >= 0 and track_id not in of_walker[source][-1:]:
                of_walker[source].append(track_id)
    return dict(of_walker)


def show(follower, boxes, time_s, scores=None, classes=None):
    count = len(boxes)
    detections = found(boxes, scores or [0.9] * count, classes or [0] * count)
    return follower.update(detections, LABELS, START_S + time_s, ASPECT)


def stand(follower, times, box=BOX, **more):
    """Show one box at some times; return the identities that it got."""
    return [show(follower, [box], time_s, **more).track_ids[0] for time_s in times]


def moved(box, x):
    return box[0] + x, box[1], box[2] + x, box[3]


def test_an_object_has_no_identity_until_it_was_seen_often_enough_and_the_same_one_then():
    ids = stand(tracker(confirm_frames=3), evenly(15, 1))
    assert ids[:2] == ["", ""]
    assert set(ids[2:]) == {"session-a-1"}


def test_an_unconfirmed_track_is_told_of_but_not_counted():
    tracked = show(tracker(), [BOX], 0)
    assert [(view.confirmed, view.seen) for view in tracked.tracks] == [(False, True)]
    assert tracked.track_ids == ("",)


def test_identities_stand_in_the_order_of_the_detections():
    follower, other = tracker(confirm_frames=1), (0.1, 0.2, 0.15, 0.4)
    first = show(follower, [BOX, other], 0).track_ids
    assert show(follower, [other, BOX], 0.1).track_ids == first[::-1]


@pytest.mark.parametrize(
    "times",
    [evenly(5), evenly(15), evenly(30), skipped(15, 0.2, 1), skipped(30, 0.6, 2), irregularly(3)],
    ids=["5 fps", "15 fps", "30 fps", "15 fps, 20 % skipped", "30 fps, 60 % skipped", "irregular"],
)
def test_the_same_scene_has_the_same_tracks_however_it_is_sampled(times):
    walkers = [
        ALONE,
        Walker(1.0, (0.95, 0.9), (-0.12, 0.0)),
        Walker(2.0, (0.05, 0.6), (0.2, 0.0), slim=2.4, height=0.15, label=1),
        Walker(3.0, (0.3, 0.95), (0.03, -0.02), sway=(0.01, 0.2)),
    ]
    ids = identities(Walk(walkers, faults=Faults(missed=0.1, false_alarms=0.0)), times)
    assert [len(ids[walker]) for walker in range(4)] == [1, 1, 1, 1]
    assert len({own[0] for own in ids.values()}) == 4


@pytest.mark.parametrize("fps", [5, 15, 30])
@pytest.mark.parametrize("hidden_s", [0.5, 1.0, 2.0])
def test_a_walker_keeps_its_identity_behind_a_pillar(fps, hidden_s):
    pillar = (0.4, 0.4 + 0.09 * hidden_s)
    ids = identities(Walk([ALONE], [pillar], Faults(missed=0.1, false_alarms=0.0, jitter=0.02)), evenly(fps, 10))
    assert len(ids[0]) == 1


@pytest.mark.parametrize("seed", range(5))
def test_two_walkers_who_cross_keep_their_identities(seed):
    pair = [Walker(0.0, (0.1, 0.85), (0.1, 0.0)), Walker(0.0, (0.9, 0.8), (-0.1, 0.0), height=0.23)]
    ids = identities(Walk(pair, faults=Faults(missed=0.1, false_alarms=0.0, jitter=0.02), seed=seed), evenly(15, 8))
    # While one hides the other they may be taken for each other; afterwards they are who they were.
    assert ids[0][0] == ids[0][-1] != ids[1][0] == ids[1][-1]


@pytest.mark.parametrize("gap_s", [0.3, 0.7, 1.5])
def test_a_gap_of_skipped_frames_changes_no_identity(gap_s):
    times = [time_s for time_s in evenly(15, 8) if not 4.0 <= time_s < 4.0 + gap_s]
    assert len(identities(Walk([ALONE], faults=NO_FAULTS), times)[0]) == 1


def test_a_low_score_continues_a_track_and_begins_none():
    follower = tracker()
    stand(follower, evenly(10, 1))
    assert set(stand(follower, [1.0, 1.1, 1.2, 1.3], scores=[0.3])) == {"session-a-1"}
    assert set(stand(tracker(), evenly(10, 1), scores=[0.3])) == {""}


def test_a_sure_detection_is_matched_before_an_unsure_one_that_lies_better():
    follower = tracker()
    stand(follower, evenly(10, 1))
    tracked = show(follower, [moved(BOX, 0.01), BOX], 1.0, scores=[0.9, 0.3])
    assert tracked.track_ids == ("session-a-1", "")


def test_a_lost_track_ends_by_seconds_not_by_frames():
    for fps in (2, 10, 30):
        follower = tracker(max_lost_s=2.0)
        stand(follower, evenly(fps, 2))
        last_s = evenly(fps, 2)[-1]
        ended = [
            (time_s - last_s, tracked.ended)
            for time_s in np.arange(last_s + 1 / fps, 6, 1 / fps).tolist()
            if (tracked := show(follower, [], time_s)).ended
        ]
        assert [ids for _, ids in ended] == [("session-a-1",)]
        assert 2.0 - 1e-6 <= ended[0][0] <= 2.0 + 1 / fps + 1e-6


def test_an_identity_that_ended_never_comes_back():
    follower = tracker(max_lost_s=1.0)
    stand(follower, evenly(10, 1))
    show(follower, [], 1.5)
    show(follower, [], 2.5)
    assert set(stand(follower, [3.0, 3.1, 3.2, 3.3])) == {"", "session-a-2"}


def test_what_stood_still_while_no_frame_came_is_the_same_and_what_moved_is_not():
    follower, walking = tracker(max_lost_s=3.0, confirm_frames=1), (0.1, 0.2, 0.15, 0.4)
    for time_s in evenly(10, 1):
        before = show(follower, [BOX, walking], time_s).track_ids
    after = show(follower, [BOX, moved(walking, 0.3)], 9.0)
    assert after.track_ids[0] == before[0]
    assert after.track_ids[1] not in before
    assert after.ended == (before[1],)


def test_a_parked_car_is_confirmed_at_one_frame_in_five_seconds():
    assert stand(tracker(), [0, 5, 10, 15], classes=[1])[2:] == ["session-a-1", "session-a-1"]


def test_after_a_time_without_frames_a_low_score_continues_what_stood_still():
    follower = tracker()
    stand(follower, evenly(10, 1))
    assert stand(follower, [6.0], scores=[0.3]) == ["session-a-1"]


def test_after_a_gap_of_minutes_everything_is_new():
    follower = tracker()
    stand(follower, evenly(10, 1))
    tracked = show(follower, [BOX], 300.0)
    assert tracked.ended == ("session-a-1",)
    assert [view.track_id for view in tracked.tracks] == ["session-a-2"]


def test_a_car_that_is_called_a_truck_now_and_then_stays_one_car():
    follower = tracker()
    for index in range(40):
        tracked = show(follower, [moved(BOX, index * 0.005)], index / 15, classes=[2 if index % 4 == 3 else 1])
    assert [(view.track_id, view.label) for view in tracked.tracks] == [("session-a-1", "car")]


def test_a_track_takes_the_label_seen_most():
    follower = tracker()
    stand(follower, evenly(10, 0.5), classes=[2])
    stand(follower, [0.5 + index / 10 for index in range(10)], classes=[1])
    assert show(follower, [BOX], 1.6, classes=[1]).tracks[0].label == "car"


def test_a_person_does_not_become_a_car():
    follower = tracker()
    stand(follower, evenly(10, 1))
    assert "session-a-1" not in stand(follower, [1.0, 1.1, 1.2, 1.3], classes=[1])


def test_a_car_that_is_found_as_a_truck_as_well_is_one_object():
    follower = tracker()
    for time_s in evenly(10, 1):
        tracked = show(follower, [BOX, moved(BOX, 0.002)], time_s, scores=[0.9, 0.6], classes=[1, 2])
    assert [view.label for view in tracked.tracks] == ["car"]


def test_false_alarms_here_and_there_are_never_confirmed():
    follower = tracker()
    for sample in Walk([], faults=Faults(false_alarms=0.3), seed=3).sample(evenly(15, 20)):
        assert not any(follower.update(sample.detections, LABELS, sample.time_s, ASPECT).track_ids)


def test_what_leaves_the_picture_ends_and_who_comes_in_is_somebody_else():
    walkers = [Walker(0.0, (0.7, 0.8), (0.12, 0.0)), Walker(4.0, (1.0, 0.8), (-0.12, 0.0))]
    ids = identities(Walk(walkers, faults=NO_FAULTS), evenly(15, 8))
    assert [len(ids[0]), len(ids[1])] == [1, 1]
    assert ids[0] != ids[1]


def test_what_has_left_the_picture_is_not_waited_for():
    follower = tracker(max_lost_s=3.0)
    gone = [
        sample.time_s - START_S
        for sample in Walk([Walker(0.0, (0.7, 0.8), (0.12, 0.0))], faults=NO_FAULTS).sample(evenly(15, 6))
        if follower.update(sample.detections, LABELS, sample.time_s, ASPECT).ended
    ]
    # Its centre crosses the edge at 2.5 s.
    assert len(gone) == 1
    assert 2.4 < gone[0] < 3.3


def test_a_track_that_is_not_seen_is_told_where_it_is_thought_to_be():
    follower = tracker()
    walk = Walk([ALONE], faults=NO_FAULTS)
    for sample in walk.sample(evenly(15, 4)):
        follower.update(sample.detections, LABELS, sample.time_s, ASPECT)
    for later_s in (4.2, 4.4, 4.8):
        view = show(follower, [], later_s).tracks[0]
        assert not view.seen
        assert view.score == 0.0
        assert view.best_score == pytest.approx(0.9)
        assert view.box == pytest.approx(ALONE.box(later_s), abs=0.02)


@pytest.mark.parametrize("speed", [0.25, -0.25])
def test_what_the_edge_of_the_picture_cuts_is_not_taken_for_smaller_and_slower(speed):
    follower = tracker()
    car = Walker(0.0, (0.5 - speed, 0.7), (speed, 0.0), slim=2.4, height=0.2, label=1)
    for sample in Walk([car], faults=NO_FAULTS).sample(evenly(15, 2.9)):
        follower.update(sample.detections, LABELS, sample.time_s, ASPECT)
    assert show(follower, [], 3.1).tracks[0].box == pytest.approx(car.box(3.1), abs=0.002)


def test_a_session_that_goes_on_goes_on_counting_and_another_never_repeats():
    first = tracker(confirm_frames=1)
    show(first, [BOX], 0)
    onward = ChannelTracker(TrackingConfig(confirm_frames=1), prefix="session-a", first_number=first.next_number)
    other = ChannelTracker(TrackingConfig(confirm_frames=1), prefix="session-b")
    ids = [show(follower, [BOX], 9).track_ids[0] for follower in (onward, other)]
    assert ids == ["session-a-2", "session-b-1"]


def test_a_reset_ends_all_and_takes_no_identity_back():
    follower = tracker()
    stand(follower, evenly(10, 1))
    show(follower, [BOX, (0.1, 0.1, 0.2, 0.3)], 1.0)
    assert follower.reset() == ("session-a-1",)
    assert follower.reset() == ()
    assert stand(follower, [1.1, 1.2, 1.3])[-1] == "session-a-3"


def test_a_changed_configuration_keeps_the_tracks():
    follower = tracker(max_lost_s=3.0)
    stand(follower, evenly(10, 1))
    follower.change(TrackingConfig(max_lost_s=0.5, confirm_frames=9))
    assert stand(follower, [1.0]) == ["session-a-1"]
    assert not show(follower, [], 1.2).ended
    assert show(follower, [], 1.6).ended == ("session-a-1",)


def test_labels_of_another_engine_mean_the_same_by_name():
    follower = tracker(confirm_frames=1)
    show(follower, [BOX], 0, classes=[1])
    swapped = follower.update(found([BOX], [0.9], [0]), ("car", "boat"), START_S + 0.1, ASPECT)
    assert swapped.track_ids == ("session-a-1",)
