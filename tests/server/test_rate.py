"""A channel is held to its frames per second on an even beat."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.session.rate import RateLimiter


def test_without_a_limit_every_frame_is_admitted() -> None:
    limiter = RateLimiter(None)
    assert all(limiter.admit(t_s) for t_s in [0.0, 0.0, 0.001, 5.0, 3.0, 3.0])


@pytest.mark.parametrize("jitter_s", [0.0, 0.01, 0.025])
def test_a_camera_of_15_fps_that_is_limited_to_5_gives_every_third_frame(jitter_s: float) -> None:
    limiter = RateLimiter(5)
    rng = random.Random(3)
    admitted = [n for n in range(900) if limiter.admit(1000 + n / 15 + (rng.uniform(-jitter_s, jitter_s) if n else 0))]
    assert admitted == list(range(0, 900, 3))


def test_the_distance_of_the_frames_is_learnt_anew_when_the_camera_changes_its_rate() -> None:
    limiter = RateLimiter(5)
    rng = random.Random(3)
    for n in range(50):
        limiter.admit(n / 5)
    times = [10 + n / 30 + rng.uniform(-0.01, 0.01) for n in range(900)]
    admitted = [n for n, t_s in enumerate(times) if limiter.admit(t_s)]
    assert admitted[-100:] == list(range(admitted[-100], 900, 6))


@pytest.mark.parametrize(("fps", "max_fps"), [(30, 7), (25, 10), (30, 29), (15, 1), (60, 24), (6, 5)])
def test_the_limit_is_reached_and_the_beat_does_not_drift(fps: float, max_fps: float) -> None:
    limiter = RateLimiter(max_fps)
    rng = random.Random(5)
    times = [n / fps + rng.uniform(-0.2, 0.2) / fps for n in range(int(fps * 100))]
    admitted = [t_s for t_s in times if limiter.admit(t_s)]
    assert len(admitted) == pytest.approx(100 * max_fps, rel=0.01, abs=2)
    assert all(abs(t_s - index / max_fps) <= 1 / fps for index, t_s in enumerate(admitted[:50]))


def test_a_camera_below_the_limit_loses_nothing() -> None:
    limiter = RateLimiter(15)
    rng = random.Random(5)
    assert all(limiter.admit(n / 14 + rng.uniform(-0.01, 0.01)) for n in range(1000))


def test_a_camera_at_the_limit_loses_nothing_in_spite_of_jitter() -> None:
    limiter = RateLimiter(15)
    rng = random.Random(5)
    assert all(limiter.admit(n / 15 + rng.uniform(-0.01, 0.01)) for n in range(1, 1000))


def test_a_pause_earns_no_burst() -> None:
    limiter = RateLimiter(5)
    assert limiter.admit(0.0)
    assert [limiter.admit(60 + n / 100) for n in range(10)].count(True) == 1


def test_time_that_jumps_backwards_starts_a_new_beat() -> None:
    limiter = RateLimiter(5)
    for n in range(100):
        limiter.admit(n / 15)
    assert [n for n in range(12) if limiter.admit(n / 15)] == [0, 3, 6, 9]


def test_a_new_limit_holds_from_the_last_frame_on() -> None:
    limiter = RateLimiter(1)
    assert [limiter.admit(n / 10) for n in range(3)] == [True, False, False]
    limiter.set(5)
    assert [n for n in range(3, 9) if limiter.admit(n / 10)] == [3, 4, 6, 8]
    limiter.set(None)
    assert limiter.admit(0.801)
    limiter.set(1)
    assert [n for n in range(9, 22) if limiter.admit(n / 10)] == [18]


@pytest.mark.parametrize("max_fps", [0, -1, float("inf"), float("nan")])
def test_a_limit_out_of_range_is_refused(max_fps: float) -> None:
    with pytest.raises(ValueError, match=f"max_fps is {max_fps}"):
        RateLimiter(max_fps)
    with pytest.raises(ValueError, match="above 0"):
        RateLimiter(1).set(max_fps)


@settings(deadline=None)
@given(st.lists(st.floats(0, 0.7), max_size=150), st.sampled_from([0.5, 3.0, 5.0, 12.5, 30.0]))
def test_no_stretch_of_time_holds_more_than_its_share_and_a_burst_of_two(gaps_s: list[float], max_fps: float) -> None:
    limiter = RateLimiter(max_fps)
    now = 50.0
    admitted: list[float] = []
    for gap_s in gaps_s:
        now += gap_s
        if limiter.admit(now):
            admitted.append(now)
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            assert last - first + 1 <= (admitted[last] - admitted[first]) * max_fps + 2.5 + 1e-6


@settings(deadline=None)
@given(st.lists(st.floats(0, 0.7), max_size=150), st.sampled_from([0.5, 3.0, 5.0, 12.5]))
def test_no_frame_is_refused_that_comes_an_interval_and_a_half_after_the_last_one(
    gaps_s: list[float], max_fps: float
) -> None:
    limiter = RateLimiter(max_fps)
    now = admitted_s = 50.0
    assert limiter.admit(now)
    for gap_s in gaps_s:
        now += gap_s
        admitted = limiter.admit(now)
        assert admitted or now - admitted_s <= 1.5 / max_fps + 1e-9
        admitted_s = now if admitted else admitted_s
