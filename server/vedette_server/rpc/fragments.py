"""Join the fragments of packets that are larger than a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.errors import InvalidError, LimitError
from vedette_server.rpc.convert import packet_from_wire

if TYPE_CHECKING:
    from vedette.v1 import stream_pb2
    from vedette_server.data.packet import Packet


class Assembler:
    """Makes whole packets of what one connection sends.

    Args:
        max_packet_bytes: Largest packet, its fragments together.
    """

    def __init__(self, max_packet_bytes: int) -> None:
        self._max_packet_bytes = max_packet_bytes
        self._packet: Packet | None = None
        # Not a list of parts: many tiny ones would cost more than the packet may.
        self._data = bytearray()
        self._count = 0
        self._dropped = 0
        self._last = 0

    def take(self, wire: stream_pb2.Packet, received_s: float, received_wall_ns: int) -> tuple[Packet, int] | None:
        """Take one message's packet; return it with `client_dropped_before` once it is whole.

        Raises:
            InvalidError: A fragment is missing or out of place.
            LimitError: The packet is too large.
        """
        # Each look at the field makes a copy of it.
        data = wire.data
        size = len(data)
        held = len(self._data)
        if held + size > self._max_packet_bytes:
            raise LimitError(
                "PACKET_TOO_LARGE",
                f"packet {wire.sequence} has {held + size} bytes or more; allowed: {self._max_packet_bytes}",
            )
        if self._packet is None and not wire.last_fragment and not wire.fragment_index:
            return packet_from_wire(wire, received_s, received_wall_ns, data), wire.client_dropped_before
        return self._join(wire, data, received_s, received_wall_ns)

    def _join(
        self, wire: stream_pb2.Packet, data: bytes, received_s: float, received_wall_ns: int
    ) -> tuple[Packet, int] | None:
        if self._packet is None:
            self._expect(wire, fragment_index=0)
            self._packet = packet_from_wire(wire, received_s, received_wall_ns, b"")
            self._dropped = wire.client_dropped_before
            self._last = wire.last_fragment
        else:
            self._expect(wire, fragment_index=self._count)
        self._data += data
        self._count += 1
        if wire.fragment_index < self._last:
            return None
        packet, self._packet = self._packet, None
        packet.data = bytes(self._data)
        # The packet is there when its last byte is.
        packet.received_s, packet.received_wall_ns = received_s, received_wall_ns
        self._data, self._count = bytearray(), 0
        return packet, self._dropped

    def _expect(self, wire: stream_pb2.Packet, fragment_index: int) -> None:
        packet = self._packet
        sequence = wire.sequence if packet is None else packet.sequence
        last = wire.last_fragment if packet is None else self._last
        if (wire.sequence, wire.fragment_index, wire.last_fragment) != (sequence, fragment_index, last):
            raise InvalidError(
                "FRAGMENT_OUT_OF_ORDER",
                f"fragment {wire.fragment_index} of {wire.last_fragment} of packet {wire.sequence} came; "
                f"the next one must be fragment {fragment_index} of {last} of packet {sequence}",
            )
