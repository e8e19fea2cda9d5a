"""Packets whose first letter says what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette_server.data.packet import Packet


class LetterKinds:
    """Nothing refers to B; decoding starts where the sender says."""

    def learn(self, packet: Packet) -> None:
        """Learn nothing: every packet says all about itself."""

    def is_disposable(self, packet: Packet) -> bool:
        return packet.data[:1] == b"B"

    def is_keyframe(self, packet: Packet) -> bool:
        return packet.keyframe
