"""What holds for whatever a tracker is fed: identities, bounds, and times that stand still or leap."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_walkers import ASPECT, LABELS, START_S, Faults, evenly, found, irregularly, street
from vedette_server.data.rules import TrackingConfig
from vedette_server.monitor.associate import costs, overlaps, pairs
from vedette_server.monitor.motion_model import MotionModel, measured_of
from vedette_server.monitor.tracking import MOST_TRACKS, ChannelTracker

edge = st.floats(0.0, 1.0, width=32)
# Zero width and height are among them: what clipping leaves of a box at the edge.
boxes = st.tuples(edge, edge, edge, edge).map(
    lambda box: (min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3]))
)
rows = st.lists(st.tuples(boxes, st.floats(0.0625, 1.0, width=32), st.integers(0, 2)), max_size=8)
# Equal times, frames of a camera, gaps, minutes.
steps = st.one_of(st.just(0.0), st.floats(0.001, 0.5), st.floats(0.5, 10.0), st.floats(60.0, 600.0))
frames = st.lists(st.tuples(steps, rows), min_size=1, max_size=25)
configs = st.builds(TrackingConfig, max_lost_s=st.floats(0.1, 10.0), confirm_frames=st.integers(1, 4))


def played(config, frames):
    """Feed frames; give what the tracker makes of each."""
    follower, time_s = ChannelTracker(config, prefix="s"), START_S
    for step, detections in frames:
        time_s += step
        ordered = sorted(detections, key=lambda row: -row[1])
        shown = found([row[0] for row in ordered], [row[1] for row in ordered], [row[2] for row in ordered])
        yield time_s, shown, follower.update(shown, LABELS, time_s, ASPECT)


@settings(max_examples=80, deadline=None)
@given(configs, frames)
def test_identities_hold_whatever_comes(config, frames):
    ended, confirmed, newest = set(), set(), 0
    for _, shown, tracked in played(config, frames):
        given_out = [track_id for track_id in tracked.track_ids if track_id]
        living = [view.track_id for view in tracked.tracks]
        assert len(tracked.track_ids) == len(shown)
        assert len(set(given_out)) == len(given_out), "no identity twice in a frame"
        assert len(set(living)) == len(living)
        assert set(given_out) == {view.track_id for view in tracked.tracks if view.seen and view.confirmed}
        assert not ended & set(living), "what ended never returns"
        assert set(tracked.ended) <= confirmed, "only what was confirmed is told to have ended"
        assert confirmed - ended - set(tracked.ended) <= set(living), "nothing that was confirmed goes without a word"
        begun = [int(track_id.removeprefix("s-")) for track_id in living if view_is_new(track_id, newest)]
        newest = max([newest, *begun])
        assert sorted(begun) == begun, "identities never run back"
        ended |= set(tracked.ended)
        confirmed |= {view.track_id for view in tracked.tracks if view.confirmed}


def view_is_new(track_id, newest):
    return int(track_id.removeprefix("s-")) > newest


@settings(max_examples=80, deadline=None)
@given(configs, frames)
def test_views_are_sound_whatever_comes(config, frames):
    for time_s, shown, tracked in played(config, frames):
        for view in tracked.tracks:
            assert all(0.0 <= edge <= 1.0 for edge in view.box)
            assert view.box[0] <= view.box[2]
            assert view.box[1] <= view.box[3]
            assert view.seen == (view.last_s == time_s and view.score > 0)
            assert view.first_s <= view.last_s <= time_s
            assert view.score <= view.best_score
            assert view.seen or time_s - view.last_s < config.max_lost_s
        of_id = {view.track_id: view for view in tracked.tracks}
        for row, track_id in enumerate(tracked.track_ids):
            if track_id:
                assert of_id[track_id].box == tuple(shown.boxes[row].tolist())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.0, 0.1), min_size=2, max_size=6), boxes, boxes)
def test_it_makes_no_difference_in_how_many_steps_time_passes(steps, first, second):
    models = MotionModel(), MotionModel()
    for model in models:
        model.start(measured_of(np.array([first], np.float32), ASPECT))
        model.predict(0.2)
        model.correct(np.array([0]), measured_of(np.array([second], np.float32), ASPECT))
    for step in steps:
        models[0].predict(step)
    models[1].predict(sum(steps))
    np.testing.assert_allclose(models[0].means, models[1].means, rtol=1e-6, atol=1e-9)
    for mine, other in zip(models[0].expected(np.array([0])), models[1].expected(np.array([0])), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-9)


def test_a_place_grows_vague_with_the_seconds_that_pass_and_sure_with_sightings():
    model, here = MotionModel(), measured_of(np.array([[0.4, 0.3, 0.5, 0.7]], np.float32), ASPECT)
    model.start(here)
    vague = []
    for step in (0.0, 0.1, 0.4, 1.0):
        model.predict(step)
        vague.append(float(model.expected(np.array([0]))[1][0]))
    assert sorted(set(vague)) == vague
    model.correct(np.array([0]), here)
    assert model.expected(np.array([0]))[1][0] < vague[-1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 1000))
def test_pairs_are_as_cheap_as_the_cheapest_of_all_ways(tracks, detections, seed):
    gains = np.minimum(np.random.default_rng(seed).normal(-1.0, 2.0, (tracks, detections)), 0.0)
    chosen = pairs(gains)
    size = max(tracks, detections)
    square = np.zeros((size, size))
    square[:tracks, :detections] = gains
    best = min(
        sum(square[row, column] for row, column in enumerate(way)) for way in itertools.permutations(range(size))
    )
    assert gains[chosen].sum() == pytest.approx(best)
    assert (gains[chosen] < 0).all()


def test_a_pair_of_two_families_or_far_apart_is_no_pair():
    model = MotionModel()
    model.start(measured_of(np.array([[0.4, 0.3, 0.5, 0.7]] * 2, np.float32), ASPECT))
    there = measured_of(np.array([[0.4, 0.3, 0.5, 0.7], [0.8, 0.3, 0.9, 0.7]], np.float32), ASPECT)
    families = np.array([0, 1]), np.array([0, 0])
    gains = costs(model.means, model.expected(np.arange(2)), there, families, families)
    assert (gains < 0).tolist() == [[True, False], [False, False]]


def test_overlaps_are_shares():
    some = measured_of(np.array([[0, 0, 0.2, 0.2], [0.1, 0, 0.3, 0.2], [0.5, 0.5, 0.5, 0.5]], np.float32), 1.0)
    assert overlaps(some, some) == pytest.approx(np.array([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]]), abs=1e-6)


def test_three_hundred_detections_a_frame_are_borne_and_tracks_are_bounded():
    rng = np.random.default_rng(1)
    follower = ChannelTracker(TrackingConfig(confirm_frames=1), prefix="s")
    ended = set()
    for index in range(8):
        corners = rng.uniform(0.0, 0.95, (300, 2))
        shown = found(np.hstack((corners, corners + 0.03)).tolist(), [0.9] * 300, [0] * 300)
        tracked = follower.update(shown, LABELS, START_S + index / 15, ASPECT)
        ended |= set(tracked.ended)
        assert len(tracked.tracks) <= MOST_TRACKS
        assert len(tracked.track_ids) == 300
    assert ended, "those unseen for longest make room"


def test_a_time_that_runs_back_is_taken_for_one_that_stands_still():
    follower = ChannelTracker(TrackingConfig(confirm_frames=1), prefix="s")
    shown = found([(0.4, 0.3, 0.5, 0.7)], [0.9], [0])
    first = follower.update(shown, LABELS, START_S, ASPECT)
    again = follower.update(shown, LABELS, START_S - 5, ASPECT)
    assert again.track_ids == first.track_ids
    assert again.tracks[0].last_s == START_S


def test_the_state_of_ten_objects_is_small_and_does_not_grow():
    follower, sizes = ChannelTracker(prefix="s"), []
    for sample in street(1, people=8, cars=2, length_s=60.0).sample(evenly(10, 60.0)):
        follower.update(sample.detections, LABELS, sample.time_s, ASPECT)
        sizes.append(len(pickle.dumps(follower)))
    assert max(sizes) < 64 * 1024
    assert np.mean(sizes[-100:]) < 2 * np.mean(sizes[100:200])


@pytest.mark.parametrize("seed", range(3))
def test_in_a_busy_street_detections_are_of_the_object_that_their_track_is_of(seed):
    # Of each identity, the share of detections of the walker that it had most: 0.76 to 0.86 when this was written.
    right = total = 0
    follower, votes = ChannelTracker(prefix="s"), {}
    for sample in street(seed, faults=Faults(missed=0.15)).sample(irregularly(seed)):
        tracked = follower.update(sample.detections, LABELS, sample.time_s, ASPECT)
        for track_id, source in zip(tracked.track_ids, sample.sources.tolist(), strict=True):
            if track_id:
                votes.setdefault(track_id, []).append(source)
    for sources in votes.values():
        right += max(sources.count(source) for source in set(sources))
        total += len(sources)
    assert right / total > 0.7
