"""Draw a laid-out graph as one SVG that needs nothing else, for light and dark."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from vedette_engines.viewing.graph import drawing_of
from vedette_engines.viewing.layout import lay_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto

    from vedette_engines.viewing.graph import Box, Drawing
    from vedette_engines.viewing.layout import Placed

_CHAR, _PAD, _HEAD, _LINE = 6.7, 10.0, 20.0, 14.0
_MOST_CHARS, _MOST_DETAILS = 44, 5
# What an operator is for decides its colour; the others are grey.
_FAMILIES = {
    "layer": (
        *(
            "Conv",
            "ConvTranspose",
            "Gemm",
            "MatMul",
            "FusedConv",
            "FusedMatMul",
            "QLinearConv",
            "QLinearMatMul",
            "QGemm",
        ),
        *("ConvInteger", "MatMulInteger", "LSTM", "GRU", "Attention", "MultiHeadAttention"),
    ),
    "active": (
        "Relu",
        "Sigmoid",
        "Softmax",
        "Tanh",
        "LeakyRelu",
        "HardSwish",
        "HardSigmoid",
        "Elu",
        "Gelu",
        "Clip",
        "Mish",
    ),
    "norm": ("BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization"),
    "pool": (
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "Resize",
        "Upsample",
        "ReduceMean",
        "ReduceMax",
        "ReduceSum",
    ),
    "shape": (
        *(
            "Reshape",
            "Transpose",
            "Concat",
            "Split",
            "Slice",
            "Squeeze",
            "Unsqueeze",
            "Flatten",
            "Expand",
            "Pad",
            "Tile",
        ),
        *("Shape", "Gather", "GatherElements", "GatherND", "ScatterND"),
    ),
    "quant": ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast"),
    "pick": ("TopK", "NonMaxSuppression", "ArgMax", "NonZero", "Where"),
    "border": ("input", "output"),
}
_FAMILY_OF = {op: family for family, ops in _FAMILIES.items() for op in ops}
_STYLE = """
svg { background: var(--paper); --paper: #fcfcfb; --ink: #1b1b1a; --soft: #5d5c58; --edge: #9a988f; --box: #ffffff;
  --plain: #d9d8d2; --layer: #9cc4f2; --active: #f6bfa5; --norm: #c9c2f0; --pool: #9fdcbf; --shape: #eadf9f;
  --quant: #f3b9d0; --pick: #f0a7a6; --border: #c6c4bb; }
@media (prefers-color-scheme: dark) { svg { --paper: #1a1a19; --ink: #f3f2ee; --soft: #a9a7a0; --edge: #77756d;
  --box: #242423; --plain: #46453f; --layer: #1f4f86; --active: #8a4423; --norm: #4a418f; --pool: #1c6a49;
  --shape: #6b5c12; --quant: #80385a; --pick: #853232; --border: #57554d; } }
text { font: 11px ui-monospace, monospace; fill: var(--ink); }
.op { font: 600 12px system-ui, sans-serif; } .name, .flow { fill: var(--soft); } .flow { font-size: 10px; }
.body { fill: var(--box); stroke: var(--edge); } .line { fill: none; stroke: var(--edge); stroke-width: 1.2; }
""" + "".join(f".{family} {{ fill: var(--{family}); }} " for family in (*_FAMILIES, "plain"))


def draw(model: ModelProto, title: str) -> str:
    """Draw a model's main graph; every node is there, as a box or as a line of the box that takes it."""
    drawing = drawing_of(model)
    texts = [_lines(box) for box in drawing.boxes]
    sizes = [_size(box, lines) for box, lines in zip(drawing.boxes, texts, strict=True)]
    placed = lay_out(sizes, [(flow.source, flow.target) for flow in drawing.flows])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{placed.width:.0f}" height="{placed.height:.0f}" '
        f'viewBox="0 0 {placed.width:.0f} {placed.height:.0f}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7' orient='auto'>"
        "<path d='M0 0L8 4L0 8z' style='fill:var(--edge)'/></marker></defs>",
        *_flows(drawing, placed, sizes),
        *(_box(*each) for each in zip(drawing.boxes, texts, sizes, placed.centres, strict=True)),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _lines(box: Box) -> list[str]:
    details = [line for line in box.details if line]
    if len(details) > _MOST_DETAILS:
        details = [*details[: _MOST_DETAILS - 1], f"and {len(details) - _MOST_DETAILS + 1} more"]
    return [_short(line) for line in (box.name, *details)]


def _short(text: str) -> str:
    """Cut what is too long in its middle: names differ at their ends."""
    if len(text) <= _MOST_CHARS:
        return text
    half = (_MOST_CHARS - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def _size(box: Box, lines: Sequence[str]) -> tuple[float, float]:
    longest = max(len(box.kind) * 1.15, *(len(line) for line in lines))
    return max(110.0, longest * _CHAR + 2 * _PAD), _HEAD + len(lines) * _LINE + 8


def _box(box: Box, lines: Sequence[str], size: tuple[float, float], centre: tuple[float, float]) -> str:
    (width, height), (x, y) = size, (centre[0] - size[0] / 2, centre[1] - size[1] / 2)
    family = _FAMILY_OF.get(box.kind, "plain")
    hint = "\n".join((f"{box.kind} {box.name}", *(line for line in box.details if line)))
    parts = [
        f'<g class="node" data-name="{escape(_xml(box.name))}" data-op="{escape(_xml(box.kind))}">'
        f"<title>{escape(_xml(hint))}</title>",
        f'<rect class="body" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="6"/>',
        f'<path class="{family}" d="M{x:.1f} {y + _HEAD:.1f}v-{_HEAD - 6:g}a6 6 0 0 1 6 -6h{width - 12:.1f}'
        f'a6 6 0 0 1 6 6v{_HEAD - 6:g}z"/>',
        f'<text class="op" x="{x + _PAD:.1f}" y="{y + 14:.1f}">{escape(_xml(box.kind))}</text>',
    ]
    for number, line in enumerate(lines):
        kind = ' class="name"' if number == 0 else ""
        at = y + _HEAD + (number + 1) * _LINE - 1
        parts.append(f'<text{kind} x="{x + _PAD:.1f}" y="{at:.1f}">{escape(_xml(line))}</text>')
    parts.append("</g>")
    return "".join(parts)


def _flows(drawing: Drawing, placed: Placed, sizes: Sequence[tuple[float, float]]) -> list[str]:
    """Draw the lines; a tensor that goes to several boxes has its shape at the first."""
    parts: list[str] = []
    labelled: dict[int, set[str]] = {}
    for flow, bends in zip(drawing.flows, placed.bends, strict=True):
        (x, y), (far_x, far_y) = placed.centres[flow.source], placed.centres[flow.target]
        start, end = (x, y + sizes[flow.source][1] / 2), (far_x, far_y - sizes[flow.target][1] / 2)
        name = escape(_xml(f"{flow.tensor} {flow.label}".strip()))
        curve = _curve([start, *bends, end])
        parts.append(f'<path class="line" marker-end="url(#tip)" d="{curve}"><title>{name}</title></path>')
        done = labelled.setdefault(flow.source, set())
        if flow.label and flow.tensor not in done:
            at = start[1] + 13 + 11 * len(done)
            done.add(flow.tensor)
            parts.append(f'<text class="flow" x="{x + 6:.1f}" y="{at:.1f}">{escape(_xml(flow.label))}</text>')
    return parts


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """Lead through the points in curves that leave and arrive upright."""
    (x, y), rest = points[0], points[1:]
    parts = [f"M{x:.1f} {y:.1f}"]
    for to_x, to_y in rest:
        if abs(to_x - x) < 0.5:
            parts.append(f"L{to_x:.1f} {to_y:.1f}")
        else:
            middle = (y + to_y) / 2
            parts.append(f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}")
        x, y = to_x, to_y
    return "".join(parts)


def _xml(text: str) -> str:
    """Leave out the characters that XML has no way to write."""
    return "".join(sign for sign in text if sign in "\t\n" or ord(sign) >= 32)
