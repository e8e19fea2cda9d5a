"""Bring events to an end that a crash has left open: nobody goes on with them, and what is pending never comes.

Called once, before anything is written. Events that go on are found by their state; of those that were over, the
latest are looked through for evidence that was still being written: those of the last records, and those that went on a
while before them.

Files are kept before their events tell of them: those that came too late for that are nobody's, and are told here.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING

from vedette_server.data.event import EventState, Evidence, EvidenceState
from vedette_server.store.changes import EvidenceChange
from vedette_server.store.querying import EventFilter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vedette_server.data.event import Event
    from vedette_server.store.changes import Change
    from vedette_server.store.store import EventStore

WHY = "the server stopped"
# Evidence is complete long before: so many records back from the end of the chain are looked at, and those that went on
# for so long before the events there. The former goes by no camera's clock, the latter by no flood of events.
_RECENT = 20_000
_BEFORE_S = 1800.0
_GROUP = 256


def recover(store: EventStore) -> int:
    """End what goes on, and give up what is pending; return how many events were changed."""
    recent = _recent(store)
    left: dict[str, list[Change]] = {}
    for event in chain(_active(store), _before(store, recent), recent):
        if event.event_id not in left and (changes := list(_changes(event))):
            left[event.event_id] = changes
    changed = list(left.values())
    for start in range(0, len(changed), _GROUP):
        store.append([change for one in changed[start : start + _GROUP] for change in one])
    return len(changed)


def is_named(store: EventStore, path: str) -> bool:
    """Tell whether a file of evidence is one that its event, by whose id it is called, tells of.

    Args:
        store: The events, recovered: nothing is pending.
        path: Where it lies in the store of evidence.
    """
    return path in named_of(store, [path])


def named_of(store: EventStore, paths: Sequence[str]) -> set[str]:
    """Choose, of many files, those that their events tell of; see `is_named`."""
    named: set[str] = set()
    event_ids = sorted({path.rpartition("/")[2].partition(".")[0] for path in paths})
    for start in range(0, len(event_ids), _GROUP):
        for stored in store.get_many(event_ids[start : start + _GROUP]).values():
            if (event := stored.event) is not None:
                pieces = (event.snapshot, event.annotated, event.clip)
                named.update(one.path for one in pieces if one.state is EvidenceState.READY)
    return named.intersection(paths)


def _active(store: EventStore) -> Iterator[Event]:
    return _all_of(store, EventFilter(states=(EventState.ACTIVE,)))


def _before(store: EventStore, recent: Sequence[Event]) -> Iterator[Event]:
    """Find the events that went on a while before the latest; by their middle: a clock may be years off."""
    if not recent:
        return iter(())
    return _all_of(store, EventFilter(start_s=median(event.update_s for event in recent) - _BEFORE_S))


def _all_of(store: EventStore, wanted: EventFilter) -> Iterator[Event]:
    token = ""
    while True:
        page = store.query(wanted, size=_GROUP, token=token)
        yield from [one.event for one in page.events if one.event is not None]
        token = page.next_token
        if not token:
            return


def _recent(store: EventStore) -> list[Event]:
    offset = max(store.end()[0] - _RECENT, 0)
    latest: dict[str, Event] = {}
    while True:
        changes = store.changes_after(offset, limit=_GROUP)
        for one in changes.changes:
            if one.event is not None:
                latest[one.event_id] = one.event
        if changes.through <= offset:
            break
        offset = changes.through
    return list(latest.values())


def _changes(event: Event) -> Iterator[Change]:
    if event.state is EventState.ACTIVE:
        detail = f"{event.detail}; {WHY}" if event.detail else WHY
        yield replace(event, state=EventState.ENDED, end_s=event.update_s, detail=detail)
    if pieces := {
        name: _failed(one)
        for name, one in (("snapshot", event.snapshot), ("clip", event.clip), ("annotated", event.annotated))
        if one.state is EvidenceState.PENDING
    }:
        yield EvidenceChange(event.event_id, **pieces)


def _failed(one: Evidence) -> Evidence:
    return replace(one, state=EvidenceState.FAILED, detail=WHY)
