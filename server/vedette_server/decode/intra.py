"""What decoders have in common whose packets never refer to one another."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from vedette_server.data.outcome import SkipReason
from vedette_server.decode.base import Decoded
from vedette_server.errors import UndecodableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_server.data.packet import Packet
    from vedette_server.decode.base import Picture


class IntraDecoder(ABC):
    """Answers every packet at once, with a picture that costs nothing before it is letterboxed.

    So a picture that is superseded while it waits was never decoded.
    """

    @abstractmethod
    def open_picture(self, data: bytes) -> Picture:
        """Read what a packet's first bytes tell, and promise the picture.

        Raises:
            UndecodableError: These bytes are no picture.
            PictureTooLargeError: It is over the limit.
        """

    def decode(self, packet: Packet) -> Sequence[Decoded]:
        """Answer one packet; see ``Decoder``."""
        started = time.perf_counter()
        try:
            picture = self.open_picture(packet.data)
        except UndecodableError as error:
            return (Decoded(packet, pts=packet.pts, reason=SkipReason.UNDECODABLE, detail=str(error)),)
        return (Decoded(packet, picture, packet.pts, decode_s=time.perf_counter() - started),)

    def drop(self, packet: Packet, reason: SkipReason) -> Sequence[Decoded]:
        """Answer a packet unread; nothing refers to it."""
        return (Decoded(packet, pts=packet.pts, reason=reason),)

    def flush(self) -> Sequence[Decoded]:
        """Return nothing: nothing is held back."""
        return ()

    def close(self) -> None:  # noqa: B027 - a decoder that holds something says so itself
        """Let go of nothing: nothing is held."""
