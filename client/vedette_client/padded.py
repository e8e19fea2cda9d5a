"""Packets as FFmpeg wants to read them.

Threads: none of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import av

if TYPE_CHECKING:
    from av.packet import Packet


def padded_packet(data: bytes) -> Packet[Any]:
    """Copy coded bytes into a packet with zeros behind them.

    A decoder reads past the end of its packet (AV_INPUT_BUFFER_PADDING_SIZE). A packet made of a `bytes` object
    shows it that object's own memory, and behind that whatever the heap holds: pictures differ from run to run.
    """
    packet: Packet[Any] = av.Packet(len(data))
    packet.update(data)
    return packet
