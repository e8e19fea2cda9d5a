"""What a load test sends, and when."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_sources import RtspCamera, decode, write_clip
from vedette_client import AnalyzeOptions, OptionsError, SourceError
from vedette_client.loadtest.clips import load_clip
from vedette_client.loadtest.plan import LoadPlan
from vedette_client.loadtest.worker import storms
from vedette_client.reach import Reach


def plan(**fields) -> LoadPlan:
    given = {"channels": 3, "fps": 10.0, "duration_s": 2.0, "sources": ("a", "b")} | fields
    return LoadPlan(reach=Reach("127.0.0.1:1"), options=AnalyzeOptions(), **given)


plans = st.builds(
    plan,
    channels=st.integers(1, 40),
    fps=st.floats(0.5, 60),
    duration_s=st.floats(0.1, 5),
    jitter_s=st.sampled_from([0.0, 0.01, 2.0]),
    processes=st.integers(1, 7),
)


@settings(max_examples=60, deadline=None)
@given(plans)
def test_every_camera_is_sent_by_exactly_one_process(load) -> None:
    shared = [camera for process in range(load.processes) for camera in load.cameras(process)]
    assert sorted(shared, key=lambda one: one.index) == load.cameras()
    assert [camera.index for camera in load.cameras()] == list(range(load.channels))
    assert len({camera.channel for camera in load.cameras()}) == load.channels


@settings(max_examples=60, deadline=None)
@given(plans)
def test_a_schedule_never_turns_back_and_stays_within_its_jitter(load) -> None:
    for camera in load.cameras()[:3]:
        dues = list(load.schedule(camera))
        assert dues == list(load.schedule(camera))
        assert len(dues) == load.frames
        assert all(a <= b for a, b in itertools.pairwise(dues))
        for number, due in enumerate(dues):
            beat = camera.phase_s + number / load.fps
            assert beat - 1e-9 <= due <= beat + load.jitter_s + 1e-9


def test_beats_of_the_cameras_are_spread_over_an_interval() -> None:
    assert [camera.phase_s for camera in plan(channels=4, fps=10).cameras()] == pytest.approx([0, 0.025, 0.05, 0.075])


def test_sources_are_dealt_out_in_turn() -> None:
    assert [camera.source for camera in plan(channels=5).cameras()] == ["a", "b", "a", "b", "a"]


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"fps": 0}, {"duration_s": 0}, {"sources": ()}, {"jitter_s": -1}])
def test_a_plan_that_makes_no_sense_is_refused(wrong) -> None:
    with pytest.raises(OptionsError):
        plan(**wrong)


@pytest.mark.parametrize(("every_s", "count"), [(0, 0), (0.5, 3), (0.6, 3), (2, 0), (5, 0)])
def test_storms_come_while_frames_are_due(every_s, count) -> None:
    assert storms(plan(duration_s=2.0, reconnect_every_s=every_s)) == count


def test_a_looped_recording_goes_on_in_time_and_can_be_decoded(tmp_path) -> None:
    clip = load_clip(str(write_clip(tmp_path / "c.mp4", frames=16, fps=12, bframes=2)), fps=30.0)
    assert len(clip.packets) == 16
    packets = [clip.packet(number, number) for number in range(40)]
    times = sorted(float(packet.pts * clip.form.time_base) for packet in packets[:32])
    steps = [b - a for a, b in itertools.pairwise(times)]
    assert steps == pytest.approx([1 / 30] * 31, rel=0.01)
    assert [number for number, packet in enumerate(packets) if packet.discontinuity] == [16, 32]
    assert all(packet.keyframe for packet in packets if packet.discontinuity)
    assert [packet.truth for packet in packets] == list(range(40))
    pictures = decode("h264", clip.form.extradata, [packet.data for packet in packets[16:32]])
    assert len(pictures) == 16


def test_a_scene_repeats_without_a_seam_and_with_its_truth() -> None:
    clip = load_clip("synthetic:blobs?width=64&height=64&period_s=1&fps=6", fps=3.0)
    assert (len(clip.packets), clip.seamless) == (6, True)
    assert not any(clip.packet(number, None).discontinuity for number in range(13))
    assert [clip.packet(number, None).pts for number in range(13)] == list(range(13))
    assert clip.form.time_base == Fraction(1, 3)
    assert all(packet.truth is not None for packet in clip.packets)


def test_a_scene_that_does_not_say_its_rate_is_drawn_for_the_plans() -> None:
    assert len(load_clip("synthetic:blobs?width=64&height=64&period_s=1", fps=5.0).packets) == 5


def test_a_camera_cannot_be_shown_many_times() -> None:
    camera = RtspCamera([b"\0\0\0\1\x67", b"\0\0\0\1\x41"], 1)
    try:
        with pytest.raises((OptionsError, SourceError)):
            load_clip(camera.url, 10.0)
    finally:
        camera.close()


def test_a_source_that_is_not_there_is_refused() -> None:
    with pytest.raises(OptionsError):
        load_clip("no-such-file.mp4", 10.0)
    with pytest.raises(OptionsError):
        load_clip("synthetic:nothing", 10.0)


def test_reconnects_need_a_number() -> None:
    with pytest.raises(OptionsError, match="seconds between reconnects is nan"):
        plan(reconnect_every_s=float("nan"))
