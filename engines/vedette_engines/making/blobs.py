"""Make the engine `blobs`: finds squares of pure red, green or blue, for load tests with ground truth.

The scene it expects: squares with sides along the picture's, filled with pure red, green or blue, on a grey ground
darker than 115 (40 to 110 is meant). At the scale of its input of 160 x 96 pixels: sides of 5.5 to 32 px, and
4 px at least from square to square and to the picture's edge. So in a 16:9 picture, sides from 1/16 of its height on
and gaps of 1/22. The pictures may have been through H.264 with halved chroma, from 320 x 180 on: colours may bleed by
a pixel or two. A square is told by its saturation (highest channel minus the middle one), which halved chroma blurs
alike to both sides, and its edges are placed by how much of it is there, so they are right to a fraction of a pixel.

How: a square covers at least one point of a grid of 4 px. Of its grid points the one without a lit run to the point
on its left nor to the one above stands for it (ragged edges may bring a second; NMS makes them one). From there, the
lit run of its row gives x1 and x2, of its column y1 and y2: its mass over its peak is the length, its first moment
the middle.

Run `python -m vedette_engines.making.blobs OUT` to publish it below OUT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.making.graph import Graph
from vedette_engines.making.publish import publish
from vedette_engines.manifest import Defaults, DetectorOutput, EngineFile, InputSpec, Manifest, Task

if TYPE_CHECKING:
    from onnx import ModelProto

WIDTH, HEIGHT = 160, 96
CANDIDATES = 32
LABELS = ("red", "green", "blue")
VERSION = "1"

_PITCH = 4
_COLUMNS, _ROWS = WIDTH // _PITCH, HEIGHT // _PITCH
# Saturation of a pixel that is in a square: about half of what a square keeps after video coding.
_LIT = 115.0
_FAR = 1000.0


def build() -> ModelProto:
    """Build the graph; always the same bytes."""
    g = Graph("blobs")
    planes = g.op("Transpose", g.op("Cast", "frames", to=1), perm=[0, 3, 1, 2])
    saturation = _saturation(g, planes)
    score, index = _anchors(g, saturation)
    row = g.op("Div", index, g.ints(_COLUMNS))
    column = g.op("Sub", index, g.op("Mul", row, g.ints(_COLUMNS)))
    # One pixel further in: the point may lie on the very edge, where the run is ragged.
    y, x = (g.op("Add", g.op("Mul", line, g.ints(_PITCH)), g.ints(1)) for line in (row, column))
    low, high = _extents(g, saturation, x, y)
    (x1, y1), (x2, y2) = (_clipped_pair(g, side) for side in (low, high))
    columns = (x1, y1, x2, y2, g.op("Unsqueeze", score, g.ints(2)), _classes(g, planes, index))
    g.op("Concat", *columns, axis=2, named="candidates")
    return g.model("candidates", (HEIGHT, WIDTH, 3), (CANDIDATES, 6))


def _saturation(g: Graph, planes: str) -> str:
    """Highest channel minus the middle one: `[N, 1, H, W]`, 0..255."""
    blue, green, red = g.ops("Split", 3, planes, g.ints(1, 1, 1), axis=1)
    more, less = g.op("Max", blue, green), g.op("Min", blue, green)
    return g.op("Sub", g.op("Max", more, red), g.op("Max", less, g.op("Min", more, red)))


def _anchors(g: Graph, saturation: str) -> tuple[str, str]:
    """Choose one grid point per square: scores 0..1 and grid indices, `[N, K]`, sorted by falling score."""
    lit = g.number(_LIT)
    # The least of a stretch is the negated largest of the negated; a border of zeros joins with nothing.
    dark = g.op("Pad", g.op("Neg", saturation), g.ints(0, 0, _PITCH, _PITCH, 0, 0, 0, 0))
    stretch = _PITCH + 1
    leftward = g.op("MaxPool", dark, kernel_shape=[1, stretch], strides=[_PITCH, _PITCH])
    upward = g.op("MaxPool", dark, kernel_shape=[stretch, 1], strides=[_PITCH, _PITCH])
    joined = g.op("Min", g.slice(leftward, 2, 1, _ROWS + 1), g.slice(upward, 3, 1, _COLUMNS + 1))
    # A point at the upper left has more of the square right below it; one at a ragged lower right has not.
    here = g.grid(saturation, (2, 3), (HEIGHT, WIDTH), _PITCH)
    below = g.grid(saturation, (2, 3), (HEIGHT, WIDTH), _PITCH, start=1)
    within = g.op("GreaterOrEqual", g.op("Min", here, below), lit)
    stands = g.op("And", within, g.op("Greater", joined, g.number(-_LIT)))
    # The peak right of and below the point, which is the square's upper left: the point itself may lie on the edge.
    peak = g.op("MaxPool", saturation, kernel_shape=[stretch, stretch], strides=[_PITCH, _PITCH], pads=[0, 0, 1, 1])
    share = g.op("Mul", peak, g.number(1.0 / 255.0))
    scores = g.reshape(g.op("Where", stands, share, g.number(0.0)), 0, _ROWS * _COLUMNS)
    best, index = g.ops("TopK", 2, scores, g.ints(CANDIDATES), axis=1)
    return best, index


def _extents(g: Graph, saturation: str, x: str, y: str) -> tuple[str, str]:
    """Follow the lit run through each anchor: its two ends, `[N, 2K, 1]`, first along the rows, then the columns."""
    image = g.reshape(saturation, 0, HEIGHT, WIDTH)
    rows = g.op("GatherND", image, g.op("Unsqueeze", y, g.ints(2)), batch_dims=1)
    turned = g.op("Transpose", image, perm=[0, 2, 1])
    columns = g.op("GatherND", turned, g.op("Unsqueeze", x, g.ints(2)), batch_dims=1)
    columns = g.op("Pad", columns, g.ints(0, 0, 0, 0, 0, WIDTH - HEIGHT))
    lines = g.op("Concat", rows, columns, axis=1)
    start = g.op("Unsqueeze", g.op("Cast", g.op("Concat", x, y, axis=1), to=1), g.ints(2))
    offset = g.op("Sub", g.array(np.arange(WIDTH, dtype=np.float32)), start)
    dark, zero = g.op("Less", lines, g.number(_LIT)), g.number(0.0)
    before = g.op("And", dark, g.op("Less", offset, zero))
    behind = g.op("And", dark, g.op("Greater", offset, zero))
    first = g.reduce("Max", g.op("Where", before, offset, g.number(-_FAR)), 2)
    last = g.reduce("Min", g.op("Where", behind, offset, g.number(_FAR)), 2)
    # The dark pixel at either end is part of the run: it holds what the edge covers of it.
    inside = g.op("And", g.op("GreaterOrEqual", offset, first), g.op("LessOrEqual", offset, last))
    run = g.op("Where", inside, lines, zero)
    mass, peak = g.reduce("Sum", run, 2), g.reduce("Max", run, 2)
    moment = g.reduce("Sum", g.op("Mul", run, offset), 2)
    one = g.number(1.0)
    middle = g.op("Add", g.op("Add", start, g.number(0.5)), g.op("Div", moment, g.op("Max", mass, one)))
    half = g.op("Mul", g.op("Div", mass, g.op("Max", peak, one)), g.number(0.5))
    return g.op("Sub", middle, half), g.op("Add", middle, half)


def _clipped_pair(g: Graph, ends: str) -> list[str]:
    """Split ends into those along rows and those along columns, within the input: two of `[N, K, 1]`."""
    x, y = g.ops("Split", 2, ends, g.ints(CANDIDATES, CANDIDATES), axis=1)
    zero = g.number(0.0)
    return [g.op("Clip", x, zero, g.number(WIDTH)), g.op("Clip", y, zero, g.number(HEIGHT))]


def _classes(g: Graph, planes: str, index: str) -> str:
    """Name each anchor's strongest channel: 0 red, 1 green, 2 blue, `[N, K, 1]`."""
    grid = g.grid(planes, (2, 3), (HEIGHT, WIDTH), _PITCH)
    strongest = g.reshape(g.op("ArgMax", grid, axis=1, keepdims=0), 0, _ROWS * _COLUMNS)
    chosen = g.op("Cast", g.op("GatherElements", strongest, index, axis=1), to=1)
    # Channels are blue, green, red.
    return g.op("Unsqueeze", g.op("Sub", g.number(2.0), chosen), g.ints(2))


def describe() -> Manifest:
    """Write the engine's manifest."""
    return Manifest(
        name="blobs",
        version=VERSION,
        task=Task.DETECTOR,
        input=InputSpec(WIDTH, HEIGHT),
        output=DetectorOutput(CANDIDATES, score_floor=0.3),
        labels=LABELS,
        files=(EngineFile("model.onnx"),),
        defaults=Defaults(min_score=0.5, iou=0.45),
        provenance={
            "made-by": "python -m vedette_engines.making.blobs",
            "scene": "squares of pure red, green, blue on grey; for load tests with ground truth",
            "score": "highest channel minus middle channel, over 255",
        },
    )


if __name__ == "__main__":
    publish(describe(), build())
