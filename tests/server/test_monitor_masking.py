"""What masks hide of what was found: by where it stands, and by its middle where it is private."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.data.rules import Mask, MaskKind
from vedette_server.monitor.masking import DetectionMasks
from vedette_server.post.detections import Detections

RIGHT_BELOW = ((0.5, 0.5), (1.0, 0.5), (1.0, 1.0), (0.5, 1.0))
WHOLE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


def boxes(*rows: tuple[float, float, float, float]) -> Detections:
    count = len(rows)
    return Detections(
        np.array(rows, np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, count, dtype=np.float32),
        np.arange(count, dtype=np.int32),
        np.empty((count, 0), np.float32),
    )


def left(
    kind: MaskKind, vertices: tuple[tuple[float, float], ...], *rows: tuple[float, float, float, float]
) -> list[int]:
    """Give the numbers of the boxes that are not hidden."""
    found = boxes(*rows)
    DetectionMasks([Mask(kind, vertices)]).apply(found)
    assert len(found) == len(found.boxes) == len(found.scores) == len(found.class_ids)
    return [int(number) for number in found.class_ids]


def test_a_detection_mask_hides_what_stands_in_it_and_a_privacy_mask_what_is_in_its_middle_too() -> None:
    rows = [(0.6, 0.1, 0.8, 0.6), (0.6, 0.6, 0.8, 0.8), (0.1, 0.6, 0.3, 0.8), (0.6, 0.1, 0.8, 0.4)]
    assert left(MaskKind.DETECTION, RIGHT_BELOW, *rows) == [2, 3]
    below = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.0, 0.5))
    assert left(MaskKind.DETECTION, below, *rows) == [0, 1, 2]
    assert left(MaskKind.PRIVACY, below, *rows) == [1, 2]
    assert left(MaskKind.MOTION, WHOLE, *rows) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "box",
    [(0.8, 0.8, 1.0, 1.0), (0.9, 0.7, 1.3, 1.2), (1.0, 0.9, 1.0, 1.0), (0.95, 0.95, 1.05, 1.05)],
    ids=["in the corner", "beyond it", "no area", "over it"],
)
def test_what_reaches_over_the_pictures_edge_is_hidden_by_the_mask_that_ends_there(
    box: tuple[float, float, float, float],
) -> None:
    for kind in (MaskKind.DETECTION, MaskKind.PRIVACY):
        assert left(kind, RIGHT_BELOW, box) == []


BOX = st.tuples(*(st.floats(-0.5, 1.5, width=32) for _ in range(4)))


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(BOX, max_size=20))
def test_a_mask_of_the_whole_picture_hides_everything_and_none_hides_nothing(
    rows: list[tuple[float, float, float, float]],
) -> None:
    assert left(MaskKind.PRIVACY, WHOLE, *rows) == []
    assert left(MaskKind.DETECTION, WHOLE, *rows) == []
    found = boxes(*rows)
    DetectionMasks([]).apply(found)
    assert len(found) == len(rows)
