"""Tables of sinks, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from vedette_client.cli.outcome import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vedette_client.sinks import Sink


def sinks_table(sinks: Sequence[Sink], title: str) -> Table:
    """Show sinks, one a row."""
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False, box=None)
    table.add_column("name", overflow="ellipsis")
    # Where it is narrow, a long name makes room: the figures say more, and the notes have the name in full.
    table.add_column("kind", no_wrap=True, overflow="ellipsis", min_width=7)
    for name in ("delivered", "failed", "behind", "dead letters"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    table.add_column("state", no_wrap=True, min_width=len("catching up"))
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
    """Say in a word or two how a sink does; `sinks_notes` has the rest."""
    if sink.failing:
        return Text("failing", style="bold red")
    if sink.lag:
        return Text("catching up", style="yellow")
    return Text("up to date", style="green")


def sinks_notes(sinks: Sequence[Sink]) -> Iterator[Text]:
    """Say what there is to be told of each sink, one line each, what is worst first: a cell would be too narrow."""
    for one in sinks:
        if one.failing:
            yield _note(one, f"failing: {printable(one.failing)}", "bold red")
        if one.dead_letters:
            words = f"gave up {one.dead_letters}; put them through again: vedette sinks replay {printable(one.name)}"
            yield _note(one, words, "yellow")
        if one.dead_letters_lost:
            yield _note(one, f"lost {one.dead_letters_lost} for good: there were too many to be kept", "bold red")


def _note(sink: Sink, words: str, style: str) -> Text:
    return Text.assemble((printable(sink.name), "bold"), ": ", (words, style))


def _count(number: int, style: str) -> Text:
    return Text(str(number), style=style if number else "dim")
