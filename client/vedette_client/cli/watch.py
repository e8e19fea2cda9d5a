"""The command `vedette watch`."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from vedette_client.cli import events_choosing as choosing
from vedette_client.cli import reach as to
from vedette_client.cli.tally import told
from vedette_client.cli.watch_wanted import Wanted
from vedette_client.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from vedette_client import SessionInfo
    from vedette_client.client import Client
    from vedette_client.reach import Reach

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_STYLES = {"connected": "green", "detached": "yellow", "ended": "dim"}
_MARGIN = 4

Once = Annotated[bool, typer.Option("--once", help="Show the sessions once, all of them, and end.")]
ChannelNames = Annotated[
    list[str] | None,
    typer.Option("--channel", metavar="NAME", help="Only of this channel; may be repeated. Default: of all."),
]
Every = Annotated[
    float | None,
    typer.Option("--every", metavar="S", min=0.1, help="Seconds between two looks at the sessions. Default: 1."),
]
Events = Annotated[bool, typer.Option("--events", help="Show events as they begin, change and end, a line each.")]
Results = Annotated[bool, typer.Option("--results", help="Show what is found in each frame, a line each.")]
FoundOnly = Annotated[bool, typer.Option("--found-only", help="Only results in which something was found.")]
Since = Annotated[
    str,
    typer.Option(
        "--since",
        metavar="OFFSET|earliest",
        show_default=False,
        help="Go on behind this offset; earliest: from the oldest event that is kept on. Default: from now on.",
    ),
]
Count = Annotated[
    int | None, typer.Option("--count", metavar="N", min=1, help="End after so many lines. Default: at Ctrl-C.")
]
Json = Annotated[bool, typer.Option("--json", help="Write lines of JSON, for programs.")]


@app.command("watch")
def watch(
    server: to.Server = to.DEFAULT_SERVER,
    channel: ChannelNames = None,
    once: Once = False,
    every: Every = None,
    events: Events = False,
    results: Results = False,
    rule: choosing.Rules = None,
    kind: choosing.Kinds = None,
    label: choosing.Labels = None,
    unseen: choosing.Unseen = False,
    found_only: FoundOnly = False,
    since: Since = "",
    count: Count = None,
    json: Json = False,
    tls: to.Tls = False,
    tls_ca: to.TlsCa = None,
    tls_cert: to.TlsCert = None,
    tls_key: to.TlsKey = None,
    token: to.Token = None,
) -> None:
    """Watch a server: its sessions, or with --events and --results what happens on its channels. Ctrl-C ends.

    Without either: what each channel sent, and what became of it. With one of them: a line for each piece of news, as
    it comes; a lost connection is repaired without missing an event.
    """
    where = to.reach(server, tls, tls_ca, tls_cert, tls_key, token)
    chosen = choosing.chosen(rule, kind, label, unseen=unseen)
    for name, given in (("--since", since), ("--count", count), ("--json", json), ("--found-only", found_only)):
        if given and not (events or results):
            raise OptionsError(f"{name} is for news; give --events or --results, too")
    if chosen is not None and not events:
        raise OptionsError("--rule, --kind, --label and --unseen choose events; give --events, too")
    if not (events or results):
        asyncio.run(_watch(where, channel or (), 1.0 if every is None else every, once))
        return
    if once or every is not None:
        raise OptionsError("--once and --every are for the table of sessions, not for --events and --results")
    asyncio.run(_watch_news(where, Wanted(channel or (), events, results, found_only, chosen, since, count, json)))


async def _watch_news(where: Reach, wanted: Wanted) -> None:
    from vedette_client.cli.watch_news import show_news  # noqa: PLC0415  the table of sessions needs none of it

    async with where.client() as client:
        await show_news(client, wanted)


async def _watch(where: Reach, channels: Sequence[str], every_s: float, once: bool) -> None:
    from rich.live import Live  # noqa: PLC0415  other commands need no table

    from vedette_client.cli.terminal import console  # noqa: PLC0415

    output = console()
    title = f"sessions of {where.address}"
    async with where.client() as client:
        looks = Looks()
        looks.take(await _sessions(client, channels), time.monotonic())
        if once:
            output.print(looks.table(title))
            return
        with Live(console=output, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                rows = output.height - _MARGIN if output.is_terminal else None
                live.update(looks.table(title, rows), refresh=True)
                await asyncio.sleep(every_s)
                looks.take(await _sessions(client, channels), time.monotonic())


async def _sessions(client: Client, channels: Sequence[str]) -> list[SessionInfo]:
    if not channels:
        return await client.sessions()
    return [session for channel in dict.fromkeys(channels) for session in await client.sessions(channel)]


class Looks:
    """The latest look at the sessions, and the rates since the one before."""

    def __init__(self) -> None:
        self.sessions: Sequence[SessionInfo] = ()
        self.fps: Mapping[str, float] = {}
        self._received: dict[str, int] = {}
        self._at_s = 0.0

    def take(self, sessions: Sequence[SessionInfo], now_s: float) -> None:
        """Take a new look."""
        span_s = now_s - self._at_s
        self.fps = {
            one.name: (one.account.packets - self._received[one.name]) / span_s
            for one in sessions
            if one.name in self._received and span_s > 0
        }
        self.sessions = sessions
        self._received = {one.name: one.account.packets for one in sessions}
        self._at_s = now_s

    def table(self, title: str, max_rows: int | None = None) -> Table:
        """Show it; sessions that live come first."""
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False, box=None)
        table.add_column("channel", no_wrap=True, style="bold", overflow="ellipsis", max_width=40)
        table.add_column("state", no_wrap=True)
        for name in ("received", "packets/s", "analysed", "skipped", "pending"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("why skipped", overflow="ellipsis", no_wrap=True)
        ordered = sorted(self.sessions, key=lambda one: (one.end_time_ns is not None, one.name.split("/")))
        shown = ordered if max_rows is None else ordered[: max(1, max_rows)]
        for one in shown:
            fps = self.fps.get(one.name)
            reasons = Counter({reason.name: count for reason, count in one.account.skipped.items()})
            state = one.state.name.lower()
            table.add_row(
                Text(one.name.split("/")[1]),
                Text(state + (f" ({one.end_reason.lower()})" if one.end_reason else ""), style=_STYLES.get(state, "")),
                str(one.account.packets),
                "-" if fps is None else f"{fps:.1f}",
                str(one.account.analysed),
                str(one.account.skipped.total()),
                str(one.pending),
                Text(told(reasons), style="dim"),
            )
        if len(shown) < len(ordered):
            table.caption = f"and {len(ordered) - len(shown)} more"
        return table
