"""Decode one stream on a GPU's video engines (NVDEC), through PyNvVideoCodec's core decoder.

Packets come from memory, one access unit each, with start codes. A packet's number travels as its time stamp and comes
back with its picture, which is copied off the decoder's memory in the decoder's own stream (`nvdec_surfaces.py`).
Latency: `LOW`, no delay, where neither headers nor times say that pictures are reordered, which H.264's parser is then
told (`nvdec_order.py`); else `NATIVE`. Should pictures come out of order after all, `NATIVE` from the next keyframe on.

**No hardware has run this.** It is written against PyNvVideoCodec 2.2 (its samples, its guide, the sources of its
bindings), and tested against a fake of it that decodes with FFmpeg. What only hardware can tell: whether the parser
gives pictures without delay as its guide says; how AV1 and VP9 packets of MP4 are taken; what each call costs.

What NVDEC does not tell, and FFmpeg does: damage. A broken picture whose headers are whole comes out concealed, as if
it were clean; the library prints a line and reports nothing. Lost references, cut-off units, discontinuities and size
limits are judged by the headers, as on the CPU. Interlaced pictures come out deinterlaced, where FFmpeg weaves the
fields. A picture that is cropped at its left or upper edge is cropped at the other one instead.

Threads: that of the decoder it belongs to.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.cuda.base import CudaError, ForeignMemory
from vedette_engines.cuda.letterboxing import SurfaceKind
from vedette_server.data.format import Codec
from vedette_server.decode.annexb import AnnexB
from vedette_server.decode.backend import BackendLostError, Shown
from vedette_server.decode.nvdec_order import say_unordered
from vedette_server.decode.nvdec_picture import SurfaceLayout, SurfacePicture
from vedette_server.decode.nvdec_surfaces import Lease, let_go
from vedette_server.decode.video_picture import VideoPicture

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_engines.cuda.base import Stream
    from vedette_server.decode.answers import Pending
    from vedette_server.decode.backend import Start
    from vedette_server.decode.base import Picture
    from vedette_server.decode.bitstream.unit import AccessUnit
    from vedette_server.decode.nvdec_facts import StreamFacts
    from vedette_server.decode.nvdec_surfaces import SurfacePool

# Packets that never gave a picture are forgotten: no codec holds back so many.
_MOST_WAITING = 64
_MOST_PARAMETERS = 16
# The parser makes up times for pictures that came without one, a few milliseconds after the last: those are nobody's.
_STEP = 1 << 20


class NvdecBackend:
    """One session of a GPU's decoder.

    Args:
        module: PyNvVideoCodec.
        decoder: The library's decoder; works in `stream`.
        stream: Its stream; closed with this object.
        pool: Takes the pictures.
        facts: What holds for all its pictures.
        start: Where it begins.
        on_close: Called once, when it is closed.
    """

    prompt = False
    forgetful = True

    def __init__(
        self,
        module: Any,
        decoder: Any,
        stream: Stream,
        pool: SurfacePool,
        facts: StreamFacts,
        start: Start,
        on_close: Callable[[], None],
    ) -> None:
        self.facts = facts
        self.extradata = start.extradata
        self.reorders = False
        self._module = module
        self._decoder: Any = decoder
        self._stream = stream
        self._pool = pool
        self._fmt = start.fmt
        self._on_close = on_close
        self._unordered = start.fmt.codec is Codec.H264 and not facts.reorder_depth
        self._framing = AnnexB(start.fmt.codec, start.extradata)
        self._ahead: dict[bytes, None] = {}
        self._waiting: dict[int, Pending] = {}
        self._count = 0
        # Nothing was fed since the parser last forgot all, or ever.
        self._fresh = True
        self._began = False
        self._last: tuple[int, int] | None = None
        self.adopt(start)

    @property
    def gpu(self) -> int:
        """Number of the GPU."""
        return self._pool.device.facts.index

    @property
    def reorder_depth(self) -> int:
        """How many packets it holds back to sort their pictures."""
        return self.facts.reorder_depth

    def adopt(self, start: Start) -> None:
        """Go on with parameters that say the same as those before."""
        self._header_size = (start.unit.width, start.unit.height)
        self._parameters = start.unit.parameters

    def suits(self, unit: AccessUnit) -> bool:
        """Tell whether size and parameters stay: the library scales other sizes to the first, and refuses depths."""
        same = not unit.parameters or unit.parameters == self._parameters
        return same and (unit.width, unit.height) == self._header_size and not self.reorders

    def feed(self, data: bytes, pending: Pending | None) -> tuple[list[Shown], str]:
        """Decode one packet; parameter sets alone wait for the next one, which has a time stamp."""
        framed = self._framing.packet(data)
        if pending is None:
            self._ahead[framed] = None
            if len(self._ahead) > _MOST_PARAMETERS:
                del self._ahead[next(iter(self._ahead))]
            return [], ""
        header = self._framing.header if self._fresh else b""
        whole = b"".join((header, *self._ahead, framed))
        if self._unordered:
            whole = say_unordered(whole)
        self._ahead.clear()
        self._fresh = False
        self._count += _STEP
        self._waiting[self._count] = pending
        shown = self._decode(whole, self._count)
        if len(self._waiting) > _MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
        return shown, ""

    def drain(self) -> list[Shown]:
        """Take out the pictures that are held back: an empty packet is the end of the stream to the parser."""
        if self._fresh:
            return []
        self._fresh = True
        shown = self._decode(b"", 0)
        self._waiting.clear()
        self._last = None
        return shown

    def renew(self) -> None:
        """Begin anew; pictures that are held back are lost."""
        try:
            shown = self.drain()
        except BackendLostError:
            return
        for each in shown:
            each.picture.close()

    def close(self) -> None:
        """Let go of the session; may be called twice. Pictures that were shown live on."""
        decoder, self._decoder = self._decoder, None
        self._waiting.clear()
        if decoder is None:
            return
        # A GPU that is lost may refuse even to be attached to.
        with contextlib.suppress(CudaError), self._pool.device.attached():
            # What was copied off its memory must be done before that goes.
            let_go(self._stream.synchronize)
            del decoder
            let_go(self._stream.close)
        self._on_close()

    def _decode(self, data: bytes, number: int) -> list[Shown]:
        if self._decoder is None:
            raise BackendLostError("the decoder is closed", began=self._began)
        memory = np.frombuffer(data, np.uint8)
        packet = self._module.PacketData()
        if data:
            packet.bsl_data, packet.bsl, packet.pts = memory.ctypes.data, len(data), number
            packet.decode_flag = self._module.VideoPacketFlag.ENDOFPICTURE
        with self._pool.device.attached():
            try:
                frames = self._decoder.Decode(packet)
            except Exception as error:  # the library raises classes of its own, and RuntimeError
                raise BackendLostError(str(error) or type(error).__name__, began=self._began) from error
            self._began = True
            try:
                return self._take_all(frames)
            except CudaError as error:
                raise BackendLostError(str(error), began=True) from error

    def _take_all(self, frames: Sequence[Any]) -> list[Shown]:
        shown: list[Shown] = []
        try:
            for frame in frames:
                pending = self._waiting.pop(int(frame.getPTS()), None)
                if pending is None:
                    continue
                self._watch_order(pending)
                picture = self._take(frame)
                shown.append(Shown(pending, picture, self.facts.width, self.facts.height))
        except BaseException:
            for each in shown:
                each.picture.close()
            raise
        return shown

    def _watch_order(self, pending: Pending) -> None:
        """Notice pictures that come out of order: then the headers said nothing of it, and the parser did not sort."""
        if pending.packet is None or pending.packet.pts is None:
            return
        place = (pending.place, pending.index)
        self.reorders = self.reorders or (self._last is not None and place < self._last)
        self._last = place

    def _take(self, frame: Any) -> Picture:
        """Copy a picture off the decoder's memory, which its next call reuses."""
        layout, memory = self._layout(frame)
        piece = self._pool.take(layout.size_bytes)
        if piece is None:
            # Too many wait: this one does so on the host.
            self._stream.synchronize()
            return VideoPicture(layout.frame(self._pool.fetch(memory, layout.size_bytes, None)), self._fmt)
        lease = Lease(self._pool, piece)
        try:
            piece.fill(self._stream, memory, layout.size_bytes)
        except BaseException:
            lease.let_go()
            raise
        return SurfacePicture(lease, layout, self._fmt)

    def _layout(self, frame: Any) -> tuple[SurfaceLayout, ForeignMemory]:
        formats = self._module.Pixel_Format
        kind = {formats.NV12: SurfaceKind.NV12, formats.P016: SurfaceKind.P010}.get(frame.format)
        height, width = (int(size) for size in frame.cuda()[0].shape[:2])
        facts = self.facts
        if kind is None or (width, height) != (facts.width + facts.width % 2, facts.height):
            raise BackendLostError(
                f"it gave a {frame.format} surface of {width}x{height}; "
                f"the stream's pictures are {facts.width}x{facts.height} {facts.layout}",
                began=self._began,
            )
        luma, chroma = int(frame.GetPtrToPlane(0)), int(frame.GetPtrToPlane(1))
        # The strides of its views count samples or bytes, by format; the planes follow each other.
        layout = SurfaceLayout(kind, (chroma - luma) // height, facts)
        return layout, ForeignMemory(luma, layout.size_bytes)
