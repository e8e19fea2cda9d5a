"""What the server allows and wishes, and how its clock stands to ours. Pure code."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from google.protobuf import timestamp_pb2

if TYPE_CHECKING:
    from vedette.v1 import stream_pb2


@dataclass(slots=True)
class Flow:
    """Credits and wishes of the server, as last told.

    Attributes:
        rate_hint_fps: The server can use so many frames per second of this channel; None: no wish.
        keyframe_requests: How often it asked for a keyframe.
        send_through_sequence: Packets up to and including this one may be sent; None: no limit.
        send_through_bytes: So many bytes may be sent on this connection; None: no limit.
        sent_bytes: Bytes of packets sent on this connection.
    """

    rate_hint_fps: float | None = None
    keyframe_requests: int = 0
    send_through_sequence: int | None = None
    send_through_bytes: int | None = None
    sent_bytes: int = 0

    def restart(self, wire: stream_pb2.FlowControl) -> None:
        """Begin a new connection with its first credits."""
        self.sent_bytes = 0
        self.take(wire)

    def take(self, wire: stream_pb2.FlowControl) -> None:
        """Take over a flow message; what it leaves out is without limit."""
        self.send_through_sequence = wire.send_through_sequence if wire.HasField("send_through_sequence") else None
        self.send_through_bytes = wire.send_through_bytes if wire.HasField("send_through_bytes") else None
        self.rate_hint_fps = wire.rate_hint_fps if wire.HasField("rate_hint_fps") else None
        self.keyframe_requests += wire.keyframe_request

    def allows(self, sequence: int, size: int) -> bool:
        """Tell whether a packet of so many bytes may be sent now."""
        if self.send_through_sequence is not None and sequence > self.send_through_sequence:
            return False
        return self.send_through_bytes is None or self.sent_bytes + size <= self.send_through_bytes


@dataclass(slots=True)
class ClockOffset:
    """The server's clock minus ours, as NTP estimates it (RFC 5905, section 8).

    Of the last eight samples the one with the shortest round trip counts (section 10).

    Attributes:
        seconds: The offset; None before the first answer.
    """

    seconds: float | None = None
    _samples: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=8))

    def take(self, wire: stream_pb2.ClockSync, received_ns: int) -> None:
        """Take over an answer that came at `received_ns` on our wall clock."""
        t1, t2, t3 = map(
            timestamp_pb2.Timestamp.ToNanoseconds,
            (wire.client_send_time, wire.server_receive_time, wire.server_send_time),
        )
        delay = (received_ns - t1) - (t3 - t2)
        self._samples.append((delay, ((t2 - t1) + (t3 - received_ns)) // 2))
        self.seconds = min(self._samples)[1] / 1e9
