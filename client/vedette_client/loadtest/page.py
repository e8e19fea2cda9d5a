"""A load test's figures as one HTML page that needs nothing else: style and plots stand inside it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from vedette_client.loadtest.plot import Series, bar_rows, columns, line_plot
from vedette_client.loadtest.records import STAGES
from vedette_client.loadtest.report import plan_facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vedette_client.loadtest.report import Report
    from vedette_client.loadtest.statistics import ServerUse, Spread, Summary, Tester

_STYLE = """
:root { --ink: #1c2430; --soft: #667085; --paper: #f6f7f9; --card: #fff; --edge: #e2e6ec;
  --c0: #2364d2; --c1: #d9730d; --c2: #2f9e5b; --bad: #c0262d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf2; --soft: #98a2b3; --paper: #12161c; --card: #1a2029;
  --edge: #2b3340; --c0: #6aa1ff; --c1: #f2a65a; --c2: #5cc98a; --bad: #ff7a7a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 16px; margin: 0 0 8px; }
.soft, .label, .tick { color: var(--soft); fill: var(--soft); } .bad { color: var(--bad); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 20px 0; }
.facts div, section { background: var(--card); border: 1px solid var(--edge); border-radius: 8px; padding: 14px 16px; }
.facts b { display: block; font-size: 24px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 16px; }
svg { width: 100%; height: auto; display: block; } .tick, .label { font-size: 11px; }
.grid { stroke: var(--edge); } .line { fill: none; stroke-width: 2; stroke-linejoin: round; } .area { opacity: .15; }
.c0 { stroke: var(--c0); fill: var(--c0); } .c1 { stroke: var(--c1); fill: var(--c1); }
.c2 { stroke: var(--c2); fill: var(--c2); } .bar, .area { stroke: none; } polyline.line { fill: none; }
.legend { margin: 6px 0 0; font-size: 13px; } .legend span { margin-right: 16px; }
.key { display: inline-block; width: 12px; height: 3px; margin-right: 6px; vertical-align: middle; }
.key.c0 { background: var(--c0); } .key.c1 { background: var(--c1); } .key.c2 { background: var(--c2); }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
td, th { text-align: right; padding: 3px 8px; border-bottom: 1px solid var(--edge); font-weight: normal; }
td:first-child, th:first-child { text-align: left; padding-left: 0; overflow-wrap: anywhere; }
th { color: var(--soft); }
.wide { margin: 16px 0; overflow-x: auto; }
"""


def html_page(report: Report) -> str:
    """Write the page."""
    summary, plan = report.summary, report.plan
    title = f"{plan.channels} cameras at {plan.fps:g} frames/s"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(_subtitle(report))}</p>',
        _warnings(summary),
        _headline(summary),
        _search(report),
        '<div class="plots">',
        *_plots(summary),
        "</div>",
        _stage_table(summary),
        _accounts(summary),
        _surroundings(report),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>vedette loadtest: {escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>\n{chr(10).join(part for part in parts if part)}\n</main></body></html>\n"
    )


def _subtitle(report: Report) -> str:
    plan = report.plan
    return (
        f"{plan.duration_s:g} s to {plan.reach.address}, {plan.options.policy.name}, "
        f"engine {', '.join(plan.options.engines)}, {report.around.time}. "
        "Latency is the age of an analysed frame at its verdict, counted from when it was due to be sent."
    )


def _warnings(summary: Summary) -> str:
    told = []
    if summary.tester.bottleneck:
        told.append(f"The tester was the bottleneck: {summary.tester.bottleneck}.")
    if summary.tester.disturbance:
        told.append(f"A shared machine: {summary.tester.disturbance}.")
    if summary.accounts.closed < summary.accounts.cameras:
        told.append(f"{summary.accounts.cameras - summary.accounts.closed} accounts do not close.")
    return "".join(f'<p class="bad">{escape(one)}</p>' for one in told)


def _headline(summary: Summary) -> str:
    counts, latency, accounts = summary.counts, summary.latency, summary.accounts
    facts = [
        (f"{counts.analysed_fps:.1f}", "frames analysed per second"),
        (f"{latency.p50:.0f} ms" if latency else "-", "median latency"),
        (f"{latency.p95:.0f} ms" if latency else "-", "95th percentile of latency"),
        (f"{counts.skip_percent:.1f} %", "of the frames not analysed"),
        (f"{accounts.closed} of {accounts.cameras}", "accounts close"),
        (f"{summary.fairness.ratio:.2f}" if summary.fairness.ratio else "-", "most over least served camera"),
    ]
    if summary.server is not None:
        facts.append((f"{summary.server.cpu_cores:.2f}", "cores used by the server"))
    return '<div class="facts">' + "".join(f"<div><b>{a}</b>{b}</div>" for a, b in facts) + "</div>"


def _plots(summary: Summary) -> Iterable[str]:
    seconds, latency = summary.seconds, summary.latency
    due = Series("due", [(one.at_s, one.scheduled) for one in seconds])
    analysed = Series("analysed", [(one.at_s, one.analysed) for one in seconds], filled=True)
    yield _section(
        "Throughput", line_plot([analysed, due], x_label="second in which frames were due", y_label="frames/s")
    )
    over_time = [
        Series("median", [(one.at_s, one.p50_ms) for one in seconds]),
        Series("95th percentile", [(one.at_s, one.p95_ms) for one in seconds]),
    ]
    yield _section("Latency over time", line_plot(over_time, x_label="second in which frames were due", y_label="ms"))
    if latency is not None:
        points = [(value, share * 100) for value, share in summary.cdf]
        plot = line_plot([Series("", points, filled=True)], x_label="latency, ms", y_label="% of frames", y_most=100)
        yield _section("Latency distribution", plot + _spread_line(latency))
    stages = [(name, summary.stages[name]) for name in STAGES if name in summary.stages]
    if stages:
        rows = [(name, one.mean, f"{one.mean:.1f} ms, p95 {one.p95:.1f}") for name, one in stages]
        yield _section("Time in the server, mean per analysed frame", bar_rows(rows))
    yield _section("What became of the frames", bar_rows(_outcomes(summary)))
    shares = sorted((share * 100 for share in summary.fairness.shares), reverse=True)
    note = f'<p class="soft">Jain index {summary.fairness.jain:.4f}</p>'
    plot = columns(shares, x_label="cameras, most served first", y_label="% of its frames analysed", y_most=100)
    yield _section("Fairness", plot + note)
    if summary.server is not None:
        yield from _server_plots(summary.server)


def _server_plots(server: ServerUse) -> Iterable[str]:
    cpu = Series("", [(at_s, cores) for at_s, cores, _ in server.over_time], filled=True)
    memory = Series("", [(at_s, rss) for at_s, _, rss in server.over_time], filled=True)
    yield _section("Server CPU", line_plot([cpu], x_label="second", y_label="cores"))
    yield _section("Server memory", line_plot([memory], x_label="second", y_label="MiB resident"))


def _outcomes(summary: Summary) -> list[tuple[str, float, str]]:
    counts = summary.counts
    whole = max(1, counts.scheduled)
    rows = [("analysed", counts.analysed), *((name.lower(), count) for name, count in counts.skipped.items())]
    if counts.unsent:
        rows.append(("not sent", counts.unsent))
    return [(name, count, f"{count} ({count / whole:.1%})") for name, count in rows]


def _search(report: Report) -> str:
    searched = report.searched
    if searched is None:
        return ""
    goal, found = searched.objective, searched.found
    said = f"p95 within {goal.p95_ms:g} ms and at most {goal.max_skip_percent:g} % not analysed"
    more = "; the search ended at its limit, there may be more" if found.limited else ""
    rows = [
        [
            str(step.channels),
            f"{step.summary.latency.p95:.0f}" if step.summary.latency else "-",
            f"{step.summary.counts.skip_percent:.1f}",
            f"{step.summary.counts.analysed_fps:.1f}",
            "held" if step.held else "; ".join(step.misses),
        ]
        for step in searched.steps
    ]
    table = _table(["channels", "p95 ms", "% not analysed", "frames/s", "outcome"], rows)
    return _section(f"Search: {found.channels} channels hold {said}{more}", table, wide=True)


def _stage_table(summary: Summary) -> str:
    rows = [
        [name, *(f"{value:.2f}" for value in (one.mean, one.p50, one.p90, one.p95, one.p99, one.highest))]
        for name, one in [*summary.stages.items(), *([("latency", summary.latency)] if summary.latency else [])]
    ]
    return _section("Stages, ms", _table(["", "mean", "p50", "p90", "p95", "p99", "highest"], rows), wide=True)


def _accounts(summary: Summary) -> str:
    truth, accounts, tester = summary.truth, summary.accounts, summary.tester
    rows = [
        ["accounts that close", f"{accounts.closed} of {accounts.cameras}"],
        ["connections, storms", f"{accounts.connections}, {summary.storms}"],
        *([channel, escape(problem)] for channel, problem in list(accounts.problems.items())[:20]),
        ["batch sizes", ", ".join(f"{size}: {count}" for size, count in summary.batches.items()) or "-"],
        ["tester: cores used, busiest process", f"{tester.cpu_cores:.2f}, {tester.busiest_process:.0%}"],
        ["tester: sends late by, p50, p99, highest", f"{_ms(tester.late)}"],
        ["machine busy", f"{tester.machine_busy:.0%}{_others(tester)}"],
    ]
    if truth.frames:
        said = f"{truth.hits}, {truth.misses}, {truth.false_positives}, {truth.wrong_labels} in {truth.frames} pictures"
        rows.insert(2, ["truth of scenes: found, missed, not there, wrong label", said])
    return _section("Checks", _table(["", ""], rows), wide=True)


def _others(tester: Tester) -> str:
    return "" if tester.others_cores is None else f"; neither server nor tester: {tester.others_cores:.2f} cores"


def _surroundings(report: Report) -> str:
    around = report.around
    rows = [
        [key, escape(", ".join(map(str, v)) if isinstance(v, list) else str(v))]
        for key, v in plan_facts(report.plan).items()
    ]
    rows += [
        [
            "versions",
            f"client {around.vedette}, server {escape(around.server or '?')}, gRPC {around.grpc}, "
            f"Python {around.python}",
        ],
        ["machine of the tester", escape(f"{around.processor}, {around.cores} cores, {around.system}")],
        [
            "server on the same machine",
            "no, or not known" if around.server_pid is None else f"yes, process {around.server_pid}",
        ],
    ]
    return _section("Circumstances", _table(["", ""], rows), wide=True)


def _spread_line(one: Spread) -> str:
    return (
        f'<p class="soft">p50 {one.p50:.0f}, p90 {one.p90:.0f}, p95 {one.p95:.0f}, p99 {one.p99:.0f}, '
        f"highest {one.highest:.0f} ms</p>"
    )


def _ms(one: Spread) -> str:
    return f"{one.p50:.1f}, {one.p99:.1f}, {one.highest:.1f} ms"


def _section(title: str, body: str, *, wide: bool = False) -> str:
    kind = ' class="wide"' if wide else ""
    return f"<section{kind}><h2>{escape(title)}</h2>{body}</section>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table; cells are HTML."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head) if any(head) else ""
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{top}</tr>' if top else ''}{body}</table>"
