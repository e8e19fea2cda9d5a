"""One packet as it travels from the edge to a decoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Packet:
    """One access unit, one still, or one raw picture.

    Owned by the channel's session until a decoder takes it; nobody changes it after it was received.

    Attributes:
        sequence: Number within the session, in decoding order.
        data: The bytes, whole (fragments are joined).
        received_s: Receipt on the server's monotonic clock, seconds.
        received_wall_ns: Receipt on the wall clock, nanoseconds since the epoch.
        pts: Presentation time in ticks of the time base; None when unknown.
        dts: Decoding time in ticks; None when unknown.
        duration: Duration in ticks; None when unknown.
        keyframe: What the client says: decoding can start here.
        capture_wall_ns: Capture time as the client gave it, nanoseconds since the epoch.
        extradata: New decoder configuration that holds from this packet on.
        discontinuity: The packet does not continue the one before it.
        decode_only: The client has its verdict already: decode it, judge it no more.
        taken_s: When a decoder took it, monotonic seconds; 0 before.
        time_s: When its picture was taken on the channel's time line, seconds since the epoch; 0 where nobody monitors.
    """

    sequence: int
    data: bytes
    received_s: float = 0.0
    received_wall_ns: int = 0
    pts: int | None = None
    dts: int | None = None
    duration: int | None = None
    keyframe: bool = False
    capture_wall_ns: int | None = None
    extradata: bytes | None = None
    discontinuity: bool = False
    decode_only: bool = False
    taken_s: float = 0.0
    time_s: float = 0.0
