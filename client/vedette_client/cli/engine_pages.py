"""Show a server's engines in a terminal: tables and pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vedette_client.engine_info import Engine, EngineVersion, Route, ShadowFinding, ShadowReport, ShadowSample

_STYLES = {
    "ready": "green",
    "loading": "yellow",
    "draining": "yellow",
    "failed": "red",
    "bad": "red",
}


def engines_table(engines: Iterable[Engine], title: str) -> Table:
    """Show engines, a row for each version."""
    table = _table(title)
    table.add_column("engine", style="bold", overflow="fold")
    table.add_column("version", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("route", overflow="fold")
    for name in ("channels", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("runs on", style="dim", overflow="fold")
    for engine in engines:
        for place, one in enumerate(engine.versions):
            loaded = bool(one.backend)
            table.add_row(
                engine.name if place == 0 else "",
                one.version,
                _state(one),
                roles(one, engine.route),
                str(one.channels) if loaded else "-",
                readable_bytes(one.memory_bytes) if loaded else "-",
                Text(runs_on(one)) if loaded else "",
            )
    return table


def troubles(engines: Iterable[Engine]) -> list[Text]:
    """Say of each version what is wrong with it, a line for each."""
    told = []
    for engine in engines:
        for one in engine.versions:
            if one.reason:
                told.append(Text(f"{engine.name} {one.version} {one.state.name.lower()}: {one.reason}", style="red"))
            if one.fallback:
                told.append(Text(f"{engine.name} {one.version} runs {one.file}: {one.fallback}", style="yellow"))
    return told


def roles(version: EngineVersion, route: Route | None) -> str:
    """Say what a version is for the channels."""
    if route is None:
        return ""
    found = []
    if version.version == route.stable:
        found.append("stable")
    if version.version == route.canary:
        found.append(f"canary {percent(route.canary_share)}")
    if version.version == route.shadow:
        found.append("shadow")
    if version.withdrawn:
        found.append("withdrawn")
    return ", ".join(found)


def engine_page(engine: Engine, version: str = "") -> Table:
    """Show all that is known of an engine, or of one version of it."""
    table = _page()
    if engine.route is not None and not version:
        table.add_row(Text(engine.name, style="bold"), "")
        _route_rows(table, engine.route)
    for one in engine.versions:
        if version not in {"", one.version}:
            continue
        table.add_row(Text(f"{engine.name} {one.version}", style="bold"), _state(one))
        rows = {
            "why": one.reason,
            "route": roles(one, engine.route),
            "task": one.task.name.lower() if one.width else "",
            "input": f"{one.width}x{one.height}" if one.width else "",
            "labels": _labels(one.labels),
            "file": f"{one.file} ({one.precision})" if one.file else "",
            "runs on": runs_on(one),
            "passed over": one.fallback,
            "memory": readable_bytes(one.memory_bytes) if one.backend else "",
            "channels": str(one.channels) if one.backend else "",
        }
        for name, value in rows.items():
            if value:
                table.add_row(f"  {name}", Text(value))
    return table


def route_page(route: Route) -> Table:
    """Show a route."""
    table = _page()
    table.add_row(Text(route.engine, style="bold"), "")
    _route_rows(table, route)
    return table


def report_table(report: ShadowReport) -> Table:
    """Show how a shadow compares, in totals."""
    table = _table(f"{report.engine}: shadow {report.version} against stable {report.against}")
    table.show_header = False
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    both = report.compared or 1
    offered = report.compared + report.skipped + report.failed
    found = report.matched + report.only_stable + report.only_shadow
    rows = (
        ("frames compared", report.compared, f"{percent(report.compared / (offered or 1))} of {offered}"),
        ("frames left out", report.skipped, "for want of capacity"),
        ("frames failed", report.failed, ""),
        ("frames that differ", report.differing, f"{percent(report.differing / both)} of those compared"),
        ("seen by both", report.matched, f"{percent(report.matched / (found or 1))} of {found}"),
        ("only by stable", report.only_stable, ""),
        ("only by the shadow", report.only_shadow, ""),
    )
    for name, count, told in rows:
        table.add_row(name, str(count), told)
    table.add_row("mean score difference", f"{report.score_difference:.4f}", "of what both saw")
    return table


def samples_table(samples: Sequence[ShadowSample], shown: int) -> Table:
    """Show the frames on which two versions differed, with what only one of them saw."""
    table = _table(f"the latest frames that differ, {len(samples)} kept")
    table.add_column("sample", justify="right", no_wrap=True)
    table.add_column("channel", style="bold", overflow="fold")
    table.add_column("sequence", justify="right", no_wrap=True)
    table.add_column("only by stable", overflow="fold")
    table.add_column("only by the shadow", overflow="fold")
    for one in samples[:shown]:
        table.add_row(str(one.index), one.channel, str(one.sequence), _alone(one.stable), _alone(one.shadow))
    if shown < len(samples):
        table.caption = f"and {len(samples) - shown} more"
        table.caption_justify = "left"
    return table


def runs_on(version: EngineVersion) -> str:
    """Say what runs a version, and how."""
    if not version.backend:
        return ""
    backend = version.backend.removesuffix("ExecutionProvider")
    lanes = "1 lane" if version.lanes == 1 else f"{version.lanes} lanes"
    return f"{backend} {version.precision}, {lanes}, batch {version.max_batch}"


def percent(share: float) -> str:
    """Write a share in percent, no digits more than it has."""
    return f"{share * 100:.1f}".rstrip("0").rstrip(".") + "%"


def readable_bytes(count: int) -> str:
    """Write a number of bytes in a unit that keeps it short."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def _route_rows(table: Table, route: Route) -> None:
    follows = ", a newer one takes over by itself" if route.follows else ", pinned"
    table.add_row("  stable", Text((route.stable or "none yet") + follows))
    table.add_row("  canary", Text(f"{route.canary}, {percent(route.canary_share)}" if route.canary else "none"))
    table.add_row("  shadow", Text(route.shadow or "none"))
    table.add_row("  before", Text(", ".join(route.previous) or "none"))
    kept = "kept over a restart" if route.persistent else "lost with the server: nowhere to write it down"
    table.add_row("  revision", Text(f"{route.revision}, {kept}"))


def _state(version: EngineVersion) -> Text:
    state = version.state.name.lower()
    return Text(state, style=_STYLES.get(state, ""))


def _alone(findings: Iterable[ShadowFinding]) -> Text:
    return Text(", ".join(f"{one.label} {one.score:.2f}" for one in findings if one.unmatched))


def _labels(labels: Sequence[str], most: int = 8) -> str:
    if not labels:
        return ""
    more = f", and {len(labels) - most} more" if len(labels) > most else ""
    return f"{len(labels)}: {', '.join(labels[:most])}{more}"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", pad_edge=False, box=None)


def _page() -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table
