"""What is kept of channels that are not there any more: which limits they had last, and the recordings beyond those.

A channel that says limits for itself has them noted in its folder of evidence, in `retention.json`: when it is deleted,
or missing in a file of channels by mistake, they go on to hold, also after a restart. What it does not say is the
server's, as ever.

Threads: any.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import re
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from vedette_server.data.channel import RetentionConfig
from vedette_server.errors import EvidenceError
from vedette_server.evidence.disk import in_words
from vedette_server.evidence.recording import INDEX_NAME, PREFIX
from vedette_server.evidence.store import INCOMING, safe_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from vedette_server.evidence.store import EvidenceStore, Held

_log = logging.getLogger(__name__)

LIMITS_NAME = "retention.json"
_RECORDING = re.compile(rf"{PREFIX}-?\d+\.mp4")
_UNSAID = RetentionConfig()


def note_limits(store: EvidenceStore, channel: str, said: RetentionConfig) -> None:
    """Note what a channel says for itself now; a disk that does not take it is told in the log.

    Args:
        store: Where its evidence lies.
        channel: Its bare name.
        said: What it says; where that is nothing no note stays.
    """
    target = _place(store, channel)
    data = json.dumps({"channel": channel, **asdict(said)}).encode()
    try:
        if said == _UNSAID:
            store.disk.remove(target)
        elif not target.is_file() or target.read_bytes() != data:
            # Not synced: thousands may be written at a start. One that a loss of power has torn is written again then.
            temporary = store.root / INCOMING / f"{os.getpid()}-{safe_name(channel)}.json"
            store.disk.make_folder(target.parent)
            store.disk.write(temporary, data)
            store.disk.rename(temporary, target)
    except OSError as error:
        _log.warning("limits of a channel could not be noted", extra={"channel": channel, "error": in_words(error)})


def noted_limits(store: EvidenceStore, known: Collection[str]) -> dict[str, RetentionConfig]:
    """Return what channels said last, by their bare names.

    Args:
        store: Where the evidence lies.
        known: Channels that can say it themselves: they are left out.

    Raises:
        OSError: It cannot be told now.
    """
    folders = {safe_name(name) for name in known}
    names = [path.name for path in store.root.iterdir()]
    if INCOMING not in names:
        # As of a disk that is not mounted any more.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(store.root / INCOMING))
    notes = [store.root / name / LIMITS_NAME for name in names if name not in folders]
    return dict(said for path in notes if (said := _read(path)) is not None)


def forget_limits(store: EvidenceStore, channel: str) -> None:
    """Remove the note of a channel of which nothing is left."""
    note_limits(store, channel, _UNSAID)


def trim(
    store: EvidenceStore, held: Sequence[Held], limits: RetentionConfig, now_s: float, stopping: Callable[[], bool]
) -> None:
    """Remove the oldest recordings of one folder until they are young and few enough.

    Never anything but recordings: all else belongs to events. Never through a link that leads out of the folder.

    Args:
        store: Where they lie.
        held: All files of the folder, the oldest first.
        limits: What holds for them; None: no limit.
        now_s: Seconds since the epoch.
        stopping: Tells whether to leave off.
    """
    total = sum(one.size_bytes for one in held)
    recordings = [one for one in held if _RECORDING.fullmatch(one.path.rpartition("/")[2])]
    days = Counter(one.path.rpartition("/")[0] for one in recordings)
    oldest_s = -math.inf if limits.max_age_s is None else now_s - limits.max_age_s
    most_bytes = math.inf if limits.max_bytes is None else limits.max_bytes
    for one in recordings:
        if stopping() or (one.time_s >= oldest_s and total <= most_bytes):
            return
        day = one.path.rpartition("/")[0]
        if (store.root / day).resolve() != store.root / day:
            continue
        try:
            store.remove(one.path)
        except EvidenceError as error:
            # Until the next look.
            _log.warning("a recording could not be removed", extra={"error": str(error)})
            continue
        total -= one.size_bytes
        days[day] -= 1
        # Another may have come since: the last one of a recorder that ends, or of a channel that is made again.
        if not days[day] and not any((store.root / day).glob(f"{PREFIX}*.mp4")):
            _drop(store, store.root / day / INDEX_NAME)


def _place(store: EvidenceStore, channel: str) -> Path:
    return store.root / safe_name(channel) / LIMITS_NAME


def _read(path: Path) -> tuple[str, RetentionConfig] | None:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fields = json.loads(data)
        channel, said = fields.pop("channel"), RetentionConfig(**fields)
        if safe_name(channel) == path.parent.name and _are_limits(said):
            return channel, said
        why = "it is not of this folder, or no limits"
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        why = in_words(error)
    _log.warning("limits that a channel had cannot be read: the server's hold", extra={"path": str(path), "error": why})
    return None


def _are_limits(said: RetentionConfig) -> bool:
    counts = (said.max_events, said.max_bytes)
    age_s = 1 if said.max_age_s is None else said.max_age_s
    return age_s > 0 and all(count is None or (isinstance(count, int) and count > 0) for count in counts)


def _drop(store: EvidenceStore, path: Path) -> None:
    try:
        store.disk.remove(path)
    except OSError:
        # Its lines name files that are gone: they are left out when it is read.
        return
