"""What browsers do not play is transcoded on request, some at a time and for so long."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from support_evidence import Steps, motion_jpeg, read_file, slowly, source, store_in, whole_clip
from support_video import clip
from vedette_server.errors import EvidenceError
from vedette_server.evidence.playable import Transcoder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["hevc-b", "mpeg4-b", "av1", "vp9", "jpeg"])
def test_what_browsers_may_not_play_is_sent_as_h264(name: str, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    made = whole_clip(store, *(motion_jpeg() if name == "jpeg" else source(name)))
    before = read_file(store.find(made.path))
    with Transcoder(store).playable(made.path) as playable:
        after = read_file(playable.path)
        data = playable.path.read_bytes()
        assert playable.transcoded
        assert (playable.size_bytes, playable.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert after.codec == "h264"
    assert after.frames[0].format.name == "yuv420p"
    assert after.times_s == pytest.approx(before.times_s, abs=1e-3)
    for old, new in zip(before.frames, after.frames, strict=True):
        apart = old.to_ndarray(format="bgr24").astype(int) - new.to_ndarray(format="bgr24")
        assert np.abs(apart).mean() < 12
    # Nothing of it stays, and what is kept is as it was.
    assert not playable.path.exists()
    assert hashlib.sha256(store.find(made.path).read_bytes()).hexdigest() == made.evidence.sha256


def test_where_keyframes_stand_is_the_encoders_choice_and_not_what_the_camera_did(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    # Of motion JPEG each picture is a keyframe.
    made = whole_clip(store, *motion_jpeg())
    with Transcoder(store).playable(made.path) as playable:
        frames = read_file(playable.path).frames
    assert sum(frame.key_frame for frame in frames) <= 3 < len(frames) / 5


@pytest.mark.parametrize("name", ["hevc-b", "vp9"])
def test_who_seeks_to_a_keyframe_of_what_is_kept_finds_one_there_in_what_is_sent(name: str, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fmt, packets = slowly(*source(name))
    made = whole_clip(store, fmt, packets)
    told = [frame.time for frame in read_file(store.find(made.path)).frames if frame.key_frame]
    assert len(told) == 3
    with Transcoder(store).playable(made.path) as playable:
        found = [frame.time for frame in read_file(playable.path).frames if frame.key_frame]
    assert [min(abs(one - time_s) for one in found) for time_s in told] == pytest.approx([0.0] * 3, abs=1e-3)


def test_h264_is_sent_as_it_is_kept(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    made = whole_clip(store, *source("h264-b"))
    with Transcoder(store, max_transcodes=1).playable(made.path) as playable:
        assert (playable.path, playable.transcoded) == (store.find(made.path), False)
        assert playable.sha256 == made.evidence.sha256


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_clip_is_upright_when_it_is_transcoded(turn: int, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    fmt, packets = source("hevc")
    made = whole_clip(store, replace(fmt, rotation_degrees=turn), packets)
    source_grey = read_file(store.find(made.path)).frames[0].to_ndarray(format="gray")
    with Transcoder(store).playable(made.path) as playable:
        frame = read_file(playable.path).frames[0]
        assert frame.rotation == 0
        upright = np.rot90(source_grey, -turn // 90)
        assert np.abs(upright.astype(int) - frame.to_ndarray(format="gray")).mean() < 12


def test_one_at_a_time_and_the_next_waits_only_so_long(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    path = whole_clip(store, *source("hevc")).path
    entered, leave = threading.Event(), threading.Event()

    def clock() -> float:
        entered.set()
        leave.wait(30)
        return 0.0

    transcoder = Transcoder(store, max_transcodes=1, max_wait_s=0.05, clock=clock)

    def first() -> None:
        with transcoder.playable(path):
            pass

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(30)
    with pytest.raises(EvidenceError, match="no turn"), transcoder.playable(path):
        pass
    leave.set()
    thread.join(30)
    with transcoder.playable(path) as playable:
        assert playable.transcoded


def test_one_that_takes_too_long_ends_and_leaves_nothing(tmp_path: Path) -> None:
    store, steps = store_in(tmp_path), Steps()
    path = whole_clip(store, *source("hevc")).path

    def clock() -> float:
        steps.now_s += 1.0
        return steps.now_s

    with pytest.raises(EvidenceError, match="longer than 5 s"), Transcoder(store, max_s=5, clock=clock).playable(path):
        pass
    assert list((store.root / ".incoming").iterdir()) == []


def test_a_damaged_file_is_told_in_words(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filed = store.put("gate", "e1", ".mp4", 0.0, clip("h264").packets[0].data)
    with pytest.raises(EvidenceError, match=r"e1\.mp4 cannot be read"), Transcoder(store).playable(filed.path):
        pass
    with pytest.raises(EvidenceError, match="no evidence"), Transcoder(store).playable("gate/none.mp4"):
        pass


def test_a_clip_that_nobody_waits_for_any_more_is_not_transcoded_to_its_end(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    made = whole_clip(store, *source("mpeg4-b"))
    answers = [True, True, False]
    with (
        pytest.raises(EvidenceError, match="nobody waits"),
        Transcoder(store).playable(made.path, lambda: answers.pop(0)),
    ):
        pass
    assert answers == []
    assert not list((store.root / ".incoming").iterdir())
