"""The console that tables are shown on."""

from __future__ import annotations

import sys

from rich.console import Console

# Where nobody says how wide it is, as in a file, a row should keep to one line.
_WIDTH = 140


def console(*, stderr: bool = False) -> Console:
    """Build the console for standard output or standard error."""
    output = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if output.isatty() else _WIDTH)
