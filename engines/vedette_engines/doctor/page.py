"""Show a report in a terminal, in 80 columns and up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vedette_engines.cli_page import readable_bytes
from vedette_engines.doctor.report import Severity, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, RenderableType

    from vedette_engines.doctor.report import Driver, GpuFacts, Report, Trial

_LOOKS = {
    State.WORKS: "green",
    State.IDLE: "cyan",
    State.BROKEN: "bold red",
    State.ABSENT: "dim",
    State.NOT_RUN: "dim",
}
_SEVERITIES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
_UNITS = {"score": "score", "box_px": "px", "bytes": "bytes"}


def show(report: Report, console: Console) -> None:
    """Show all of it."""
    head = f"vedette {report.vedette}, {report.platform}, Python {report.python}"
    console.print(Text(head, style="bold"))
    console.print(_machine(report))
    for title, table in _tables(report):
        console.print(Text(f"\n{title}", style="bold"))
        console.print(Padding(table, (0, 0, 0, 1)))
    console.print()
    console.print(_result(report))


def _tables(report: Report) -> Iterator[tuple[str, RenderableType]]:
    yield (
        "Libraries",
        _table(
            [
                (facts.name, Text(facts.state, style=_LOOKS[facts.state]), facts.version, facts.reason)
                for facts in report.libraries
            ],
            (14, 7, 10, None),
        ),
    )
    yield "What runs where", _where(report)
    rows: list[tuple[str | Text, ...]]
    if report.findings:
        rows = [
            (
                Text(finding.severity, style=_SEVERITIES[finding.severity]),
                Text.assemble(finding.text, (f"\n-> {finding.remedy}" if finding.remedy else "", "italic")),
            )
            for finding in report.findings
        ]
        yield "Findings", _table(rows, (8, None))
    if report.trials:
        rows = [(trial.words, Text(trial.state, style=_LOOKS[trial.state]), _outcome(trial)) for trial in report.trials]
        yield "Tried", _table(rows, (27, 7, None))


def _table(rows: Sequence[Sequence[str | Text]], widths: Sequence[int | None]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_header=False, show_edge=False, pad_edge=False, padding=(0, 1))
    for width in widths:
        table.add_column(overflow="fold", min_width=width, ratio=None if width else 1)
    for row in rows:
        table.add_row(*row)
    return table


def _machine(report: Report) -> Table:
    rows: list[tuple[str | Text, ...]] = [("Driver", _driver(report.driver))]
    rows += [(f"GPU {gpu.index}" if gpu.index >= 0 else "GPU", _gpu(gpu)) for gpu in report.gpus]
    return _table(rows, (6, None))


def _driver(driver: Driver) -> Text:
    parts = [driver.version, f"CUDA {driver.cuda} and older" if driver.cuda else "", driver.reason]
    return Text(", ".join(part for part in parts if part), style=_LOOKS[driver.state])


def _gpu(gpu: GpuFacts) -> str:
    free = f", {readable_bytes(gpu.free_bytes)} free" if gpu.free_bytes is not None else ""
    mig = {"on": ", MIG on: choose a part", "instance": ", a MIG instance"}.get(gpu.mig, "")
    shared = ", shared with the host" if gpu.integrated else ""
    unseen = "; CUDA does not see it" if gpu.index < 0 else ""
    return f"{gpu.name}, {gpu.capability}, {readable_bytes(gpu.memory_bytes)}{free}{shared}{mig}{unseen}"


def _where(report: Report) -> Table:
    rows: list[tuple[str | Text, ...]] = [
        (
            ability.words,
            Text("yes", style="green") if ability.available else Text("no", style="dim"),
            ability.reason,
        )
        for ability in report.abilities
    ]
    chosen = report.auto
    rows.append(("auto, engine with a plan", "->", chosen["engine_with_plan"]))
    rows.append(("auto, engine without one", "->", chosen["engine_without_plan"]))
    rows.append(("auto, decoding", "->", chosen["decoder"]))
    return _table(rows, (27, 3, None))


def _outcome(trial: Trial) -> str:
    if trial.state is not State.WORKS:
        return trial.reason
    apart = ", ".join(f"{value:.2g} {_UNITS.get(name, name)}" for name, value in trial.worst.items())
    more = f"; {trial.reason}" if trial.reason else ""
    return f"{trial.backend}: {apart} from {trial.against}; allowed: {trial.bound}{more} ({trial.seconds:.1f} s)"


def _result(report: Report) -> Text:
    unmet = [f"{one.name}: {one.reason}" for one in report.requirements if not one.met]
    if report.problems:
        lines = [f"{len(report.problems)} problems: {'; '.join(report.problems)}."]
        lines += [f"Required and not there: {one}" for one in unmet]
        return Text("\n".join(lines), style="bold red")
    tried = sum(trial.state is State.WORKS for trial in report.trials)
    idle = "" if any(gpu.index >= 0 for gpu in report.gpus) else " There is no GPU here."
    return Text(f"All that was found works; {tried} trials passed.{idle}", style="bold green")
