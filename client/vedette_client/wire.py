"""Packets as messages, whole or in fragments."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from google.protobuf import timestamp_pb2

from vedette.v1 import stream_pb2

if TYPE_CHECKING:
    from vedette_client.buffer import Kept

Fragments: TypeAlias = deque[stream_pb2.Packet]


def packet_to_wire(entry: Kept, with_extradata: bytes | None = None) -> stream_pb2.Packet:
    """Write a numbered packet; one that has its verdict is only to be decoded.

    Args:
        entry: The packet.
        with_extradata: Decoder configuration that a fresh decoder lacks, if the packet brings none itself.
    """
    packet = entry.packet
    extradata = packet.extradata if packet.extradata is not None else with_extradata
    wire = stream_pb2.Packet(
        sequence=entry.sequence,
        pts=packet.pts,
        dts=packet.dts,
        duration=packet.duration,
        keyframe=packet.keyframe,
        data=packet.data,
        extradata=extradata,
        discontinuity=entry.discontinuity,
        client_dropped_before=0 if entry.settled else entry.dropped_before,
        decode_only=entry.settled,
    )
    if packet.capture_time_ns is not None:
        seconds, nanos = divmod(packet.capture_time_ns, 1_000_000_000)
        wire.capture_time.CopyFrom(timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos))
    return wire


def fragment(packet: stream_pb2.Packet, max_bytes: int) -> Fragments:
    """Cut a packet into pieces of at most so many bytes of data; the first carries the other fields."""
    data = packet.data
    first_bytes = max(1, max_bytes - len(packet.extradata))
    cuts = [0, *range(first_bytes, len(data), max_bytes), len(data)]
    last = len(cuts) - 2
    packet.data = data[: cuts[1]]
    packet.last_fragment = last
    pieces: Fragments = deque([packet])
    for index in range(1, last + 1):
        piece = data[cuts[index] : cuts[index + 1]]
        pieces.append(stream_pb2.Packet(sequence=packet.sequence, data=piece, fragment_index=index, last_fragment=last))
    return pieces
