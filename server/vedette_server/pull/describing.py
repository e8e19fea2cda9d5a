"""Say in the server's terms what a container's video stream contains."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from vedette_server.data.format import Codec, ColorRange, ColorSpace, VideoFormat
from vedette_server.pull.errors import SourceError

if TYPE_CHECKING:
    from av.video.stream import VideoStream

CODECS = {
    "h264": Codec.H264,
    "hevc": Codec.HEVC,
    "av1": Codec.AV1,
    "vp9": Codec.VP9,
    "mpeg4": Codec.MPEG4,
    "mjpeg": Codec.JPEG,
    "png": Codec.PNG,
    "webp": Codec.WEBP,
}
# FFmpeg's AVColorSpace and AVColorRange (libavutil/pixfmt.h), which follow ITU-T H.273.
_COLOR_SPACES = {1: ColorSpace.BT709, 5: ColorSpace.BT601, 6: ColorSpace.BT601, 9: ColorSpace.BT2020}
_COLOR_RANGES = {1: ColorRange.LIMITED, 2: ColorRange.FULL}
_LENGTH_PREFIXED = {Codec.H264, Codec.HEVC}


def describe(stream: VideoStream, rotation_degrees: int) -> VideoFormat:
    """Gather what the container says about its video.

    Args:
        stream: The stream.
        rotation_degrees: The clockwise turn that makes its pictures upright.

    Raises:
        SourceError: The server takes no such codec.
    """
    context = stream.codec_context
    codec = codec_of(stream)
    return VideoFormat(
        codec=codec,
        extradata=bytes(context.extradata or b""),
        time_base=stream.time_base or Fraction(1, 90_000),
        width=context.width,
        height=context.height,
        rotation_degrees=rotation_degrees,
        sample_aspect=stream.sample_aspect_ratio or Fraction(1),
        color_space=_COLOR_SPACES.get(context.colorspace, ColorSpace.UNSPECIFIED),
        color_range=_COLOR_RANGES.get(context.color_range, ColorRange.UNSPECIFIED),
    )


def codec_of(stream: VideoStream) -> Codec:
    """Translate the stream's codec.

    Raises:
        SourceError: The server takes no such codec.
    """
    context = stream.codec_context
    # There is no context where FFmpeg knows no decoder, which the types do not say.
    name = "unknown" if context is None else context.codec.canonical_name
    if name not in CODECS:
        raise SourceError(f"its video is {name}; supported are {', '.join(CODECS)}")
    return CODECS[name]


def continues(before: VideoFormat, after: VideoFormat) -> bool:
    """Whether a session of the one format can go on with packets of the other.

    Sizes, ticks and parameter sets may change: the decoder takes them from the packets. Whether NAL units have start
    codes or lengths in front it cannot.
    """
    same = (
        *("codec", "pixel_format", "strides_bytes", "rotation_degrees", "sample_aspect", "color_space", "color_range"),
    )
    return all(getattr(before, name) == getattr(after, name) for name in same) and (
        _has_lengths(before) == _has_lengths(after)
    )


def _has_lengths(form: VideoFormat) -> bool:
    """Whether extradata is a configuration record (ISO/IEC 14496-15), so that NAL units have lengths in front."""
    return form.codec in _LENGTH_PREFIXED and form.extradata[:1] == b"\x01"
