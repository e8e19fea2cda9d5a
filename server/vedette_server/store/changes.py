"""What may change of an event, and what became of a change. Plain data and pure functions.

Three may change an event, each what is theirs: the rules (all but the next two), who writes files (snapshot and clip),
and persons (the acknowledgement). So none overwrites what it cannot know.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from vedette_server.data.event import Acknowledgement, Event, EventState, Evidence, EvidenceState


@dataclass(frozen=True, slots=True)
class EvidenceChange:
    """What became of an event's files; None: as it was."""

    event_id: str
    snapshot: Evidence | None = None
    clip: Evidence | None = None
    annotated: Evidence | None = None


@dataclass(frozen=True, slots=True)
class AcknowledgementChange:
    """Somebody has seen an event."""

    event_id: str
    acknowledgement: Acknowledgement


Change = Event | EvidenceChange | AcknowledgementChange


class Outcome(StrEnum):
    """What became of a change.

    Attributes:
        ADDED: It is a record now.
        SAME: The event is like that already; nothing was added.
        STALE: The event has gone on since, or is over: a replay. Nothing was added.
        REMOVED: The event was there and retention has removed it: it does not come back.
        UNKNOWN: There is no event that it could change.
        THINNED: The queue was full; a later change of the same event tells more. Only updates of lasting events.
        FAILED: It cannot be kept, by a fault of ours that the log tells.
    """

    ADDED = "added"
    SAME = "same"
    STALE = "stale"
    REMOVED = "removed"
    UNKNOWN = "unknown"
    THINNED = "thinned"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of one change.

    Attributes:
        outcome: What.
        event_id: Of which event.
        number: The event's latest record: its offset in the chain, from 1; 0 where there is none.
        event: The event as it stands in that record; None where there is none.
    """

    outcome: Outcome
    event_id: str
    number: int = 0
    event: Event | None = None


# What may follow: what is settled is never taken back by the rules, which know of a piece only that it was asked for.
_SETTLED = (EvidenceState.READY, EvidenceState.FAILED, EvidenceState.EXPIRED)


def merge(present: Event | None, change: Change) -> Event | Outcome:
    """Give the event as it is after a change, or why there is nothing to keep; SAME is left to who knows the bytes."""
    if present is None:
        return change if isinstance(change, Event) else Outcome.UNKNOWN
    if isinstance(change, Event):
        return _judged(present, change)
    if isinstance(change, EvidenceChange):
        return replace(
            present,
            snapshot=_next_evidence(present.snapshot, change.snapshot),
            clip=_next_evidence(present.clip, change.clip),
            annotated=_next_evidence(present.annotated, change.annotated),
        )
    if _says_nothing_new(present.acknowledgement, change.acknowledgement):
        return present
    return replace(present, acknowledgement=change.acknowledgement)


def _says_nothing_new(present: Acknowledgement | None, change: Acknowledgement) -> bool:
    """Tell whether somebody who has seen an event says so again, and no more; or nobody does, where somebody has."""
    if present is None:
        return False
    if (present.user or present.token) and not (change.user or change.token):
        return True
    return (present.user, present.token) == (change.user, change.token) and change.note in {"", present.note}


def _judged(present: Event, change: Event) -> Event | Outcome:
    ends = present.state is EventState.ACTIVE and change.state is EventState.ENDED
    reopens = present.state is EventState.ENDED and change.state is EventState.ACTIVE
    if reopens or (change.update_s < present.update_s and not ends):
        return Outcome.STALE
    return replace(
        change,
        channel=present.channel,
        snapshot=_next_evidence(present.snapshot, change.snapshot, by_rules=True),
        clip=_next_evidence(present.clip, change.clip, by_rules=True),
        annotated=_next_evidence(present.annotated, change.annotated, by_rules=True),
        acknowledgement=change.acknowledgement or present.acknowledgement,
    )


def _next_evidence(present: Evidence, change: Evidence | None, *, by_rules: bool = False) -> Evidence:
    if change is None or present.state is EvidenceState.EXPIRED:
        return present
    if by_rules and (present.state in _SETTLED or change.state is EvidenceState.NONE):
        return present
    return change
