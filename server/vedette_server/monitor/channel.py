"""The monitor of one channel: what its packets, pictures and verdicts mean, for as long as the channel is known.

It outlives sessions, so that identities survive a reconnect. Tracks and rules go by the channel's time line
(`clock.py`), health by receipt on the monotonic clock. Time passes for rules with what is judged: an analysed frame, or
one in which nothing moved; of a camera that sends nothing, nobody knows what is absent.

What the first detector of a channel finds is followed. Health is watched of LIVE channels only: how fast a recording is
sent says nothing about its camera.

Threads: packets come on the event loop, pictures on the decoder's worker, verdicts on any thread, one at a time;
time from a ticker. Two locks: one for what goes by verdicts, one for health. The motion gate belongs to the decoder's
worker.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from typing import TYPE_CHECKING

from vedette_server.data.config import DeliveryPolicy
from vedette_server.data.outcome import SkipReason
from vedette_server.data.rules import GateMode
from vedette_server.errors import UndecodableError
from vedette_server.evidence.pixels import hidden
from vedette_server.metrics_monitoring import ChannelFigures
from vedette_server.monitor.base import Scene
from vedette_server.monitor.clock import PacketClock
from vedette_server.monitor.health.camera import CameraHealth
from vedette_server.monitor.health.passing import PassingTime
from vedette_server.monitor.judge import RuleJudge
from vedette_server.monitor.luma import luma_of
from vedette_server.monitor.masking import DetectionMasks
from vedette_server.monitor.motion import MotionGate
from vedette_server.monitor.tracking import ChannelTracker
from vedette_server.picture.letterbox import SQUARE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from fractions import Fraction

    from vedette_server.cascade.channel import ChannelCascade
    from vedette_server.data.channel import ChannelRecord
    from vedette_server.data.config import ChannelConfig
    from vedette_server.data.event import Event, EventKind
    from vedette_server.data.packet import Packet
    from vedette_server.data.rules import WatchConfig
    from vedette_server.data.verdict import EngineOutcome, Verdict
    from vedette_server.decode.base import Decoded
    from vedette_server.evidence.collecting import Collector
    from vedette_server.monitor.base import Changes, Tracked, TrackView
    from vedette_server.monitor.desk import EventDesk

_log = logging.getLogger(__name__)

# The contract's CAPTURE_CLOCK_FILE: a recording's times say nothing about the clock of whoever sends it.
_FILE_CLOCK = 3
_UNSOUND = frozenset({SkipReason.UNDECODABLE, SkipReason.LOST_REFERENCE})
# Where detections are reported from this score on, those from 0.4 on begin tracks; of an engine whose scores are lower,
# those of twice the lowest that is reported.
_SURE, _TWICE = 0.4, 2.0


class ChannelMonitor:
    """The monitor of one channel.

    Args:
        record: The channel; it has passed the checks.
        desk: Where its events go.
        collector: Keeps its packets and sees to evidence; None: nothing is kept.
        cascade: Looks closer at what is followed; None: nobody does.
        steady: The clock that packets' `received_s` are of.

    Attributes:
        gated: Pictures that the gate looked at, by its reason.
        live_tracks: How many objects are followed now, confirmed or not.
        frame_s: When its latest analysed picture was taken; None: there is none.
        seen: The packet of the frame that was followed last, and its tracks.
    """

    def __init__(
        self,
        record: ChannelRecord,
        desk: EventDesk,
        collector: Collector | None,
        cascade: ChannelCascade | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = record.name
        self.gated: dict[str, int] = {}
        self.live_tracks = 0
        self.frame_s: float | None = None
        self.seen: tuple[int, tuple[TrackView, ...]] | None = None
        self.record = record
        self._desk = desk
        self.collector = collector
        self.cascade = cascade
        # Sessions begin on the event loop and end on workers.
        self._attending = threading.Lock()
        self._session = ""
        self._clock: PacketClock | None = None
        self._sample_aspect: Fraction | None = None
        self._has_clock = False
        self._judging = threading.Lock()
        # What no other tracker's identities begin with.
        self._prefix = secrets.token_hex(6)
        self._tracker = ChannelTracker(record.watch.tracking, prefix=self._prefix)
        self._judge = RuleJudge(record.name, record.watch)
        self._time_s, self._aspect, self._judged_session = 0.0, 1.0, ""
        self._watching = threading.Lock()
        self._steady = steady
        self._passing = PassingTime()
        self._health = CameraHealth(record.name, record.watch.health, lambda: self._passing.apart_s)
        self._closed_rules = self._closed_health = False
        self._gate = MotionGate(record.watch.gate, record.watch.masks)
        self._gated: ChannelRecord | None = record
        self._take_over(record.watch)

    # -- sessions: on the event loop --

    def begin(self, session: str, config: ChannelConfig, now_s: float) -> None:
        """Take note of a session's connection: the first, or one more.

        Args:
            session: Its bare name.
            config: Its configuration.
            now_s: Seconds since the epoch.
        """
        recorded = config.policy is DeliveryPolicy.EVERY_FRAME
        with self._attending:
            if session != self._session or self._clock is None:
                self._session = session
                # Its packet has a number that another packet of this session will have.
                self.seen = None
                dated = config.capture_clock != _FILE_CLOCK
                self._clock = PacketClock(config.format.time_base, recorded=recorded, dated=dated)
                self._sample_aspect = config.format.sample_aspect
                if self.collector is not None:
                    self.collector.begin(config.format, session)
            self._clock.recorded = recorded
        self._has_clock = config.capture_clock != _FILE_CLOCK
        if not recorded:
            with self._watching:
                self._tell(self._health.start(self._now(now_s), session))

    def changed(self, config: ChannelConfig) -> None:
        """Take note of another configuration of the session that is on."""
        if self._clock is not None:
            self._clock.recorded = config.policy is DeliveryPolicy.EVERY_FRAME

    def packet(self, packet: Packet) -> None:
        """Take a packet of the session that began last; sets its `time_s`. Quick."""
        clock = self._clock
        if clock is None:
            return
        packet.time_s = clock.time_of(packet)
        if self.collector is not None:
            self.collector.feed(packet)
        if not clock.recorded:
            captured_ns = packet.capture_wall_ns if self._has_clock else None
            capture_s = None if captured_ns is None else captured_ns / 1e9
            with self._watching:
                self._tell(self._health.packet(self._at(packet), len(packet.data), capture_s, packet.sequence))

    def ended(self, session: str, end_reason: str) -> None:
        """Take note that a session is over: what it saw is over, too; a camera that was cut off is missed."""
        with self._attending:
            if session != self._session:
                return
            self._clock = None
            if self.collector is not None:
                self.collector.end()
        with self._judging:
            ended = self._reset()
            if self._time_s:
                self._tell(self._judge.step(Scene(self._time_s, session, -1, self._aspect, (), ended)))
            self._judge.unwatched()
        if end_reason == "FINISHED":
            with self._watching:
                self._tell(self._health.close(self._passing.latest_s))

    # -- pictures: on the decoder's worker --

    def look(self, answers: Sequence[Decoded]) -> None:
        """Look at decoded pictures: whether the camera is well, and whether anything moves that engines should see."""
        gated = self.record.watch.gate.mode is GateMode.MOTION
        clock = self._clock
        for answer in answers:
            if answer.picture is None or answer.reason is not None or answer.packet.decode_only:
                continue
            wanted = clock is not None and not clock.recorded and self._health.wants(answer.packet.received_s)
            if gated or wanted:
                self._look(answer, gated=gated, wanted=wanted)

    def _look(self, answer: Decoded, *, gated: bool, wanted: bool) -> None:
        assert answer.picture is not None  # noqa: S101  # chosen by it
        try:
            luma = luma_of(answer.picture, lines=wanted)
        except UndecodableError:
            # Its verdict will say so.
            return
        if wanted:
            with self._watching:
                self._tell(self._health.picture(luma, self._at(answer.packet)))
        if gated and not self._passes(luma.grey, answer.packet.time_s):
            answer.reason = SkipReason.NO_MOTION

    def _passes(self, grey: object, time_s: float) -> bool:
        record = self.record
        if record is not self._gated:
            self._gate.change(record.watch.gate, record.watch.masks)
            self._gated = record
        runs = self._gate.decide(grey, time_s, live_tracks=self.live_tracks > 0)  # type: ignore[arg-type]
        self.gated[self._gate.reason.value] = self.gated.get(self._gate.reason.value, 0) + 1
        return runs

    # -- verdicts: one at a time --

    def is_of(self, session: str) -> bool:
        """Whether a session is the one that began last: what comes late of another one is not its."""
        return session == self._session

    def mask(self, verdict: Verdict) -> None:
        """Drop the detections that masks hide, in place."""
        for outcome in verdict.results:
            if outcome.detections is not None:
                self._masks.apply(outcome.detections)

    def judge(self, verdict: Verdict, session: str, min_score: float | None) -> None:
        """Follow and judge what was found in a frame, after `mask`; gives its detections their tracks.

        Args:
            verdict: In presentation order; its detections are changed in place.
            session: Whose it is: the one that began last.
            min_score: Lowest score that its channel reports; None: its engine's default.
        """
        reason = verdict.reason
        if reason is not None:
            self._skipped(verdict, reason, session)
            return
        self._answered(verdict, sound=True)
        detector = next((one for one in verdict.results if one.detections is not None), None)
        time_s = verdict.packet.time_s
        self.frame_s = time_s
        if detector is None or not self._follows:
            return
        with self._judging:
            self._go_on(time_s, session)
            self._follow(verdict, detector, min_score)

    def _go_on(self, time_s: float, session: str) -> None:
        """Let the time line go on; another session may begin earlier, and then all is followed anew."""
        if self._judged_session == session:
            self._time_s = max(time_s, self._time_s)
            return
        self._judged_session = session
        if time_s < self._time_s:
            self._reset()
            first_number = self._tracker.next_number
            self._tracker = ChannelTracker(self.record.watch.tracking, prefix=self._prefix, first_number=first_number)
        self._time_s = time_s

    def _follow(self, verdict: Verdict, detector: EngineOutcome, min_score: float | None) -> None:
        found, label = detector.detections, detector.engine
        assert found is not None  # noqa: S101  # chosen by it
        aspect = self._aspect = self._aspect_of(verdict)
        floor = label.min_score if min_score is None else min_score
        self._tracker.sure_score = min(_SURE, _TWICE * floor) if floor > 0 else _SURE
        tracked: Tracked = self._tracker.update(found, label.labels, self._time_s, aspect)
        found.track_ids = tracked.track_ids
        self.live_tracks = len(tracked.tracks)
        self.seen = verdict.packet.sequence, tracked.tracks
        scene = Scene(
            self._time_s,
            self._judged_session,
            verdict.packet.sequence,
            aspect,
            tracked.tracks,
            tracked.ended,
            f"{label.name}@{label.version}",
        )
        if self.cascade is not None:
            self._look_closer(self.cascade, verdict, detector, tracked)
        self._tell(self._judge.step(scene))

    def _look_closer(
        self, cascade: ChannelCascade, verdict: Verdict, detector: EngineOutcome, tracked: Tracked
    ) -> None:
        found = detector.detections
        assert found is not None  # noqa: S101  # chosen by it
        aspect, labels = self._sample_aspect or SQUARE, detector.engine.labels
        cascade.look(verdict.picture, aspect, found, labels, self._time_s, self._hidden)
        cascade.attach(found)
        cascade.forget(tracked.ended)

    def _skipped(self, verdict: Verdict, reason: SkipReason, session: str) -> None:
        if reason in _UNSOUND:
            self._answered(verdict, sound=False)
        elif reason is SkipReason.NO_MOTION:
            self._answered(verdict, sound=True)
            with self._judging:
                self._time_s = max(self._time_s, verdict.packet.time_s)
                self._tell(self._judge.tick(self._time_s, (session, verdict.packet.sequence)))

    def _answered(self, verdict: Verdict, *, sound: bool) -> None:
        clock = self._clock
        if clock is not None and not clock.recorded:
            with self._watching:
                self._tell(self._health.answer(self._at(verdict.packet), sound))

    def _reset(self) -> tuple[str, ...]:
        ended = self._tracker.reset()
        self.live_tracks = 0
        if self.cascade is not None:
            self.cascade.forget(ended)
        return ended

    def _aspect_of(self, verdict: Verdict) -> float:
        sample = float(self._sample_aspect or 1)
        turned = verdict.rotation_degrees in {90, 270}
        return verdict.width / max(verdict.height, 1) * (1 / sample if turned else sample)

    # -- time and changes --

    def tick(self, now_s: float) -> None:
        """Let time pass: a camera that sends nothing is noticed. Once a second or so."""
        with self._watching:
            self._tell(self._health.tick(self._now(now_s)))

    def change(self, record: ChannelRecord, now_s: float) -> None:
        """Go by another configuration from now on; it has passed the checks.

        Args:
            record: The channel as it is wanted now.
            now_s: Seconds since the epoch.
        """
        if self.collector is not None:
            self.collector.change(record)
        with self._judging:
            self._tracker.change(record.watch.tracking)
            self._tell(self._judge.change(record.watch, self._time_s))
            self.record = record
            self._take_over(record.watch)
        if self.cascade is not None:
            self.cascade.change(record.stages)
        with self._watching:
            self._tell(self._health.change(record.watch.health, self._now(now_s)))

    def close(self, now_s: float) -> None:
        """End all that goes on: the channel is forgotten, or the server stops."""
        with self._judging:
            self._reset()
            self._tell(self._judge.close(self._time_s))
            self._closed_rules = True
        if self.cascade is not None:
            self.cascade.close()
        with self._watching:
            self._tell(self._health.close(self._now(now_s)))
            self._closed_health = True
        if self.collector is not None:
            self.collector.close()

    @property
    def told(self) -> ChannelFigures:
        """What it has counted, for the metrics."""
        faults = tuple(kind.value for kind in self.faults)
        return ChannelFigures(self.live_tracks, dict(self.gated), faults)

    @property
    def faults(self) -> tuple[EventKind, ...]:
        """Kinds of camera faults that go on."""
        return self._health.faults

    def _take_over(self, watch: WatchConfig) -> None:
        self._masks, self._hidden = DetectionMasks(watch.masks), hidden(watch)
        self._follows = watch.tracking.enabled or bool(watch.rules) or bool(self.record.stages)
        self._quiet = frozenset(rule.name for rule in watch.rules if not rule.evidence)

    def _tell(self, changes: Changes) -> None:
        if changes.events and (self._closed_rules or self._closed_health):
            # A verdict or a tick that came late: nobody would end what it begins.
            over = {True: self._closed_health, False: self._closed_rules}
            changes.events = [event for event in changes.events if not over[event.kind.of_camera]]
        if changes.events:
            self._desk.take(changes.events, self.collector, self._wants)

    def _wants(self, event: Event) -> bool:
        return event.rule not in self._quiet

    def _now(self, now_s: float) -> float:
        """Let health's time pass; its lock is held."""
        return self._passing.at(self._steady(), now_s)

    def _at(self, packet: Packet) -> float:
        """Let health's time pass until a packet was received; its lock is held."""
        return self._passing.at(packet.received_s, packet.received_wall_ns / 1e9)
