"""Write the effective settings as commented TOML: the reference page, and a file that can be read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette_server.settings_options import Option, options

if TYPE_CHECKING:
    from vedette_server.settings import Settings


def page(settings: Settings) -> str:
    """Write every option with its help, what is allowed, its names elsewhere and its value."""
    lines = ["# Settings of the Vedette server. Later wins: this file, environment, flags."]
    section = ""
    for option in options():
        if option.section != section:
            section = option.section
            part = type(getattr(settings, section))
            lines += ["", f"# {(part.__doc__ or '').strip()}", f"[{section}]"]
        lines += _entry(option, getattr(getattr(settings, section), option.key))
    return "\n".join(lines) + "\n"


def _entry(option: Option, value: Any) -> list[str]:
    flag = option.flag + (f" (in {option.flag_unit})" if option.flag_unit else "")
    return [
        "",
        f"# {option.help}",
        f"# Allowed: {option.allowed()}. Default: {toml(option.default)}.",
        f"# Environment: {' or '.join(option.variables)}. Flag: {flag}.",
        f"{option.key} = {toml(value)}",
    ]


def toml(value: Any) -> str:
    """Write one value as TOML; nothing is the empty string."""
    if value is None:
        return '""'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(toml(item) for item in value)}]"
    if isinstance(value, str | Path):
        # Strings of JSON are strings of TOML, but for DEL and what lies beyond 16 bits.
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
