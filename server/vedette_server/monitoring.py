"""Build what monitors channels, and run it: the store of events, evidence, the catalogue of channels, their monitors.

The part of `app.py` that is only there when a server is given a folder or a file of channels. Parts are opened in order
and closed in reverse: first nothing new begins, then what goes on is ended, its clips are completed, and all is kept.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from vedette_server.channels.catalogue import ChannelCatalogue
from vedette_server.channels.check import check_record
from vedette_server.data.channel import RetentionConfig
from vedette_server.data.event import EvidenceState
from vedette_server.decode.limits import PictureLimits
from vedette_server.errors import EvidenceError, NotFoundError, SettingsError
from vedette_server.evidence.clip import ClipLimits
from vedette_server.evidence.collecting import EvidenceParts
from vedette_server.evidence.recording import PREFIX
from vedette_server.evidence.showing import check_shown
from vedette_server.evidence.store import EvidenceStore, safe_name
from vedette_server.evidence.workers import EvidenceWorkers
from vedette_server.metrics_monitoring import MonitoringFigures
from vedette_server.monitor.desk import EventDesk
from vedette_server.monitor.monitors import Monitors
from vedette_server.pull.hosts import Hosts
from vedette_server.sinks.delivery import Deliverer
from vedette_server.sinks.file import load_sinks
from vedette_server.state_dir import StateDir
from vedette_server.store.errors import StoreUnavailableError, StoreUnusableError
from vedette_server.store.feed import EventFeed
from vedette_server.store.keeping import StoreKeeper
from vedette_server.store.recovering import named_of, recover
from vedette_server.store.store import EventStore
from vedette_server.store.writer import EventWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from vedette_server.cascade.cascades import Cascades
    from vedette_server.data.channel import ChannelRecord
    from vedette_server.data.event import Event
    from vedette_server.data.rules import WatchConfig
    from vedette_server.data.verdict import Verdict
    from vedette_server.evidence.recording import RecordingIndex
    from vedette_server.settings import Settings

_log = logging.getLogger(__name__)

# What waits to be kept when the server stops has so long.
LAST_WRITES_S = 10.0


class Monitoring:
    """All that monitors channels.

    Args:
        settings: All settings; `monitor.enabled` holds.
        labels: Tells the labels that a channel's engines know; empty: not known yet.
        publish: Told of every verdict; see `Monitors`.
        cascades: Look closer at what is followed; closed by whoever gives them, after this.
        check_engines: Refuses a channel whose engines cannot be run.

    Attributes:
        store: The events.
        feed: Wakes who follows them.
        files: Evidence.
        catalogue: The channels that are known.
        monitors: What looks at them.
        writer: Brings events to the store.
        sinks: Delivers events; None: nowhere.

    Raises:
        SettingsError: Something cannot be used as the settings say.
    """

    def __init__(
        self,
        settings: Settings,
        labels: Callable[[ChannelRecord], tuple[str, ...]],
        publish: Callable[[str, str, Verdict, int | None, str], None],
        cascades: Cascades,
        check_engines: Callable[[ChannelRecord], None],
    ) -> None:
        self._settings = settings
        self._check_engines = check_engines
        self._hosts = Hosts.read(settings.monitor.source_hosts)
        with contextlib.ExitStack() as stack:
            self.folder = settings.monitor.state_dir or default_folder()
            stack.enter_context(StateDir(self.folder))
            self.store = stack.enter_context(_open_store(settings, self.folder))
            self.feed = EventFeed(_recovered(self.store))
            # Opened last, closed behind the writer: what is kept to the last is delivered, too.
            self.sinks: Deliverer | None = None
            stack.callback(self._close_sinks)
            self.files = self._open_files(stack)
            self.writer = EventWriter(self.store, capacity=settings.store.queue)
            self.desk = EventDesk(self.writer, self.feed, self.files)
            stack.callback(self._close_writer)
            self.workers = EvidenceWorkers(settings.evidence.threads, settings.evidence.max_jobs)
            stack.callback(self.workers.close, LAST_WRITES_S)
            self.catalogue = ChannelCatalogue(
                self.folder / "channels.json", settings.monitor.channels_file, partial(self._check, labels)
            )
            self.monitors = self._open_monitors(publish, cascades)
            stack.callback(self.monitors.close)
            stack.callback(self.catalogue.listen(self.monitors.changed))
            strangers = self._strangers()
            if not strangers:
                self._remove_orphans()
            self.keeper = StoreKeeper(
                self.store,
                self.files,
                _retention(settings),
                self._channel_retentions,
                self._recordings,
                self.feed.told,
                settings.store.retain_interval_s,
                strangers=strangers,
            )
            self.keeper.start()
            stack.callback(self.keeper.close)
            self.sinks = self._open_sinks()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what goes on, and keep it; may be called twice."""
        self._stack.close()

    @property
    def figures(self) -> MonitoringFigures:
        """What was counted; what is owed to the store waits, too."""
        writer = self.writer.figures()
        return MonitoringFigures(
            {one.name: one.told for one in self.monitors.all()},
            self.desk.counts,
            replace(writer, waiting=writer.waiting + self.desk.owed, lost=writer.lost + self.desk.lost),
            self.feed.length,
            self.files.total_bytes(),
            bool(self.files.trouble),
            self.workers.jobs,
            sinks={} if self.sinks is None else self.sinks.figures(),
        )

    def watch_of(self, channel: str) -> WatchConfig | None:
        """Tell what is wanted of a channel now, by its bare name; None: it is not known. Any thread."""
        record = self.catalogue.get(channel)
        return None if record is None else record.watch

    def tick(self) -> None:
        """Let time pass, and look whether the file of channels changed.

        Once a second or so, never on the event loop.
        """
        self.catalogue.reload()
        self.monitors.tick()
        self.desk.pay()

    def _check(self, labels: Callable[[ChannelRecord], tuple[str, ...]], record: ChannelRecord) -> None:
        check_record(record, labels(record), self._settings.monitor.source_dirs, self._hosts)
        self._check_engines(record)

    def _close_writer(self) -> None:
        until_s = time.monotonic() + LAST_WRITES_S
        while not self.desk.pay() and time.monotonic() < until_s:
            self.writer.flush(0.1)
        lost = self.writer.close(LAST_WRITES_S) + self.desk.owed
        if lost:
            _log.error("%d changes of events could not be kept: the store does not answer", lost)
        if before := self.desk.lost + self.writer.figures().lost:
            _log.error("%d changes of events were lost while it ran", before)

    def _open_files(self, stack: contextlib.ExitStack) -> EvidenceStore:
        evidence = self._settings.evidence
        folder = evidence.dir or self.folder / "evidence"
        if evidence.dir is not None:
            # Else the folder of the state is held already.
            stack.enter_context(StateDir(folder, "evidence.dir"))
        try:
            return EvidenceStore(folder, min_free_bytes=evidence.min_free_bytes, on_state=_say_disk)
        except EvidenceError as error:
            raise SettingsError(f"evidence.dir {str(folder)!r} cannot be used: {error}") from error

    def _open_monitors(
        self, publish: Callable[[str, str, Verdict, int | None, str], None], cascades: Cascades
    ) -> Monitors:
        try:
            return Monitors(self.catalogue.records(), self.desk, self._parts(), publish, cascades)
        except OSError as error:
            # The recordings that there are could not be listed.
            folder = str(self.files.root)
            raise SettingsError(f"evidence.dir {folder!r} cannot be used: {error.strerror}") from error

    def _parts(self) -> EvidenceParts | None:
        evidence, decode = self._settings.evidence, self._settings.decode
        if not evidence.enabled:
            return None
        return EvidenceParts(
            self.files,
            self.workers,
            ClipLimits(evidence.pre_s, evidence.post_s, evidence.max_clip_s),
            PictureLimits(decode.max_width, decode.max_height),
            evidence.ring_bytes,
            self.desk.evidence,
        )

    def _open_sinks(self) -> Deliverer | None:
        file = self._settings.sinks.file
        if file is None:
            return None
        return Deliverer(
            load_sinks(file),
            self.store,
            self.feed,
            self.folder / "sinks",
            channels=self.catalogue,
            fetch_snapshot=self._annotated,
        )

    def _close_sinks(self) -> None:
        if self.sinks is not None:
            self.sinks.close()

    def _annotated(self, event: Event) -> bytes | None:
        """Read an event's annotated snapshot; None: it is not there (yet), or may not be shown any more."""
        if event.annotated.state is not EvidenceState.READY:
            return None
        try:
            check_shown("the annotated snapshot", event.channel, event.annotated.policy, self.watch_of(event.channel))
            return self.files.find(event.annotated.path).read_bytes()
        except (EvidenceError, NotFoundError, OSError):
            return None

    def _strangers(self) -> frozenset[str]:
        """Return the folders of evidence that may be of another store: this one has never had an event.

        Those of recordings alone are not among them where their channel is known: not every channel has events.
        """
        if self.store.end()[0]:
            return frozenset()
        known = {safe_name(name) for name in self._channel_retentions()}
        whose = ((path.partition("/")[0], path) for path in self.files.paths)
        found = frozenset(folder for folder, path in whose if folder not in known or not _is_recording(path))
        if found:
            _log.error(
                "there is no event in the store, but evidence: it stays as it is; is store.url the right one?",
                extra={"store": self.store.place, "evidence": str(self.files.root)},
            )
        return found

    def _remove_orphans(self) -> None:
        """Remove the files that no event names, as a crash leaves them.

        Recordings name themselves: they stay until they are too old or too many, whether or not their channel is known.
        """
        paths = self.files.paths
        known = {path for path in paths if _is_recording(path)}
        try:
            known |= named_of(self.store, [path for path in paths if path not in known])
            removed = self.files.remove_orphans(known.__contains__)
        except (EvidenceError, StoreUnavailableError, StoreUnusableError) as error:
            _log.warning("files that no event names could not be removed", extra={"error": str(error)})
            return
        if removed:
            _log.warning("%d files that no event names were removed", len(removed))

    def _channel_retentions(self) -> Mapping[str, RetentionConfig]:
        # Those that are refused just now were not deleted: what they say holds.
        records = (*self.catalogue.refused(), *self.catalogue.records())
        return {record.name: record.retention for record in records}

    def _recordings(self) -> Mapping[str, RecordingIndex]:
        monitors = self.monitors.all()
        return {one.name: one.collector.index for one in monitors if one.collector is not None}


def default_folder() -> Path:
    """Return where a user's programs keep their state, by the XDG Base Directory Specification 0.8."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "vedette"


def _open_store(settings: Settings, folder: Path) -> EventStore:
    url = f"sqlite:///{folder / 'events.db'}" if settings.store.url == "auto" else settings.store.url
    try:
        timeout_s = settings.store.timeout_s
        return EventStore(url, key_file=folder / "chain.key", timeout_s=timeout_s, clock=time.time, alone=True)
    except (StoreUnavailableError, StoreUnusableError) as error:
        raise SettingsError(f"store.url: {error}") from error


def _recovered(store: EventStore) -> int:
    """Bring to an end what was left open; return how many records there are."""
    try:
        found = recover(store)
        if found:
            _log.warning("%d events were left open and are ended now", found)
        return store.end()[0]
    except (StoreUnavailableError, StoreUnusableError) as error:
        raise SettingsError(f"store.url: {error}") from error


def _is_recording(path: str) -> bool:
    return path.rpartition("/")[2].startswith(PREFIX)


def _retention(settings: Settings) -> RetentionConfig:
    store, max_bytes = settings.store, settings.evidence.max_bytes
    return RetentionConfig(store.max_age_s or None, store.max_events or None, max_bytes or None)


def _say_disk(trouble: str) -> None:
    if trouble:
        _log.error("evidence is not kept", extra={"error": trouble})
    else:
        _log.info("evidence is kept again")
