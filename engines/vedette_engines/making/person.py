"""Make the engine `person`: OpenCV's people detector as an ONNX graph.

HOG and a linear SVM (N. Dalal and B. Triggs, Histograms of Oriented Gradients for Human Detection, CVPR 2005), with the
coefficients of OpenCV's `HOGDescriptor_getDefaultPeopleDetector`. Every window's SVM score is that of
`HOGDescriptor.detect(picture, winStride=(8, 8), padding=(16, 16))` to a few thousandths, on the picture of its scale:
the frame itself, or the frame resized (bilinear, rounded to 8 bits). The tensors `svm_0`, `svm_1`, ... are these
scores, `[N, rows * columns]` for each scale. The padding lets persons at the border be found.

score = 1 / (1 + exp(-2 * (svm - 0.5))): a strictly rising map of the SVM's score, 0.5 where the SVM gives 0.5;
svm = 0.5 + 0.5 * log(score / (1 - score)) gives it back.

It finds upright persons, whole, seen from the level of the street, of 3/8 of the input's height and more. (A first
scale of 640 x 360, for smaller ones, nearly doubled the cost, and on the clips at hand brought more false alarms and
no further person.)

Where the time goes, and how it is kept short: nine maps of orientation votes are the bulk. A vote is shared linearly
between two bins, so it is piecewise linear in the angle, and scales with the magnitude m: with A = m * angle all nine
are sums of hinges, `relu(A - k * m)`. Those are one convolution of two maps with a fused ReLU; and since what follows
is linear up to the blocks, the sums are taken there, on a sixty-fourth of the data. The pooling into cells is
separable: two products of matrices per tile of 8 x 8 pixels instead of a kernel of 16 x 16.

Run `python -m vedette_engines.making.person OUT` to publish it below OUT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.making.graph import Graph
from vedette_engines.making.publish import publish
from vedette_engines.manifest import Defaults, DetectorOutput, EngineFile, InputSpec, Manifest, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

WIDTH, HEIGHT = 512, 288
VERSION = "1"
CANDIDATES = 128
SLOPE, OPERATING_POINT = 2.0, 0.5

# Sizes of the pyramid's pictures, width and height, multiples of a cell.
SIZES = ((512, 288), (416, 232), (336, 192), (272, 152), (224, 128), (176, 104))

CELL, BLOCK = 8, 16
# Each picture is continued so far by its reflection.
PADDING = 16
WINDOW_WIDTH, WINDOW_HEIGHT = 64, 128
BLOCKS_X, BLOCKS_Y, CELLS, BINS = 7, 15, 4, 9
# The person's part of the window, which has a margin around: left, top, right, bottom.
_MARGINS = (0.16, 0.09, 0.84, 0.93)
_BASE = BINS + 1


@dataclass(frozen=True, slots=True)
class Scale:
    """One picture of the pyramid.

    Attributes:
        width: Pixels, a multiple of a cell.
        height: Pixels, a multiple of a cell.
    """

    width: int
    height: int

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width in pixels with the padding."""
        return self.height + 2 * PADDING, self.width + 2 * PADDING

    @property
    def blocks(self) -> tuple[int, int]:
        """Rows and columns of blocks, one at each cell that has a neighbour."""
        height, width = self.padded
        return height // CELL - 1, width // CELL - 1

    @property
    def windows(self) -> tuple[int, int]:
        """Rows and columns of windows, one at each block; the first begins in the corner of the padding."""
        rows, columns = self.blocks
        return rows - BLOCKS_Y + 1, columns - BLOCKS_X + 1

    @property
    def boxes(self) -> NDArray[np.float32]:
        """Boxes of the persons in the windows, in input pixels and within it: `float32 [rows * columns, 4]`."""
        rows, columns = self.windows
        y, x = np.mgrid[0:rows, 0:columns] * float(CELL) - PADDING
        left, top, right, bottom = _MARGINS
        box = [x + left * WINDOW_WIDTH, y + top * WINDOW_HEIGHT, x + right * WINDOW_WIDTH, y + bottom * WINDOW_HEIGHT]
        to_input = np.tile([WIDTH / self.width, HEIGHT / self.height], 2)
        boxes: NDArray[np.float64] = np.stack(box, -1).reshape(-1, 4) * to_input
        return np.clip(boxes, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(np.float32)


SCALES = tuple(Scale(*size) for size in SIZES)


def build(coefficients: NDArray[np.float32], scales: tuple[Scale, ...] = SCALES) -> ModelProto:
    """Build the graph; always the same bytes.

    Args:
        coefficients: `float32 [3781]`, as OpenCV orders them.
        scales: The pyramid.
    """
    g = Graph("person")
    picture = g.op("Transpose", g.op("Cast", "frames", to=1), perm=[0, 3, 1, 2])
    maps = []
    for index, scale in enumerate(scales):
        blocks = _blocks(g, _votes(g, _resized(g, picture, scale), scale), scale)
        maps.append(_windows(g, blocks, scale, coefficients, f"svm_{index}"))
    svm = g.op("Concat", *maps, axis=1)
    best, index_of = g.ops("TopK", 2, svm, g.ints(CANDIDATES), axis=1)
    boxes = g.op("Gather", g.array(np.concatenate([scale.boxes for scale in scales])), index_of)
    logit = g.op("Mul", g.op("Sub", best, g.number(OPERATING_POINT)), g.number(SLOPE))
    score = g.op("Unsqueeze", g.op("Sigmoid", logit), g.ints(2))
    g.op("Concat", boxes, score, g.op("Mul", score, g.number(0.0)), axis=2, named="candidates")
    return g.model("candidates", (HEIGHT, WIDTH, 3), (CANDIDATES, 6))


def _resized(g: Graph, picture: str, scale: Scale) -> str:
    """Resize the picture, and round it as an 8-bit picture would be: `[N, 3, h, w]`, 0..255."""
    if (scale.width, scale.height) == (WIDTH, HEIGHT):
        return picture
    # The sizes are rounded down from input size times factor: a hair more keeps them from falling one short.
    factors = np.array([1, 1, scale.height / HEIGHT + 1e-6, scale.width / WIDTH + 1e-6], np.float32)
    resized = g.op("Resize", picture, "", g.array(factors), mode="linear", coordinate_transformation_mode="half_pixel")
    return g.op("Round", resized)


def _votes(g: Graph, picture: str, scale: Scale) -> str:
    """Take the strongest channel's gradient, and give what the nine bins are sums of.

    `[N, 10, height * width]` of the padded picture.
    """
    height, width = scale.padded
    edge = PADDING + 1
    gamma = g.op("Pad", g.op("Sqrt", picture), g.ints(0, 0, edge, edge, 0, 0, edge, edge), mode="reflect")
    across = g.op("Sub", _shifted(g, gamma, scale, 1, 2), _shifted(g, gamma, scale, 1, 0))
    down = g.op("Sub", _shifted(g, gamma, scale, 2, 1), _shifted(g, gamma, scale, 0, 1))
    square = g.op("Add", g.op("Mul", across, across), g.op("Mul", down, down))
    dx, dy, strongest = _strongest(g, across, down, square)
    magnitude = g.op("Sqrt", strongest)
    # Nothing divided by nothing must be a number: it is multiplied by a magnitude of zero.
    slope = g.op("Div", dy, g.op("Add", dx, g.number(1e-12)))
    turned = g.op("Mul", g.op("Atan", slope), magnitude)
    pair = g.reshape(g.op("Concat", turned, magnitude, axis=1), 0, 2, height * width)
    # Over one long line: a picture would be turned into the layout of image convolutions and back.
    return g.op("Relu", g.op("Conv", pair, g.array(_hinges()), kernel_shape=[1]))


def _shifted(g: Graph, gamma: str, scale: Scale, y: int, x: int) -> str:
    """Take the padded picture as seen from a neighbour; 1, 1 is the pixel itself."""
    height, width = scale.padded
    return g.op("Slice", gamma, g.ints(y, x), g.ints(y + height, x + width), g.ints(2, 3))


def _strongest(g: Graph, across: str, down: str, square: str) -> tuple[str, str, str]:
    """Choose for each pixel the channel of the largest gradient: its dx, dy and squared magnitude, `[N, 1, h, w]`."""
    one_each = g.ints(1, 1, 1)
    channels = zip(*(g.ops("Split", 3, x, one_each, axis=1) for x in (across, down, square)), strict=True)
    dx, dy, most = next(channels)
    for next_dx, next_dy, next_most in channels:
        more = g.op("Greater", next_most, most)
        dx, dy = g.op("Where", more, next_dx, dx), g.op("Where", more, next_dy, dy)
        most = g.op("Max", most, next_most)
    return dx, dy, most


def _hinges() -> NDArray[np.float32]:
    """Weights that give relu(A - k m) for k = -4.5 .. 3.5 and m itself, of (m * atan, m): `float32 [10, 2, 1]`.

    A is the angle in bins, -4.5 .. 4.5, times m.
    """
    k = np.arange(BINS) - BINS / 2
    rows = [[BINS / np.pi, -value] for value in k] + [[0.0, 1.0]]
    return np.array(rows, np.float32)[:, :, None]


def _bins_of_hinges() -> NDArray[np.float64]:
    """Express the nine bins as sums of the hinges: `[9, 10]`.

    Bin b has its centre at (b + 0.5) * pi / 9; half a turn is nine bins, so bin 4 stands at both ends, -4.5 and 4.5.
    """
    bins = np.zeros((BINS, _BASE))
    for hinge in range(1, BINS):
        # A tent is the second difference of hinges.
        b = (hinge + 4) % BINS
        bins[b, hinge - 1 : hinge + 2] += [1, -2, 1]
        bins[b, -1] = 0
    # The hinge at 4.5 is never open: what stands in its place above is the column of m.
    bins[4] = -bins.sum(axis=0)
    bins[4, -1] = 1
    return bins


def _cell_weights() -> NDArray[np.float64]:
    """Weigh a block's pixel rows for its two cells: `[2 halves, 2 cells, 8 rows]`.

    Bilinear between the cells' centres, times a Gaussian around the block's.
    """
    row = np.arange(BLOCK)
    place = (row + 0.5) / CELL - 0.5
    shares = np.stack([np.clip(1 - np.abs(place - cell), 0, 1) for cell in (0, 1)])
    weights: NDArray[np.float64] = shares * np.exp(-((row - BLOCK / 2) ** 2) / (2 * (BLOCK / 4) ** 2))
    return weights.reshape(2, 2, CELL).transpose(1, 0, 2)


def _blocks(g: Graph, votes: str, scale: Scale) -> str:
    """Pool the votes into blocks of four cells of nine bins, normalised: `[N, 36, rows * columns]`.

    The 36 are in the order bin, cell across, cell down.
    """
    rows, columns = scale.blocks
    weights = _cell_weights()
    down = g.array(weights.reshape(4, CELL).astype(np.float32))
    strips = g.op("MatMul", down, g.reshape(votes, 0, _BASE, rows + 1, CELL, scale.padded[1]))
    first = g.slice(g.slice(strips, 2, 0, rows), 3, 0, 2)
    second = g.slice(g.slice(strips, 2, 1, rows + 1), 3, 2, 4)
    cells = g.reshape(g.op("Add", first, second), 0, _BASE, rows * 2 * (columns + 1), CELL)
    # Hinges to bins and pixels to cells in one product: [half, bin, cell] x [hinge, pixel].
    across = np.einsum("bh,ucp->ubchp", _bins_of_hinges(), weights).reshape(2 * BINS * 2, _BASE * CELL)
    pixels = g.reshape(g.op("Transpose", cells, perm=[0, 1, 3, 2]), 0, _BASE * CELL, rows * 2 * (columns + 1))
    tiles = g.reshape(
        g.op("MatMul", g.array(across.astype(np.float32)), pixels), 0, 2, BINS * 2 * rows * 2, columns + 1
    )
    first, second = g.ops("Split", 2, tiles, g.ints(1, 1), axis=1)
    blocks = g.op("Add", g.slice(first, 3, 0, columns), g.slice(second, 3, 1, columns + 1))
    ordered = g.op("Transpose", g.reshape(blocks, 0, BINS * 2, rows, 2, columns), perm=[0, 1, 3, 2, 4])
    return _normalised(g, g.reshape(ordered, 0, BINS * CELLS, rows * columns))


def _normalised(g: Graph, blocks: str) -> str:
    """Lowe's clipped norm, L2-Hys, with OpenCV's constants."""
    length = g.op("Add", g.op("ReduceL2", blocks, g.ints(1), keepdims=1), g.number(0.1 * BINS * CELLS))
    clipped = g.op("Min", g.op("Div", blocks, length), g.number(0.2))
    length = g.op("Add", g.op("ReduceL2", clipped, g.ints(1), keepdims=1), g.number(1e-3))
    return g.op("Div", clipped, length)


def _windows(g: Graph, blocks: str, scale: Scale, coefficients: NDArray[np.float32], name: str) -> str:
    """Score all windows: `[N, rows * columns]`.

    The kernel of 15 x 7 blocks is one product of matrices for all its 105 places, whose maps are then added, each
    shifted by its place: a row that is read as one longer than it is shifts every next row by one.
    """
    rows, columns = scale.blocks
    count = rows * columns
    # OpenCV's order: block column, block row, cell column, cell row, bin.
    kernel = coefficients[:-1].reshape(BLOCKS_X, BLOCKS_Y, 2, 2, BINS).transpose(1, 0, 4, 2, 3)
    places = g.op("MatMul", g.array(kernel.reshape(BLOCKS_Y * BLOCKS_X, -1).copy()), blocks)
    shifted = g.op("Pad", g.reshape(places, 0, BLOCKS_Y, BLOCKS_X * count), g.ints(0, 0, 0, 0, 0, BLOCKS_X))
    in_rows = g.reduce("Sum", g.reshape(shifted, 0, BLOCKS_Y, BLOCKS_X, count + 1), 2, keep=False)
    flat = g.reshape(in_rows, 0, BLOCKS_Y * (count + 1))
    shifted = g.op("Pad", flat, g.ints(0, 0, 0, BLOCKS_Y * columns))
    summed = g.reduce("Sum", g.reshape(shifted, 0, BLOCKS_Y, count + 1 + columns), 1, keep=False)
    window_rows, window_columns = scale.windows
    summed = g.reshape(g.slice(summed, 1, 0, window_rows * columns), 0, window_rows, columns)
    valid = g.reshape(g.slice(summed, 2, 0, window_columns), 0, window_rows * window_columns)
    return g.op("Add", valid, g.number(float(coefficients[-1])), named=name)


def coefficients_of_opencv() -> NDArray[np.float32]:
    """Read OpenCV's coefficients: `float32 [3781]`."""
    import cv2  # noqa: PLC0415  (only to make the engine, not to run it)

    detector: Any = getattr(cv2, "HOGDescriptor_getDefaultPeopleDetector")  # noqa: B009  (not in OpenCV's type stubs)
    coefficients: NDArray[np.float32] = np.asarray(detector(), np.float32).ravel()
    return coefficients


def describe() -> Manifest:
    """Write the engine's manifest."""
    return Manifest(
        name="person",
        version=VERSION,
        task=Task.DETECTOR,
        input=InputSpec(WIDTH, HEIGHT),
        output=DetectorOutput(CANDIDATES, score_floor=0.2),
        labels=("person",),
        files=(EngineFile("model.onnx"),),
        defaults=Defaults(min_score=0.5, iou=0.4),
        provenance={
            "made-by": "python -m vedette_engines.making.person",
            "method": "Dalal and Triggs, Histograms of Oriented Gradients for Human Detection, CVPR 2005",
            "coefficients": "OpenCV, HOGDescriptor_getDefaultPeopleDetector (BSD / Apache-2.0)",
            "score": f"1 / (1 + exp(-{SLOPE:g} * (svm - {OPERATING_POINT:g})))",
        },
    )


if __name__ == "__main__":
    publish(describe(), build(coefficients_of_opencv()))
