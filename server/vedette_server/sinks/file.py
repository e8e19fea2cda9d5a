"""Reads the file of sinks: TOML with one table `[[sinks]]` for each.

```toml
[[sinks]]
name = "desk"                      # A-Z a-z 0-9 _ -; unique
kind = "webhook"                   # webhook, mqtt, jsonl, or the name of an entry point of `vedette.sinks`
channels = ["gate-*"]              # patterns; not given: all. Also: rules, kinds, states, min_score
start = "latest"                   # or "earliest": where it begins when it is new
url = "https://desk.example/hook"  # and further keys of its kind
secret_file = "desk.secret"        # secrets: `secret`, `secret_file` or `secret_env`
```

Nothing is connected to here.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

from vedette_server.data.event import EventKind, EventState
from vedette_server.errors import SettingsError
from vedette_server.sinks.kinds import factory_of
from vedette_server.sinks.settings import DeadBounds, Patience, SinkSettings, Start, Wanted
from vedette_server.sinks.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MOST_SINKS = 64


def load_sinks(path: Path, environ: Mapping[str, str] | None = None) -> tuple[SinkSettings, ...]:
    """Read and check a file of sinks.

    Args:
        path: The file; paths in it are relative to its folder.
        environ: Where secrets named by `..._env` are; None: the environment of the process.

    Raises:
        SettingsError: It cannot be read, or something in it is not allowed; file, sink, key and value are named.
    """
    source = f"file {path}"
    tables = _tables(source, path)
    if len(tables) > MOST_SINKS:
        raise SettingsError(f"{source}: {len(tables)} sinks; allowed: at most {MOST_SINKS}")
    found: dict[str, SinkSettings] = {}
    owners: dict[str, str] = {}
    for index, values in enumerate(tables):
        name = values.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            allowed = "1 to 64 of A-Z a-z 0-9 _ -"
            raise SettingsError(f"{source}: [[sinks]] number {index + 1}: name is {name!r}; allowed: {allowed}")
        if name in found:
            raise SettingsError(f"{source}: two sinks are named {name!r}; allowed: each name once")
        table = Table(f"{source}: sink {name!r}", values, path.parent, environ)
        found[name] = _sink(table)
        for claim in table.claims:
            if claim in owners:
                raise SettingsError(f"{source}: sinks {owners[claim]!r} and {name!r} have both {claim}; allowed: one")
            owners[claim] = name
    return tuple(found.values())


def _tables(source: str, path: Path) -> list[dict[str, Any]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{source}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{source}: not TOML: {error}") from error
    for key in content:
        if key != "sinks":
            raise SettingsError(f"{source}: unknown key {key!r}; allowed: tables [[sinks]]")
    tables = content.get("sinks", [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise SettingsError(f"{source}: sinks is no list of tables; allowed: tables [[sinks]]")
    return tables


def _sink(table: Table) -> SinkSettings:
    name = table.text("name")
    kind = table.text("kind", allowed="webhook, mqtt, jsonl, or the name of an installed plug-in")
    factory = factory_of(kind, table)
    wanted = Wanted(
        channels=table.texts("channels"),
        rules=table.texts("rules"),
        kinds=tuple(EventKind(one) for one in table.texts("kinds", [one.value for one in EventKind])),
        states=tuple(EventState(one) for one in table.texts("states", [one.value for one in EventState])),
        min_score=table.number("min_score", 0.0, 0.0, 1.0),
    )
    start = Start(table.choice("start", [one.value for one in Start], Start.LATEST.value))
    patience, dead = _patience(table), _dead(table)
    make = factory(table, wanted)
    table.finish()
    return SinkSettings(name, kind, make, wanted, start, patience, dead)


def _patience(table: Table) -> Patience:
    plain = Patience()
    found = Patience(
        first_pause_s=table.number("first_pause_s", plain.first_pause_s, 0.01, 3600),
        longest_pause_s=table.number("longest_pause_s", plain.longest_pause_s, 0.01, 3600),
        max_attempts=table.whole("max_attempts", plain.max_attempts, 1, 1_000_000),
        max_age_s=table.number("max_age_s", plain.max_age_s, 1, 365 * 86400),
    )
    if found.longest_pause_s < found.first_pause_s:
        table.refuse("longest_pause_s", found.longest_pause_s, f"at least first_pause_s, {found.first_pause_s:g}")
    return found


def _dead(table: Table) -> DeadBounds:
    plain = DeadBounds()
    return DeadBounds(
        table.whole("dead_letters", plain.most, 1, 1_000_000),
        table.whole("dead_letter_bytes", plain.most_bytes, 65_536, 1 << 40),
    )
