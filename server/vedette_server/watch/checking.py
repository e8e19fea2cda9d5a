"""Check the chain of events and their files, for a caller who may give up. Blocks: not for the event loop."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from vedette_server.data.event import EvidenceState
from vedette_server.errors import EvidenceError, NotFoundError
from vedette_server.store.querying import MOST_PER_PAGE
from vedette_server.store.verifying import MOST_FINDINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette_server.data.event import Event, Evidence
    from vedette_server.evidence.store import EvidenceStore
    from vedette_server.store.chain import ChainHead
    from vedette_server.store.store import EventStore

_BLOCK_BYTES = 1 << 20


class StoppedError(Exception):
    """Nobody waits for the outcome any more."""


class Checking:
    """One check.

    Args:
        store: The events.
        evidence: Their files.
        head: A head that the chain must contain; None: only the chain itself is checked.
        with_files: Also read the files.

    Attributes:
        records: Records checked so far; any thread may look.
        files: Files checked so far.
    """

    def __init__(self, store: EventStore, evidence: EvidenceStore, head: ChainHead | None, *, with_files: bool) -> None:
        self.records = 0
        self.files = 0
        self._store = store
        self._evidence = evidence
        self._head = head
        self._with_files = with_files
        self._stopped = False

    def stop(self) -> None:
        """Give up soon; any thread."""
        self._stopped = True

    def run(self) -> list[str]:
        """Check, and give what does not fit, in words, at most a thousand.

        Raises:
            StoppedError: Somebody stopped it.
            InvalidError: A head was given and the store has no key to check its signature with.
        """
        verification = self._store.verify(self._head, on_progress=self._on_progress)
        self.records = verification.records
        findings = [f"record {one.number}: {one.text}" if one.number else one.text for one in verification.findings]
        if self._with_files:
            for finding in self._check_files():
                if len(findings) >= MOST_FINDINGS:
                    break
                findings.append(finding)
        return findings

    def _on_progress(self, number: int) -> None:
        self._check_stopped()
        self.records = number

    def _check_files(self) -> Iterator[str]:
        token = ""
        while True:
            page = self._store.query(size=MOST_PER_PAGE, token=token)
            for stored in page.events:
                if stored.event is not None:
                    yield from self._check_event(stored.event)
            token = page.next_token
            if not token:
                return

    def _check_event(self, event: Event) -> Iterator[str]:
        for what, evidence in pieces(event).items():
            if evidence.state is not EvidenceState.READY:
                continue
            self._check_stopped()
            wrong = self._check_file(evidence)
            self.files += 1
            if wrong and self._is_still_kept(event.event_id, what):
                yield f"channels/{event.channel}/events/{event.event_id}: the {what} {wrong}"

    def _check_file(self, evidence: Evidence) -> str:
        """Say what is wrong with a file; empty: nothing."""
        digest = hashlib.sha256()
        try:
            with self._evidence.find(evidence.path).open("rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    self._check_stopped()
                    digest.update(block)
        except EvidenceError:
            return "is not there"
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        return "" if digest.hexdigest() == evidence.sha256 else "was changed: its hash differs"

    def _is_still_kept(self, event_id: str, what: str) -> bool:
        """Tell whether a piece has to be there: retention may have been here since the event was read."""
        try:
            now = self._store.get(event_id).event
        except NotFoundError:
            return False
        return now is not None and pieces(now)[what].state is EvidenceState.READY

    def _check_stopped(self) -> None:
        if self._stopped:
            raise StoppedError


def pieces(event: Event) -> dict[str, Evidence]:
    """Give an event's pieces of evidence by what they are called."""
    return {"snapshot": event.snapshot, "annotated snapshot": event.annotated, "clip": event.clip}
