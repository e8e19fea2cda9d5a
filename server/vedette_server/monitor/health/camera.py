"""The health of one camera: from packets and small pictures to events about the camera itself.

One object per channel, for as long as the channel is known, over all its sessions; called by one thread at a time.
Whoever calls sees to it that times do not run back. They are of receipt in all calls, and of a clock that nobody sets:
the camera's own is among what is judged, and an event of it would otherwise lie where the clock jumped to. Events have
dates: their times are as far ahead of these as is said when they begin.

Offline is told by `tick` or by the next packet. A fault of the picture is judged on two pictures a second, a fault of
the stream on every packet. In the dark and while overexposed, what is seen is not judged: a fault that went on goes on.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vedette_server.data.event import EventKind
from vedette_server.monitor.base import Changes
from vedette_server.monitor.health.fault import Fault
from vedette_server.monitor.health.finding import Finding
from vedette_server.monitor.health.still import Stillness
from vedette_server.monitor.health.transport import CaptureClock, Decoding, Rates
from vedette_server.monitor.health.view import VIEW_KINDS, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vedette_server.data.event import Event
    from vedette_server.data.rules import HealthConfig
    from vedette_server.monitor.luma import Luma

_PERIOD_S = 0.5
_KINDS = tuple(kind for kind in EventKind if kind.of_camera)
_RATE_KINDS = frozenset({EventKind.CAMERA_LOW_FRAME_RATE, EventKind.CAMERA_LOW_BITRATE})
_PICTURE_KINDS = frozenset({EventKind.CAMERA_DARK, EventKind.CAMERA_BRIGHT, EventKind.CAMERA_FROZEN, *VIEW_KINDS})
_STREAM_KINDS = _RATE_KINDS | {EventKind.CAMERA_CLOCK_JUMP, EventKind.CAMERA_DECODE_ERRORS}


class CameraHealth:
    """Watches one camera.

    Args:
        channel: The channel's bare name.
        config: What is watched.
        apart_s: Tells how many seconds since the epoch are ahead of the times that it is called with.
    """

    def __init__(self, channel: str, config: HealthConfig, apart_s: Callable[[], float] = lambda: 0.0) -> None:
        self._config = config
        self._faults = {kind: Fault(channel, kind, apart_s) for kind in _KINDS}
        self._packet_s: float | None = None
        self._picture_s = -math.inf
        self._session, self._sequence = "", 0
        self._rates, self._clock, self._decoding = Rates(), CaptureClock(), Decoding()
        self._view, self._stillness = View(), Stillness()

    @property
    def faults(self) -> tuple[EventKind, ...]:
        """Kinds of the faults that go on."""
        return tuple(kind for kind, fault in self._faults.items() if fault.event is not None)

    def start(self, time_s: float, session: str) -> Changes:
        """Take note that a stream begins, or one that was cut goes on: it may wait for a keyframe again."""
        self._session = session
        self._rates.restart()
        self._clock.restart()
        self._decoding.restart()
        return self._end(_STREAM_KINDS, time_s, "another stream began")

    def packet(self, time_s: float, size_bytes: int, capture_s: float | None = None, sequence: int = 0) -> Changes:
        """Take note of a packet.

        Args:
            time_s: When it came.
            size_bytes: How large it is.
            capture_s: When it was captured by the camera's own clock, seconds since the epoch; None where there is no
                such clock, and for files.
            sequence: Its number.
        """
        changes = self._offline(time_s)
        self._packet_s, self._sequence = time_s, sequence
        self._put(changes, self._faults[EventKind.CAMERA_OFFLINE].end(time_s))
        if not self._config.enabled:
            return changes
        findings = self._rates.take(time_s, size_bytes)
        if findings is not None:
            self._judge(changes, findings, _RATE_KINDS, time_s)
        if capture_s is not None:
            jump = self._clock.take(time_s, capture_s, max(self._config.min_time_s, 1.0))
            self._judge(changes, [jump] if jump else [], {EventKind.CAMERA_CLOCK_JUMP}, time_s)
        return changes

    def answer(self, time_s: float, sound: bool) -> Changes:
        """Take note of what became of a packet: a sound picture (or none, rightly), or UNDECODABLE or LOST_REFERENCE.

        Packets that shedding dropped are not told of: that is no fault of the camera.
        """
        changes = Changes()
        if self._config.enabled:
            finding = self._decoding.take(time_s, sound)
            self._judge(changes, [finding] if finding else [], {EventKind.CAMERA_DECODE_ERRORS}, time_s)
        return changes

    def wants(self, time_s: float) -> bool:
        """Tell whether a picture is wanted now."""
        return self._config.enabled and time_s - self._picture_s >= _PERIOD_S - 1e-3

    def picture(self, luma: Luma, time_s: float) -> Changes:
        """Look at a picture, with lines; those that are not wanted yet are not looked at."""
        changes = Changes()
        if not self.wants(time_s):
            return changes
        self._picture_s = time_s
        findings, seen = self._view.take(luma, time_s)
        still = self._stillness.take(luma, time_s)
        judged = _PICTURE_KINDS if seen else _PICTURE_KINDS - VIEW_KINDS - {EventKind.CAMERA_FROZEN}
        if still is not None and seen:
            findings = [*findings, still]
        self._judge(changes, findings, judged, time_s)
        return changes

    def tick(self, time_s: float) -> Changes:
        """Let time pass; call it once a second or so."""
        return self._offline(time_s)

    def change(self, config: HealthConfig, time_s: float) -> Changes:
        """Watch by another configuration from now on; events of what is not watched any more end."""
        self._config = config
        gone = {kind for kind in _KINDS if not config.enabled or kind.value in config.ignored}
        return self._end(gone, time_s, "not watched any more")

    def close(self, time_s: float) -> Changes:
        """End all events that go on: the stream ended in order, or the channel is forgotten."""
        self._packet_s = None
        return self._end(_KINDS, time_s, "the stream ended")

    def _offline(self, time_s: float) -> Changes:
        changes = Changes()
        if self._packet_s is None or not self._config.enabled:
            return changes
        silent_s = time_s - self._packet_s
        if silent_s < self._config.offline_after_s:
            return changes
        finding = Finding(EventKind.CAMERA_OFFLINE, "no packets come", {"silent_s": silent_s}, since_s=self._packet_s)
        self._see(changes, finding, time_s, after_s=self._config.offline_after_s)
        self._rates.restart()
        self._clock.restart()
        for kind in (_STREAM_KINDS | _PICTURE_KINDS) & set(self.faults):
            self._put(changes, self._faults[kind].end(self._packet_s, "the camera is offline"))
        return changes

    def _judge(self, changes: Changes, findings: Iterable[Finding], judged: Iterable[EventKind], time_s: float) -> None:
        found = {finding.kind: finding for finding in findings}
        for kind in _KINDS:
            if kind in found:
                finding = found[kind]
                jump = kind is EventKind.CAMERA_CLOCK_JUMP  # over as soon as it has happened
                after_s = 0.0 if jump else max(self._config.min_time_s, finding.patience_s)
                self._see(changes, finding, time_s, after_s=after_s)
            elif kind in judged:
                self._put(changes, self._faults[kind].miss(time_s, self._config.min_time_s))

    def _see(self, changes: Changes, finding: Finding, time_s: float, *, after_s: float) -> None:
        if finding.kind.value in self._config.ignored:
            return
        event = self._faults[finding.kind].see(
            time_s,
            finding.detail,
            after_s=after_s,
            measures=finding.measures,
            since_s=finding.since_s,
            session=self._session,
            sequence=self._sequence,
        )
        if event is not None:
            changes.events.append(event)

    def _end(self, kinds: Iterable[EventKind], time_s: float, why: str) -> Changes:
        changes = Changes()
        for kind in _KINDS:
            if kind in kinds:
                self._put(changes, self._faults[kind].end(time_s, why))
        return changes

    @staticmethod
    def _put(changes: Changes, event: Event | None) -> None:
        if event is not None:
            changes.events.append(event)
