"""Remove what is not to be kept any more: events with their files, files beyond a channel's bytes, old recordings.

A thread of its own goes through it every so often, step by step, so that events are kept meanwhile. What a channel says
for itself goes before what the settings say, and goes on to hold when it is deleted. Where a channel has too many
bytes, recordings go first.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from vedette_server.errors import EvidenceError
from vedette_server.evidence.left import forget_limits, note_limits, noted_limits, trim
from vedette_server.evidence.store import safe_name
from vedette_server.store.errors import StoreUnavailableError, StoreUnusableError
from vedette_server.store.querying import EventFilter
from vedette_server.store.retaining import Retention

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from vedette_server.data.channel import RetentionConfig
    from vedette_server.evidence.recording import RecordingIndex
    from vedette_server.evidence.store import EvidenceStore
    from vedette_server.store.changes import Stored
    from vedette_server.store.retaining import Removal
    from vedette_server.store.store import EventStore

_log = logging.getLogger(__name__)

_LAST_STEP_S = 30.0


class StoreKeeper:
    """Keeps the store and its files within their limits.

    Args:
        store: The events.
        files: Their files; None: there are none.
        wanted: What holds for channels that do not say otherwise.
        channels: Tells what channels say for themselves, by name; one that is missing is not there any more.
        recordings: Tells the recordings there are, by channel; those of others are found by their folders.
        on_changed: Told of events whose files are gone.
        interval_s: How often it looks.
        clock: Seconds since the epoch.
        strangers: Folders of evidence that may be another store's: of channels that are not there nothing is removed in
            these.
    """

    def __init__(
        self,
        store: EventStore,
        files: EvidenceStore | None,
        wanted: RetentionConfig,
        channels: Callable[[], Mapping[str, RetentionConfig]],
        recordings: Callable[[], Mapping[str, RecordingIndex]],
        on_changed: Callable[[Stored], None],
        interval_s: float,
        clock: Callable[[], float] = time.time,
        strangers: Collection[str] = (),
    ) -> None:
        self._store = store
        self._files = files
        self._wanted = wanted
        self._channels = channels
        self._recordings = recordings
        self._on_changed = on_changed
        self._interval_s = interval_s
        self._clock = clock
        self._strangers = frozenset(strangers)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-keeper", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more; may be called twice. What it does just now may take as long as a step of the store."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_STEP_S)

    def look(self) -> None:
        """Remove what is not to be kept now.

        Raises:
            StoreUnavailableError: The store does not answer now.
            StoreUnusableError: It cannot be used any more.
        """
        channels = self._channels()
        gone = self._gone(channels)
        said = {**(gone or {}), **channels}
        own = {name: _over(config, self._wanted) for name, config in said.items() if _says(config)}
        # Where it cannot be told what those said that are gone, nothing of theirs is removed.
        others = tuple(channels.keys() - own.keys()) if gone is None else None
        try:
            self._retain(_retention(self._wanted, others, tuple(own)))
            for name, config in own.items():
                self._retain(_retention(config, (name,), ()))
            for name in gone or ():
                self._forget(name)
        finally:
            # Recordings stand in no store: one that does not answer must not let them fill the disk.
            recordings = self._recordings()
            for name, index in recordings.items():
                self._trim(name, index, own.get(name, self._wanted))
            if gone is not None:
                self._trim_others(recordings, own)

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            try:
                self.look()
            except (StoreUnavailableError, StoreUnusableError) as error:
                _log.warning("what is not kept any more could not be removed", extra={"error": str(error)})
            except Exception:  # noqa: BLE001 - the next look may go well
                _log.exception("what is not kept any more could not be removed")

    def _retain(self, wanted: Retention) -> None:
        for removal in self._store.retain(wanted):
            self._delete(removal)
            if self._stopping.is_set():
                return

    def _delete(self, removal: Removal) -> None:
        files = self._files
        if files is not None:
            for channel, event_id in removal.removed:
                self._try(partial(files.remove_of, channel, event_id))
            for stored in removal.expired:
                if stored.event is not None:
                    self._try(partial(files.remove_of, stored.event.channel, stored.event.event_id))
        for stored in removal.expired:
            self._on_changed(stored)

    def _trim(self, channel: str, index: RecordingIndex, wanted: RetentionConfig) -> None:
        """Remove a channel's oldest recordings until they are young and few enough."""
        files = self._files
        if files is None:
            return
        total = files.total_bytes(channel)
        oldest_s = None if wanted.max_age_s is None else self._clock() - wanted.max_age_s
        for segment in index.segments:
            too_old = oldest_s is not None and segment.last_s < oldest_s
            if self._stopping.is_set() or not (too_old or (wanted.max_bytes is not None and total > wanted.max_bytes)):
                return
            if self._try(partial(files.remove, segment.path)):
                index.forget(segment.path)
                total -= segment.size_bytes

    def _gone(self, channels: Mapping[str, RetentionConfig]) -> dict[str, RetentionConfig] | None:
        """Return what those channels said last that are not there any more; None: it cannot be told now."""
        try:
            said = {} if self._files is None else noted_limits(self._files, channels.keys())
        except OSError as error:
            _log.warning("limits of deleted channels cannot be read: theirs stays", extra={"error": str(error)})
            return None
        return {name: config for name, config in said.items() if safe_name(name) not in self._strangers}

    def _forget(self, channel: str) -> None:
        """Forget what a channel said last when nothing of it is left."""
        files = self._files
        if files is None or files.total_bytes(channel) or channel in self._channels():
            return
        if self._store.query(EventFilter(channels=(channel,)), size=1).events:
            return
        forget_limits(files, channel)
        if (again := self._channels().get(channel)) is not None:
            # It was made again meanwhile, and its note may have gone.
            note_limits(files, channel, again)

    def _trim_others(self, recorded: Collection[str], own: Mapping[str, RetentionConfig]) -> None:
        """Remove the oldest recordings of channels that nobody records: deleted ones, or evidence is not kept now."""
        files = self._files
        if files is None:
            return
        limits = {safe_name(name): config for name, config in own.items()}
        apart = self._strangers | {safe_name(name) for name in recorded}
        for folder, held in files.held_apart(apart).items():
            trim(files, held, limits.get(folder, self._wanted), self._clock(), self._stopping.is_set)

    @staticmethod
    def _try(remove: Callable[[], object]) -> bool:
        try:
            remove()
        except EvidenceError as error:
            # Of an event it stays until the next start, which removes what no event names; of a recording until the
            # next look.
            _log.warning("a file could not be removed", extra={"error": str(error)})
            return False
        return True


def _says(config: RetentionConfig) -> bool:
    return not (config.max_age_s is None and config.max_events is None and config.max_bytes is None)


def _over(config: RetentionConfig, below: RetentionConfig) -> RetentionConfig:
    return type(config)(
        below.max_age_s if config.max_age_s is None else config.max_age_s,
        below.max_events if config.max_events is None else config.max_events,
        below.max_bytes if config.max_bytes is None else config.max_bytes,
    )


def _retention(config: RetentionConfig, channels: tuple[str, ...] | None, apart: tuple[str, ...]) -> Retention:
    return Retention(config.max_age_s, config.max_events, config.max_bytes, channels=channels, apart=apart)
