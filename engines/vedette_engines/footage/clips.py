"""The clips that frames are taken from, and how they are shared out between calibrating and judging.

A clip is one video, or all the pictures of one folder: frames of one clip resemble each other, so that a model judged
on the clip it was calibrated on looks better than it is. Hence no clip may stand on both sides.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vedette_engines.errors import ImportInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".flv", ".wmv"}
    | {".h264", ".264", ".h265", ".265", ".hevc", ".mjpeg", ".mjpg", ".ivf", ".y4m", ".3gp", ".ogv"}
)
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Clip:
    """One video, or pictures of one folder.

    Attributes:
        name: How messages and truth files call it; no two clips of a set share one.
        path: The video; for pictures their folder.
        sha256: Hash of all it holds.
        pictures: The pictures in order; empty: it is a video.
        parts: Hash of each file, to find copies.
    """

    name: str
    path: Path
    sha256: str
    pictures: tuple[Path, ...] = ()
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Split:
    """Clips shared out: none of one side is on the other.

    Attributes:
        calibration: Ranges are taken from these.
        validation: Accuracy is measured on these.
    """

    calibration: tuple[Clip, ...]
    validation: tuple[Clip, ...]


def find_clips(paths: Sequence[Path], option: str, say: Callable[[str], None] | None = None) -> tuple[Clip, ...]:
    """Find the clips in videos, pictures and folders of them.

    A folder gives one clip for each video in it, and one for the pictures of each folder in it, at any depth. Pictures
    of one folder are one clip, also when they are given one by one. What is hidden is left alone.

    Args:
        paths: Files and folders.
        option: How messages call what was given, like `--calibration`.
        say: Takes a line for what was skipped.

    Raises:
        ImportInputError: A path does not exist or holds neither videos nor pictures, or there are no paths.
    """
    videos: dict[Path, None] = {}
    pictures: dict[Path, list[Path]] = {}
    for path in paths:
        found = list(_files(path, option, say))
        if not found:
            raise ImportInputError(f"{option} {path}: no video and no picture is in it")
        for file in found:
            if file.suffix.lower() in PICTURE_SUFFIXES:
                pictures.setdefault(file.parent.resolve(), []).append(file.resolve())
            else:
                videos[file.resolve()] = None
    clips = [_clip(video, (), option) for video in videos]
    clips += [_clip(folder, tuple(sorted(set(files))), option) for folder, files in pictures.items()]
    if not clips:
        raise ImportInputError(f"{option}: no clip was given; give videos, pictures or folders of them")
    return _with_own_names(clips)


def split_clips(
    calibration: Sequence[Path],
    validation: Sequence[Path],
    frames: Sequence[Path] = (),
    say: Callable[[str], None] | None = None,
) -> Split:
    """Find the clips to calibrate and to judge on, and make sure that none stands on both sides.

    Args:
        calibration: What `--calibration` names; a side that is given nothing stays empty.
        validation: What `--validation` names.
        frames: What `--frames` names, instead of both: its clips are dealt out in the order of their hashes, which
            does not depend on names and places.
        say: Takes a line for what was skipped.

    Raises:
        ImportInputError: One clip is on both sides, there are fewer than two clips to deal out, or a path is wrong.
    """
    if frames:
        if calibration or validation:
            raise ImportInputError("--frames goes without --calibration and --validation: it is split by clip")
        return _deal_out(find_clips(frames, "--frames", say))
    split = Split(
        find_clips(calibration, "--calibration", say) if calibration else (),
        find_clips(validation, "--validation", say) if validation else (),
    )
    for ours in split.calibration:
        for theirs in split.validation:
            reason = _same(ours, theirs)
            if reason:
                raise ImportInputError(
                    f"clip {ours.name} of --calibration and {theirs.name} of --validation {reason}: what an engine was "
                    "calibrated on cannot judge it; give another clip"
                )
    return split


def clips_digest(clips: Iterable[Clip]) -> str:
    """Hash what a set of clips holds; names and order do not matter."""
    return hashlib.sha256("\n".join(sorted(clip.sha256 for clip in clips)).encode()).hexdigest()


def _files(path: Path, option: str, say: Callable[[str], None] | None) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise ImportInputError(f"{option} {path}: does not exist")
    skipped = 0
    for file in _inside(path, set()):
        if file.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES:
            yield file
        else:
            skipped += 1
    if skipped and say is not None:
        say(f"{option} {path}: {skipped} files skipped that are neither picture nor video")


def _inside(folder: Path, entered: set[Path]) -> Iterator[Path]:
    """Give all files in a folder and below; links may lead in circles."""
    real = folder.resolve()
    if real in entered:
        return
    entered.add(real)
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _inside(entry, entered)
        else:
            yield entry


def _clip(path: Path, pictures: tuple[Path, ...], option: str) -> Clip:
    parts = tuple(_hash(file, option) for file in pictures or (path,))
    whole = parts[0] if len(parts) == 1 else hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()
    # A truth file names a lone picture by its own name, as it names a video.
    name = pictures[0].name if len(pictures) == 1 else path.name
    return Clip(name, path, whole, pictures, parts)


def _hash(file: Path, option: str) -> str:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise ImportInputError(f"{option} {file}: cannot be read: {error}") from error
    return digest.hexdigest()


def _with_own_names(clips: Sequence[Clip]) -> tuple[Clip, ...]:
    """Let clips that share a name be called by their whole path."""
    names = [clip.name for clip in clips]
    return tuple(replace(clip, name=str(clip.path)) if names.count(clip.name) > 1 else clip for clip in clips)


def _same(one: Clip, other: Clip) -> str:
    if one.path == other.path:
        return "are pictures of one folder" if one.pictures and one.pictures != other.pictures else "are one clip"
    if set(one.parts) & set(other.parts):
        return "have the same content"
    return ""


def _deal_out(clips: Sequence[Clip]) -> Split:
    """Put every other clip on either side; clips that share content stay together."""
    groups: list[list[Clip]] = []
    for clip in sorted(clips, key=lambda clip: clip.sha256):
        related = [group for group in groups if any(_same(clip, other) for other in group)]
        groups = [group for group in groups if group not in related]
        groups.append([clip, *(other for group in related for other in group)])
    if len(groups) < 2:
        raise ImportInputError(
            f"--frames gives one clip only ({clips[0].name}); to calibrate and to judge takes two at least: give "
            "another clip"
        )
    groups.sort(key=lambda group: min(clip.sha256 for clip in group))
    sides = [tuple(clip for group in groups[first::2] for clip in group) for first in (0, 1)]
    return Split(calibration=sides[0], validation=sides[1])
