"""What a crash has left open comes to an end, and a file that no event tells of is known to be nobody's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from support_store import an_event, ended
from vedette_server.data.event import EventState, Evidence, EvidenceState
from vedette_server.store.changes import EvidenceChange
from vedette_server.store.recovering import WHY, is_named, recover
from vedette_server.store.store import EventStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PENDING = Evidence(EvidenceState.PENDING, media_type="image/jpeg")
PICTURE, BOXES = "gate/2026-11-21/e1.jpg", "gate/2026-11-21/e1.boxes.jpg"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    with EventStore(f"sqlite:///{tmp_path / 'events.db'}", key_file=tmp_path / "key") as opened:
        yield opened


def kept(path: str) -> Evidence:
    return Evidence(EvidenceState.READY, 3, "ab" * 32, "image/jpeg", path=path)


def test_what_goes_on_and_what_is_pending_is_brought_to_an_end_once(store: EventStore) -> None:
    store.append([an_event("e1", clip=PENDING), ended("e2", snapshot=PENDING), ended("e3")])
    assert recover(store) == 2
    one, two = store.get("e1").event, store.get("e2").event
    assert one is not None
    assert two is not None
    assert (one.state, one.end_s, one.clip.state) == (EventState.ENDED, one.update_s, EvidenceState.FAILED)
    assert WHY in one.detail
    assert (two.snapshot.state, two.snapshot.detail, two.snapshot.media_type) == (
        EvidenceState.FAILED,
        WHY,
        "image/jpeg",
    )
    assert recover(store) == 0


def test_a_file_is_its_events_only_when_the_event_tells_of_it(store: EventStore) -> None:
    store.append([ended("e1", snapshot=PENDING, annotated=PENDING)])
    store.append([EvidenceChange("e1", snapshot=kept(PICTURE))])
    recover(store)
    assert is_named(store, PICTURE)
    assert not is_named(store, BOXES), "it was kept, and its event was never told before the crash"
    assert not is_named(store, PICTURE.replace("e1", "e2")), "there is no such event"


def test_a_file_whose_event_gave_it_up_is_nobodys(store: EventStore) -> None:
    store.append([ended("e1", snapshot=kept(PICTURE))])
    store.append([EvidenceChange("e1", snapshot=replace(kept(PICTURE), state=EvidenceState.EXPIRED))])
    assert not is_named(store, PICTURE)
