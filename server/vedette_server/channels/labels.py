"""Which labels rules may name: those of a channel's engines where they are known, else those of any engine here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vedette_server.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vedette_server.data.channel import ChannelRecord
    from vedette_server.data.config import EngineRef
    from vedette_server.execute.catalogue import Catalogue

# A file of thousands of channels is checked with one look at the engines.
_KEPT_S = 5.0


class KnownLabels:
    """Tells labels.

    Args:
        engines: The engines that there are.
        clock: Monotonic seconds.
    """

    def __init__(self, engines: Catalogue, clock: Callable[[], float] = time.monotonic) -> None:
        self._engines = engines
        self._clock = clock
        self._all: tuple[str, ...] = ()
        self._read_s: float | None = None

    def __call__(self, record: ChannelRecord) -> tuple[str, ...]:
        """Return the labels; none where no engine is known: then none is refused."""
        if record.source is not None:
            own = self._of(record.source.stream.engines)
            if own:
                return own
        now_s = self._clock()
        if self._read_s is None or now_s - self._read_s >= _KEPT_S:
            self._all = _sorted(
                label
                for listed in self._engines.list()
                if listed.bundle is not None
                for label in listed.bundle.manifest.labels
            )
            self._read_s = now_s
        return self._all

    def _of(self, engines: Iterable[EngineRef]) -> tuple[str, ...]:
        labels: set[str] = set()
        for ref in engines:
            try:
                labels |= set(self._engines.resolve(ref.name, ref.version).manifest.labels)
            except NotFoundError:
                # Whoever calls the camera will say so.
                return ()
        return _sorted(labels)


def _sorted(labels: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(labels)))
