"""Make the engine `blobs`: finds squares of pure red, green or blue, for load tests with ground truth.

The scene it expects: squares with sides along the picture's, filled with pure red, green or blue, on a grey ground
darker than 115 (40 to 110 is meant). At the scale of its input of 160 x 96 pixels: sides of 5.5 to 16 px, and
4 px at least from square to square and to the picture's edge. So in a 16:9 picture, sides from 1/16 to 1/6 of its
height and gaps of 1/22. The pictures may have been through H.264 with halved chroma, from 320 x 180 on: colours may
bleed by a pixel or two. How much of a square a pixel holds is told by differences of channels, which grow with it in
proportion and which halved chroma blurs alike to both sides; so edges are right to a fraction of a pixel.
It returns 24 rows. A square may take two or three, where an edge runs through a point of the grid; NMS makes them
one, and the surest come first.

How: a square covers at least one point of a grid of 4 px. Of its grid points the upper left one stands for it. Through
that point run a row and a column of pixels: from a little before the square to the first pixel that is not in it.
What is there of its colour, over the most that one pixel has of it, is how far the square reaches to either side.

It is made to cost little, for it is the yardstick of the server's own cost: ONNX Runtime spends about 45 us on a lone
frame and 26 us on one of eight. So the picture is passed over once, when it is cast; all else looks at its grid points
or at the few pixels near an anchor. What depends on an anchor only comes out of tables by its index.

Run `python -m vedette_engines.making.blobs OUT` to publish it below OUT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.making.graph import Graph
from vedette_engines.making.publish import publish
from vedette_engines.manifest import Defaults, DetectorOutput, EngineFile, InputSpec, Manifest, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

WIDTH, HEIGHT = 160, 96
CANDIDATES = 24
LABELS = ("red", "green", "blue")
VERSION = "1"

_PITCH = 4
_COLUMNS, _ROWS = WIDTH // _PITCH, HEIGHT // _PITCH
# Values of one row of the grid: all colours of its points.
_STRIDE = _COLUMNS * len(LABELS)
# The first and the last row of the grid hold no anchors: no square is there, and all others have neighbours.
_ANCHORS = (_ROWS - 2) * _STRIDE
# How much of a square a pixel must hold to be in it: of a score of 0.5, and along the lines.
_HALF_SURE = 0.42
_LIT = 115.0
# A point joins a neighbour that holds more than this part of what it holds itself.
_JOINED = 0.9
# A line begins so many pixels before the anchor and is so long: the largest square, its bleeding, a dark pixel.
_LEAD, _LENGTH = 4, 22
# Above the darkest ground's noise and far below a square: what a line holds at least, so that nothing divides by 0.
_TRACE = 0.1
_MUCH = 10_000.0


def build() -> ModelProto:
    """Build the graph; always the same bytes."""
    g = Graph("blobs")
    # Cast first: TensorRT takes uint8 nowhere else.
    planes = g.op("Cast", "frames", to=1)
    score, index = _anchors(g, planes)
    reach = _reach(g, _lines(g, planes, index))
    x, y, colour = _anchor_table()
    place = g.op("GatherND", g.array(np.stack([x, y, colour], axis=1).astype(np.float32)), index)
    # From reach to the left, right, up, down; x, y, class; score.
    rows = np.zeros((8, 6), np.float32)
    rows[0, 0] = rows[2, 1] = -1
    rows[1, 2] = rows[3, 3] = 1
    rows[4, [0, 2]] = rows[5, [1, 3]] = 1
    rows[6, 5] = rows[7, 4] = 1
    g.op("MatMul", g.op("Concat", reach, place, score, axis=2), g.array(rows), named="candidates")
    return g.model("candidates", (HEIGHT, WIDTH, 3), (CANDIDATES, 6))


def _anchors(g: Graph, planes: str) -> tuple[str, str]:
    """Choose one grid point per square: scores 0..1 and rows of the anchor table, `[N, K, 1]`, by falling score.

    An anchor holds clearly more of a colour than its neighbours to the left, above, below on the left and above on
    the right. The latter two keep a point of an edge that is half in the square from standing beside the corner.
    """
    points = g.grid(planes, (1, 2), (HEIGHT, WIDTH), _PITCH)
    # A colour is its own channel less the mean of the others; channels are blue, green, red.
    colours = np.full((3, len(LABELS)), -0.5, np.float32)
    colours[[2, 1, 0], [0, 1, 2]] = 1.0
    held = g.op("MatMul", points, g.array(colours * np.float32(0.5 / _HALF_SURE / 255.0)))
    held = g.reshape(held, 0, _ROWS * _STRIDE, 1)
    # From row to row the picture's left edge follows its right edge: both are ground.
    here, left, above, below_left, above_right = (
        g.slice(held, 1, _STRIDE + shift, _STRIDE + shift + _ANCHORS)
        for shift in (0, -3, -_STRIDE, _STRIDE - 3, 3 - _STRIDE)
    )
    near = g.op("Max", left, above, below_left, above_right)
    # A scalar would do, but ONNX Runtime is slow to spread one over a last dimension of 1.
    tolerance = g.array(np.full((_ANCHORS, 1), 1.0 / _JOINED, np.float32))
    stands = g.op("Cast", g.op("Less", g.op("Mul", near, tolerance), here), to=1)
    best, index = g.ops("TopK", 2, g.op("Mul", here, stands), g.ints(CANDIDATES), axis=1)
    return g.op("Clip", best, g.number(0.0), g.number(1.0)), index


def _anchor_table() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Tell where the lines of each anchor cross, x and y, and its class; each `int64 [_ANCHORS]`."""
    point, colour = np.divmod(np.arange(_ANCHORS), len(LABELS))
    row, column = np.divmod(point, _COLUMNS)
    # One pixel further in: the point may lie on the very edge, where the lines are ragged.
    return np.maximum(column * _PITCH, _LEAD) + 1, (row + 1) * _PITCH + 1, colour


def _lines(g: Graph, planes: str, index: str) -> str:
    """Read the row and the column through each anchor: how much of its colour, `[N, K, 1, 2, _LENGTH]`, 0..255."""
    x, y, colour = _anchor_table()
    # A colour's own channel less the next one; the mean of both others would be one more to read.
    channels = 2 - np.stack([colour, (colour + 1) % 3], axis=1)
    start = ((y * WIDTH + x) * 3)[:, None] + channels
    along = np.arange(_LENGTH) - _LEAD - 1
    offsets = np.concatenate([along, along * WIDTH]) * 3
    places = g.op("Gather", g.array(start[:, :, None].astype(np.int32)), index, axis=0)
    places = g.op("Add", places, g.array(offsets.astype(np.int32)))
    # Below the picture both channels read the same value: nothing is there.
    places = g.op("Min", places, g.array(np.array(HEIGHT * WIDTH * 3 - 1, np.int32)))
    # GatherElements reads single values several times faster than GatherND.
    flat = g.reshape(planes, 0, HEIGHT * WIDTH * 3)
    values = g.op("GatherElements", flat, g.reshape(places, 0, -1), axis=1)
    own, other = g.ops("Split", 2, g.reshape(values, 0, CANDIDATES, 2, 2, _LENGTH), g.ints(1, 1), axis=2)
    return g.op("Max", g.op("Sub", own, other), g.number(_TRACE))


def _reach(g: Graph, lines: str) -> str:
    """Measure how far a square reaches from where its lines cross: left, right, up, down, `[N, K, 4]`."""
    position = np.arange(_LENGTH)
    # The first pixel below the floor ends the line; none does before the square has begun.
    floor = np.where(position < _LEAD + 2, _MUCH, _LIT).astype(np.float32)
    end = g.op("ArgMin", g.op("Max", lines, g.array(floor)), axis=4, keepdims=0)
    # The dark pixel at the end is part of it: it holds what the edge covers of it.
    until = np.where(position <= position[:, None], _MUCH, _TRACE).astype(np.float32)
    lines = g.op("Min", lines, g.op("Gather", g.array(until), end, axis=0))
    before = position < _LEAD + 1
    mass = g.op("MatMul", lines, g.array(np.stack([before, ~before], axis=1).astype(np.float32)))
    return g.reshape(g.op("Div", mass, g.reduce("Max", lines, 4)), 0, CANDIDATES, 4)


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
            "score": "a channel minus the mean of the others, over 214, at most 1",
        },
    )


if __name__ == "__main__":
    publish(describe(), build())
