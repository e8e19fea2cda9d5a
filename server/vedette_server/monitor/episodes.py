"""From what a rule found to events: identities, updates that are worth telling, and ends.

An update is told at most once a second, and only where a measure changed by more than a tenth, the peak score by 0.05,
or a track joined; where nothing did, every ten seconds. What is told at the end is exact, whatever was told before.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vedette_server.data.event import Event, EventKind, EventState

if TYPE_CHECKING:
    from vedette_server.data.rules import Anchor
    from vedette_server.monitor.traces import Sighting, Trace

_UPDATE_S = 1.0
_KEEP_S = 10.0
_MOST_TRACKS = 64
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


@dataclass(slots=True)
class Episode:
    """One event that goes on.

    Attributes:
        origin: The rule's part of it.
        event: As it stands; told or not.
        subject: The track that causes it; None where no single one does.
    """

    origin: Origin
    event: Event
    subject: Trace | None
    _told: Event = field(init=False)

    def __post_init__(self) -> None:
        self._told = self.event

    @classmethod
    def begin(
        cls,
        origin: Origin,
        moment: Moment,
        start_s: float,
        subject: Trace | None,
        members: tuple[Trace, ...],
        measures: Mapping[str, float],
        subject_id: str | None = None,
    ) -> Episode:
        """Begin an event; `subject_id` names its cause where that is no track that lives."""
        cause = subject_id if subject_id is not None else subject.track_id if subject is not None else ""
        event = Event(
            event_id=event_id_of(origin.channel, origin.rule, origin.kind, cause, start_s, moment.session),
            channel=origin.channel,
            kind=origin.kind,
            rule=origin.rule,
            state=EventState.ACTIVE,
            start_s=start_s,
            update_s=max(start_s, moment.time_s),
            place=origin.place,
            engine_version=moment.engine_version,
            session=moment.session,
            sequence=moment.sequence,
        )
        episode = cls(origin, event, subject)
        episode.note(moment.time_s, members or ((subject,) if subject is not None else ()), measures)
        episode._told = episode.event = episode._full()
        return episode

    def note(self, time_s: float, members: tuple[Trace, ...], measures: Mapping[str, float]) -> None:
        """Take note that it goes on at a time, with whom and how."""
        event = self.event
        best = max((trace for trace in members if trace.seen), key=lambda trace: trace.last.score, default=None)
        peak, box = event.peak_score, event.box
        if best is not None and (peak is None or best.last.score > peak):
            peak, box = best.last.score, best.last.box
        joined = dict.fromkeys((*event.track_ids, *(trace.track_id for trace in members)))
        self.event = replace(
            event,
            update_s=max(event.update_s, time_s),
            track_ids=tuple(joined)[:_MOST_TRACKS],
            label=_common_label(members) if members else event.label,
            peak_score=peak,
            box=box,
            measures=dict(measures),
        )

    def tell(self) -> Event | None:
        """Give the event where what has changed is worth telling."""
        passed = self.event.update_s - self._told.update_s
        if passed < _UPDATE_S or (passed < _KEEP_S and not _differ(self._told, self.event)):
            return None
        self._told = self.event = self._full()
        return self.event

    def end(self, end_s: float, why: str = "") -> Event:
        """End it; a reason other than that its condition does not hold any more stands in its detail."""
        event = self._full()
        end_s = max(end_s, event.start_s)
        detail = f"{event.detail}; {why}" if why else event.detail
        return replace(event, state=EventState.ENDED, end_s=end_s, update_s=max(event.update_s, end_s), detail=detail)

    def show(self, sighting: Sighting) -> None:
        """Let its picture be that of a sighting: what it is about is not seen any more."""
        self.event = replace(self.event, box=sighting.box, peak_score=sighting.score)

    def inherit(self, trace: Trace) -> None:
        """Let it go on with the track that took its subject's place."""
        self.subject = trace
        joined = dict.fromkeys((*self.event.track_ids, trace.track_id))
        self.event = replace(self.event, track_ids=tuple(joined)[:_MOST_TRACKS])

    def _full(self) -> Event:
        """Write what is not worth writing for every frame: the trail and the words."""
        trail = self.subject.trail.points(self.origin.anchor) if self.subject is not None else self.event.trail
        return replace(self.event, trail=trail, detail=self._words())

    def _words(self) -> str:
        told = self.origin.tell(self.event.measures)
        if self.origin.kind is EventKind.ABSENCE:
            return told
        return f"{self.event.label or 'objects'} {told}"


def momentary(
    origin: Origin,
    moment: Moment,
    start_s: float,
    subject: Trace,
    measures: Mapping[str, float],
    sequence: int,
) -> Event:
    """Make an event that is over as soon as it has happened."""
    episode = Episode.begin(origin, moment, start_s, subject, (subject,), measures)
    peak, box = episode.event.peak_score, episode.event.box
    if peak is None:  # its end told of it: nothing was seen in this frame
        peak, box = subject.last.score, subject.last.box
    event = replace(episode.event, sequence=sequence, peak_score=peak, box=box, update_s=start_s)
    return replace(event, state=EventState.ENDED, end_s=start_s)


def _common_label(members: tuple[Trace, ...]) -> str:
    labels = {trace.label for trace in members}
    return labels.pop() if len(labels) == 1 else ""


def _differ(told: Event, now: Event) -> bool:
    if told.track_ids != now.track_ids or (now.peak_score or 0.0) - (told.peak_score or 0.0) >= 0.05:
        return True
    if told.measures.keys() != now.measures.keys():
        return True
    for name, value in now.measures.items():
        if name not in _CLOCKS and abs(value - told.measures[name]) > 0.1 * abs(told.measures[name]):
            return True
    return False
