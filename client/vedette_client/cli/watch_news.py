"""Show news of channels as they come, for `vedette watch`."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import typer

from vedette_client.cli.events_json import news_line
from vedette_client.cli.events_lines import news_text
from vedette_client.cli.events_naming import say_unknown
from vedette_client.cli.outcome import say
from vedette_client.cli.terminal import console
from vedette_client.events_data import Event

if TYPE_CHECKING:
    from vedette_client.cli.watch_wanted import Wanted
    from vedette_client.client import Client
    from vedette_client.errors import ConnectionLostError
    from vedette_client.watching import News

_WHO = "vedette watch"
# Events that may still change; who has more at once sees a line twice.
_MOST_REMEMBERED = 10_000


async def show_news(client: Client, wanted: Wanted) -> None:
    """Show news until Ctrl-C, or until there were enough."""
    await say_unknown(client, wanted.channels, _WHO)
    show = _Lines()
    connections, shown = _Connections(), 0
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
            elif not show.take(news):
                continue
            shown += 1
            if shown == wanted.count:
                return
    finally:
        if not wanted.json and watch.offset and watch.offset != wanted.since:
            say(_WHO, f"to go on from here: --since {watch.offset}")
        await watch.close()


class _Lines:
    """Shows news as lines; a change of an event that nobody could see in its line is left out."""

    def __init__(self) -> None:
        self._output = console()
        self._latest: OrderedDict[str, str] = OrderedDict()

    def take(self, news: News) -> bool:
        """Show a piece of news; False: its line was there already."""
        line = news_text(news)
        if isinstance(news, Event):
            if self._latest.get(news.name) == line.plain:
                return False
            self._latest[news.name] = line.plain
            self._latest.move_to_end(news.name)
            if len(self._latest) > _MOST_REMEMBERED:
                self._latest.popitem(last=False)
        self._output.print(line, soft_wrap=True)
        return True


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
