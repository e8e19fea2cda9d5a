"""The seam between where pictures come from and the stream that carries them.

A source blocks: the client opens it and walks through its packets in a worker thread of its own, one
thread at a time. It neither knows gRPC nor the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class SourceFormat:
    """What the packets of a source contain; the numbers are those of the contract's enumerations.

    Attributes:
        codec: The contract's Codec.
        extradata: Decoder configuration record or parameter sets; may be empty.
        time_base: Seconds per tick of PTS, DTS and duration.
        width: Coded width in pixels; 0 when unknown.
        height: Coded height in pixels; 0 when unknown.
        pixel_format: The contract's PixelFormat; 0 unless the pictures are raw.
        strides_bytes: Bytes from row to row of a raw picture, one per plane; empty when packed.
        rotation_degrees: Clockwise turn that makes the picture upright: 0, 90, 180, 270.
        sample_aspect: Width of a sample over its height.
        color_space: The contract's ColorSpace, where the bitstream does not say.
        color_range: The contract's ColorRange, where the bitstream does not say.
        fps: Frames per second as the container has it; None when unknown.
        capture_clock: The contract's CaptureClock: whose clock the capture times come from.
    """

    codec: int
    extradata: bytes
    time_base: Fraction
    width: int
    height: int
    pixel_format: int = 0
    strides_bytes: tuple[int, ...] = ()
    rotation_degrees: int = 0
    sample_aspect: Fraction = Fraction(1)
    color_space: int = 0
    color_range: int = 0
    fps: float | None = None
    capture_clock: int = 0


@dataclass(slots=True)
class SourcePacket:
    """One access unit, one still or one raw picture of a source; nobody changes it once it was given.

    Attributes:
        data: The bytes, whole.
        pts: Presentation time in ticks; None when unknown.
        dts: Decoding time in ticks; None when unknown.
        duration: Duration in ticks; None when unknown.
        keyframe: Decoding can start here.
        capture_time_ns: When the picture was taken, nanoseconds since the epoch; None when unknown.
        extradata: New decoder configuration that holds from this packet on.
        discontinuity: The packet does not continue the one before it.
        due_s: Seconds since the source's start at which it should be sent; None: as fast as possible.
        truth: What a synthetic scene knows to be in the picture; None for real cameras.
    """

    data: bytes
    pts: int | None
    dts: int | None
    duration: int | None
    keyframe: bool
    capture_time_ns: int | None = None
    extradata: bytes | None = None
    discontinuity: bool = False
    due_s: float | None = None
    truth: object | None = None


class Source(Protocol):
    """A camera, a file, a scene: anything that gives packets in decoding order.

    Attributes:
        name: Names it for people, unique enough for a table's row.
        live: It cannot be asked to wait: what is not taken in time is lost.
    """

    name: str
    live: bool

    def open(self) -> SourceFormat:
        """Open it and tell what its packets contain; blocks, called in a worker thread.

        Raises:
            SourceError: It cannot be opened.
        """
        ...

    def packets(self) -> Iterator[SourcePacket]:
        """Walk through the packets in decoding order; blocks, run in a worker thread.

        Raises:
            SourceError: It failed half-way.
        """
        ...

    def close(self) -> None:
        """Let go of everything; may be called twice, and from another thread."""
