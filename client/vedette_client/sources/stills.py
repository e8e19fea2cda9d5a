"""Stills as a camera: one picture, or a directory of them in natural order."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from vedette.v1 import media_pb2
from vedette_client.errors import SourceError
from vedette_client.sources.base import SourceFormat, SourcePacket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_KINDS = {"JPEG": media_pb2.CODEC_JPEG, "PNG": media_pb2.CODEC_PNG, "WEBP": media_pb2.CODEC_WEBP}
# A camera's JPEG that has further pictures behind it (CIPA DC-007), which decoders leave alone.
_ALIASES = {"MPO": "JPEG"}
# EXIF tag 0x0112 (Exif 3.0, 4.6.5.1.6): the turns without a mirror, as clockwise degrees.
_ORIENTATION_TAG = 0x0112
_TURNS = {3: 180, 6: 90, 8: 270}
# Ticks per second of the timestamps; common frame rates divide it.
_TICKS = 90_000


class StillsSource:
    """A still, or a directory of stills of one kind, at a steady rate.

    Args:
        path: The still or the directory.
        fps: Stills per second.
        pace: Each is due at its time; False: as fast as they are taken.
        loop: Begin again after the last.
    """

    live = False

    def __init__(self, path: Path, *, fps: float = 10.0, pace: bool = True, loop: bool = False) -> None:
        self.name = str(path)
        self._path = path
        self._fps = fps
        self._pace = pace
        self._loop = loop
        self._closed = False
        self._files: list[Path] = []

    def open(self) -> SourceFormat:
        """List the stills and look at the first.

        Raises:
            SourceError: There are none, they are of several kinds or turns, or the first cannot be read.
        """
        self._files = _list_stills(self._path)
        kinds = {kind: file for file in reversed(self._files) if (kind := _kind_of(file)) is not None}
        if len(kinds) > 1:
            examples = ", ".join(f"{file.name} is {kind}" for kind, file in sorted(kinds.items()))
            raise SourceError(f"{self._path}: stills of one stream must be of one kind, but {examples}")
        codec, width, height, rotation = _look_at(self._files[0])
        self._check_turns(rotation)
        return SourceFormat(
            codec=codec,
            extradata=b"",
            time_base=Fraction(1, _TICKS),
            width=width,
            height=height,
            rotation_degrees=rotation,
            fps=self._fps,
            capture_clock=media_pb2.CAPTURE_CLOCK_FILE,
        )

    def packets(self) -> Iterator[SourcePacket]:
        """Read the stills one after the other; broken ones are sent as they are.

        Raises:
            SourceError: A file vanished or cannot be read.
        """
        index = 0
        while not self._closed and index < (len(self._files) if not self._loop else index + 1):
            file = self._files[index % len(self._files)]
            try:
                data = file.read_bytes()
            except OSError as error:
                raise SourceError(f"{file}: cannot be read: {error.strerror}") from error
            pts = round(index * _TICKS / self._fps)
            yield SourcePacket(
                data=data,
                pts=pts,
                dts=pts,
                duration=round(_TICKS / self._fps),
                keyframe=True,
                capture_time_ns=round(index / self._fps * 1_000_000_000),
                due_s=index / self._fps if self._pace else None,
            )
            index += 1

    def _check_turns(self, rotation: int) -> None:
        """Refuse stills that lie otherwise than the first: a stream has one turn; broken ones have none."""
        for file in self._files[1:]:
            try:
                turn = _look_at(file)[3]
            except SourceError:
                continue
            if turn != rotation:
                raise SourceError(
                    f"{self._path}: stills of one stream must lie the same way, but {self._files[0].name} is to be "
                    f"turned by {rotation} degrees and {file.name} by {turn}; send them as two sources"
                )

    def close(self) -> None:
        """End `packets`; may be called twice."""
        self._closed = True


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key under which `frame10` comes after `frame9`."""
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def _list_stills(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = [file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file()]
    if not files:
        raise SourceError(f"{path}: no stills in this directory; looked for {', '.join(sorted(SUFFIXES))}")
    return sorted(files, key=lambda file: natural_key(file.name))


def _kind_of(file: Path) -> str | None:
    """Tell the kind by the first bytes; None when they belong to none (sent as it is, and found broken)."""
    try:
        with file.open("rb") as stream:
            head = stream.read(12)
    except OSError as error:
        raise SourceError(f"{file}: cannot be read: {error.strerror}") from error
    if head.startswith(b"\xff\xd8"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    return "WEBP" if head[:4] == b"RIFF" and head[8:] == b"WEBP" else None


def _look_at(file: Path) -> tuple[int, int, int, int]:
    """Return codec, width, height and the clockwise turn of a still, from its header alone."""
    try:
        with Image.open(file, formats=list(_KINDS)) as image:
            turn = _TURNS.get(image.getexif().get(_ORIENTATION_TAG, 1), 0)
            kind = _ALIASES.get(str(image.format), str(image.format))
            if kind not in _KINDS:
                raise SourceError(f"{file}: is {kind}; allowed are {', '.join(_KINDS)}")
            return _KINDS[kind], image.width, image.height, turn
    except UnidentifiedImageError as error:
        raise SourceError(f"{file}: not a JPEG, PNG or WebP picture") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SourceError(f"{file}: cannot be read: {error}") from error
