"""Learn of a stream what a hardware decoder neither asks nor tells: size, layout, colours, and whether it reorders.

The first picture is decoded by FFmpeg as well, once for each set of parameters. That costs one keyframe on the CPU, and
needs no second reader of sequence headers: what decides the colours is what decides them on the CPU's path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import av
import av.logging
from av.error import FFmpegError

from vedette_server.data.format import ColorRange
from vedette_server.decode.padded import padded_packet
from vedette_server.decode.software import NAL_CODECS, open_context

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

    from vedette_server.decode.backend import Start
    from vedette_server.decode.limits import PictureLimits


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What holds for all pictures up to the next change of parameters.

    Attributes:
        width: Width in pixels, cropped, before any turn.
        height: Height in pixels.
        layout: FFmpeg's name of the pixel format, such as `yuv420p`.
        matrix: AVColorSpace; 2 when the bitstream does not say.
        range: AVColorRange; 0 when the bitstream does not say.
        reorder_depth: How many packets a decoder holds back to sort their pictures, as far as headers tell.
    """

    width: int
    height: int
    layout: str
    matrix: int
    range: int
    reorder_depth: int

    @property
    def bits(self) -> int:
        """Bits of a sample: 8, 10; 0: it is not 4:2:0 of either."""
        return {"yuv420p": 8, "yuvj420p": 8, "yuv420p10le": 10}.get(self.layout, 0)


def probe(start: Start, limits: PictureLimits) -> StreamFacts | None:
    """Decode the packet at which decoding begins.

    Returns:
        None: no picture comes of it alone, or it is broken.
    """
    context = open_context(start.fmt.codec, start.extradata, limits)
    frames: list[VideoFrame] = []
    parts = [*start.parameters, start.data] if start.fmt.codec in NAL_CODECS else [start.data]
    depth = 0
    with av.logging.Capture():
        for part in parts:
            try:
                frames += context.decode(padded_packet(part))
            except (FFmpegError, ValueError, MemoryError):
                continue
            depth = context.reorder_depth
        if not frames:
            try:
                frames += context.decode(None)
            except (FFmpegError, ValueError, MemoryError):
                return None
    if not frames or frames[0].is_corrupt:
        return None
    frame = frames[0]
    layout = frame.format.name
    sample_range = int(ColorRange.FULL) if layout.startswith("yuvj") else int(frame.color_range)
    return StreamFacts(frame.width, frame.height, layout, int(frame.colorspace), sample_range, depth)
