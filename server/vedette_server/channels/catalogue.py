"""All channels that the server knows of, and who is told when one changes.

Channels come from two places: a file that people write, which is watched, and gRPC, kept in a file of our own. Where
both have a channel the file that people write wins, and the kept one comes back when it goes.

Threads: any. What is there is read without waiting; whatever changes does so one at a time, may wait for the disk, and
is there, and told, only when it is kept. Never to be changed on the event loop.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from vedette_server.channels.file import read_channels, stamp_of
from vedette_server.channels.kept import KeptChannels
from vedette_server.channels.urls import with_kept_secrets
from vedette_server.errors import (
    ConflictError,
    InvalidError,
    LimitError,
    NotFoundError,
    OutdatedError,
    SettingsError,
    StateError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from vedette_server.channels.file import Stamp
    from vedette_server.data.channel import ChannelRecord
    from vedette_server.evidence.disk import Disk

    Listener = Callable[[str, ChannelRecord | None], None]

MOST_CHANNELS = 10_000
_OF_WATCH = frozenset(
    "time_zone zones lines rules masks evidence tracking gate health width_metres".split()  # noqa: SIM905 - shorter
)
_OF_RECORD = frozenset({"display_name", "stages", "source", "recording", "retention"})
# What an update may name: the first level of the contract's Channel, less what the server alone says.
CHANGEABLE = _OF_WATCH | _OF_RECORD

_log = logging.getLogger(__name__)


class ChannelCatalogue:
    """All known channels.

    Args:
        kept: File of the channels that were made over gRPC; None: they are forgotten when the server stops.
        file: File of channels that people write; None: there is none.
        check: Refuses a channel with an `InvalidError`, called before anything changes.
        clock: Seconds since the epoch.
        environ: What `${NAME}` in the file is replaced by; None: the process's environment.
        disk: Where `kept` is; a seam for tests.

    Raises:
        SettingsError: One of the files cannot be used.
    """

    def __init__(
        self,
        kept: Path | None,
        file: Path | None,
        check: Callable[[ChannelRecord], None],
        clock: Callable[[], float] = time.time,
        *,
        environ: Mapping[str, str] | None = None,
        disk: Disk | None = None,
    ) -> None:
        self._check = check
        self._clock = clock
        self._environ = os.environ if environ is None else environ
        self._changing = threading.Lock()
        # Apart, so that a callback may end itself.
        self._listening = threading.Lock()
        self._listeners: tuple[Listener, ...] = ()
        self._store = KeptChannels(kept, disk)
        self._kept = self._store.read()
        self._faulty = {name for name, record in self._kept.items() if self._is_faulty(record)}
        self._file = file
        self._stamp: Stamp = ()
        self._settling: Stamp = ()
        self._fault = ""
        self._filed: dict[str, ChannelRecord] = {}
        self._known: Mapping[str, ChannelRecord] = {}
        self._sorted: tuple[ChannelRecord, ...] = ()
        if file is not None:
            self._stamp = self._settling = stamp_of(file)
            self._filed = self._from_file(file)
        self._show()

    # -- looking --

    def get(self, name: str) -> ChannelRecord | None:
        """Return the channel of a bare name; None: there is none."""
        return self._known.get(name)

    def records(self) -> tuple[ChannelRecord, ...]:
        """Return all channels, by name."""
        return self._sorted

    def refused(self) -> tuple[ChannelRecord, ...]:
        """Return the channels that are kept but refused by now: they are not in force, yet nobody deleted them."""
        faulty, known = self._faulty, self._known
        return tuple(record for name, record in self._kept.items() if name in faulty and name not in known)

    def listen(self, callback: Listener) -> Callable[[], None]:
        """Have each change told: the bare name, and the channel as it is now or None when it is gone.

        Changes are told in order, on the thread that made them, before another may begin: the callback is quick, and
        changes nothing here. Who listens before it looks misses nothing.

        Returns:
            Ends it; may be called twice.
        """
        with self._listening:
            self._listeners = (*self._listeners, callback)

        def end() -> None:
            with self._listening:
                self._listeners = tuple(one for one in self._listeners if one is not callback)

        return end

    # -- changing --

    def create(self, record: ChannelRecord) -> ChannelRecord:
        """Make a channel; its revision and times are set here.

        Raises:
            ConflictError: CHANNEL_EXISTS.
            InvalidError: It cannot be kept so.
            LimitError: TOO_MANY_CHANNELS.
            UnavailableError: CHANNELS_NOT_KEPT.
        """
        with self._changing:
            if record.name in self._filed or record.name in self._kept:
                hint = ", but cannot be used as it is: update or delete it" if record.name in self._faulty else ""
                message = f"channel {record.name!r} is there already{hint}"
                raise ConflictError("CHANNEL_EXISTS", message, channel=record.name)
            if len(self._filed.keys() | self._kept.keys()) >= MOST_CHANNELS:
                message = f"{MOST_CHANNELS} channels are known; allowed: at most as many"
                raise LimitError("TOO_MANY_CHANNELS", message)
            if record.source is not None:
                record = replace(record, source=replace(record.source, url=with_kept_secrets(record.source.url, None)))
            self._check(record)
            now_s = self._clock()
            made = replace(_numbered(record, 1), create_s=now_s, update_s=now_s, from_file=False)
            self._keep({**self._kept, made.name: made})
            return made

    def update(self, record: ChannelRecord, fields: frozenset[str] = frozenset()) -> ChannelRecord:
        """Change a channel; where nothing is different it stays as it is, its revision too.

        Args:
            record: The new values; its revision is the one that it was made from, 0: any.
            fields: Names of the first-level fields to change, see `CHANGEABLE`; empty: all.

        Raises:
            InvalidError: INVALID_UPDATE_MASK, HIDDEN_PASSWORD, or it cannot be kept so.
            NotFoundError: UNKNOWN_CHANNEL.
            OutdatedError: CHANNEL_CHANGED: the revision is not the one in effect.
            StateError: CHANNEL_FROM_FILE: it is changed there.
            UnavailableError: CHANNELS_NOT_KEPT.
        """
        for field in sorted(fields - CHANGEABLE):
            allowed = ", ".join(sorted(CHANGEABLE))
            raise InvalidError(
                "INVALID_UPDATE_MASK", f"update_mask is {field!r}; allowed: {allowed}", field="update_mask"
            )
        with self._changing:
            current = self._changeable(record.name)
            if record.revision not in {0, current.revision}:
                message = f"channel {record.name!r} is at revision {current.revision}, not {record.revision}"
                raise OutdatedError("CHANNEL_CHANGED", message, channel=record.name, revision=str(current.revision))
            changed = _merged(current, record, fields or CHANGEABLE)
            if changed == current and current.name not in self._faulty:
                return current
            self._check(changed)
            changed = replace(_numbered(changed, current.revision + 1), update_s=self._clock())
            self._keep({**self._kept, changed.name: changed})
            return changed

    def delete(self, name: str) -> None:
        """Forget a channel.

        Raises:
            NotFoundError: UNKNOWN_CHANNEL.
            StateError: CHANNEL_FROM_FILE: it is removed there.
            UnavailableError: CHANNELS_NOT_KEPT.
        """
        with self._changing:
            self._changeable(name)
            self._keep({other: record for other, record in self._kept.items() if other != name})

    def reload(self) -> bool:
        """Read the file of channels again when it changed; to be called about once a second, not on the event loop.

        It is read when it was found the same twice running: whoever writes it is done then. A file that is broken, or
        gone, or has no channel any more, is told in the log once, and the channels stay as they are.

        Returns:
            Whether a channel changed.
        """
        if self._file is None:
            return False
        try:
            stamp = stamp_of(self._file)
            if stamp == self._stamp or stamp != self._settling:
                self._settling = stamp
                return False
            # Also when it is broken: it is looked at again when it changed again.
            self._stamp = stamp
            with self._changing:
                filed = self._from_file(self._file)
                self._check_not_emptied(filed)
                self._fault = ""
                return self._replace_filed(filed)
        except SettingsError as error:
            if str(error) != self._fault:
                self._fault = str(error)
                _log.error("channels not reloaded, the old ones stay", extra={"error": self._fault})
            return False

    # -- inside; whoever calls holds the lock --

    def _changeable(self, name: str) -> ChannelRecord:
        if name in self._filed:
            message = f"channel {name!r} was made by the file of channels {self._file}: it is changed there"
            raise StateError("CHANNEL_FROM_FILE", message, channel=name)
        current = self._known.get(name) or self._kept.get(name)
        if current is None:
            message = f"channel {name!r} is not known: it was never made, or is deleted"
            raise NotFoundError("UNKNOWN_CHANNEL", message, channel=name)
        return current

    def _keep(self, kept: dict[str, ChannelRecord]) -> None:
        self._store.write(kept.values())
        # Whatever was written anew was checked.
        self._faulty = {name for name in self._faulty if kept.get(name) is self._kept[name]}
        self._kept = kept
        self._show()

    def _check_not_emptied(self, filed: Mapping[str, ChannelRecord]) -> None:
        """Refuse a file that lost all of its channels at once: a slip would end all that is watched."""
        if self._filed and not filed:
            raise SettingsError(f"channels {self._file}: has no channel any more; it had {len(self._filed)}")

    def _replace_filed(self, filed: dict[str, ChannelRecord]) -> bool:
        now_s, made = self._clock(), {}
        for name, record in filed.items():
            old = self._filed.get(name)
            if old is not None and _plain(old) == _plain(record):
                made[name] = old
            elif old is not None:
                made[name] = replace(_numbered(record, old.revision + 1), create_s=old.create_s, update_s=now_s)
            else:
                made[name] = record
        for name in self._filed.keys() - filed.keys() & self._kept.keys():
            # The kept one comes back: for whoever watches that is a change like any other.
            self._kept[name] = _numbered(self._kept[name], self._filed[name].revision + 1)
        gone, new = sorted(self._filed.keys() - made.keys()), sorted(made.keys() - self._filed.keys())
        changed = sorted(name for name in made.keys() & self._filed.keys() if made[name] is not self._filed[name])
        # Of a channel that is gone nothing is watched any more.
        (_log.warning if gone else _log.info)(
            "channels reloaded", extra={"added": new, "changed": changed, "removed": gone}
        )
        self._filed = made
        return self._show()

    def _from_file(self, file: Path) -> dict[str, ChannelRecord]:
        records = read_channels(file, self._environ, self._check)
        if len(records.keys() | self._kept.keys()) > MOST_CHANNELS:
            count = len(records.keys() | self._kept.keys())
            message = f"has {len(records)} channels, with the kept ones {count}; allowed: {MOST_CHANNELS}"
            raise SettingsError(f"channels {file}: {message}")
        now_s = self._clock()
        for name in sorted(records.keys() & self._kept.keys() - self._filed.keys()):
            _log.warning("the file of channels has a channel that was made over gRPC, too: the file's holds: %s", name)
        before = {name: record.revision for name, record in self._kept.items()}
        return {
            name: replace(_numbered(record, before.get(name, 0) + 1), create_s=now_s, update_s=now_s, from_file=True)
            for name, record in records.items()
        }

    def _show(self) -> bool:
        """Let everybody see what there is now, and tell what changed; return whether something did."""
        before = self._known
        kept = {name: record for name, record in self._kept.items() if name not in self._faulty}
        known = {**kept, **self._filed}
        self._known = known
        self._sorted = tuple(known[name] for name in sorted(known))
        changed = [name for name in sorted(before.keys() | known.keys()) if before.get(name) is not known.get(name)]
        for name in changed:
            for callback in self._listeners:
                _tell(callback, name, known.get(name))
        return bool(changed)

    def _is_faulty(self, record: ChannelRecord) -> bool:
        """Tell whether a kept channel is refused by now: it is left out then, until it is mended or deleted."""
        try:
            self._check(record)
        except InvalidError as error:
            _log.error("a kept channel is not in force: %s", record.name, extra={"error": error.message})
            return True
        return False


def _tell(callback: Listener, name: str, record: ChannelRecord | None) -> None:
    try:
        callback(name, record)
    except Exception:  # noqa: BLE001 - whatever it is
        # The change is made; whoever fails to hear of it must not undo it, nor keep others from hearing.
        _log.exception("a change of a channel was not taken note of: %s", name)


def _numbered(record: ChannelRecord, revision: int) -> ChannelRecord:
    return replace(record, watch=replace(record.watch, revision=revision))


def _plain(record: ChannelRecord) -> ChannelRecord:
    """Return what is wanted of a channel, without when and how often it changed."""
    return replace(_numbered(record, 0), create_s=0.0, update_s=0.0)


def _merged(current: ChannelRecord, new: ChannelRecord, fields: frozenset[str]) -> ChannelRecord:
    watch = replace(current.watch, **{field: getattr(new.watch, field) for field in fields & _OF_WATCH})
    merged = replace(current, watch=watch, **{field: getattr(new, field) for field in fields & _OF_RECORD})
    if "source" in fields and merged.source is not None:
        kept = None if current.source is None else current.source.url
        merged = replace(merged, source=replace(merged.source, url=with_kept_secrets(merged.source.url, kept)))
    return merged
