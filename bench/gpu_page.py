"""Show the figures of `bench gpu` as one HTML page that needs nothing else: tables, and bars as SVG."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from vedette_engines.benching.charts import Bar, bar_chart

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_STYLE = """
:root { color-scheme: light dark; --paper: #fcfcfb; --card: #fff; --ink: #1b1b1a; --soft: #5d5c58; --line: #e4e3df;
  --h0: #2a78d6; --h1: #1baf7a; --h2: #eb6834; --h3: #4a3aa7; }
@media (prefers-color-scheme: dark) { :root { --paper: #1a1a19; --card: #222221; --ink: #f3f2ee; --soft: #a9a7a0;
  --line: #3a3937; --h0: #3987e5; --h1: #199e70; --h2: #d95926; --h3: #9085e9; } }
body { margin: 0 auto; max-width: 960px; padding: 28px 24px 60px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
figure { margin: 0 0 16px; padding: 14px 16px 8px; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; } figcaption { font-weight: 600; margin-bottom: 6px; }
svg.chart { width: 100%; height: auto; display: block; font: 12px system-ui, sans-serif; }
.label, .value { fill: var(--ink); } .tick, .absent { fill: var(--soft); font-size: 11px; }
.grid { stroke: var(--line); }
.under { fill: var(--card); } .whisker { stroke: var(--soft); }
.hue0 { fill: var(--h0); } .hue1 { fill: var(--h1); } .hue2 { fill: var(--h2); } .hue3 { fill: var(--h3); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 14px; background: var(--card); }
th, td { text-align: left; padding: 5px 10px; border-bottom: 1px solid var(--line); } th { color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; font-size: 14px; } dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; } p.not { color: var(--soft); }
"""


def page(title: str, setting: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """Write the page: each section its chart and table, or why it was not run."""
    body = [line for name, section in figures.items() for line in _section(name, section)]
    facts = "".join(f"<dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd>" for key, value in setting.items())
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>",
            *body,
            f"<h2>Measured on</h2><dl>{facts}</dl>\n</body>\n</html>\n",
        ]
    )


def _section(name: str, section: Any) -> Iterable[str]:
    yield f"<h2>{escape(name)}</h2>"
    if isinstance(section, dict) and section.get("state") == "not run":
        yield f'<p class="not">Not run: {escape(section["reason"])}</p>'
        return
    if not isinstance(section, dict):
        yield f"<p>{escape(str(section))}</p>"
        return
    rows = section.get("rows", [])
    if section.get("chart") and rows:
        yield _chart(section["chart"], rows)
    if rows:
        yield _table(rows)
    rest = {key: value for key, value in section.items() if key not in {"rows", "chart", "cases"}}
    if rest:
        facts = "".join(f"<dt>{escape(str(key))}</dt><dd>{escape(_text(value))}</dd>" for key, value in rest.items())
        yield f"<dl>{facts}</dl>"


def _chart(chart: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw a bar for each row: `label` names the columns before the bar, `value` its length, `hue` its colour."""
    hues = {value: index % 4 for index, value in enumerate(dict.fromkeys(row.get(chart["hue"]) for row in rows))}
    bars = [
        Bar(
            ", ".join(f"{_text(row[key])}{unit}" for key, unit in chart["label"]),
            row[chart["value"]],
            _text(row[chart["value"]]),
            hues[row.get(chart["hue"])],
        )
        for row in rows
        if row.get(chart["value"]) is not None
    ]
    return f"<figure><figcaption>{escape(chart['title'])}</figcaption>{bar_chart(chart['title'], bars)}</figure>"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = ["".join(f"<td>{escape(_text(row.get(column, '')))}</td>" for column in columns) for row in rows]
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)
