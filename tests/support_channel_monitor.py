"""One channel's monitor between fakes: packets, pictures and verdicts go in, events come out."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_server.data.channel import ChannelRecord
from vedette_server.data.config import ChannelConfig, DeliveryPolicy, EngineRef
from vedette_server.data.event import Event, EventState
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.packet import Packet
from vedette_server.data.rules import Cross, Enter, Inside, Line, Rule, WatchConfig, Zone
from vedette_server.data.verdict import EngineLabel, EngineOutcome, Verdict
from vedette_server.monitor.channel import ChannelMonitor
from vedette_server.post.detections import Detections

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_server.data.outcome import SkipReason

EPOCH_S = 1_700_000_000.0
LABEL = EngineLabel("toy", "3", "fake", "detector", ("person", "car"))
LEFT = Zone("left", ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
MIDDLE = Line("middle", ((0.5, 0.0), (0.5, 1.0)))
RULES = (Rule("in", Enter("left")), Rule("stay", Inside("left")), Rule("over", Cross("middle")))
WATCH = WatchConfig(zones=(LEFT,), lines=(MIDDLE,), rules=RULES)


class NotingDesk:
    """Takes events, and keeps what became of each."""

    def __init__(self) -> None:
        self.changes: list[Event] = []
        self.wanted: dict[str, bool] = {}

    def take(self, events: Sequence[Event], collector: Any, wants: Callable[[Event], bool]) -> None:
        self.changes += events
        self.wanted |= {event.event_id: wants(event) for event in events}

    @property
    def events(self) -> list[Event]:
        """All events as they stand, in order of their beginning."""
        return list({event.event_id: event for event in self.changes}.values())

    def of(self, rule: str) -> list[Event]:
        return [event for event in self.events if event.rule == rule]

    @property
    def active(self) -> list[Event]:
        return [event for event in self.events if event.state is EventState.ACTIVE]


def found(*boxes: tuple[float, float], label: int = 0, score: float = 0.9, size: float = 0.1) -> Detections:
    """Give detections whose feet stand at the given places."""
    rows = [(x - size / 2, y - size, x + size / 2, y) for x, y in boxes]
    count = len(rows)
    return Detections(
        np.array(rows, np.float32).reshape(-1, 4),
        np.full(count, score, np.float32),
        np.full(count, label, np.int32),
        np.empty((count, 0), np.float32),
    )


def channel_config(policy: DeliveryPolicy = DeliveryPolicy.LIVE, capture_clock: int = 1) -> ChannelConfig:
    """Give the configuration of a stream of 640x360."""
    fmt = VideoFormat(Codec.H264, time_base=Fraction(1, 1000), width=640, height=360)
    return ChannelConfig("gate", fmt, (EngineRef("toy"),), policy=policy, capture_clock=capture_clock)


def packet_at(at_s: float, sequence: int = 0, capture_s: float | None = None) -> Packet:
    """Give a packet that was received, and captured, at a time."""
    return Packet(
        sequence,
        b"x" * 100,
        received_s=at_s - EPOCH_S,
        received_wall_ns=round(at_s * 1e9),
        pts=round((at_s - EPOCH_S) * 1000),
        capture_wall_ns=round((at_s if capture_s is None else capture_s) * 1e9),
    )


def verdict_of(packet: Packet, detections: Detections | None, reason: SkipReason | None = None) -> Verdict:
    """Give the verdict of a packet."""
    results = () if detections is None else (EngineOutcome(LABEL, 1, detections),)
    return Verdict(packet, packet.pts, reason, width=640, height=360, results=results)


@dataclass
class Scene:
    """A channel that is streamed, one frame after the other."""

    watch: WatchConfig = WATCH
    policy: DeliveryPolicy = DeliveryPolicy.LIVE
    fps: float = 10.0
    session: str = "s1"
    at_s: float = EPOCH_S
    sequence: int = 0
    min_score: float | None = None
    capture_clock: int = 1
    # How far the server's wall clock is ahead of what it should be.
    leap_s: float = 0.0
    desk: NotingDesk = field(default_factory=NotingDesk)
    verdicts: list[Verdict] = field(default_factory=list)

    def __post_init__(self) -> None:
        desk: Any = self.desk
        self.steady_s = self.at_s - EPOCH_S
        self.monitor = ChannelMonitor(ChannelRecord("gate", watch=self.watch), desk, None, steady=lambda: self.steady_s)
        self.begin(self.session)

    def begin(self, session: str, at_s: float | None = None) -> None:
        """Begin another session, or come back to the one there is."""
        if session != self.session:
            self.sequence = 0
        self.session, self.at_s = session, self.at_s if at_s is None else at_s
        self.steady_s = self.at_s - EPOCH_S
        config = channel_config(self.policy, self.capture_clock)
        self.monitor.begin(session, config, self.at_s)

    def tick(self, after_s: float = 0.0) -> None:
        """Let time pass until so long after now."""
        self.steady_s = self.at_s - EPOCH_S + after_s
        self.monitor.tick(self.at_s + after_s + self.leap_s)

    def frame(
        self, detections: Detections | None, reason: SkipReason | None = None, *, capture_s: float | None = None
    ) -> Verdict:
        """Send a packet and judge it."""
        packet = packet_at(self.at_s, self.sequence, capture_s)
        packet.received_wall_ns += round(self.leap_s * 1e9)
        self.steady_s = packet.received_s
        self.monitor.packet(packet)
        verdict = verdict_of(packet, detections, reason)
        self.monitor.mask(verdict)
        self.monitor.judge(verdict, self.session, self.min_score)
        self.verdicts.append(verdict)
        self.sequence += 1
        self.at_s += 1 / self.fps
        return verdict

    def walk(self, start: tuple[float, float], end: tuple[float, float], seconds: float) -> list[Verdict]:
        """Let one person walk."""
        count = round(seconds * self.fps)
        (x, y), (u, v) = start, end
        return [self.frame(found((x + (u - x) * n / count, y + (v - y) * n / count))) for n in range(count)]
