"""Tables of sinks, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from vedette_client.cli.events_lines import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_client.sinks import Sink


def sinks_table(sinks: Sequence[Sink], title: str) -> Table:
    """Show sinks, one a row."""
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False, box=None)
    table.add_column("name", no_wrap=True, overflow="ellipsis")
    table.add_column("kind", no_wrap=True, overflow="ellipsis")
    for name in ("delivered", "failed", "behind", "dead letters"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    for one in sinks:
        table.add_row(
            Text(printable(one.name), style="bold"),
            Text(printable(one.kind) or "-"),
            Text(str(one.delivered)),
            _count(one.failed, "yellow"),
            _count(one.lag, "yellow"),
            _count(one.dead_letters, "red"),
            state_text(one),
        )
    return table


def state_text(sink: Sink) -> Text:
    """Say in words how a sink does: what is worst first."""
    words = Text()
    if sink.failing:
        words.append(f"failing: {printable(sink.failing)}", style="bold red")
    elif sink.lag:
        words.append("catching up", style="yellow")
    else:
        words.append("up to date", style="green")
    if sink.dead_letters:
        words.append(", ").append("gave up some, to be replayed", style="yellow")
    if sink.dead_letters_lost:
        words.append(", ").append(f"lost {sink.dead_letters_lost} for good", style="bold red")
    return words


def _count(number: int, style: str) -> Text:
    return Text(str(number), style=style if number else "dim")
