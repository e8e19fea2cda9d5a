"""The console that tables are shown on."""

from __future__ import annotations

import sys

from rich.console import Console

# Where nobody says how wide it is, as in a file, a row should keep to one line.
_WIDTH = 140
WIDEST = 400
"""For tables whose rows are to be taken apart by programs."""


def console(*, stderr: bool = False, file_width: int = _WIDTH) -> Console:
    """Build the console for standard output or standard error; one that is no terminal is so many characters wide."""
    output = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if output.isatty() else file_width)
