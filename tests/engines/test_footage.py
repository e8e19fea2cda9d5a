"""Finding clips, sharing them out, and taking frames from everywhere in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vedette_engines.errors import ImportInputError
from vedette_engines.footage import frames as taking
from vedette_engines.footage.clips import clips_digest, find_clips, split_clips
from vedette_engines.footage.frames import _shares, clip_length, read_at, read_footage, read_frames
from vedette_engines.graft.letterbox import Letterbox
from vedette_engines.manifest import InputSpec, Placement

if TYPE_CHECKING:
    from pathlib import Path

SPEC = InputSpec(32, 32)


def video(path: Path, frames: int = 20, seed: int = 0) -> Path:
    """Write a clip whose frame `i` is grey of value `40 + 8 * (i % 26)`, with a coloured corner that the seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for i in range(frames):
            picture = np.full((32, 64, 3), 40 + 8 * (i % 26), np.uint8)
            picture[:8, :8] = (seed * 37 % 256, 255 - seed, seed)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "bgr24")))
        container.mux(stream.encode())
    return path


def picture(path: Path, value: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 32), (value, value, value)).save(path)
    return path


def test_a_folder_of_videos_gives_one_clip_for_each(tmp_path: Path) -> None:
    video(tmp_path / "b.mp4", seed=1)
    video(tmp_path / "a.mp4", seed=2)
    assert [clip.name for clip in find_clips([tmp_path], "--frames")] == ["a.mp4", "b.mp4"]


def test_each_sub_folder_of_pictures_is_one_clip_and_so_are_loose_pictures(tmp_path: Path) -> None:
    for name in ("day/1.png", "day/2.png", "night/1.png", "loose.jpg"):
        picture(tmp_path / name, len(name) * 9)
    clips = {clip.name: len(clip.pictures) for clip in find_clips([tmp_path], "--frames")}
    assert clips == {"day": 2, "1.png": 1, "loose.jpg": 1}


def test_videos_and_pictures_are_found_at_any_depth_but_for_what_is_hidden(tmp_path: Path) -> None:
    video(tmp_path / "yard/monday/cam.mp4", seed=1)
    picture(tmp_path / "yard/monday/stills/1.png", 9)
    picture(tmp_path / "yard/.thumbnails/1.png", 10)
    (tmp_path / "yard/again").symlink_to(tmp_path, target_is_directory=True)
    said: list[str] = []
    assert [clip.name for clip in find_clips([tmp_path], "--frames", said.append)] == ["cam.mp4", "1.png"]
    assert said == []


def test_what_is_neither_picture_nor_video_is_skipped_and_counted(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 9)
    (tmp_path / "labels.txt").write_text("x")
    (tmp_path / "notes.md").write_text("x")
    said: list[str] = []
    assert len(find_clips([tmp_path], "--calibration", said.append)) == 1
    assert said == [f"--calibration {tmp_path}: 2 files skipped that are neither picture nor video"]


def test_clips_of_one_name_are_called_by_their_path(tmp_path: Path) -> None:
    one, other = video(tmp_path / "x/cam.mp4", seed=1), video(tmp_path / "y/cam.mp4", seed=2)
    assert [clip.name for clip in find_clips([one, other], "--frames")] == [str(one), str(other)]


@pytest.mark.parametrize("option", ["--frames", "--calibration"])
def test_what_does_not_exist_or_holds_nothing_is_refused_by_its_option_and_path(tmp_path: Path, option: str) -> None:
    with pytest.raises(ImportInputError, match=rf"{option} .*nowhere: does not exist"):
        find_clips([tmp_path / "nowhere"], option)
    with pytest.raises(ImportInputError, match=rf"{option} {tmp_path}: no video and no picture"):
        find_clips([tmp_path], option)
    with pytest.raises(ImportInputError, match=rf"{option}: no clip was given"):
        find_clips([], option)


def test_a_clip_on_both_sides_is_refused_however_it_is_spelled(tmp_path: Path) -> None:
    clip, other = video(tmp_path / "a.mp4", seed=1), video(tmp_path / "b.mp4", seed=2)
    split = split_clips([clip], [other])
    assert [side[0].name for side in (split.calibration, split.validation)] == ["a.mp4", "b.mp4"]
    (tmp_path / "link.mp4").symlink_to(clip)
    with pytest.raises(ImportInputError, match=r"a\.mp4 of --calibration and a\.mp4 of --validation are one clip"):
        split_clips([clip], [tmp_path / "link.mp4"])
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clip.read_bytes())
    with pytest.raises(ImportInputError, match=r"a\.mp4 .* copy\.mp4 of --validation have the same content"):
        split_clips([clip], [copy, other])


def test_pictures_of_one_folder_are_never_on_both_sides_nor_is_a_copy_of_one(tmp_path: Path) -> None:
    first, second = picture(tmp_path / "one/1.png", 10), picture(tmp_path / "one/2.png", 20)
    with pytest.raises(ImportInputError, match="pictures of one folder"):
        split_clips([first], [second])
    picture(tmp_path / "two/7.png", 20)
    picture(tmp_path / "two/8.png", 30)
    with pytest.raises(ImportInputError, match="have the same content"):
        split_clips([tmp_path / "one"], [tmp_path / "two"])


def test_frames_are_dealt_out_by_clip_and_always_in_the_same_way(tmp_path: Path) -> None:
    clips = [video(tmp_path / f"{i}.mp4", seed=i) for i in range(5)]
    split, again = split_clips([], [], clips), split_clips([], [], clips[::-1])
    assert {clip.name for clip in split.calibration} == {clip.name for clip in again.calibration}
    assert not {clip.path for clip in split.calibration} & {clip.path for clip in split.validation}
    assert len(split.calibration) + len(split.validation) == 5
    assert split.validation
    assert clips_digest(split.calibration) == clips_digest(again.calibration) != clips_digest(split.validation)


def test_frames_of_one_clip_cannot_be_dealt_out_also_not_with_its_copy(tmp_path: Path) -> None:
    clip = video(tmp_path / "a.mp4")
    (tmp_path / "copy.mp4").write_bytes(clip.read_bytes())
    with pytest.raises(ImportInputError, match="give another clip"):
        split_clips([], [], [tmp_path])
    with pytest.raises(ImportInputError, match="goes without"):
        split_clips([clip], [], [tmp_path])


def test_frames_come_from_the_whole_length_and_know_their_number(tmp_path: Path) -> None:
    (clip,) = find_clips([video(tmp_path / "a.mp4")], "--frames")
    assert clip_length(clip) == 20
    frames = read_footage([clip], SPEC, 4)
    assert [frame.index for frame in frames] == [2, 7, 12, 17]
    assert [frame.sample.label for frame in frames][:2] == ["a.mp4 frame 2", "a.mp4 frame 7"]
    for frame in frames:
        assert frame.sample.pixels.shape == (32, 32, 3)
        assert abs(int(frame.sample.pixels[12, 16, 0]) - (40 + 8 * frame.index)) < 6
        assert (frame.source_width, frame.source_height) == (64, 32)


def test_frames_come_from_all_clips_and_a_short_one_leaves_its_share(tmp_path: Path) -> None:
    video(tmp_path / "long.mp4", 20, 1)
    video(tmp_path / "short.mp4", 2, 2)
    picture(tmp_path / "one.png", 5)
    clips = find_clips([tmp_path], "--frames")
    labels = [sample.label for sample in read_frames(clips, SPEC, 9)]
    assert sum(label.startswith("long") for label in labels) == 6
    assert sum(label.startswith("short") for label in labels) == 2
    assert labels[-1] == "one.png/one.png"
    assert len(read_frames(clips, SPEC, 500)) == 23


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(1, 300))
def test_shares_add_up_and_exceed_no_clip(lengths: list[int], count: int) -> None:
    shares = _shares(lengths, count)
    assert sum(shares) == min(count, sum(lengths))
    assert all(0 <= share <= length for share, length in zip(shares, lengths, strict=True))
    unfilled = [share for share, length in zip(shares, lengths, strict=True) if share < length]
    assert not unfilled or max(unfilled) - min(unfilled) <= 1


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name in ("broken.mp4", "empty.mp4", "broken.png"):
        (tmp_path / name).write_bytes(b"" if name == "empty.mp4" else b"no picture" * 99)
        clips = find_clips([tmp_path / name], "--frames")
        with pytest.raises(ImportInputError, match=rf"{name}: cannot be read as a video or picture"):
            read_frames(clips, SPEC, 3)


def test_no_clips_and_no_frames_are_refused(tmp_path: Path) -> None:
    clips = find_clips([video(tmp_path / "a.mp4")], "--frames")
    with pytest.raises(ImportInputError, match="no clip"):
        read_frames([], SPEC, 3)
    with pytest.raises(ImportInputError, match="is 0; allowed is 1 or more"):
        read_frames(clips, SPEC, 0)


def test_more_frames_than_memory_has_room_for_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = find_clips([video(tmp_path / "a.mp4", 5)], "--frames")
    monkeypatch.setattr(taking, "MAX_HELD_BYTES", 4 * 32 * 32 * 3)

    assert len(read_frames(clips, SPEC, 4)) == 4
    monkeypatch.setattr(taking, "read_at", lambda *_: pytest.fail("decoded for nothing"))
    with pytest.raises(ImportInputError, match=r"5 frames of 32x32 take .* 4 frames: lower --calibration-frames"):
        read_frames(clips, SPEC, 100_000)


def test_of_a_long_clip_only_what_is_near_the_wanted_frames_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (clip,) = find_clips([video(tmp_path / "long.mp4", 900)], "--frames")
    monkeypatch.setattr(taking, "_decode_all", None)
    frames = read_footage([clip], SPEC, 2)
    assert [frame.index for frame in frames] == [225, 675]
    for frame in frames:
        assert abs(int(frame.sample.pixels[12, 16, 0]) - (40 + 8 * (frame.index % 26))) < 6


@pytest.mark.parametrize("odd", ["no times", "an edit list", "too few"])
def test_where_times_do_not_number_the_frames_all_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    (clip,) = find_clips([video(tmp_path / "long.mp4", 60)], "--frames")
    real = taking._times(clip.path)
    times = {"no times": [], "an edit list": [-512, *real], "too few": real[:30]}[odd]
    monkeypatch.setattr(taking, "_times", lambda file: times)
    monkeypatch.setattr(taking, "FAR", 5)
    frames = read_at(clip, [10, 50, 99], SPEC)
    assert [frame.index for frame in frames] == [10, 50]
    for frame in frames:
        assert abs(int(frame.sample.pixels[12, 16, 0]) - (40 + 8 * (frame.index % 26))) < 6


def test_named_frames_of_a_clip_can_be_taken(tmp_path: Path) -> None:
    (clip,) = find_clips([video(tmp_path / "a.mp4")], "--frames")
    assert [frame.index for frame in read_at(clip, [19, 3, 99], SPEC)] == [3, 19]


@pytest.mark.parametrize("placement", list(Placement))
@pytest.mark.parametrize("size", [(1920, 1080), (333, 517), (10, 10)])
def test_boxes_go_to_source_pixels_and_back(placement: Placement, size: tuple[int, int]) -> None:
    place = Letterbox.of(*size, InputSpec(416, 320, placement))
    corners = np.asarray([[0, 0, *size], [1, 2, 3, 4]], np.float32)
    inside = place.to_input(corners)
    assert inside[0].tolist() == [place.left, place.top, place.left + place.width, place.top + place.height]
    np.testing.assert_allclose(place.to_source(inside), corners, atol=1e-3)
