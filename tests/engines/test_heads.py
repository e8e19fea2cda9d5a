"""The heads: what each recognises, and that graph and NumPy read the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_headcheck import assert_same, border, run_head
from vedette_engines.errors import ImportInputError
from vedette_engines.graft.head import HeadContext, HeadOptions
from vedette_engines.graft.heads.boxes_scores import BoxesScoresHead
from vedette_engines.graft.heads.classifier import ClassifierHead
from vedette_engines.graft.heads.yolov8 import YoloV8Head
from vedette_engines.graft.heads.yolox import YoloxHead
from vedette_engines.graft.registry import choose_head, known_heads

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADS = known_heads()


def raw_yolox(seed: int, classes: int, batch: int = 2, *, logits: bool = False) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    boxes = rng.normal(0, 1, (batch, 84, 4))
    scores = rng.normal(0, 3, (batch, 84, 1 + classes)) if logits else rng.random((batch, 84, 1 + classes))
    return np.concatenate([boxes, scores], axis=2).astype(np.float32)


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.parametrize("logits", [False, True])
def test_the_yolox_graph_gives_the_best_rows_of_the_plain_reading(opset: int, logits: bool) -> None:
    head, signature = YoloxHead(), border(("output", (1, 84, 9)))
    raw = raw_yolox(1, 4, logits=logits)
    context = HeadContext(signature, HeadOptions(activated=not logits), 20, 0.01)
    rows = assert_same(head, context, [raw], opset)
    assert rows.shape == (2, 20, 6)
    assert np.all(np.diff(rows[..., 4]) <= 0)


def test_a_yolox_anchor_is_decoded_by_its_cell_and_stride() -> None:
    head = YoloxHead()
    raw = np.zeros((1, 84, 6), np.float32)
    # The second row's third cell of the grid of stride 16 is number 64 + 4 + 2.
    raw[0, 70] = [0.5, 0.25, np.log(2), np.log(3), 0.8, 0.5]
    context = HeadContext(border(("output", (1, 84, 6))), HeadOptions(activated=True), 5, 0.01)
    rows = run_head(head, context, [raw])
    centre_x, centre_y, width, height = 2.5 * 16, 1.25 * 16, 2 * 16, 3 * 16
    wanted = [centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2, 0.4, 0]
    np.testing.assert_allclose(rows[0, 0], wanted, rtol=1e-5)
    assert not rows[0, 1:, 4].any()


@given(seed=st.integers(0, 10_000), classes=st.integers(1, 6), rows=st.integers(1, 84))
@settings(max_examples=15, deadline=None)
def test_any_yolox_output_is_read_alike_by_graph_and_numpy(seed: int, classes: int, rows: int) -> None:
    context = HeadContext(border(("output", (1, 84, 5 + classes))), HeadOptions(activated=True), rows, 0.05)
    assert_same(YoloxHead(), context, [raw_yolox(seed, classes)])


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("box_format", ["xyxy", "cxcywh"])
def test_the_yolov8_graph_gives_the_best_rows_of_the_plain_reading(
    logits: bool, normalised: bool, box_format: Any
) -> None:
    rng = np.random.default_rng(2)
    boxes = rng.random((2, 4, 50)) * (1 if normalised else 64)
    scores = rng.normal(0, 3, (2, 5, 50)) if logits else rng.random((2, 5, 50))
    raw = np.concatenate([boxes, scores], axis=1).astype(np.float32)
    context = HeadContext(border(("output0", (1, 9, 50))), HeadOptions(not logits, normalised, box_format), 30, 0.01)
    assert_same(YoloV8Head(), context, [raw])


@pytest.mark.parametrize("one_class", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
def test_the_graph_of_boxes_and_scores_gives_the_best_rows_of_the_plain_reading(
    one_class: bool, normalised: bool
) -> None:
    rng = np.random.default_rng(3)
    boxes = (rng.random((2, 40, 4)) * (1 if normalised else 64)).astype(np.float32)
    scores = rng.random((2, 40) if one_class else (2, 40, 7)).astype(np.float32)
    signature = border(("p", (1, *scores.shape[1:])), ("b", (1, 40, 4)))
    context = HeadContext(signature, HeadOptions(True, normalised, "xyxy"), 10, 0.01)
    rows = assert_same(BoxesScoresHead(), context, [scores, boxes])
    assert rows[..., 5].max() <= (0 if one_class else 6)


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 1, 1)])
def test_a_classifiers_logits_go_through_the_softmax_and_probabilities_do_not(shape: tuple[int, ...]) -> None:
    head, signature = ClassifierHead(), border(("logits", (1, *shape[1:])))
    logits = np.random.default_rng(4).normal(0, 4, shape).astype(np.float32)
    context = HeadContext(signature, HeadOptions(activated=False), 1, 0.01)
    scores = run_head(head, context, [logits])
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(scores, head.read([logits], context).scores, rtol=1e-4)
    settled = head.settle(HeadOptions(), [scores], signature)
    assert settled.activated is True
    again = run_head(head, HeadContext(signature, settled, 1, 0.01), [scores.reshape(shape)])
    np.testing.assert_array_equal(again, scores)


def test_half_precision_outputs_are_decoded_in_single_precision() -> None:
    raw = raw_yolox(5, 2).astype(np.float16)
    context = HeadContext(border(("output", (1, 84, 7))), HeadOptions(activated=True), 30, 0.01)
    rows = assert_same(YoloxHead(), context, [raw])
    assert rows.dtype == np.float32


def test_a_score_below_the_floor_becomes_zero_and_one_above_stays() -> None:
    raw = raw_yolox(6, 2)
    context = HeadContext(border(("output", (1, 84, 7))), HeadOptions(activated=True), 84, 0.3)
    scores = run_head(YoloxHead(), context, [raw])[..., 4]
    assert ((scores == 0) | (scores >= 0.3)).all()
    assert (scores == 0).any()
    assert (scores >= 0.3).any()


def test_a_head_that_does_not_fit_is_refused_with_the_shapes_and_those_that_do() -> None:
    with pytest.raises(
        ImportInputError, match=r"yolov8 does not fit the outputs output \[1, 3549, 85\].*fit: yolox, yolov5"
    ):
        choose_head("yolov8", border(("output", (1, 3549, 85)), side=416), HEADS)


def test_logits_are_told_from_probabilities_and_pixels_from_fractions_by_their_range() -> None:
    signature = border(("output0", (1, 7, 64)))
    rng = np.random.default_rng(8)
    scores, boxes = rng.random((2, 3, 64)), rng.random((2, 4, 64))
    for head_scores, head_boxes, activated, normalised in (
        (scores, boxes, True, True),
        (scores * 8 - 4, boxes * 64, False, False),
    ):
        raw = np.concatenate([head_boxes, head_scores], axis=1).astype(np.float32)
        settled = YoloV8Head().settle(HeadOptions(), [raw], signature)
        assert (settled.activated, settled.normalised) == (activated, normalised)


@pytest.mark.parametrize("classes", [1, 5])
def test_a_classifier_with_a_sigmoid_for_each_class_is_not_guessed_at(classes: int) -> None:
    shares = np.random.default_rng(9).uniform(0.2, 0.9, (3, classes)).astype(np.float32)
    head, signature = ClassifierHead(), border(("scores", (1, classes)))
    with pytest.raises(ImportInputError, match=r"within 0\.\.1, but sum to .*; say --activated .* or --logits"):
        head.settle(HeadOptions(), [shares], signature)
    for said in (True, False):
        assert head.settle(HeadOptions(activated=said), [shares], signature).activated is said
    with pytest.raises(ImportInputError, match="--activated was given"):
        head.settle(HeadOptions(activated=True), [shares * 5], signature)


def test_scores_outside_zero_to_one_cannot_be_called_activated() -> None:
    raw = raw_yolox(1, 2, logits=True)
    with pytest.raises(ImportInputError, match=r"--activated was given, but .* go from -"):
        YoloxHead().settle(HeadOptions(activated=True), [raw], border(("output", (1, 84, 7))))
