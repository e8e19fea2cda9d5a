"""Bring events to an end that a crash has left open: nobody goes on with them, and what is pending never comes.

Called once, before anything is written. Events that go on are found by their state; of those that were over, the
latest are looked through for evidence that was still being written.

Files are kept before their events tell of them: those that came too late for that are nobody's, and are told here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vedette_server.data.event import EventState, Evidence, EvidenceState
from vedette_server.store.changes import EvidenceChange
from vedette_server.store.querying import EventFilter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette_server.data.event import Event
    from vedette_server.store.changes import Change
    from vedette_server.store.store import EventStore

WHY = "the server stopped"
# Evidence is complete long before: so many records back from the end of the chain are looked at.
_RECENT = 20_000
_GROUP = 256


def recover(store: EventStore) -> int:
    """End what goes on, and give up what is pending; return how many events were changed."""
    changed = set()
    for event in (*_active(store), *_recent(store)):
        if event.event_id in changed:
            continue
        changes = list(_changes(event))
        if changes:
            store.append(changes)
            changed.add(event.event_id)
    return len(changed)


def is_named(store: EventStore, path: str) -> bool:
    """Tell whether a file of evidence is one that its event, by whose id it is called, tells of.

    Args:
        store: The events, recovered: nothing is pending.
        path: Where it lies in the store of evidence.
    """
    event_id = path.rpartition("/")[2].partition(".")[0]
    stored = store.get_many([event_id]).get(event_id)
    event = None if stored is None else stored.event
    if event is None:
        return False
    pieces = (event.snapshot, event.annotated, event.clip)
    return any(one.state is EvidenceState.READY and one.path == path for one in pieces)


def _active(store: EventStore) -> Iterator[Event]:
    token = ""
    while True:
        page = store.query(EventFilter(states=(EventState.ACTIVE,)), size=_GROUP, token=token)
        yield from [one.event for one in page.events if one.event is not None]
        token = page.next_token
        if not token:
            return


def _recent(store: EventStore) -> Iterator[Event]:
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
    yield from latest.values()


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
