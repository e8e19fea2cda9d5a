"""Transcode kept clips, on request, to what every browser plays: H.264 of 8 bits, 4:2:0, in MP4.

H.264 in 4:2:0 is sent as it is. Everything else is decoded and encoded into a temporary file that is gone when it was
sent; so many at once and for so long, since a browser's wish must not take the cores that cameras need.
"""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av
import numpy as np
from av.error import FFmpegError

from vedette_server.data.format import ColorRange, ColorSpace
from vedette_server.errors import EvidenceBusyError, EvidenceError
from vedette_server.evidence.encode import PictureEncoder
from vedette_server.evidence.pixels import make_even
from vedette_server.evidence.timeline import TICKS
from vedette_server.picture.convert import frame_colour

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vedette_server.evidence.store import EvidenceStore
    from vedette_server.picture.colour import Colour

_PLAYABLE_FORMATS = frozenset({"yuv420p", "yuvj420p"})


@dataclass(frozen=True, slots=True)
class Playable:
    """A file that browsers play.

    Attributes:
        path: The file, valid while the context is open.
        size_bytes: Its length.
        sha256: Of it, 64 hexadecimal digits.
        transcoded: It is not the file that is kept.
    """

    path: Path
    size_bytes: int
    sha256: str
    transcoded: bool


class Transcoder:
    """Makes kept clips playable.

    Args:
        store: Where they are kept, and temporary files written.
        max_transcodes: So many at once.
        max_wait_s: For how long a caller waits for its turn.
        max_s: For how long one may take.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        store: EvidenceStore,
        max_transcodes: int = 1,
        max_wait_s: float = 30.0,
        max_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._turns = threading.BoundedSemaphore(max_transcodes)
        self._max_wait_s = max_wait_s
        self._max_s = max_s
        self._clock = clock

    @contextmanager
    def playable(self, path: str, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[Playable]:
        """Give a file that browsers play, for as long as the context is open; takes its time, on the caller's thread.

        Args:
            path: In the store.
            is_wanted: Tells whether somebody still waits for it; once False, transcoding stops.

        Raises:
            EvidenceBusyError: No turn came.
            EvidenceError: It is not kept or cannot be read, it took too long, or nobody waits any more.
        """
        source = self._store.find(path)
        if _is_playable(source):
            yield _described(source, transcoded=False)
            return
        if not self._turns.acquire(timeout=self._max_wait_s):
            raise EvidenceBusyError(f"other clips are being transcoded; no turn came within {self._max_wait_s:g} s")
        try:
            draft = self._store.begin("transcoded", source.stem, ".mp4", 0.0)
            try:
                self._transcode(source, draft.temporary, is_wanted)
            except BaseException:
                self._store.discard(draft)
                raise
        finally:
            self._turns.release()
        try:
            yield _described(draft.temporary, transcoded=True)
        finally:
            self._store.discard(draft)

    def _transcode(self, source: Path, target: Path, is_wanted: Callable[[], bool]) -> None:
        until = self._clock() + self._max_s
        encoder = PictureEncoder(target)
        try:
            with av.open(str(source), format="mp4") as container:
                stream = container.streams.video[0]
                stream.codec_context.thread_count = 1
                for frame in container.decode(stream):
                    if not is_wanted():
                        raise EvidenceError(f"transcoding {source.name} was stopped: nobody waits for it any more")
                    if self._clock() > until:
                        raise EvidenceError(f"transcoding {source.name} took longer than {self._max_s:g} s")
                    picture, colour = _upright(frame)
                    encoder.add(picture, round((frame.time or 0.0) * TICKS), colour, keyframe=frame.key_frame)
            encoder.finish()
        except (FFmpegError, OSError, IndexError) as error:
            raise EvidenceError(f"{source.name} cannot be transcoded: {error}") from error
        finally:
            encoder.close()


def _is_playable(path: Path) -> bool:
    try:
        with av.open(str(path), format="mp4") as container:
            context = container.streams.video[0].codec_context
            return context.name == "h264" and context.pix_fmt in _PLAYABLE_FORMATS
    except (FFmpegError, OSError, IndexError) as error:
        raise EvidenceError(f"{path.name} cannot be read: {error}") from error


def _described(path: Path, *, transcoded: bool) -> Playable:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Playable(path, path.stat().st_size, digest, transcoded)
    except OSError as error:
        raise EvidenceError(f"{path.name} cannot be read: {error}") from error


def _upright(frame: av.VideoFrame) -> tuple[av.VideoFrame, Colour | None]:
    """Turn a picture as its file says, and make its sides even; most are left as they are.

    Returns:
        The picture, and how its samples are read; None where it was converted to BGR.
    """
    # FFmpeg counts against the clock, as does NumPy.
    quarters = round(frame.rotation / 90) % 4
    colour = frame_colour(frame, ColorSpace.UNSPECIFIED, ColorRange.UNSPECIFIED)
    if not (quarters or frame.width % 2 or frame.height % 2 or frame.format.is_rgb):
        return frame, colour
    pixels = frame.to_ndarray(format="bgr24", src_colorspace=colour.matrix, src_color_range=colour.range)
    return av.VideoFrame.from_ndarray(make_even(np.rot90(np.asarray(pixels, np.uint8), quarters)), format="bgr24"), None
