"""The console that tables are shown on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.segment import Segment

from vedette_client.cli.outcome import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import ConsoleOptions, RenderableType

# Where nobody says how wide it is, as in a file, a row should keep to one line.
_WIDTH = 140
WIDEST = 400
"""For tables whose rows are to be taken apart by programs."""


class _SafeConsole(Console):
    """Shows no letter that steers the terminal, but for its own colours: what is shown comes from servers."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render, with what cannot be shown replaced."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable() or segment.text == "\n":
                yield segment
            else:
                lines = segment.text.split("\n")
                yield Segment("\n".join(map(printable, lines)), segment.style)


def console(*, stderr: bool = False, file_width: int = _WIDTH) -> Console:
    """Build the console for standard output or standard error; one that is no terminal is so many characters wide."""
    output = sys.stderr if stderr else sys.stdout
    return _SafeConsole(stderr=stderr, highlight=False, width=None if output.isatty() else file_width)
