"""Pictures whose answer is known, and how far two engines' answers to them are apart.

The engine `blobs` finds squares of pure colour (`vedette_engines/making/blobs.py`), so there is something to be right
about: an engine that sees nothing does not pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vedette_engines.compare.detections import Boxes, boxes_of, ious, read_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

HEIGHT, WIDTH = 96, 160
FRAMES = 4
_GROUND, _CELL = 64, 32
# Red, green, blue, as the engine's labels are; channels are blue, green, red.
_COLOURS = ((0, 0, 255), (0, 255, 0), (255, 0, 0))
_MIN_SCORE, _IOU, _SAME = 0.5, 0.45, 0.5


class Bound(NamedTuple):
    """How far apart two answers may be.

    Attributes:
        score: Two scores.
        box_px: Two coordinates, in pixels of the input.
        why: Where it comes from.
    """

    score: float
    box_px: float
    why: str

    def __str__(self) -> str:
        return f"scores {self.score:g}, boxes {self.box_px:g} px"


# Edges lie on pixels, so the engine's own error is all there is.
TRUTH = Bound(0.5, 0.5, "what was drawn")
# Float32 in another order, TF32's ten bits of mantissa where a backend uses them: 2^-11 of 160 px is 0.08 px.
ALIKE = Bound(0.005, 0.1, "the CPU, float32")


def frames() -> list[NDArray[np.uint8]]:
    """Draw the frames: each `uint8 [96, 160, 3]`, BGR, C-contiguous; always the same."""
    return [frame for frame, _ in _drawn()]


def truth() -> list[Boxes]:
    """Tell the squares of each frame."""
    return [boxes for _, boxes in _drawn()]


def _drawn() -> list[tuple[NDArray[np.uint8], Boxes]]:
    rng = np.random.default_rng(20_262)
    return [_draw(rng) for _ in range(FRAMES)]


def _draw(rng: np.random.Generator) -> tuple[NDArray[np.uint8], Boxes]:
    """Draw a square into every other cell of the picture, 4 px from the cell's edge at least."""
    frame = np.full((HEIGHT, WIDTH, 3), _GROUND, np.uint8)
    corners, classes = [], []
    for cell in range(0, (HEIGHT // _CELL) * (WIDTH // _CELL), 2):
        row, column = divmod(cell, WIDTH // _CELL)
        side, colour = int(rng.integers(6, 17)), int(rng.integers(3))
        left, top = (int(rng.integers(4, _CELL - 4 - side + 1)) for _ in range(2))
        x, y = column * _CELL + left, row * _CELL + top
        frame[y : y + side, x : x + side] = _COLOURS[colour]
        corners.append((x, y, x + side, y + side))
        classes.append(colour)
    return frame, boxes_of(np.array(corners, np.float64), np.ones(len(classes)), np.array(classes))


def read(rows: NDArray[np.float32]) -> list[Boxes]:
    """Turn an engine's rows, `float32 [n, K, 6]`, into the squares of each frame."""
    return [read_rows(one, len(_COLOURS), _MIN_SCORE, _IOU) for one in rows]


def differences(wanted: Sequence[Boxes], found: Sequence[Boxes]) -> tuple[dict[str, float], str]:
    """Measure the largest differences, `score` and `box_px`, and say what is missing or too much; empty: nothing."""
    worst = {"score": 0.0, "box_px": 0.0}
    if len(wanted) != len(found):
        return worst, f"{len(found)} frames came back of {len(wanted)}"
    for number, (want, have) in enumerate(zip(wanted, found, strict=True)):
        if have.broken:
            return worst, f"frame {number}: {have.broken} rows are not numbers"
        if len(want) != len(have):
            return worst, f"frame {number}: {len(have)} squares were found, {len(want)} are there"
        if not len(want):
            continue
        overlaps = ious(want.corners, have.corners) * (want.class_ids[:, None] == have.class_ids[None])
        partner = overlaps.argmax(axis=1)
        lost = np.flatnonzero(overlaps.max(axis=1) < _SAME)
        if len(lost) or len(set(partner.tolist())) < len(want):
            return worst, f"frame {number}: a square at {want.corners[lost[0] if len(lost) else 0].tolist()} is missing"
        worst["score"] = max(worst["score"], float(np.abs(want.scores - have.scores[partner]).max()))
        worst["box_px"] = max(worst["box_px"], float(np.abs(want.corners - have.corners[partner]).max()))
    return worst, ""


def beyond(worst: dict[str, float], bound: Bound) -> str:
    """Say which difference is beyond its bound; empty: none."""
    over = [
        f"{name} differs by {worst[name]:.3g}, allowed is {limit:g}"
        for name, limit in (("score", bound.score), ("box_px", bound.box_px))
        if not worst[name] <= limit
    ]
    return "; ".join(over)
