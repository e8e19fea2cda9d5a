"""Keep the channels that were made over gRPC in one file of JSON.

Written beside its place, brought to the disk and renamed: whoever reads finds the old state or the new one, whenever
the machine stops. Only its owner may read it, since addresses of cameras hold passwords.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vedette_server.channels.record_tree import BOOK_KEYS, record_from_tree, record_to_tree
from vedette_server.channels.tree import Place, as_table, read
from vedette_server.errors import SettingsError, UnavailableError
from vedette_server.evidence.disk import Disk, in_words

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from vedette_server.data.channel import ChannelRecord

STATE_VERSION = 1


class PrivateDisk(Disk):
    """Writes files that only their owner may read. Every call may raise `OSError`."""

    def write(self, path: Path, data: bytes) -> None:
        """Write a whole new file."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)


class KeptChannels:
    """The file of kept channels. One thread at a time.

    Args:
        path: The file; None: nothing is kept.
        disk: Where it is; a seam for tests.
    """

    def __init__(self, path: Path | None, disk: Disk | None = None) -> None:
        self._path = path
        self._disk = PrivateDisk() if disk is None else disk
        # One channel changes at a time: the lines of the others are kept as they were written.
        self._lines: dict[str, tuple[ChannelRecord, str]] = {}

    def read(self) -> dict[str, ChannelRecord]:
        """Read what was kept.

        Raises:
            SettingsError: The file is broken, or of a newer version.
        """
        if self._path is None:
            return {}
        try:
            state = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise SettingsError(f"kept channels {self._path}: cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise SettingsError(f"kept channels {self._path}: not JSON: {error}") from error
        return self._records(state)

    def write(self, records: Iterable[ChannelRecord]) -> None:
        """Keep these channels, and no others. When it returns they are on the disk.

        Raises:
            UnavailableError: CHANNELS_NOT_KEPT: the file has the old state, or the new one.
        """
        if self._path is None:
            return
        lines = {record.name: self._line(record) for record in records}
        body = ",\n".join(line for _, line in lines.values())
        data = f'{{"version": {STATE_VERSION}, "channels": [\n{body}\n]}}\n'.encode()
        draft = self._path.with_name(f"{self._path.name}.tmp")
        try:
            self._disk.make_folder(self._path.parent)
            self._disk.remove(draft)
            self._disk.write(draft, data)
            self._disk.sync(draft)
            self._disk.rename(draft, self._path)
            self._disk.sync(self._path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._disk.remove(draft)
            message = f"the channel is not changed: {self._path} cannot be written: {in_words(error)}"
            raise UnavailableError("CHANNELS_NOT_KEPT", message) from error
        self._lines = lines

    def _line(self, record: ChannelRecord) -> tuple[ChannelRecord, str]:
        known = self._lines.get(record.name)
        if known is not None and known[0] is record:
            return known
        book = {"revision": record.revision, "create_s": record.create_s, "update_s": record.update_s}
        return record, json.dumps(record_to_tree(record) | book, allow_nan=False)

    def _records(self, state: Any) -> dict[str, ChannelRecord]:
        whole = Place(f"kept channels {self._path}")
        table = as_table(state, whole.at("it"))
        version = table.get("version")
        if version != STATE_VERSION:
            whole.at("version").refuse(version, f"{STATE_VERSION}: that is what this server knows")
        trees = table.get("channels")
        if not isinstance(trees, list):
            whole.at("channels").refuse(trees, "a list")
        records: dict[str, ChannelRecord] = {}
        for index, tree in enumerate(trees):
            record = _record(tree, Place(whole.source, f"channels[{index}]"))
            if record.name in records:
                raise SettingsError(f"{whole.source}: channel {record.name!r} is there twice; allowed: once")
            records[record.name] = record
        return records


def _record(value: Any, place: Place) -> ChannelRecord:
    tree = dict(as_table(value, place))
    named = Place(f"{place.source}, channel {tree.get('name')!r}")
    kinds = (int, float, float)
    book = {key: read(kind, tree.pop(key, 0), named.at(key), {}) for key, kind in zip(BOOK_KEYS, kinds, strict=True)}
    record = record_from_tree(tree, named)
    watch = replace(record.watch, revision=book["revision"])
    return replace(record, watch=watch, create_s=book["create_s"], update_s=book["update_s"])
