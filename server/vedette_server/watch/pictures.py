"""Open the files of an event, and make sure that they are those that were kept, and may still be shown.

Blocks: not for the event loop.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_server.data.event import EvidenceState
from vedette_server.errors import DamagedError, EvidenceError, NotFoundError, UnavailableError
from vedette_server.evidence.showing import check_shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedReader

    from vedette_server.data.event import Event, Evidence
    from vedette_server.data.rules import WatchConfig
    from vedette_server.evidence.playable import Transcoder
    from vedette_server.evidence.store import EvidenceStore
    from vedette_server.store.store import EventStore

_VIDEO = "video/mp4"


@dataclass(frozen=True, slots=True)
class OpenClip:
    """A clip that is open; whoever has it closes it. It can be read though its file is removed meanwhile.

    Attributes:
        file: At its beginning.
        size_bytes: Its length.
        sha256: Of it, 64 hexadecimal digits.
        media_type: What it is.
        start_s: When its first picture was taken, seconds since the epoch.
        transcoded: It is not the file that is kept.
    """

    file: BufferedReader
    size_bytes: int
    sha256: str
    media_type: str
    start_s: float
    transcoded: bool

    def read(self, most: int) -> bytes:
        """Read on.

        Raises:
            DamagedError: The file is shorter than it was.
        """
        data = self.file.read(most)
        if most and not data:
            raise DamagedError("EVIDENCE_LOST", "the clip became shorter while it was read")
        return data

    def close(self) -> None:
        """Let it go; may be called twice."""
        self.file.close()


class Pictures:
    """Opens the files of events.

    Args:
        store: The events.
        evidence: Their files.
        transcoder: Makes clips playable.
        watch_of: Tells what is wanted of a channel now; None: it is not known.
    """

    def __init__(
        self,
        store: EventStore,
        evidence: EvidenceStore,
        transcoder: Transcoder,
        watch_of: Callable[[str], WatchConfig | None],
    ) -> None:
        self._store = store
        self._evidence = evidence
        self._transcoder = transcoder
        self._watch_of = watch_of

    def snapshot(self, event: Event, *, annotated: bool) -> tuple[bytes, str]:
        """Give a JPEG and its SHA-256.

        Raises:
            UnavailableError: It is being written.
            NotFoundError: There is none, or it may not be shown any more, and why.
            DamagedError: It is not the one that was kept.
        """
        what = "annotated snapshot" if annotated else "snapshot"
        file, evidence = self._open(event, what, _annotated if annotated else _snapshot)
        with file:
            data = file.read()
        _check_hash(event, what, evidence, hashlib.sha256(data).hexdigest())
        return data, evidence.sha256

    def clip(self, event: Event, *, playable: bool, is_wanted: Callable[[], bool] = lambda: True) -> OpenClip:
        """Open a clip, as it was kept or as browsers play it.

        Args:
            event: Whose.
            playable: Transcoded where browsers may not play it.
            is_wanted: Tells whether somebody still waits for it.

        Raises:
            UnavailableError: It is being written.
            NotFoundError: There is none, or it may not be shown any more, and why.
            DamagedError: It is not the one that was kept.
            EvidenceError: It cannot be transcoded.
        """
        file, evidence = self._open(event, "clip", _clip)
        try:
            _check_hash(event, "clip", evidence, hashlib.file_digest(file, "sha256").hexdigest())
            size_bytes = file.seek(0, os.SEEK_END)
            file.seek(0)
            start_s = os.fstat(file.fileno()).st_mtime
            if playable:
                with self._transcoder.playable(evidence.path, is_wanted) as made:
                    if made.transcoded:
                        file.close()
                        # Its file goes when the context is left; what was opened lives on until it is closed.
                        return OpenClip(made.path.open("rb"), made.size_bytes, made.sha256, _VIDEO, start_s, True)
            return OpenClip(file, size_bytes, evidence.sha256, evidence.media_type or _VIDEO, start_s, False)
        except BaseException:
            file.close()
            raise

    def _open(self, event: Event, what: str, piece: Callable[[Event], Evidence]) -> tuple[BufferedReader, Evidence]:
        evidence = piece(event)
        _check(event, what, evidence)
        of = f"the {what} of event {event.event_id!r}"
        check_shown(of, event.channel, evidence.policy, self._watch_of(event.channel))
        try:
            return self._evidence.find(evidence.path).open("rb"), evidence
        except (EvidenceError, OSError) as error:
            # Retention may have been here since the event was read.
            now = self._store.get(event.event_id).event
            if now is not None:
                _check(now, what, piece(now))
            message = f"the {what} of event {event.event_id!r} is not there any more"
            raise DamagedError("EVIDENCE_LOST", message) from error


def _snapshot(event: Event) -> Evidence:
    return event.snapshot


def _annotated(event: Event) -> Evidence:
    return event.annotated


def _clip(event: Event) -> Evidence:
    return event.clip


def _check(event: Event, what: str, evidence: Evidence) -> None:
    """Say why a piece cannot be had, where it cannot."""
    of = f"the {what} of event {event.event_id!r}"
    why = f": {evidence.detail}" if evidence.detail else ""
    match evidence.state:
        case EvidenceState.READY:
            return
        case EvidenceState.PENDING:
            raise UnavailableError("EVIDENCE_PENDING", f"{of} is being written; try again soon")
        case EvidenceState.FAILED:
            raise NotFoundError("EVIDENCE_FAILED", f"{of} could not be written{why}")
        case EvidenceState.EXPIRED:
            raise NotFoundError("EVIDENCE_EXPIRED", f"{of} was removed by retention{why}")
        case EvidenceState.NONE:
            raise NotFoundError("NO_EVIDENCE", f"{of}: none is kept{why}")


def _check_hash(event: Event, what: str, evidence: Evidence, sha256: str) -> None:
    if sha256 != evidence.sha256:
        message = f"the {what} of event {event.event_id!r} was changed: its hash differs"
        raise DamagedError("EVIDENCE_DAMAGED", message)
