"""Say in the contract's terms what a container's video stream contains."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from vedette.v1 import media_pb2
from vedette_client.errors import SourceError
from vedette_client.sources.base import SourceFormat

if TYPE_CHECKING:
    from av.video.stream import VideoStream

CODECS = {
    "h264": media_pb2.CODEC_H264,
    "hevc": media_pb2.CODEC_HEVC,
    "av1": media_pb2.CODEC_AV1,
    "vp9": media_pb2.CODEC_VP9,
    "mpeg4": media_pb2.CODEC_MPEG4,
    "mjpeg": media_pb2.CODEC_JPEG,
    "png": media_pb2.CODEC_PNG,
    "webp": media_pb2.CODEC_WEBP,
}
# FFmpeg's AVColorSpace and AVColorRange (libavutil/pixfmt.h), which follow ITU-T H.273.
_COLOR_SPACES = {
    1: media_pb2.COLOR_SPACE_BT709,
    5: media_pb2.COLOR_SPACE_BT601,
    6: media_pb2.COLOR_SPACE_BT601,
    9: media_pb2.COLOR_SPACE_BT2020,
}
_COLOR_RANGES = {1: media_pb2.COLOR_RANGE_LIMITED, 2: media_pb2.COLOR_RANGE_FULL}


def codec_of(stream: VideoStream, label: str) -> int:
    """Translate the stream's codec.

    Raises:
        SourceError: The server takes no such codec.
    """
    context = stream.codec_context
    name = "unknown" if context is None else context.codec.canonical_name
    if name not in CODECS:
        raise SourceError(f"{label}: its video is {name}; supported are {', '.join(CODECS)}")
    return CODECS[name]


def codec_name(codec: int) -> str:
    """Name a codec for people."""
    return next((name for name, number in CODECS.items() if number == codec), f"codec {codec}")


def describe(stream: VideoStream, codec: int, rotation_degrees: int) -> SourceFormat:
    """Gather what the container says about its video."""
    context = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate
    return SourceFormat(
        codec=codec,
        extradata=bytes(context.extradata or b""),
        time_base=stream.time_base or Fraction(1, 90_000),
        width=context.width,
        height=context.height,
        rotation_degrees=rotation_degrees,
        sample_aspect=stream.sample_aspect_ratio or Fraction(1),
        color_space=_COLOR_SPACES.get(context.colorspace, media_pb2.COLOR_SPACE_UNSPECIFIED),
        color_range=_COLOR_RANGES.get(context.color_range, media_pb2.COLOR_RANGE_UNSPECIFIED),
        fps=float(rate) if rate else None,
        capture_clock=media_pb2.CAPTURE_CLOCK_FILE,
    )
