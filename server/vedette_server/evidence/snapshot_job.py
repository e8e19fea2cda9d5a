"""Take the snapshots of one event from its channel's ring; a job of the evidence workers.

A picture that shows the object better is filed beside the one before, under a name of its own: until the event says so
in the store, the older files are what it says.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_server.data.event import Evidence, EvidenceState
from vedette_server.errors import EvidenceError
from vedette_server.evidence.picturing import PictureFinder
from vedette_server.evidence.showing import kept_under
from vedette_server.evidence.snapshot import MEDIA_TYPE, take_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from vedette_server.data.rules import Points
    from vedette_server.decode.limits import PictureLimits
    from vedette_server.evidence.drawing import Drawing
    from vedette_server.evidence.ring import PacketRing
    from vedette_server.evidence.store import EvidenceStore, Filed

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which picture of which event is wanted, and what is drawn into it.

    Attributes:
        channel: The channel's bare name.
        event_id: The event.
        index: The packet, by the ring's count; None: it is not held any more.
        drawing: What was seen.
        hidden: What is blackened first.
        take: Counts the pictures of the event, from 0.
    """

    channel: str
    event_id: str
    index: int | None
    drawing: Drawing
    hidden: tuple[Points, ...]
    take: int = 0


class SnapshotJob:
    """Takes the two snapshots of one event.

    Args:
        ring: The channel's packets.
        store: Where they are filed.
        wanted: What is wanted.
        limits: The largest picture.
        on_done: Told what became of the plain and of the annotated one, on a worker's thread; at most once.
    """

    def __init__(
        self,
        ring: PacketRing,
        store: EvidenceStore,
        wanted: Wanted,
        limits: PictureLimits,
        on_done: Callable[[Evidence, Evidence], None],
    ) -> None:
        self._ring = ring
        self._store = store
        self._wanted = wanted
        self._limits = limits
        self._on_done = on_done
        self._finder: PictureFinder | None = None
        self._lock = threading.Lock()
        self._cancelled = ""
        self._told = False
        self._filed: tuple[str, ...] = ()

    @property
    def filed(self) -> tuple[str, ...]:
        """The files that were told of."""
        return self._filed

    def cancel(self, why: str) -> None:
        """Keep nothing of what was not told yet, and tell why. Any thread."""
        with self._lock:
            self._cancelled = self._cancelled or why

    def forgo(self) -> bool:
        """Have nothing told and kept any more; False: something was told already. Any thread."""
        with self._lock:
            if self._told:
                return False
            self._told, self._cancelled = True, "it is not wanted any more"
            return True

    def step(self) -> float | None:
        """Decode some packets; see `Job`."""
        try:
            self._check()
            finder = self._opened()
            pixels = finder.step()
            if pixels is None:
                return 0.0
            self._file(pixels, finder.time_s)
        except EvidenceError as error:
            self._store.report(error)
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the event must not wait for its picture for ever
            _log.exception("a snapshot was given up")
            self._fail(f"{type(error).__name__}: {error}")
        self._close()
        return None

    def abort(self) -> None:
        """Give it up: the server stops."""
        self._close()
        self._fail("the server stopped before it was taken")

    def _check(self) -> None:
        if self._cancelled:
            raise EvidenceError(self._cancelled)

    def _opened(self) -> PictureFinder:
        if self._finder is None:
            if self._wanted.index is None:
                raise EvidenceError("the picture is not held any more")
            self._finder = PictureFinder(self._ring, self._wanted.index, self._limits)
        return self._finder

    def _close(self) -> None:
        finder, self._finder = self._finder, None
        if finder is not None:
            finder.close()

    def _file(self, pixels: NDArray[np.uint8], time_s: float) -> None:
        wanted = self._wanted
        plain = take_snapshot(pixels, wanted.hidden)
        annotated = take_snapshot(pixels, wanted.hidden, wanted.drawing)
        filed: list[Filed] = []
        try:
            for suffix, one in zip(_suffixes(wanted.take), (plain, annotated), strict=True):
                self._check()
                filed.append(self._store.put(wanted.channel, wanted.event_id, suffix, time_s, one.jpeg))
            if self._settle(filed):
                policy = kept_under(wanted.hidden)
                self._on_done(*(_ready(one, policy) for one in filed))
                return
            self._check()
        except EvidenceError:
            self._remove(filed)
            raise
        # It was told otherwise meanwhile.
        self._remove(filed)

    def _settle(self, filed: list[Filed]) -> bool:
        """Decide, against who cancels at this moment, that the files are kept."""
        with self._lock:
            if self._told or self._cancelled:
                return False
            self._told, self._filed = True, tuple(one.path for one in filed)
            return True

    def _remove(self, filed: list[Filed]) -> None:
        for one in filed:
            try:
                self._store.remove(one.path)
            except EvidenceError:
                # It is told already; the next start removes what no event names.
                _log.warning("a file that is not wanted stays", extra={"path": one.path})

    def _fail(self, detail: str) -> None:
        with self._lock:
            if self._told:
                return
            self._told = True
        failed = Evidence(EvidenceState.FAILED, media_type=MEDIA_TYPE, detail=detail)
        self._on_done(failed, failed)


def _suffixes(take: int) -> tuple[str, str]:
    return (f".{take}.jpg", f".boxes{take}.jpg") if take else (".jpg", ".boxes.jpg")


def _ready(filed: Filed, policy: str) -> Evidence:
    return Evidence(EvidenceState.READY, filed.size_bytes, filed.sha256, MEDIA_TYPE, path=filed.path, policy=policy)
