"""Draw bar charts as SVG, to stand in a page: text and lines take their colours from the page's style."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 620
_LABELS, _VALUES, _ROW, _BAR, _HEAD, _FOOT = 236, 92, 24, 14, 6, 22
_PLOT = WIDTH - _LABELS - _VALUES
_TICKS = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        label: Stands before it.
        value: Its length; None: there is no bar, the text says why.
        text: Stands behind it.
        hue: Number of its colour in the page's style, from 0 on.
        shade: Opacity, 0..1.
        whisker: Where a thin line behind the bar ends; None: there is none.
        hint: Shown when a pointer rests on it.
    """

    label: str
    value: float | None
    text: str
    hue: int = 0
    shade: float = 1.0
    whisker: float | None = None
    hint: str = ""


def bar_chart(title: str, bars: Sequence[Bar], unit: str = "") -> str:
    """Draw horizontal bars from nought, with labels before and values behind them."""
    bars = [replace(bar, value=_finite(bar.value), whisker=_finite(bar.whisker)) for bar in bars]
    top = max([value for bar in bars for value in (bar.value, bar.whisker) if value is not None], default=0.0)
    ticks = nice_ticks(top)
    scale = _PLOT / (ticks[-1] or 1.0)
    height = _HEAD + _ROW * len(bars) + _FOOT
    parts = [
        f'<svg class="chart" role="img" aria-label="{escape(title)}" viewBox="0 0 {WIDTH} {height}" '
        'xmlns="http://www.w3.org/2000/svg">',
        *(_tick(tick, _LABELS + tick * scale, height, unit) for tick in ticks),
        *(_bar(bar, _HEAD + _ROW * index, scale) for index, bar in enumerate(bars)),
        "</svg>",
    ]
    return "\n".join(parts)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def nice_ticks(top: float) -> list[float]:
    """Choose round values from 0 to at least `top`: steps of 1, 2, 2.5 or 5 times a power of ten."""
    if not top > 0 or not math.isfinite(top):
        return [0.0, 1.0]
    raw = top / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    count = math.ceil(top / step - 1e-9)
    return [step * index for index in range(count + 1)]


def _tick(value: float, x: float, height: int, unit: str) -> str:
    text = f"{value:g}" + (f" {unit}" if unit and value else "")
    return (
        f'<line class="grid" x1="{x:.1f}" y1="{_HEAD}" x2="{x:.1f}" y2="{height - _FOOT}"/>'
        f'<text class="tick" x="{x:.1f}" y="{height - 6}" text-anchor="middle">{escape(text)}</text>'
    )


def _bar(bar: Bar, y: float, scale: float) -> str:
    middle = y + _ROW / 2
    parts = [f"<g><title>{escape(bar.hint or f'{bar.label}: {bar.text}')}</title>"]
    parts.append(
        f'<text class="label" x="{_LABELS - 8}" y="{middle + 4:.1f}" text-anchor="end">{escape(bar.label)}</text>'
    )
    end = _LABELS + (bar.value or 0.0) * scale
    if bar.value is not None:
        shape = _rounded(_LABELS, end, middle - _BAR / 2)
        # A pale bar stands on one of the card's colour, so that the grid does not shine through.
        parts.append(f'<path class="under" d="{shape}"/>')
        parts.append(f'<path class="hue{bar.hue}" fill-opacity="{bar.shade:g}" d="{shape}"/>')
    if bar.whisker is not None:
        far = _LABELS + bar.whisker * scale
        parts.append(f'<path class="whisker" d="M{end:.1f} {middle:.1f}H{far:.1f}M{far:.1f} {middle - 4:.1f}v8"/>')
        end = max(end, far)
    kind = "value" if bar.value is not None else "absent"
    parts.append(f'<text class="{kind}" x="{end + 6:.1f}" y="{middle + 4:.1f}">{escape(bar.text)}</text></g>')
    return "".join(parts)


def _rounded(start: float, end: float, y: float) -> str:
    """Draw a bar that is round at its far end only: it begins at nought."""
    length = max(end - start, 1.0)
    radius = min(3.0, length)
    return (
        f"M{start:.1f} {y:.1f}h{length - radius:.1f}a{radius:g} {radius:g} 0 0 1 {radius:g} {radius:g}"
        f"v{_BAR - 2 * radius:g}a{radius:g} {radius:g} 0 0 1 -{radius:g} {radius:g}h-{length - radius:.1f}z"
    )
