"""Write what a bench measured for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from vedette_engines.benching.page import facts_of, figures_of, main_accuracy_of

if TYPE_CHECKING:
    from vedette_engines.benching.report import BenchReport


def rows_table(report: BenchReport) -> Table:
    """Make a table with a line for each runner, file and batch; what does not run is not in it."""
    title = f"{report.engine}, {report.threads} threads, factors against {' '.join(report.baseline)}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("runner", "precision"):
        table.add_column(name, no_wrap=True)
    for name in ("batch", "frames/s", "factor", "p50 ms", "p99 ms", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    before = 0
    for row in sorted((row for row in report.rows if not row.failed), key=lambda row: row.batch):
        if before not in {0, row.batch}:
            table.add_section()
        before = row.batch
        table.add_row(row.runner, row.precision, str(row.batch), *figures_of(row)[:5])
    return table


def ways_table(report: BenchReport) -> Table:
    """Make a table with a line for each runner and file, and where their accuracy was measured below."""
    where = "; ".join(dict.fromkeys(way.accuracy.where for way in report.ways if way.accuracy is not None))
    caption = f"accuracy: {where}" if where else None
    table = Table(
        title="Files",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        caption=caption,
        caption_justify="left",
    )
    for name in ("runner", "precision"):
        table.add_column(name, no_wrap=True)
    for name in ("size", "load"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("accuracy against FP32", overflow="fold")
    for way in report.ways:
        runner, precision, _, size, load, *_ = facts_of(way)
        table.add_row(runner, precision, size, load, main_accuracy_of(way))
    return table


def failures(report: BenchReport) -> tuple[str, ...]:
    """Tell what did not run, and why, one line each."""
    return tuple(f"{row.runner} {row.precision}, batch {row.batch}: {row.failed}" for row in report.rows if row.failed)
