"""Show a load test on the terminal: how it goes, and its figures at the end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from vedette_client.cli.terminal import console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from vedette_client.loadtest.plan import LoadPlan
    from vedette_client.loadtest.report import Report
    from vedette_client.loadtest.search import Step
    from vedette_client.loadtest.statistics import Spread, Summary
    from vedette_client.loadtest.worker import Progress


class Show:
    """Writes to the terminal."""

    def __init__(self) -> None:
        self._console = console()

    @contextlib.contextmanager
    def running(self, plan: LoadPlan) -> Iterator[Callable[[float, Sequence[Progress]], None]]:
        """Show a running test; gives what is to be called with its progress."""
        what = f"{plan.channels} cameras at {plan.fps:g} frames/s to {plan.reach.address}"
        if not self._console.is_terminal:
            self._console.print(f"{what}, {plan.duration_s:g} s", soft_wrap=True)
            yield _say_nothing
            return
        with self._console.status(f"{what}: connecting") as status:

            def update(at_s: float, progress: Sequence[Progress]) -> None:
                sent = sum(one.sent for one in progress)
                analysed = sum(one.analysed for one in progress)
                left_s = max(0.0, plan.duration_s - at_s)
                status.update(f"{what}: {sent} sent, {analysed} analysed, {left_s:.0f} s to go")

            yield update

    def step(self, step: Step) -> None:
        """Say how a step of a search ended."""
        latency, counts = step.summary.latency, step.summary.counts
        line = Text(f"{step.channels:5} channels: ")
        line.append("held  " if step.held else "missed", style="green" if step.held else "red")
        line.append(
            f"  p95 {latency.p95:.0f} ms" if latency else "  nothing analysed",
        )
        line.append(f", {counts.skip_percent:.1f} % not analysed, {counts.analysed_fps:.1f} frames/s")
        if step.misses:
            line.append(f"  ({'; '.join(step.misses)})", style="dim")
        self._console.print(line, soft_wrap=True)
        self._doubts(step.summary)

    def report(self, report: Report) -> None:
        """Show all figures."""
        summary = report.summary
        self._console.print(_figures(report))
        if summary.latency is not None:
            self._console.print(_times(summary))
        self._doubts(summary)
        searched = report.searched
        if searched is not None:
            found, goal = searched.found, searched.objective
            more = " at least (the search ended at its limit)" if found.limited else ""
            self._console.print(
                f"[bold]{found.channels} channels{more}[/] hold p95 <= {goal.p95_ms:g} ms with at most "
                f"{goal.max_skip_percent:g} % not analysed; {found.steps} steps of {report.plan.duration_s:g} s",
                soft_wrap=True,
            )

    def wrote(self, file: Path) -> None:
        """Say that a file was written."""
        self._console.print(f"written: {file}", soft_wrap=True, markup=False)

    def _doubts(self, summary: Summary) -> None:
        if summary.tester.bottleneck:
            line = f"the tester was the bottleneck, the figures are not the server's: {summary.tester.bottleneck}"
            self._console.print(Text(line, style="bold yellow"), soft_wrap=True)
        if summary.tester.disturbance:
            self._console.print(Text(f"a shared machine: {summary.tester.disturbance}", style="yellow"), soft_wrap=True)


def _say_nothing(at_s: float, progress: Sequence[Progress]) -> None:
    """Stand in where there is nobody to look at progress."""


def _figures(report: Report) -> Table:
    plan, summary = report.plan, report.summary
    counts, accounts, truth, tester = summary.counts, summary.accounts, summary.truth, summary.tester
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    title = f"{plan.channels} cameras at {plan.fps:g} frames/s for {plan.duration_s:g} s"
    table.add_row("load", f"{title}, {plan.options.policy.name.lower()}, engine {', '.join(plan.options.engines)}")
    table.add_row("frames", _frames(summary))
    table.add_row(
        "throughput", f"{counts.analysed_fps:.1f} frames/s analysed, {counts.skip_percent:.1f} % not analysed"
    )
    even = summary.fairness
    ratio = f"most / least {even.ratio:.2f}, " if even.ratio else "a camera got nothing, "
    table.add_row("fairness", f"{ratio}Jain index {even.jain:.4f}")
    closed = Text(
        f"{accounts.closed} of {accounts.cameras} close", style="" if accounts.closed == accounts.cameras else "red"
    )
    table.add_row("accounts", closed.append(f", {accounts.connections} connections, {summary.storms} storms"))
    if truth.frames:
        table.add_row(
            "truth",
            f"{truth.hits} of {truth.hits + truth.misses} objects found, {truth.false_positives} that are not there, "
            f"{truth.wrong_labels} under a wrong label ({truth.frames} pictures)",
        )
    if summary.server is not None:
        used = summary.server
        per_frame = f", {used.cpu_ms_per_frame:.1f} ms per analysed frame" if used.cpu_ms_per_frame else ""
        table.add_row(
            "server",
            f"{used.cpu_cores:.2f} cores{per_frame}, {used.rss_first_mib:.0f} -> {used.rss_last_mib:.0f} MiB",
        )
    table.add_row(
        "tester",
        f"{tester.cpu_cores:.2f} cores, sends late by p50 {tester.late.p50:.1f} p99 {tester.late.p99:.1f} ms; "
        f"machine {tester.machine_busy:.0%} busy"
        + ("" if tester.others_cores is None else f", others use {tester.others_cores:.2f} cores"),
    )
    return table


def _frames(summary: Summary) -> str:
    counts = summary.counts
    parts = [f"{counts.scheduled} due", f"{counts.sent} sent", f"{counts.analysed} analysed"]
    parts += [f"{count} {reason.lower()}" for reason, count in counts.skipped.items()]
    if counts.unsent:
        parts.append(f"{counts.unsent} not sent")
    return ", ".join(parts)


def _times(summary: Summary) -> Table:
    """Show latency and the server's stages."""
    table = Table(box=None, pad_edge=False)
    table.add_column("ms", style="bold", no_wrap=True)
    for name in ("mean", "p50", "p90", "p95", "p99", "highest"):
        table.add_column(name, justify="right")
    if summary.latency is not None:
        table.add_row("latency", *_cells(summary.latency))
    for name, one in summary.stages.items():
        table.add_row("server total" if name == "total" else f"  {name}", *_cells(one), style="dim")
    return table


def _cells(one: Spread) -> list[str]:
    return [f"{value:.1f}" for value in (one.mean, one.p50, one.p90, one.p95, one.p99, one.highest)]
