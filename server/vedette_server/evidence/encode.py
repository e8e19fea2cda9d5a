"""Encode pictures as H.264 in MP4, for clips that may not be kept as they came.

libx264 comes in PyAV's wheels; it is under the GPL 2 or later, and H.264 is patented in some countries: whoever
distributes the server with it has to look to both.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import av
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace

from vedette_server.decode.opening import open_decoder
from vedette_server.errors import EvidenceError, UndecodableError
from vedette_server.evidence.disk import in_words
from vedette_server.evidence.pixels import blacken, upright_bgr
from vedette_server.evidence.remux import TIME_BASE, abandon
from vedette_server.evidence.timeline import TICKS, Timeline
from vedette_server.picture.colour import HD_LINES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from av.container import OutputContainer
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from vedette_server.data.rules import Points
    from vedette_server.decode.base import Decoded, Decoder
    from vedette_server.decode.limits import PictureLimits
    from vedette_server.evidence.ring import Kept
    from vedette_server.picture.colour import Colour

ENCODER = "libx264"
# 50 pictures at most from any one back to a keyframe; no lookahead to speak of, since memory is bounded.
_OPTIONS = {"preset": "superfast", "crf": "23", "x264-params": "keyint=50:rc-lookahead=10"}
_BT709, _BT601 = 1, 6
# All pictures of motion JPEG are keyframes: not all of them are coded whole.
_KEYFRAMES_APART = TICKS


class PictureEncoder:
    """Writes pictures of one size into an MP4 file.

    Args:
        path: The file.
        quality: x264's constant rate factor, 0 (lossless) to 51.
    """

    def __init__(self, path: Path, quality: int = 23) -> None:
        self.pictures = 0
        self._path = path
        self._options = {**_OPTIONS, "crf": str(quality)}
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._size = (0, 0)
        self._last_pts = -1
        self._keyframe_pts = 0

    def add(self, frame: av.VideoFrame, pts: int, colour: Colour | None = None, *, keyframe: bool = False) -> None:
        """Encode one picture.

        Args:
            frame: The picture; both sides even; of the first one's size.
            pts: Its time in ticks; one that does not rise is raised.
            colour: How its samples are read; None: it is BGR.
            keyframe: Whether one stood here in what it comes from: who seeks was told of it, and finds one here, too,
                unless there was one within a second before.

        Raises:
            EvidenceError: It has another size, or the file cannot be written.
        """
        try:
            if self._stream is None:
                self._stream = self._open(frame.width, frame.height)
            if (frame.width, frame.height) != self._size:
                raise EvidenceError(
                    f"a picture of {frame.width}x{frame.height} in a clip of {self._size[0]}x{self._size[1]}"
                )
            hd = frame.height >= HD_LINES
            ready = frame.reformat(
                format="yuv420p",
                src_colorspace=colour.matrix if colour else None,
                src_color_range=colour.range if colour else None,
                dst_colorspace=Colorspace.ITU709 if hd else Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
            )
            pts = max(pts, self._last_pts + 1)
            ready.pts, ready.time_base, self._last_pts = pts, TIME_BASE, pts
            if keyframe := not self.pictures or (keyframe and pts - self._keyframe_pts >= _KEYFRAMES_APART):
                self._keyframe_pts = pts
            # What else the camera's encoder made of it is no wish to ours: it would warn of each B picture.
            ready.pict_type = PictureType.I if keyframe else PictureType.NONE
            self._mux(ready)
        except (FFmpegError, OSError, ValueError, MemoryError) as error:
            raise EvidenceError(f"the clip cannot be written: {in_words(error)}") from error
        self.pictures += 1

    def finish(self) -> None:
        """Complete the file.

        Raises:
            EvidenceError: Nothing is in it, or it cannot be written.
        """
        if self._container is None:
            raise EvidenceError("the clip has no picture that can be kept")
        try:
            self._mux(None)
            container, self._container = self._container, None
            container.close()
        except (FFmpegError, OSError, ValueError, MemoryError) as error:
            raise EvidenceError(f"the clip cannot be written: {in_words(error)}") from error

    def close(self) -> None:
        """Let go of FFmpeg; may be called twice."""
        container, self._container = self._container, None
        if container is not None:
            abandon(container)

    def _mux(self, frame: av.VideoFrame | None) -> None:
        if self._container is not None and self._stream is not None:
            self._container.mux(self._stream.encode(frame))

    def _open(self, width: int, height: int) -> VideoStream:
        if ENCODER not in av.codecs_available:
            raise EvidenceError(f"FFmpeg was built without {ENCODER}: masked and transcoded clips cannot be made")
        self._container = av.open(str(self._path), "w", format="mp4", options={"movflags": "faststart"})
        stream = cast("VideoStream", self._container.add_stream(ENCODER, rate=25, options=dict(self._options)))
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.thread_count = 1
        context.time_base, context.framerate = TIME_BASE, Fraction(25)
        matrix = _BT709 if height >= HD_LINES else _BT601
        context.colorspace, context.color_range = matrix, 1
        self._size = (width, height)
        return stream


class MaskedSink:
    """Decodes packets, blackens areas, and encodes what is left.

    Args:
        path: The file.
        areas: What is blackened: corners, normalised to the upright picture.
        limits: The largest picture.
    """

    def __init__(self, path: Path, areas: Sequence[Points], limits: PictureLimits) -> None:
        self._areas = tuple(areas)
        self._limits = limits
        self._encoder = PictureEncoder(path)
        self._timeline = Timeline()
        self._decoder: Decoder | None = None
        self._pts: dict[int, int] = {}
        self._aspect = Fraction(1)

    @property
    def pictures(self) -> int:
        """How many are in the file."""
        return self._encoder.pictures

    def add(self, kept: Kept) -> None:
        """Take the next packet; the first has to be a keyframe."""
        if kept.gap:
            self._flush()
        if self._decoder is None:
            # The extradata may have changed since the format was told.
            self._decoder = open_decoder(replace(kept.fmt, extradata=kept.extradata), self._limits)
            self._aspect = kept.fmt.sample_aspect
        for placed in self._timeline.place(kept):
            self._decode(placed.kept, placed.pts)

    def finish(self) -> None:
        """Encode what the decoder still holds, and complete the file."""
        self._flush()
        self._encoder.finish()

    def close(self) -> None:
        """Let go of decoder and encoder; may be called twice."""
        self._encoder.close()
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def _flush(self) -> None:
        for placed in self._timeline.flush():
            self._decode(placed.kept, placed.pts)
        if self._decoder is not None:
            self._encode(self._decoder.flush())
            self._decoder.close()
            self._decoder = None
        self._pts.clear()

    def _decode(self, kept: Kept, pts: int) -> None:
        if self._decoder is not None:
            self._pts[kept.packet.sequence] = pts
            packet = kept.packet
            if kept.parameters:
                packet = replace(packet, data=kept.parameters + packet.data)
            self._encode(self._decoder.decode(packet))

    def _encode(self, answers: Sequence[Decoded]) -> None:
        for answer in answers:
            pts = self._pts.pop(answer.packet.sequence, None)
            if answer.picture is None:
                continue
            try:
                if pts is not None:
                    masked = self._masked(upright_bgr(answer.picture, self._aspect, even=True))
                    self._encoder.add(masked, pts, keyframe=answer.packet.keyframe)
            except UndecodableError:
                # A broken still: the clip goes on without it.
                continue
            finally:
                answer.picture.close()

    def _masked(self, pixels: NDArray[np.uint8]) -> av.VideoFrame:
        blacken(pixels, self._areas)
        return av.VideoFrame.from_ndarray(pixels, format="bgr24")
