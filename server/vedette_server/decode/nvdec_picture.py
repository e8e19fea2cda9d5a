"""A picture that a GPU's decoder gave and that stays on the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import av

from vedette_engines.cuda.base import CudaError
from vedette_engines.cuda.letterboxing import Surface, SurfaceKind
from vedette_server.errors import UndecodableError
from vedette_server.picture.colour import choose_colour
from vedette_server.picture.convert import video_frame_into
from vedette_server.picture.describing import device_colour
from vedette_server.picture.scratch import plane_views, wide_plane_views
from vedette_server.picture.source import DeviceSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vedette_server.data.format import VideoFormat
    from vedette_server.decode.nvdec_facts import StreamFacts
    from vedette_server.decode.nvdec_surfaces import Lease
    from vedette_server.picture.letterbox import Letterbox


@dataclass(frozen=True, slots=True)
class SurfaceLayout:
    """How a decoder's picture lies, chroma behind luma.

    Attributes:
        kind: NV12 or P010.
        pitch: Bytes from one row to the next, in both planes.
        facts: Size and colours.
    """

    kind: SurfaceKind
    pitch: int
    facts: StreamFacts

    @property
    def size_bytes(self) -> int:
        """Length of both planes."""
        return self.pitch * (self.facts.height + (self.facts.height + 1) // 2)

    def frame(self, memory: NDArray[np.uint8]) -> av.VideoFrame:
        """Make a frame of a picture that was brought to the host.

        Its 8 bits become three planes, as FFmpeg's decoders give them: so the CPU letterboxes it as it does those.

        Args:
            memory: `uint8 [size_bytes]`; copied.
        """
        facts = self.facts
        rows = memory[: self.size_bytes].reshape(-1, self.pitch)
        luma, chroma = rows[: facts.height], rows[facts.height :]
        half = (facts.width + 1) // 2
        if self.kind is SurfaceKind.P010:
            frame = av.VideoFrame(facts.width, facts.height, "p010le")
            wide = wide_plane_views(frame)
            wide[0][:] = luma.view("<u2")[:, : facts.width]
            wide[1][:] = chroma.view("<u2")[:, : half * 2].reshape(-1, half, 2)
        else:
            frame = av.VideoFrame(facts.width, facts.height, "yuv420p")
            planes = plane_views(frame)
            planes[0][:] = luma[:, : facts.width]
            planes[1][:] = chroma[:, : half * 2 : 2]
            planes[2][:] = chroma[:, 1 : half * 2 : 2]
        frame.colorspace, frame.color_range = facts.matrix, facts.range
        return frame


class SurfacePicture:
    """One picture on a GPU.

    Args:
        lease: Its memory; held until `close`.
        layout: How it lies.
        fmt: Says the rotation, and the colours where the bitstream does not.
    """

    def __init__(self, lease: Lease, layout: SurfaceLayout, fmt: VideoFormat) -> None:
        self._lease: Lease | None = lease
        self._layout = layout
        self._fmt = fmt
        self._frame: av.VideoFrame | None = None

    @property
    def width(self) -> int:
        """Upright width in pixels."""
        facts = self._layout.facts
        return facts.height if self._fmt.rotation_degrees in {90, 270} else facts.width

    @property
    def height(self) -> int:
        """Upright height in pixels."""
        facts = self._layout.facts
        return facts.width if self._fmt.rotation_degrees in {90, 270} else facts.height

    @property
    def rotation_degrees(self) -> int:
        """The clockwise turn that makes it upright."""
        return self._fmt.rotation_degrees

    @property
    def frame(self) -> av.VideoFrame:
        """The picture on the host, brought there when it is first asked for; blocks meanwhile.

        Raises:
            ValueError: The picture is closed.
            UndecodableError: The device does not give it.
        """
        if self._frame is None:
            lease = self._held()
            piece = lease.piece
            try:
                memory = lease.pool.fetch(piece.buffer, self._layout.size_bytes, piece.ready)
            except CudaError as error:
                raise UndecodableError(f"a decoded picture cannot be read from its GPU: {error}") from error
            self._frame = self._layout.frame(memory)
        return self._frame

    def letterbox_into(self, slot: NDArray[np.uint8], fit: Letterbox) -> None:
        """Bring the picture to the host and letterbox it there: for those who look, and where no device does it."""
        fmt = self._fmt
        turn = fmt.rotation_degrees
        video_frame_into(self.frame, slot, fit, turn, fmt.color_space, fmt.color_range, fmt.sample_aspect)

    def source(self, fit: Letterbox) -> DeviceSource:
        """Give the picture where it lies; it stays there until the source is released, whoever closes the picture."""
        lease, layout, fmt = self._held(), self._layout, self._fmt
        facts, piece = layout.facts, lease.piece
        make = Surface.p010 if layout.kind is SurfaceKind.P010 else Surface.nv12
        colour = choose_colour(facts.matrix, facts.range, facts.height, fmt.color_space, fmt.color_range)
        return DeviceSource(
            device=lease.pool.device.facts.index,
            surface=make(piece.buffer, facts.width, facts.height, pitch=layout.pitch),
            place=fit.place(facts.width, facts.height, fmt.rotation_degrees, fmt.sample_aspect),
            colour=device_colour(colour),
            order=lambda stream: stream.wait(piece.ready),
            release=lease.hold(),
        )

    def close(self) -> None:
        """Let go of the memory; may be called twice."""
        lease, self._lease = self._lease, None
        self._frame = None
        if lease is not None:
            lease.let_go()

    def _held(self) -> Lease:
        if self._lease is None:
            raise ValueError("the picture is closed")
        return self._lease
