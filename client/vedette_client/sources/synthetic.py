"""A synthetic scene as a camera."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import TYPE_CHECKING

from vedette.v1 import media_pb2
from vedette_client.errors import SourceError
from vedette_client.scene.cache import shared_clip
from vedette_client.scene.encode import CODEC_NUMBERS, PIXEL_FORMAT_NUMBERS, matrix_of
from vedette_client.sources.base import SourceFormat, SourcePacket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette_client.scene.cache import Clip
    from vedette_client.scene.spec import SceneSpec


class SyntheticSource:
    """A scene that was drawn, with its truth beside every packet.

    It never ends unless the specification says when. The scene repeats after its period without a seam,
    and so do the packets: only their times go on.

    Args:
        spec: The scene and its coding.
        name: Names it for people.
        pace: Packets are due at the scene's rate; False: as fast as they are taken.
    """

    def __init__(self, spec: SceneSpec, *, name: str, pace: bool = True) -> None:
        self.name = name
        # A scene without an end that is shown at its rate stands for a camera, and cameras do not wait.
        self.live = pace and spec.seconds is None
        self._spec = spec
        self._pace = pace
        self._clip: Clip | None = None
        self._closed = False

    def open(self) -> SourceFormat:
        """Prepare the scene; its pictures are encoded as they are first asked for."""
        spec = self._spec
        self._clip = shared_clip(spec)
        raw = spec.codec == "raw"
        yuv = spec.codec not in {"jpeg", "png"} and not (raw and spec.pixel_format not in {"nv12", "i420"})
        matrix = media_pb2.COLOR_SPACE_BT709 if matrix_of(spec) == "itu709" else media_pb2.COLOR_SPACE_BT601
        return SourceFormat(
            codec=CODEC_NUMBERS[spec.codec],
            extradata=b"",
            time_base=1 / Fraction(spec.fps).limit_denominator(1001),
            width=spec.width,
            height=spec.height,
            pixel_format=PIXEL_FORMAT_NUMBERS[spec.pixel_format] if raw else media_pb2.PIXEL_FORMAT_UNSPECIFIED,
            color_space=matrix if yuv else media_pb2.COLOR_SPACE_UNSPECIFIED,
            color_range=media_pb2.COLOR_RANGE_LIMITED if yuv else media_pb2.COLOR_RANGE_UNSPECIFIED,
            fps=spec.fps,
            capture_clock=media_pb2.CAPTURE_CLOCK_CLIENT if self._pace else media_pb2.CAPTURE_CLOCK_FILE,
        )

    def packets(self) -> Iterator[SourcePacket]:
        """Show the scene.

        Raises:
            SourceError: It was not opened.
        """
        if self._clip is None:
            raise SourceError(f"{self.name}: packets were asked for before it was opened")
        spec, period = self._spec, self._spec.period_frames
        total = None if spec.seconds is None else max(1, round(spec.seconds * spec.fps))
        # A camera sends a picture once the B frames before it were taken, so it was taken that much earlier.
        start_ns = time.time_ns() - round(spec.bframes / spec.fps * 1_000_000_000) if self._pace else 0
        index = 0
        while not self._closed and (total is None or index < total):
            encoded = self._clip.packet(index % period)
            shift = index - index % period
            pts = encoded.pts + shift
            yield SourcePacket(
                data=encoded.data,
                pts=pts,
                dts=encoded.dts + shift,
                duration=1,
                keyframe=encoded.keyframe,
                capture_time_ns=start_ns + round(pts / spec.fps * 1_000_000_000),
                due_s=index / spec.fps if self._pace else None,
                truth=self._clip.truth(encoded.pts),
            )
            index += 1

    def close(self) -> None:
        """End `packets`; may be called twice and from another thread."""
        self._closed = True
