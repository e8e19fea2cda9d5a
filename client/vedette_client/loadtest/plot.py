"""Draw plots as SVG elements to stand inside a page; colours and type come from the page's style sheet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 560, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 26, 36
_ROW = 26


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a plot.

    Attributes:
        name: For the legend.
        points: x and y, rising in x; y None leaves a gap.
        filled: Fill the area below it.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    filled: bool = False


def line_plot(series: Sequence[Series], *, x_label: str, y_label: str, y_most: float | None = None) -> str:
    """Draw lines over a common axis that begins at zero; the n-th line has the class `cN`."""
    points = [point for one in series for point in one.points if point[1] is not None]
    x_high = nice_ceiling(max((x for x, _ in points), default=1.0))
    y_high = y_most or nice_ceiling(max((y for _, y in points if y is not None), default=1.0))
    body = [_axes(x_high, y_high, x_label, y_label)]
    for number, one in enumerate(series):
        for run in _runs(one.points):
            spots = [(_x(x, x_high), _y(y, y_high)) for x, y in run]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
            if one.filled:
                base = HEIGHT - _BOTTOM
                closed = f"{spots[0][0]:.1f},{base} {path} {spots[-1][0]:.1f},{base}"
                body.append(f'<polygon class="area c{number}" points="{closed}"/>')
            body.append(f'<polyline class="line c{number}" points="{path}"/>')
            if len(spots) == 1:
                body.append(f'<circle class="dot c{number}" cx="{spots[0][0]:.1f}" cy="{spots[0][1]:.1f}" r="3"/>')
    return _svg(HEIGHT, "".join(body)) + _legend([one.name for one in series])


def bar_rows(rows: Sequence[tuple[str, float, str]]) -> str:
    """Draw a horizontal bar per row: its name, its length, and what is written at its end."""
    most = max((value for _, value, _ in rows), default=0.0) or 1.0
    name_px, room = 120, WIDTH - 120 - 150
    body = []
    for number, (name, value, text) in enumerate(rows):
        y = 8 + number * _ROW
        length = max(1.0, value / most * room)
        body.append(
            f'<text class="tick" x="{name_px - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="bar c0" x="{name_px}" y="{y}" width="{length:.1f}" height="18" rx="2"/>'
            f'<text class="tick" x="{name_px + length + 8:.1f}" y="{y + 13}">{escape(text)}</text>'
        )
    return _svg(16 + len(rows) * _ROW, "".join(body))


def columns(values: Sequence[float], *, x_label: str, y_label: str, y_most: float | None = None) -> str:
    """Draw a column per value, in their order."""
    y_high = y_most or nice_ceiling(max(values, default=1.0))
    body = [_axes(None, y_high, x_label, y_label)]
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(values))
    for number, value in enumerate(values):
        y = _y(value, y_high)
        body.append(
            f'<rect class="bar c0" x="{_LEFT + number * step + step * 0.1:.2f}" y="{y:.1f}" '
            f'width="{step * 0.8:.2f}" height="{HEIGHT - _BOTTOM - y:.1f}"/>'
        )
    return _svg(HEIGHT, "".join(body))


def nice_ceiling(value: float) -> float:
    """Round up to a number whose quarter reads well."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10) if value <= step * power * (1 + 1e-9))


def _runs(points: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """Split at gaps."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None:
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _axes(x_high: float | None, y_high: float, x_label: str, y_label: str) -> str:
    """Draw the grid and write at its lines; without `x_high` nothing is written below."""
    parts = []
    for quarter in range(5):
        y = _y(y_high * quarter / 4, y_high)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{y_high * quarter / 4:g}</text>'
        )
        if x_high is not None:
            x = _x(x_high * quarter / 4, x_high)
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{HEIGHT - _BOTTOM + 15}" text-anchor="middle">'
                f"{x_high * quarter / 4:g}</text>"
            )
    parts.append(
        f'<text class="label" x="{WIDTH - _RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(x_label)}</text>'
        f'<text class="label" x="{_LEFT}" y="{_TOP - 12}">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _legend(names: Sequence[str]) -> str:
    if len(names) < 2:
        return ""
    keys = "".join(f'<span><i class="key c{number}"></i>{escape(name)}</span>' for number, name in enumerate(names))
    return f'<p class="legend">{keys}</p>'


def _svg(height: float, body: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img">{body}</svg>'


def _x(value: float, high: float) -> float:
    return _LEFT + value / high * (WIDTH - _LEFT - _RIGHT)


def _y(value: float, high: float) -> float:
    base = HEIGHT - _BOTTOM
    return base - min(value, high) / high * (base - _TOP)
