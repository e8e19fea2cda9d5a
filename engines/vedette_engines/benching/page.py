"""Write what a bench measured as one HTML page that needs nothing else: no script, no font, no picture from outside."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from vedette_engines.benching.charts import Bar, bar_chart
from vedette_engines.cli_page import readable_bytes
from vedette_engines.compare.figures import FIGURES, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from vedette_engines.benching.report import BenchReport, Row, WayFacts

_SHADES = {"fp32": 1.0, "fp16": 0.75, "int8": 0.5}
_HUES = 8

_STYLE = """
:root { color-scheme: light dark; --paper: #fcfcfb; --card: #ffffff; --ink: #1b1b1a; --soft: #5d5c58; --line: #e4e3df;
  --h0: #2a78d6; --h1: #1baf7a; --h2: #eb6834; --h3: #4a3aa7; --h4: #e34948; --h5: #eda100; --h6: #e87ba4;
  --h7: #008300; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #1a1a19; --card: #222221; --ink: #f3f2ee; --soft: #a9a7a0; --line: #3a3937;
    --h0: #3987e5; --h1: #199e70; --h2: #d95926; --h3: #9085e9; --h4: #e66767; --h5: #c98500; --h6: #d55181;
    --h7: #4ca64c; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1360px; padding: 28px 24px 60px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } dl + h1 { margin-top: 64px; } h2 { font-size: 18px; margin: 36px 0 10px; }
p.lead { color: var(--soft); margin: 0 0 18px; }
.best { font-size: 17px; margin: 4px 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 16px; }
figure { margin: 0; padding: 14px 16px 8px; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
figcaption { font-weight: 600; margin-bottom: 6px; } figcaption span { font-weight: 400; color: var(--soft); }
svg.chart { width: 100%; height: auto; display: block; font: 12px system-ui, sans-serif; }
.label { fill: var(--ink); } .value { fill: var(--ink); font-variant-numeric: tabular-nums; }
.tick, .absent { fill: var(--soft); font-size: 11px; } .grid { stroke: var(--line); }
.under { fill: var(--card); } .whisker { stroke: var(--soft); stroke-width: 1.5; fill: none; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; background: var(--card); }
th, td { text-align: left; padding: 6px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
tr.base td { font-weight: 600; } td.why { white-space: normal; color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; font-size: 14px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; } ul { padding-left: 20px; font-size: 14px; }
"""


def page(*reports: BenchReport) -> str:
    """Write the whole page, of one bench or of several one after the other."""
    style = _STYLE + "".join(f".hue{number} {{ fill: var(--h{number}); }}\n" for number in range(_HUES))
    title = f"{', '.join(report.engine for report in reports)}: runners, precisions and batch sizes"
    # One runner has one colour throughout.
    runners = dict.fromkeys(way.runner for report in reports for way in report.ways)
    hues = {runner: number % _HUES for number, runner in enumerate(runners)}
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>",
            *(line for report in reports for line in _body(report, hues)),
            "</body>\n</html>\n",
        ]
    )


def _body(report: BenchReport, hues: dict[str, int]) -> list[str]:
    processor = report.machine.get("processor", "")
    return [
        f"<h1>{escape(report.engine)}</h1>",
        f'<p class="lead">{escape(f"{report.task}, {report.input}")} · {escape(report.when)} · '
        f"{escape(processor)}, {report.threads} threads</p>",
        *_best(report),
        *_section("Throughput", [_throughput(report, batch, hues) for batch in report.batches]),
        *_section("Latency of a run", [_latency(report, batch, hues) for batch in report.batches]),
        *_section("Size, memory, accuracy", _others(report, hues)),
        "<h2>All figures</h2>",
        _rows_table(report),
        "<h2>Files</h2>",
        _ways_table(report),
        "<h2>How it was measured</h2>",
        f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in report.notes)}</ul>",
        _facts(report),
    ]


def short(value: float) -> str:
    """Write a figure with three digits, never with an exponent."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _name(item: Row | WayFacts) -> str:
    return f"{item.runner} · {item.precision}"


def _best(report: BenchReport) -> Iterable[str]:
    """Say in one sentence for each batch what is fastest."""
    base = " · ".join(report.baseline)
    for batch in report.batches:
        rows = [row for row in report.rows if row.batch == batch and not row.failed]
        if not rows:
            continue
        best = max(rows, key=lambda row: row.frames_per_s)
        factor = (
            f", {best.speedup.median:.2f} times {escape(base)}" if best.speedup and best.way != report.baseline else ""
        )
        yield (
            f'<p class="best">Batch {batch}: <strong>{escape(_name(best))}</strong> gives most, '
            f"{short(best.frames_per_s)} frames a second{factor}.</p>"
        )


def _section(title: str, charts: Sequence[str]) -> Iterable[str]:
    shown = [chart for chart in charts if chart]
    return [f"<h2>{escape(title)}</h2>", f'<div class="cards">{"".join(shown)}</div>'] if shown else []


def _chart(title: str, more: str, bars: Sequence[Bar], unit: str = "") -> str:
    if not any(bar.value is not None for bar in bars):
        return ""
    caption = f"<figcaption>{escape(title)} <span>{escape(more)}</span></figcaption>"
    return f"<figure>{caption}{bar_chart(title, bars, unit)}</figure>"


def _throughput(report: BenchReport, batch: int, hues: dict[str, int]) -> str:
    def bar(row: Row) -> Bar:
        factor = f" (x {row.speedup.median:.2f})" if row.speedup else ""
        return Bar(
            _name(row), row.frames_per_s, f"{short(row.frames_per_s)}{factor}", *_look(row, hues), hint=_hint(row)
        )

    more = f"frames a second; in brackets against {' · '.join(report.baseline)}"
    return _chart(f"Batch {batch}", more, _bars(report, batch, bar))


def _latency(report: BenchReport, batch: int, hues: dict[str, int]) -> str:
    def bar(row: Row) -> Bar:
        text = f"{short(row.p50_ms)} / {short(row.p99_ms)}"
        return Bar(_name(row), row.p50_ms, text, *_look(row, hues), whisker=row.p99_ms, hint=_hint(row))

    return _chart(f"Batch {batch}", "milliseconds: bar p50, line to p99", _bars(report, batch, bar))


def _bars(report: BenchReport, batch: int, bar: Callable[[Row], Bar]) -> list[Bar]:
    rows = [row for row in report.rows if row.batch == batch]
    return [bar(row) if not row.failed else Bar(_name(row), None, "does not run", hint=row.failed) for row in rows]


def _others(report: BenchReport, hues: dict[str, int]) -> list[str]:
    sizes = [
        Bar(_name(way), way.size_bytes / 1e6, readable_bytes(way.size_bytes), *_look(way, hues))
        for way in report.ways
        if way.size_bytes
    ]
    largest = max(report.batches, default=0)
    memory = [
        Bar(_name(row), row.memory_bytes / 1e6, readable_bytes(row.memory_bytes), *_look(row, hues))
        for row in report.rows
        if row.batch == largest and row.memory_bytes is not None
    ]
    agreeing = [
        Bar(_name(way), value, f"{FIGURES[name].words} {value:.4f}", *_look(way, hues), hint=way.accuracy.where)
        for way in report.ways
        if way.accuracy is not None
        for name, value in list(way.accuracy.figures.items())[:1]
    ]
    return [
        _chart("File size", "MB", sizes),
        _chart("Memory", f"MB, with batches up to {largest}", memory),
        _chart("Agreement with the FP32 engine", "1 is the same", agreeing),
    ]


def _look(item: Row | WayFacts, hues: dict[str, int]) -> tuple[int, float]:
    return hues[item.runner], _SHADES.get(item.precision, 1.0)


def _hint(row: Row) -> str:
    return (
        f"{_name(row)}, batch {row.batch}: {short(row.frames_per_s)} frames a second, p50 {short(row.p50_ms)} ms, "
        f"p99 {short(row.p99_ms)} ms; {row.runs} runs in {row.rounds} rounds"
    )


def _rows_table(report: BenchReport) -> str:
    head = ("runner", "precision", "batch", "frames/s", "factor", "p50 ms", "p99 ms", "memory", "runs", "rounds")
    lines = [_line(head, "th", range(2, len(head)))]
    for row in report.rows:
        kind = ' class="base"' if row.way == report.baseline else ""
        start = [row.runner, row.precision, str(row.batch)]
        if row.failed:
            cells = "".join(f"<td>{escape(cell)}</td>" for cell in start)
            lines.append(f'<tr>{cells}<td class="why" colspan="7">{escape(row.failed)}</td></tr>')
            continue
        lines.append(_line((*start, *figures_of(row)), "td", range(2, len(head)), kind))
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def figures_of(row: Row) -> tuple[str, ...]:
    """Write a row's figures: frames/s, factor, p50, p99, memory, runs, rounds."""
    factor = row.speedup
    return (
        f"{short(row.frames_per_s)}",
        f"{factor.median:.2f} [{factor.low:.2f}..{factor.high:.2f}]" if factor else "-",
        f"{short(row.p50_ms)}",
        f"{short(row.p99_ms)}",
        readable_bytes(row.memory_bytes) if row.memory_bytes is not None else "-",
        str(row.runs),
        str(row.rounds),
    )


def _ways_table(report: BenchReport) -> str:
    lines = [_line(("runner", "precision", "what runs", "size", "load", "accuracy against FP32", "note"), "th", (3, 4))]
    lines += [_line(facts_of(way), "td", (3, 4)) for way in report.ways]
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def facts_of(way: WayFacts) -> tuple[str, ...]:
    """Write what holds for a way: runner, precision, backend, size, load time, accuracy, note."""
    return (
        way.runner,
        way.precision,
        way.backend or "-",
        readable_bytes(way.size_bytes) if way.size_bytes else "-",
        f"{way.load_s * 1e3:.0f} ms" if way.load_s else "-",
        accuracy_of(way),
        way.note,
    )


def accuracy_of(way: WayFacts) -> str:
    """Write how far a way agrees with FP32: its first three figures and where they were measured."""
    if way.accuracy is None:
        return "-"
    figures = list(way.accuracy.figures.items())[:3]
    return ", ".join(f"{FIGURES[name].words} {text_of(value)}" for name, value in figures) + f" ({way.accuracy.where})"


def main_accuracy_of(way: WayFacts) -> str:
    """Write the one figure that shows best how far a way agrees with FP32."""
    figures = list(way.accuracy.figures.items())[:1] if way.accuracy is not None else ()
    return ", ".join(f"{FIGURES[name].words} {text_of(value)}" for name, value in figures) or "-"


def _line(cells: Sequence[str], tag: str, numbers: Iterable[int], kind: str = "") -> str:
    right = set(numbers)
    parts = [f"<{tag}{' class=n' if index in right else ''}>{escape(cell)}</{tag}>" for index, cell in enumerate(cells)]
    return f"<tr{kind}>{''.join(parts)}</tr>"


def _facts(report: BenchReport) -> str:
    facts = {
        "command": report.command,
        "when": report.when,
        "budget": f"{report.seconds:g} s for all candidates together",
        "threads": f"{report.threads} in a run",
        **report.machine,
        **report.versions,
    }
    lines = [f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items() if value]
    return f"<h2>Machine and versions</h2><dl>{''.join(lines)}</dl>"
