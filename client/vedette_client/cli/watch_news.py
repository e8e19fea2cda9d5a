"""Show news of channels as they come, for `vedette watch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from vedette_client.cli.events_json import news_line
from vedette_client.cli.events_lines import news_text
from vedette_client.cli.outcome import say
from vedette_client.cli.terminal import console

if TYPE_CHECKING:
    from vedette_client.cli.watch_wanted import Wanted
    from vedette_client.client import Client
    from vedette_client.errors import ConnectionLostError

_WHO = "vedette watch"


async def show_news(client: Client, wanted: Wanted) -> None:
    """Show news until Ctrl-C, or until there were enough."""
    output, shown = console(), 0
    connections = _Connections()
    watch = client.watch(
        wanted.channels,
        events=wanted.events,
        results=wanted.results,
        found_only=wanted.found_only,
        offset=wanted.since,
        wanted=wanted.filter,
        on_connection=connections.take,
    )
    try:
        async for news in watch:
            if wanted.json:
                typer.echo(news_line(news, watch.offset))
            else:
                output.print(news_text(news), soft_wrap=True)
            shown += 1
            if shown == wanted.count:
                return
    finally:
        if not wanted.json and watch.offset and watch.offset != wanted.since:
            say(_WHO, f"to go on from here: --since {watch.offset}")
        await watch.close()


class _Connections:
    """Says that the connection was lost, and that it is there again."""

    def __init__(self) -> None:
        self._is_lost = False

    def take(self, error: ConnectionLostError | None) -> None:
        """Take what became of the connection; None: it stands."""
        if error is not None:
            say(_WHO, f"the connection was lost, trying again: {error}")
        elif self._is_lost:
            say(_WHO, "connected again, going on behind what was shown last")
        self._is_lost = error is not None
