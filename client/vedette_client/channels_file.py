"""Files of channels: TOML as `vedette serve --channels` reads it, and as `vedette channels show` writes it.

`[defaults]` is merged below every channel key by key, `defaults.source` holds for channels that have a source, and in
`source.url` alone `${NAME}` is replaced by the environment's value.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

from vedette_client.channels_fields import Place, as_list, as_text, refuse_unknown
from vedette_client.channels_toml import SETTINGS, channel_to_wire
from vedette_client.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# A list of channels as people write it: these are tables under headings of their own, the rest stands in a line.
_HEADED = ("zones", "lines", "source")
_HEADED_LISTS = ("rules", "masks", "stages")


def read_channels_file(file: Path, environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Read the settings of all channels of a file, by name; see `channel_to_wire` for what they are.

    Args:
        file: The file.
        environ: What `${NAME}` is replaced by.

    Raises:
        OptionsError: Names the file, the channel, the key, the value and what is allowed.
    """
    tree = _tree(file)
    whole = Place(f"channels {file}")
    refuse_unknown(tree, ("defaults", "channels"), whole)
    defaults = refuse_unknown(tree.get("defaults", {}), SETTINGS, whole.at("defaults"))
    found: dict[str, dict[str, Any]] = {}
    for index, entry in enumerate(as_list(tree.get("channels", []), whole.at("channels"))):
        own = refuse_unknown(entry, ("name", *SETTINGS), whole.at("channels").item(index))
        name = as_text(own.get("name"), whole.at("channels").item(index).at("name"))
        place = Place(f"{whole.source}, channel {name!r}")
        if name in found:
            raise OptionsError(f"{place.source} is there twice; allowed: each name once")
        found[name] = _settings(own, defaults, place, environ)
        channel_to_wire(name, found[name], place.source)
    return found


def _tree(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_bytes().decode())
    except OSError as error:
        raise OptionsError(f"channels {file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise OptionsError(f"channels {file}: not TOML: {error}") from error


def _settings(
    own: dict[str, Any], defaults: dict[str, Any], place: Place, environ: Mapping[str, str]
) -> dict[str, Any]:
    below = defaults if "source" in own else {key: value for key, value in defaults.items() if key != "source"}
    settings = _merged(below, {key: value for key, value in own.items() if key != "name"})
    source = settings.get("source")
    if isinstance(source, dict) and isinstance(source.get("url"), str):
        settings["source"] = source | {"url": _with_environment(source["url"], place.at("source").at("url"), environ)}
    return settings


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
            raise OptionsError(f"{place.source}: {message}; allowed: to set it, or the address without ${{...}}")
        return environ[match[1]]

    return _VARIABLE.sub(value, url)


def channels_to_toml(channels: Mapping[str, Mapping[str, Any]]) -> str:
    """Write settings of channels, by name, so that `read_channels_file` gives them back."""
    return "\n".join(_channel(name, settings) for name, settings in channels.items())


def _channel(name: str, settings: Mapping[str, Any]) -> str:
    lines = ["[[channels]]", f"name = {_value(name)}"]
    lines += [f"{key} = {_value(value)}" for key, value in settings.items() if key not in (*_HEADED, *_HEADED_LISTS)]
    for key in _HEADED:
        if table := settings.get(key):
            lines += ["", f"[channels.{key}]", *_pairs(table)]
    for key in _HEADED_LISTS:
        for table in settings.get(key, ()):
            lines += ["", f"[[channels.{key}]]", *_pairs(table)]
    return "\n".join(lines) + "\n"


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in table.items()]


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _value(key)


def _shown(letter: str) -> str:
    if letter.isprintable():
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A string of JSON is one of TOML, too; what would steer a terminal that shows it is written as its number.
        return "".join(map(_shown, json.dumps(value, ensure_ascii=False)))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return repr(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else repr(value)
