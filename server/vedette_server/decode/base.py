"""The seam between packets and pictures.

A decoder belongs to one channel. One worker at a time calls it, not always the same thread; it holds
no lock of its own. Every packet that it is given it answers exactly once, now or at a later call, and
the answers come in presentation order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vedette_server.data.outcome import SkipReason
    from vedette_server.data.packet import Packet
    from vedette_server.picture.letterbox import Letterbox
    from vedette_server.picture.source import DeviceSource, HostSource


class Picture(Protocol):
    """One decoded picture that was not converted yet, or a still that was not decoded yet.

    Attributes:
        width: Upright width in pixels, after rotation.
        height: Upright height in pixels, after rotation.
        rotation_degrees: The clockwise turn that makes it upright.
    """

    @property
    def width(self) -> int: ...  # noqa: D102 - told above
    @property
    def height(self) -> int: ...  # noqa: D102 - told above
    @property
    def rotation_degrees(self) -> int: ...  # noqa: D102 - told above

    def letterbox_into(self, slot: NDArray[np.uint8], fit: Letterbox) -> None:
        """Resize, convert, turn and pad the picture into ``slot``.

        May be called several times (several engines), from one thread at a time.

        Args:
            slot: ``uint8 [fit.height, fit.width, 3]``, BGR, C-contiguous; wholly overwritten.
            fit: The engine's input size and placement.

        Raises:
            UndecodableError: The bytes of a still are broken.
        """

    def source(self, fit: Letterbox) -> HostSource | DeviceSource | None:
        """Give the picture as it lies in memory, for an engine that letterboxes on its device.

        May be called several times; views are valid until `close`.

        Args:
            fit: The engine's input size and placement.

        Returns:
            None: it has no layout that a device takes; then `letterbox_into` is the way.
        """
        ...

    def close(self) -> None:
        """Let go of the decoder's memory; may be called twice."""


@dataclass(slots=True)
class Decoded:
    """A decoder's answer to one packet: its picture, or why it has none.

    Attributes:
        packet: The packet that is answered.
        picture: Its picture; None when there is none.
        pts: Presentation time in ticks of the time base; None when unknown.
        reason: Why there is no picture: NO_FRAME, UNDECODABLE, LOST_REFERENCE, OVERLOAD.
        detail: In words, for a person.
        decode_s: Seconds spent decoding the packet.
    """

    packet: Packet
    picture: Picture | None = None
    pts: int | None = None
    reason: SkipReason | None = None
    detail: str = ""
    decode_s: float = 0.0


class Decoder(Protocol):
    """Turns the packets of one channel into pictures."""

    def decode(self, packet: Packet) -> Sequence[Decoded]:
        """Feed one packet and return what can be answered now, in presentation order.

        Never raises for bad bytes: they are answered with a reason.

        Raises:
            PictureTooLargeError: The stream's pictures are over the limit; the channel must end.
        """
        ...

    def drop(self, packet: Packet, reason: SkipReason) -> Sequence[Decoded]:
        """Answer a packet that shedding keeps from the decoder, and remember what it breaks.

        Dropping a picture that others refer to makes the decoder answer those with LOST_REFERENCE
        until the next picture at which decoding can start.
        """
        ...

    def flush(self) -> Sequence[Decoded]:
        """Answer all packets still held, at the end of the stream or before a discontinuity."""
        ...

    def close(self) -> None:
        """Let go of everything; may be called twice."""
        ...
