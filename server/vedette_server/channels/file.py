"""Read the file of channels: TOML, for people.

```toml
[defaults]                       # merged below every channel
time_zone = "Europe/Berlin"

[[channels]]
name = "gate-1"
[channels.zones]
yard = [[0.1, 0.2], [0.9, 0.2], [0.9, 0.9]]
[[channels.rules]]
name = "loitering"
kind = "dwell"
zone = "yard"
at_least_s = 30
[channels.source]
url = "rtsp://viewer:${GATE_PASSWORD}@10.0.0.7/stream1"
engines = ["person"]
```

Tables of `[defaults]` are merged key by key, everything else is replaced; `defaults.source` holds for channels that
have a source. In `source.url` alone `${NAME}` is replaced by the environment's value.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

from vedette_server.channels.record_tree import CHANNEL_KEYS, record_from_tree
from vedette_server.channels.tree import Place, as_list, as_table, refuse_unknown
from vedette_server.errors import InvalidError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from vedette_server.data.channel import ChannelRecord

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MOST_BYTES = 64 << 20

Stamp = tuple[int, ...]


def stamp_of(file: Path) -> Stamp:
    """Tell whether a file changed: a replaced file has another inode even within one tick of its clock.

    Raises:
        SettingsError: It is not there.
    """
    try:
        told = file.stat()
    except OSError as error:
        raise SettingsError(f"channels {file}: cannot be read: {error.strerror}") from error
    return told.st_mtime_ns, told.st_ctime_ns, told.st_size, told.st_ino


def read_channels(
    file: Path, environ: Mapping[str, str], check: Callable[[ChannelRecord], None]
) -> dict[str, ChannelRecord]:
    """Read all channels of a file, by name.

    Args:
        file: The file.
        environ: What `${NAME}` is replaced by.
        check: Refuses what is no channel to keep.

    Raises:
        SettingsError: Names the file, the channel, the key, the value and what is allowed.
    """
    tree = _tree(file)
    whole = Place(f"channels {file}")
    refuse_unknown(tree, ("defaults", "channels"), whole)
    defaults = as_table(tree.get("defaults", {}), whole.at("defaults"))
    refuse_unknown(defaults, [key for key in CHANNEL_KEYS if key != "name"], whole.at("defaults"))
    records: dict[str, ChannelRecord] = {}
    for index, entry in enumerate(as_list(tree.get("channels", []), whole.at("channels"))):
        own = as_table(entry, whole.at("channels").item(index))
        name = own.get("name")
        place = Place(f"{whole.source}, channel {name!r}" if isinstance(name, str) else f"{whole.source}, [{index}]")
        record = _record(own, defaults, place, environ, check)
        if record.name in records:
            raise SettingsError(f"{place.source} is there twice; allowed: each name once")
        records[record.name] = record
    return records


def _tree(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise SettingsError(f"channels {file}: is longer than {_MOST_BYTES} bytes; allowed: at most as many")
        return tomllib.loads(data.decode())
    except OSError as error:
        raise SettingsError(f"channels {file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"channels {file}: not TOML: {error}") from error


def _record(
    own: dict[str, Any],
    defaults: dict[str, Any],
    place: Place,
    environ: Mapping[str, str],
    check: Callable[[ChannelRecord], None],
) -> ChannelRecord:
    below = defaults if "source" in own else {key: value for key, value in defaults.items() if key != "source"}
    tree = _merged(below, own)
    source = tree.get("source")
    if isinstance(source, dict) and isinstance(source.get("url"), str):
        tree["source"] = source | {"url": _with_environment(source["url"], place.at("source").at("url"), environ)}
    record = record_from_tree(tree, place)
    try:
        check(record)
    except InvalidError as error:
        # A source's stream is no table of its own in the file.
        message = error.message.replace("source.stream.", "source.")
        raise SettingsError(f"{place.source}: {message}") from error
    return record


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = below | above
    for key, value in above.items():
        lower = below.get(key)
        if isinstance(value, dict) and isinstance(lower, dict):
            merged[key] = _merged(lower, value)
    return merged


def _with_environment(url: str, place: Place, environ: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in environ:
            message = f"{place.path} needs the environment variable {match[1]}, which is not set"
            raise SettingsError(f"{place.source}: {message}; allowed: to set it, or the address without ${{...}}")
        return environ[match[1]]

    return _VARIABLE.sub(value, url)
