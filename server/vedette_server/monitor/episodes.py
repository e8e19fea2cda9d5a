"""From what a rule found to events: identities, updates that are worth telling, and ends.

An update is told at most once a second, and only where a measure changed by more than a tenth, the peak score by 0.05,
or a track joined; where nothing did, every ten seconds. What is told at the end is exact, whatever was told before.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vedette_server.data.event import Event, EventKind, EventState, SeenObject

if TYPE_CHECKING:
    from vedette_server.data.rules import Anchor
    from vedette_server.monitor.traces import Sighting, Trace

_UPDATE_S = 1.0
_KEEP_S = 10.0
_MOST_TRACKS = 64
_NEWS_SCORE = 0.05
_NEWS_SHARE = 0.1
# Measures that grow with time alone: they are told along, never told for.
_CLOCKS = frozenset({"dwell_s", "still_s", "gone_s", "absent_s"})

Tell = Callable[[Mapping[str, float]], str]


def event_id_of(channel: str, rule: str, kind: EventKind, subject: str, start_s: float, session: str = "") -> str:
    """Name an event by its cause, so that the same cause never gives two.

    Args:
        channel: The channel's bare name.
        rule: Name of the rule.
        kind: What happened.
        subject: The track that caused it; empty where no single one did.
        start_s: When it began, seconds since the epoch; a microsecond tells two apart.
        session: The session in which it began: times of files start anew in each.

    Returns:
        130 bits of SHA-256 in base32 (RFC 4648), 26 lower-case characters.
    """
    words = (channel, rule, kind.value, subject, str(round(start_s * 1e6)), session)
    digest = hashlib.sha256("".join(f"{len(word)}:{word}" for word in words).encode()).digest()
    return base64.b32encode(digest).decode("ascii")[:26].lower()


@dataclass(slots=True)
class Moment:
    """What is known of the frame that is being judged, or of the latest one: it goes into its events.

    Attributes:
        time_s: When it was taken; a later time where time has passed without a frame.
        session: The session's bare name.
        sequence: The frame's packet.
        engine_version: `NAME@VERSION` of the engine.
        aspect: Width of the picture over its height.
    """

    time_s: float
    session: str = ""
    sequence: int = 0
    engine_version: str = ""
    aspect: float = 1.0


@dataclass(frozen=True, slots=True)
class Origin:
    """What all events of one rule have in common."""

    channel: str
    rule: str
    kind: EventKind
    place: str
    anchor: Anchor
    tell: Tell


class Episode:
    """One event that goes on.

    What changes with every frame is kept in fields of its own; an `Event` is only made of them when it is told.

    Attributes:
        start_s: When it began.
        measures: What the rule measured last.
    """

    __slots__ = (
        "_base",
        "_best",
        "_label",
        "_objects",
        "_origin",
        "_subject",
        "_told",
        "_tracks",
        "_update_s",
        "measures",
        "start_s",
    )

    def __init__(
        self,
        origin: Origin,
        moment: Moment,
        start_s: float,
        subject: Trace | None,
        members: tuple[Trace, ...],
        measures: Mapping[str, float],
        shown: Sighting | None = None,
    ) -> None:
        """Begin an event.

        Args:
            origin: The rule's part of it.
            moment: The frame that began it, or the latest one before.
            start_s: When it began.
            subject: The track that causes it; None where no single one does.
            members: Tracks that take part, the subject among them.
            measures: What the rule measured.
            shown: What shows it where nothing of it may be seen any more.
        """
        cause = subject.track_id if subject is not None else ""
        self.start_s = start_s
        self.measures = measures
        self._origin, self._subject = origin, subject
        self._update_s = max(start_s, moment.time_s)
        self._tracks: dict[str, None] = {}
        self._label = ""
        self._best = shown
        self._objects: tuple[SeenObject, ...] = ()
        self._base = Event(
            event_id=event_id_of(origin.channel, origin.rule, origin.kind, cause, start_s, moment.session),
            channel=origin.channel,
            kind=origin.kind,
            rule=origin.rule,
            state=EventState.ACTIVE,
            start_s=start_s,
            update_s=self._update_s,
            place=origin.place,
            engine_version=moment.engine_version,
            session=moment.session,
            sequence=moment.sequence,
        )
        self.note(moment.time_s, members, measures)
        self._told = self.event()

    @property
    def told(self) -> Event:
        """The event as it was told last."""
        return self._told

    def note(self, time_s: float, members: tuple[Trace, ...], measures: Mapping[str, float]) -> None:
        """Take note that it goes on at a time, with whom and how."""
        self._update_s = max(self._update_s, time_s)
        self.measures = measures
        before = self._best
        for trace in members:
            if trace.seen and (self._best is None or trace.last.score > self._best.score):
                self._best = trace.last
            if trace.track_id not in self._tracks and len(self._tracks) < _MOST_TRACKS:
                self._tracks[trace.track_id] = None
        if self._subject is None and self._best is not None and self._best is not before:
            self._objects = _objects(members, self._best.time_s)
        if members:
            label = members[0].label
            self._label = label if all(trace.label == label for trace in members) else ""

    def tell(self) -> Event | None:
        """Give the event where what has changed is worth telling."""
        passed = self._update_s - self._told.update_s
        if passed < _UPDATE_S or (passed < _KEEP_S and not self._is_news()):
            return None
        self._told = self.event()
        return self._told

    def end(self, end_s: float, why: str = "") -> Event:
        """End it; a reason other than that its condition does not hold any more stands in its detail."""
        event = self.event()
        end_s = max(end_s, event.start_s)
        detail = f"{event.detail}; {why}" if why else event.detail
        return replace(event, state=EventState.ENDED, end_s=end_s, update_s=max(event.update_s, end_s), detail=detail)

    def inherit(self, trace: Trace) -> None:
        """Let it go on with the track that took its subject's place."""
        self._subject = trace
        if len(self._tracks) < _MOST_TRACKS:
            self._tracks[trace.track_id] = None

    def event(self) -> Event:
        """Write the event as it stands, with the trail and in words."""
        told = self._origin.tell(self.measures)
        if self._origin.kind is not EventKind.ABSENCE:
            told = f"{self._label or 'objects'} {told}"
        return replace(
            self._base,
            update_s=self._update_s,
            label=self._label,
            track_ids=tuple(self._tracks),
            peak_score=self._best.score if self._best is not None else None,
            peak_s=self._best.time_s if self._best is not None else None,
            peak_sequence=self._best.sequence if self._best is not None else 0,
            box=self._best.box if self._best is not None else None,
            measures=dict(self.measures),
            trail=self._subject.trail.points(self._origin.anchor) if self._subject is not None else (),
            detail=told,
            objects=self._objects,
        )

    def _is_news(self) -> bool:
        told = self._told
        if len(self._tracks) != len(told.track_ids):
            return True
        if self._best is not None and self._best.score - (told.peak_score or 0.0) >= _NEWS_SCORE:
            return True
        return any(
            abs(value - told.measures.get(name, 0.0)) > _NEWS_SHARE * abs(told.measures.get(name, 0.0))
            for name, value in self.measures.items()
            if name not in _CLOCKS
        )


def _objects(members: tuple[Trace, ...], time_s: float) -> tuple[SeenObject, ...]:
    """Tell where those that count at a time were seen last: most of them then, others are hidden for a moment."""
    last = [(trace.label, trace.last) for trace in members]
    return tuple(SeenObject(seen.box, label, seen.score, max(time_s - seen.time_s, 0.0)) for label, seen in last)


def momentary(
    origin: Origin, moment: Moment, start_s: float, subject: Trace, measures: Mapping[str, float], sequence: int
) -> Event:
    """Make an event that is over as soon as it has happened; `sequence` is the packet of the frame that shows it."""
    episode = Episode(origin, moment, start_s, subject, (subject,), measures, shown=subject.last)
    return replace(episode.told, sequence=sequence, update_s=start_s, state=EventState.ENDED, end_s=start_s)
