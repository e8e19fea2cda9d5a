"""Turn drawn pictures into packets: H.264 and its kin through FFmpeg, stills through Pillow, or raw."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import av
from PIL import Image

from vedette.v1 import media_pb2

if TYPE_CHECKING:
    import numpy as np
    from av.packet import Packet
    from numpy.typing import NDArray

    from vedette_client.scene.spec import SceneSpec

CODEC_NUMBERS = {
    "h264": media_pb2.CODEC_H264,
    "hevc": media_pb2.CODEC_HEVC,
    "mpeg4": media_pb2.CODEC_MPEG4,
    "vp9": media_pb2.CODEC_VP9,
    "jpeg": media_pb2.CODEC_JPEG,
    "png": media_pb2.CODEC_PNG,
    "raw": media_pb2.CODEC_RAW,
}
PIXEL_FORMAT_NUMBERS = {
    "bgr24": media_pb2.PIXEL_FORMAT_BGR24,
    "rgb24": media_pb2.PIXEL_FORMAT_RGB24,
    "gray8": media_pb2.PIXEL_FORMAT_GRAY8,
    "nv12": media_pb2.PIXEL_FORMAT_NV12,
    "i420": media_pb2.PIXEL_FORMAT_I420,
}
_ENCODERS = {"h264": "libx264", "hevc": "libx265", "mpeg4": "mpeg4", "vp9": "libvpx-vp9"}
# From here up pictures are BT.709, below BT.601: what a decoder assumes where nothing is said.
_HD_HEIGHT_PX = 720
_TAGS = {"itu601": 5, "itu709": 1}  # AVColorSpace
_LIMITED = 1  # AVColorRange


@dataclass(frozen=True, slots=True)
class Encoded:
    """One packet of a scene, its times in frames."""

    data: bytes
    pts: int
    dts: int
    keyframe: bool


class VideoEncoder:
    """Encodes one period of a scene, beginning with a keyframe and referring to nothing outside it."""

    def __init__(self, spec: SceneSpec) -> None:
        self._matrix = matrix_of(spec)
        context = cast("av.VideoCodecContext", av.CodecContext.create(_ENCODERS[spec.codec], "w"))
        rate = Fraction(spec.fps).limit_denominator(1001)
        context.width, context.height, context.pix_fmt = spec.width, spec.height, "yuv420p"
        context.time_base, context.framerate = 1 / rate, rate
        context.gop_size, context.max_b_frames = spec.gop, spec.bframes
        context.thread_count = 1
        context.colorspace, context.color_range = _TAGS[self._matrix], _LIMITED
        context.options = _options(spec)
        self._context = context

    def encode(self, picture: NDArray[np.uint8], index: int) -> list[Encoded]:
        """Take frame `index`, `uint8 [height, width, 3]` RGB; give the packets that are ready."""
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(
            format="yuv420p", dst_colorspace=self._matrix, dst_color_range=_LIMITED, interpolation="AREA"
        )
        frame.pts = index
        frame.time_base = self._context.time_base
        return [_plain(packet) for packet in self._context.encode(frame)]

    def finish(self) -> list[Encoded]:
        """Give the packets that are still held."""
        return [_plain(packet) for packet in self._context.encode(None)]


def encode_picture(spec: SceneSpec, picture: NDArray[np.uint8]) -> bytes:
    """Encode one picture, `uint8 [height, width, 3]` RGB, on its own: as a still or raw."""
    if spec.codec in {"jpeg", "png"}:
        buffer = io.BytesIO()
        options: dict[str, Any] = {"quality": 50 + spec.quality // 2} if spec.codec == "jpeg" else {"compress_level": 1}
        Image.fromarray(picture).save(buffer, spec.codec, **options)
        return buffer.getvalue()
    if spec.pixel_format == "rgb24":
        return picture.tobytes()
    if spec.pixel_format == "bgr24":
        return picture[:, :, ::-1].tobytes()
    if spec.pixel_format == "gray8":
        return Image.fromarray(picture).convert("L").tobytes()
    layout = "yuv420p" if spec.pixel_format == "i420" else spec.pixel_format
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    frame = frame.reformat(format=layout, dst_colorspace=matrix_of(spec), dst_color_range=_LIMITED)
    return frame.to_ndarray().tobytes()


def is_intra(spec: SceneSpec) -> bool:
    """Whether every packet is a picture of its own."""
    return spec.codec not in _ENCODERS


def matrix_of(spec: SceneSpec) -> str:
    """FFmpeg's name of the matrix that the scene's YUV pictures are made with."""
    return "itu709" if spec.height >= _HD_HEIGHT_PX else "itu601"


def _options(spec: SceneSpec) -> dict[str, str]:
    """Options of the encoder: quick, of steady quality, keyframes where they are due and nowhere else."""
    crf = str(round(50 - 0.4 * spec.quality))
    if spec.codec == "h264":
        preset = "veryfast" if spec.bframes else "ultrafast"
        return {"preset": preset, "crf": crf, "sc_threshold": "0", "x264-params": "open-gop=0"}
    if spec.codec == "hevc":
        fixed = "log-level=none:scenecut=0:open-gop=0:pools=1:frame-threads=1"
        return {"preset": "ultrafast", "crf": crf, "x265-params": fixed}
    if spec.codec == "vp9":
        return {
            "deadline": "realtime",
            "cpu-used": "8",
            "auto-alt-ref": "0",
            "lag-in-frames": "0",
            "crf": crf,
            "b": "0",
        }
    step = str(max(2, round(31 - 0.29 * spec.quality)))
    return {"qmin": step, "qmax": step, "sc_threshold": "1000000000"}


def _plain(packet: Packet[Any]) -> Encoded:
    pts = packet.pts or 0
    return Encoded(bytes(packet), pts, pts if packet.dts is None else packet.dts, packet.is_keyframe)
