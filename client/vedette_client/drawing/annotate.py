"""Write a video with what was found drawn into it.

Packets and verdicts of one channel come in as they come: verdicts later, some of them skips, some
never. A picture is written once its verdict is there, or when too many wait for theirs. Pictures that
were not analysed show dimly what was seen last.

Threads: any; one at a time is let in.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import av
import av.error
import numpy as np

from vedette_client.drawing.boxes import Drawn, draw_boxes
from vedette_client.drawing.pictures import PictureReader, Shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from av.container import OutputContainer
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from vedette_client.sources.base import SourceFormat, SourcePacket

_TIME_BASE = Fraction(1, 90_000)
_DEFAULT_FPS = 25.0
_MAX_WAITING_BYTES = 128 * 1024 * 1024
_MAX_WAITING = 256
_MAX_VERDICTS = 4096
# What was seen longer ago than this is not shown any more.
_HOLD_S = 1.0


class Judged(Protocol):
    """A verdict, as far as drawing needs it: the client's `Verdict` is one.

    Attributes:
        sequence: The packet's number.
        analysed: Whether its picture was analysed.
        detections: What was found.
    """

    @property
    def sequence(self) -> int: ...  # noqa: D102 - told above
    @property
    def analysed(self) -> bool: ...  # noqa: D102 - told above
    @property
    def detections(self) -> Sequence[Drawn]: ...  # noqa: D102 - told above


class Annotator:
    """One annotated video.

    The file is begun with the first picture and is whole after `close`.

    Args:
        path: The MP4 file to write; an existing one is replaced.
        form: What the packets contain.

    Raises:
        SourceError: There is no decoder for such packets.
        OSError: There is no such directory.
    """

    def __init__(self, path: Path | str, form: SourceFormat) -> None:
        if not Path(path).parent.is_dir():  # said now, not after the first minute
            raise OSError(f"{path}: cannot be written: there is no directory {Path(path).parent}")
        self._path = str(path)
        self._form = form
        self._reader = PictureReader(form)
        self._waiting: deque[Shown] = deque()
        self._verdicts: OrderedDict[int, Judged] = OrderedDict()
        self._output: tuple[OutputContainer, VideoStream] | None = None
        self._last: tuple[Sequence[Drawn], int] = ((), 0)
        self._first_pts: int | None = None
        self._last_time = -1
        self._lock = threading.Lock()
        self._closed = False
        self.frames = 0

    def add_packet(self, sequence: int, packet: SourcePacket) -> None:
        """Take a packet, in decoding order; ignored after `close`.

        Raises:
            OSError: The file cannot be written.
        """
        with self._lock:
            if not self._closed:
                self._waiting.extend(self._reader.read(sequence, packet))
                self._write_ready()

    def add_verdict(self, verdict: Judged) -> None:
        """Take the verdict of a packet, in any order; ignored after `close`.

        Raises:
            OSError: The file cannot be written.
        """
        with self._lock:
            if self._closed:
                return
            self._verdicts[verdict.sequence] = verdict
            if len(self._verdicts) > _MAX_VERDICTS:  # of pictures that never came
                self._verdicts.popitem(last=False)
            self._write_ready()

    def close(self) -> None:
        """Write what still waits and finish the file; may be called twice.

        Raises:
            OSError: The file cannot be written.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                self._waiting.extend(self._reader.finish())
                while self._waiting:
                    self._write(self._waiting.popleft())
                self._mux(None)
            finally:
                if self._output is not None:
                    self._output[0].close()

    def __enter__(self) -> Annotator:
        """Write within a block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file."""
        self.close()

    def _write_ready(self) -> None:
        """Write the pictures whose verdict is there, and those that waited too long for theirs."""
        while self._waiting and (self._waiting[0].sequence in self._verdicts or self._too_many_wait()):
            self._write(self._waiting.popleft())

    def _too_many_wait(self) -> bool:
        head = self._waiting[0].frame
        return len(self._waiting) > min(_MAX_WAITING, max(4, _MAX_WAITING_BYTES // (3 * head.width * head.height)))

    def _write(self, shown: Shown) -> None:
        verdict = self._verdicts.pop(shown.sequence, None)
        time = self._time_of(shown)
        picture = shown.upright()
        if verdict is not None and verdict.analysed:
            self._last = (tuple(verdict.detections), time)
            draw_boxes(picture, self._last[0])
        elif (time - self._last[1]) * _TIME_BASE <= _HOLD_S:
            draw_boxes(picture, self._last[0], dimmed=True)
        self._encode(picture, time)

    def _time_of(self, shown: Shown) -> int:
        """Ticks since the first picture, always rising."""
        if shown.pts is None:
            time = round(self.frames / (self._form.fps or _DEFAULT_FPS) / _TIME_BASE)
        else:
            if self._first_pts is None:
                self._first_pts = shown.pts
            time = round((shown.pts - self._first_pts) * self._form.time_base / _TIME_BASE)
        self._last_time = max(time, self._last_time + 1)
        return self._last_time

    def _encode(self, picture: NDArray[np.uint8], time: int) -> None:
        # Pictures of 4:2:0 have even sides.
        picture = np.ascontiguousarray(picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2])
        if self._output is None:
            self._output = self._begin(picture.shape[1], picture.shape[0])
        stream = self._output[1]
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(width=stream.width, height=stream.height, format="yuv420p")
        frame.pts, frame.time_base = time, _TIME_BASE
        self._mux(frame)
        self.frames += 1

    def _mux(self, frame: av.VideoFrame | None) -> None:
        if self._output is None:
            return
        container, stream = self._output
        try:
            container.mux(stream.encode(frame))
        except av.error.FFmpegError as error:
            raise OSError(f"{self._path}: cannot be written: {error.strerror}") from error

    def _begin(self, width: int, height: int) -> tuple[OutputContainer, VideoStream]:
        container = av.open(self._path, mode="w", format="mp4", options={"movflags": "faststart"})
        rate = Fraction(self._form.fps or _DEFAULT_FPS).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = _TIME_BASE
        stream.codec_context.thread_count = 1
        return container, stream
