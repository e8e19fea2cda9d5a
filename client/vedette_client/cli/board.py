"""Show cameras while they run, and sum them up at the end.

On a terminal a live table; elsewhere a plain line per camera every few seconds.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vedette_client.cli.camera import State
from vedette_client.cli.tally import told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType

    from vedette_client.cli.camera import Camera

_REFRESH_S = 0.25
_PLAIN_EVERY_S = 5.0
_STATE_STYLE = {
    State.OPENING: "yellow",
    State.RUNNING: "green",
    State.FINISHED: "dim",
    State.FAILED: "bold red",
}


class Board:
    """The table of cameras; the percentiles are ages at the verdict, of the last seconds.

    Args:
        cameras: What to show, in this order.
        console: Where to.
        title: Stands above the table.
    """

    def __init__(self, cameras: Sequence[Camera], console: Console, title: str) -> None:
        self._cameras = cameras
        self._console = console
        self._title = title
        self._began_s = time.monotonic()
        self._plain_due_s = self._began_s + _PLAIN_EVERY_S
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(console=console, auto_refresh=False, vertical_overflow="ellipsis", transient=True)

    @property
    def refresh_s(self) -> float:
        """How often `refresh` should be called."""
        return _REFRESH_S

    def start(self) -> None:
        """Begin to show."""
        if self._live is not None:
            self._live.start()

    def refresh(self) -> None:
        """Show how things stand."""
        now_s = time.monotonic()
        if self._live is not None:
            self._live.update(self._table(now_s), refresh=True)
        elif now_s >= self._plain_due_s:
            self._plain_due_s += _PLAIN_EVERY_S
            for camera in self._cameras:
                self._console.print(self._line(camera, now_s), soft_wrap=True, highlight=False, markup=False)

    def stop(self) -> None:
        """Take the table away; may be called twice."""
        if self._live is not None:
            self._live.stop()

    # --- live ------------------------------------------------------------------------------------------

    def _table(self, now_s: float) -> RenderableType:
        table = Table(
            title=self._title, title_justify="left", title_style="bold", expand=True, pad_edge=False, box=None
        )
        wide = self._console.width >= 100
        has_length = any(camera.shot.length_s for camera in self._cameras)
        table.add_column("camera", no_wrap=True, overflow="ellipsis", style="bold", min_width=8, max_width=28)
        table.add_column("state", no_wrap=True)
        for name in ("sent/s", "analysed/s", "p50 ms", "p95 ms"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("skipped", no_wrap=True, overflow="ellipsis", ratio=1, min_width=14)
        table.add_column("last seen", no_wrap=True, overflow="ellipsis", ratio=1, min_width=14, style="cyan")
        if has_length and wide:
            table.add_column("progress", width=12)
        room = max(1, self._console.height - 5)
        for camera in self._cameras[:room]:
            row = self._row(camera, now_s)
            table.add_row(*row, *([_progress(camera)] if has_length and wide else []))
        lines: list[RenderableType] = [table]
        if len(self._cameras) > room:
            lines.append(Text(f"... and {len(self._cameras) - room} more", style="dim"))
        lines.append(self._totals(now_s))
        return Group(*lines)

    def _row(self, camera: Camera, now_s: float) -> list[RenderableType]:
        tally = camera.tally
        ages = tally.recent_ages(now_s)
        running = camera.state is State.RUNNING
        state = camera.state.value
        if running and camera.stream is not None and camera.stream.connections > 1:
            state = f"{state} #{camera.stream.connections}"
        return [
            Text(camera.shot.channel),
            Text(state, style=_STATE_STYLE[camera.state]),
            Text(f"{tally.sent_fps(now_s):.1f}" if running else "-"),
            Text(f"{tally.analysed_fps(now_s):.1f}" if running else "-", style="green"),
            Text(f"{ages[0] * 1000:.0f}" if ages else "-"),
            Text(f"{ages[1] * 1000:.0f}" if ages else "-"),
            Text(told(tally.skipped), style="dim"),
            Text(str(camera.error), style="red") if camera.error else Text(told(tally.objects)),
        ]

    def _totals(self, now_s: float) -> Text:
        running = [camera.tally for camera in self._cameras if camera.state is State.RUNNING]
        sent = sum(tally.sent_fps(now_s) for tally in running)
        seen = sum(tally.analysed_fps(now_s) for tally in running)
        return Text(
            f"{len(running)} of {len(self._cameras)} running, {sent:.1f} frames/s sent, {seen:.1f} analysed, "
            f"{now_s - self._began_s:.0f} s   (Ctrl-C ends)",
            style="dim",
        )

    # --- plain -----------------------------------------------------------------------------------------

    def _line(self, camera: Camera, now_s: float) -> str:
        if camera.error is not None:
            return f"{now_s - self._began_s:7.1f} s  {camera.shot.channel}: {camera.state.value}: {camera.error}"
        tally = camera.tally
        ages = tally.recent_ages(now_s)
        age = f"age p50 {ages[0] * 1000:.0f} p95 {ages[1] * 1000:.0f} ms, " if ages else ""
        return (
            f"{now_s - self._began_s:7.1f} s  {camera.shot.channel}: {camera.state.value}, {_place(camera)}"
            f"{tally.sent_fps(now_s):.1f}/s sent, {tally.analysed_fps(now_s):.1f}/s analysed, {age}"
            f"skipped {told(tally.skipped)}, last seen {told(tally.objects)}"
        )


def _done_s(camera: Camera, length_s: float) -> float:
    return length_s if camera.state is State.FINISHED else min(camera.tally.position_s, length_s)


def _place(camera: Camera) -> str:
    length_s = camera.shot.length_s
    return f"at {_done_s(camera, length_s):.1f} of {length_s:.1f} s, " if length_s else ""


def _progress(camera: Camera) -> RenderableType:
    length_s = camera.shot.length_s
    return ProgressBar(total=length_s, completed=_done_s(camera, length_s), width=12) if length_s else Text("-")


def summary(cameras: Sequence[Camera]) -> Table:
    """Sum up cameras that have ended.

    `unsent` are packets dropped here because the connection was too slow; the percentiles are ages at the verdict;
    an account `agrees` when the server counted the same, packet for packet.
    """
    table = Table(title="Summary", title_justify="left", title_style="bold", pad_edge=False, box=None)
    table.add_column("camera", no_wrap=True, overflow="ellipsis", style="bold", max_width=40)
    for name in ("sent", "analysed", "skipped", "unsent", "p50 ms", "p95 ms"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("account", overflow="fold", min_width=7)
    table.add_column("why skipped", overflow="fold")
    for camera in cameras:
        table.add_row(*_summary_row(camera))
    return table


def _summary_row(camera: Camera) -> list[Text]:
    ages = camera.tally.ages
    account = camera.account or (camera.stream.account if camera.stream else None)
    counts = ["-"] * 4
    reasons: Counter[str] = Counter()
    if account is not None:
        reasons = Counter({reason.name: count for reason, count in account.skipped.items()})
        counts = [str(n) for n in (account.packets, account.analysed, account.skipped.total(), account.client_dropped)]
    if camera.account is not None:
        verdict = Text("agrees", style="green")
    else:
        verdict = Text("cut off" if camera.error is None else str(camera.error), style="red")
    return [
        Text(camera.shot.channel),
        *map(Text, counts),
        *(Text("-" if (age := ages.percentile(p)) is None else f"{age * 1000:.0f}") for p in (50, 95)),
        verdict,
        Text(told(reasons), style="dim"),
    ]
