"""Take the snapshots of one event from its channel's ring; a job of the evidence workers."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_server.data.event import Evidence, EvidenceState
from vedette_server.errors import EvidenceError
from vedette_server.evidence.picturing import PictureFinder
from vedette_server.evidence.snapshot import MEDIA_TYPE, take_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from vedette_server.data.rules import Points
    from vedette_server.decode.limits import PictureLimits
    from vedette_server.evidence.ring import PacketRing
    from vedette_server.evidence.snapshot import Drawing
    from vedette_server.evidence.store import EvidenceStore, Filed

_log = logging.getLogger(__name__)

PLAIN, ANNOTATED = ".jpg", ".boxes.jpg"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which picture of which event is wanted, and what is drawn into it.

    Attributes:
        channel: The channel's bare name.
        event_id: The event.
        index: The packet, by the ring's count; None: it is not held any more.
        drawing: What was seen.
        hidden: What is blackened first.
    """

    channel: str
    event_id: str
    index: int | None
    drawing: Drawing
    hidden: tuple[Points, ...]


class SnapshotJob:
    """Takes the two snapshots of one event.

    Args:
        ring: The channel's packets.
        store: Where they are filed.
        wanted: What is wanted.
        limits: The largest picture.
        on_done: Told what became of the plain and of the annotated one, on a worker's thread.
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
        self._told = False

    def step(self) -> float | None:
        """Decode some packets; see `Job`."""
        try:
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
        if self._finder is not None:
            self._finder.close()
        return None

    def abort(self) -> None:
        """Give it up: the server stops."""
        if self._finder is not None:
            self._finder.close()
        self._fail("the server stopped before it was taken")

    def _opened(self) -> PictureFinder:
        if self._finder is None:
            if self._wanted.index is None:
                raise EvidenceError("the picture is not held any more")
            self._finder = PictureFinder(self._ring, self._wanted.index, self._limits)
        return self._finder

    def _file(self, pixels: NDArray[np.uint8], time_s: float) -> None:
        wanted = self._wanted
        plain = take_snapshot(pixels, wanted.hidden)
        annotated = take_snapshot(pixels, wanted.hidden, wanted.drawing)
        filed = [
            self._store.put(wanted.channel, wanted.event_id, suffix, time_s, one.jpeg)
            for suffix, one in ((PLAIN, plain), (ANNOTATED, annotated))
        ]
        self._tell(*(_ready(one) for one in filed))

    def _fail(self, detail: str) -> None:
        failed = Evidence(EvidenceState.FAILED, media_type=MEDIA_TYPE, detail=detail)
        self._tell(failed, failed)

    def _tell(self, plain: Evidence, annotated: Evidence) -> None:
        if not self._told:
            self._told = True
            self._on_done(plain, annotated)


def _ready(filed: Filed) -> Evidence:
    return Evidence(EvidenceState.READY, filed.size_bytes, filed.sha256, MEDIA_TYPE, path=filed.path)
