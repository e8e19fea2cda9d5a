"""The motion gate: opens for what moves, for tracks and now and then, and for nothing else."""

from __future__ import annotations

import json

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_faults import Place, noisy, walker
from support_pictures import asset
from vedette_server.data.rules import GateConfig, GateMode, Mask, MaskKind
from vedette_server.monitor.luma import HEIGHT, WIDTH, luma_of_array, luma_of_frame
from vedette_server.monitor.motion import GateReason, MotionGate, lighting, open_area

FPS = 10.0
NEVER = GateConfig(GateMode.MOTION, floor_fps=0.0)
LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


def run(gate, film, start_s=0.0):
    """Gate a film; return the reason of each frame."""
    reasons = []
    for i, picture in enumerate(film):
        runs = gate.decide(luma_of_array(picture).grey, start_s + i / FPS, False)
        assert runs is gate.reason.runs
        reasons.append(gate.reason)
    return reasons


def empty(count, seed=0):
    return [Place.make(seed).seen()] * count


def crossing(count, seed=0, first=0):
    """Somebody small walks through the picture in its upper part."""
    view = Place.make(seed).seen()
    shade = 250 if view[200:240].mean() < 128 else 5
    return [walker(view, 10 + (first + i) * 6, 240, 26, 60, shade) for i in range(count)]


def test_without_a_gate_every_frame_runs():
    gate = MotionGate(GateConfig(GateMode.OFF))
    assert set(run(gate, noisy(empty(5)))) == {GateReason.OFF}


def test_a_still_scene_with_noise_keeps_it_closed():
    reasons = run(MotionGate(NEVER), noisy(empty(100), 4.0))
    assert reasons[0] is GateReason.START
    assert set(reasons[1:]) == {GateReason.NO_MOTION}


def test_it_opens_with_somebody_who_walks_in_and_closes_a_while_after():
    film = noisy([*empty(40), *crossing(60), *empty(60)], 2.0)
    reasons = run(MotionGate(NEVER, hold_s=2.0), film)
    assert not any(reason.runs for reason in reasons[1:40])
    assert all(reason.runs for reason in reasons[42:100])
    assert reasons[101:119] == [GateReason.HOLD] * 18
    assert not any(reason.runs for reason in reasons[123:])


@pytest.mark.parametrize("kind", [MaskKind.MOTION, MaskKind.PRIVACY])
def test_motion_under_a_mask_does_not_count(kind):
    film = noisy([*empty(40), *crossing(45)], 2.0)  # up to the middle
    gate = MotionGate(NEVER, [Mask(kind, LEFT)])
    assert not any(reason.runs for reason in run(gate, film)[1:])
    assert GateReason.MOTION in run(gate, noisy(crossing(40, first=60), 2.0), 8.5)


def test_a_mask_of_detections_hides_no_motion():
    film = noisy([*empty(40), *crossing(40)], 2.0)
    assert GateReason.MOTION in run(MotionGate(NEVER, [Mask(MaskKind.DETECTION, LEFT)]), film)


@pytest.mark.parametrize("gain", [0.5, 0.8, 0.93, 1.08, 1.3, 1.6])
def test_light_that_changes_at_once_does_not_open_it(gain):
    lit = cv2.convertScaleAbs(Place.make(0).seen(), alpha=gain)
    assert not any(reason.runs for reason in run(MotionGate(NEVER), noisy([*empty(30), *[lit] * 60]))[1:])


def test_light_that_goes_beyond_white_and_comes_back_does_not_open_it():
    view = Place.make(0).seen()
    film = [cv2.convertScaleAbs(view, alpha=gain) for gain in (1.0, 1.6, 1.2, 1.7, 0.8) for _ in range(60)]
    assert not any(reason.runs for reason in run(MotionGate(NEVER), noisy(film))[1:])


def test_light_that_changes_slowly_does_not_open_it():
    view = Place.make(0).seen()
    film = [cv2.convertScaleAbs(view, alpha=float(gain)) for gain in np.linspace(1, 0.4, 150)]
    assert not any(reason.runs for reason in run(MotionGate(NEVER), noisy(film))[1:])


def test_who_walks_while_the_light_changes_is_seen():
    film = [cv2.convertScaleAbs(p, alpha=0.7 if i > 20 else 1.0) for i, p in enumerate(crossing(60))]
    reasons = run(MotionGate(NEVER), noisy([*empty(40), *film]))
    assert all(reason.runs for reason in reasons[64:])


def test_the_floor_runs_now_and_then_counting_from_the_last_run():
    reasons = run(MotionGate(GateConfig(GateMode.MOTION, floor_fps=0.5)), noisy(empty(101)))
    assert [i for i, reason in enumerate(reasons) if reason.runs] == [0, 20, 40, 60, 80, 100]
    assert set(reasons[1:]) == {GateReason.FLOOR, GateReason.NO_MOTION}


def test_a_track_keeps_it_open():
    gate = MotionGate(NEVER)
    grey = luma_of_array(Place.make().seen()).grey
    assert [gate.decide(grey, i / FPS, i < 30) for i in range(60)] == [i < 30 for i in range(60)]
    assert not gate.decide(grey, 6.0, False)


def test_smaller_changes_than_the_least_area_do_not_open_it():
    film = noisy([*empty(40), *crossing(40)], 2.0)
    assert GateReason.MOTION not in run(MotionGate(GateConfig(GateMode.MOTION, min_area=0.05, floor_fps=0)), film)


def test_a_stream_whose_time_runs_back_begins_anew():
    gate = MotionGate(NEVER)
    run(gate, noisy(empty(20)), 100.0)
    assert run(gate, noisy(empty(20, seed=4)), 0.0) == [GateReason.START, *[GateReason.NO_MOTION] * 19]


def test_a_picture_masked_wholly_never_opens_it_by_motion():
    whole = Mask(MaskKind.PRIVACY, ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))
    assert not open_area([whole]).any()
    assert not any(r.runs for r in run(MotionGate(NEVER, [whole]), noisy([*empty(10), *crossing(20)]))[1:])


@settings(max_examples=40, deadline=None)
@given(gain=st.floats(0.4, 2.0), offset=st.floats(-20, 20), share=st.floats(0, 0.3), seed=st.integers(0, 99))
def test_the_light_is_found_whoever_stands_in_it(gain, offset, share, seed):
    rng = np.random.default_rng(seed)
    mean = cv2.resize(rng.uniform(30, 110, (9, 16)).astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    lit = mean * gain + offset
    lit[:, : int(WIDTH * share)] = 255
    grey = np.clip(lit + rng.normal(0, 0.5, lit.shape) + 0.5, 0, 255).astype(np.uint8)
    found_gain, found_offset = lighting(mean, grey)
    off = np.abs(mean * found_gain + found_offset - np.clip(lit, 0, 255))[:, int(WIDTH * share) :]
    inside = (lit > 3) & (lit < 252)
    assert np.median(off[inside[:, int(WIDTH * share) :]]) < 3.0


def test_no_frame_with_a_person_is_missed_on_a_real_clip():
    name = "intel_one-by-one-person-detection.mp4"
    frames = json.loads(asset(f"golden/{name}.json").read_text(encoding="utf-8"))["frames"][:400]
    gate, runs, missed, seen_s = MotionGate(GateConfig(GateMode.MOTION)), 0, 0, -9.0
    with av.open(str(asset(f"clips/{name}"))) as container:
        for told, frame in zip(frames, container.decode(video=0), strict=False):
            person = any(found[5] == "person" for found in told["det"])
            ran = gate.decide(luma_of_frame(frame).grey, float(frame.time), float(frame.time) - seen_s <= 3.0)
            seen_s = float(frame.time) if ran and person else seen_s
            runs, missed = runs + ran, missed + (person and not ran)
    assert missed == 0
    assert runs < 380
