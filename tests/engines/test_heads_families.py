"""The families of heads: each example becomes an engine, and each decoding says what its source says.

What the numbers of a row must be is worked out here by hand, apart from both the graph and the reading in NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_headcheck import assert_same, border, run_head
from support_heads import HEAD_EXAMPLES, HEAD_REQUESTS, HEAD_VARIANTS
from support_models import save
from vedette_engines.errors import ImportInputError
from vedette_engines.graft.head import HeadContext, HeadOptions
from vedette_engines.graft.heads.cells import CellsHead
from vedette_engines.graft.heads.centernet import CenterNetHead
from vedette_engines.graft.heads.detr import DetrHead
from vedette_engines.graft.heads.embedder import EmbedderHead
from vedette_engines.graft.heads.nanodet import NanoDetHead
from vedette_engines.graft.heads.ssd import SsdHead
from vedette_engines.graft.heads.yolov5 import YoloV5Head
from vedette_engines.graft.heads.yolov5_raw import ANCHOR_SETS, YoloV5RawHead
from vedette_engines.graft.heads.yolov8_pose import PERSON, YoloV8PoseHead
from vedette_engines.graft.heads.yolov10 import YoloV10Head
from vedette_engines.graft.registry import boxed_heads
from vedette_engines.graft.session import Session
from vedette_engines.graft.trial import try_engine
from vedette_engines.importing import ImportRequest, import_model
from vedette_engines.manifest import DetectorOutput, EmbedderOutput

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle
    from vedette_engines.graft.head import Head
    from vedette_engines.graft.signature import Signature

ALL = {**{name: (make, HEAD_REQUESTS[name]) for name, make in HEAD_EXAMPLES.items()}, **HEAD_VARIANTS}


def publish(name: str, folder: Path, **wanted: Any) -> Bundle:
    make, said = ALL[name]
    model = save(make(), folder / "tiny.onnx")
    given = {"model": model, "name": "tiny", "version": "1", "root": folder / "e", **said, **wanted}
    return import_model(ImportRequest(**given), lambda line: None)


def test_there_is_an_example_of_every_head_in_the_box() -> None:
    assert list(HEAD_EXAMPLES) == [head.name for head in boxed_heads()]


@pytest.mark.parametrize("name", ALL)
def test_the_example_of_each_head_becomes_an_engine_whose_frames_keep_apart(name: str, tmp_path: Path) -> None:
    bundle = publish(name, tmp_path)
    assert bundle.manifest.files[0].batch is None
    assert bundle.manifest.provenance["head"] == ALL[name][1]["head"]
    assert "in batches of 1, 3" in bundle.manifest.provenance["parity"]
    assert try_engine(bundle) == 1
    engine = Session(bundle.path_of(bundle.manifest.files[0]), "engine")
    frames = np.random.default_rng(9).integers(0, 256, (3, 64, 64, 3), np.uint8)
    together = engine.run({"frames": frames})[0]
    assert together.shape == (3, *bundle.manifest.output_shape)
    assert np.ptp(together, axis=0).max() > 0
    for number in range(3):
        alone = engine.run({"frames": frames[number : number + 1]})[0]
        np.testing.assert_allclose(together[number], alone[0], rtol=1e-4, atol=1e-3)


def test_an_embedder_has_no_labels_and_its_output_is_named_for_what_it_is(tmp_path: Path) -> None:
    manifest = publish("embedder", tmp_path).manifest
    assert (manifest.task, manifest.output, manifest.labels) == ("embedder", EmbedderOutput(16), ())
    assert manifest.output_name == "embedding"


def test_keypoints_become_named_columns(tmp_path: Path) -> None:
    output = publish("yolov8-pose", tmp_path).manifest.output
    assert isinstance(output, DetectorOutput)
    assert output.extras[:4] == ("kpt:nose:x", "kpt:nose:y", "kpt:nose:score", "kpt:left_eye:x")
    assert (len(output.extras), output.extras[-1]) == (51, "kpt:right_ankle:score")


@pytest.mark.parametrize(("name", "priors"), [("ssd", "64 priors"), ("ssd, priors said", "64 priors")])
def test_priors_are_the_same_whether_the_model_gives_them_or_they_are_said(
    name: str, priors: str, tmp_path: Path
) -> None:
    bundle = publish(name, tmp_path)
    assert priors in bundle.manifest.provenance["head_options"]
    frames = np.full((1, 64, 64, 3), 90, np.uint8)
    rows = Session(bundle.path_of(bundle.manifest.files[0]), "engine").run({"frames": frames})[0]
    other = publish("ssd", tmp_path, version="2")
    same = Session(other.path_of(other.manifest.files[0]), "engine").run({"frames": frames})[0]
    np.testing.assert_array_equal(rows, same)


def sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def only_row(head: Head, signature: Signature, raw: list[NDArray[Any]], **options: Any) -> NDArray[np.float32]:
    """Run the head's graph and return the best row of one frame."""
    context = HeadContext(signature, HeadOptions(**options), 3, 0.01)
    assert_same(head, context, raw)
    row: NDArray[np.float32] = run_head(head, context, raw)[0, 0]
    return row


def test_a_yolov5_row_is_its_box_with_objectness_times_class() -> None:
    raw = np.zeros((1, 10, 8), np.float32)
    raw[0, 4] = [30, 20, 10, 8, 0.5, 0.2, 0.8, 0.1]
    row = only_row(
        YoloV5Head(), border(("o", (1, 10, 8))), [raw], activated=True, normalised=False, box_format="cxcywh"
    )
    np.testing.assert_allclose(row, [25, 16, 35, 24, 0.4, 1], rtol=1e-5)


def test_a_raw_yolov5_anchor_is_decoded_by_its_cell_stride_and_size() -> None:
    shapes = [("a", (1, 3, 8, 8, 6)), ("b", (1, 3, 4, 4, 6)), ("c", (1, 3, 2, 2, 6))]
    raw = [np.full(shape, -9, np.float32) for _, shape in shapes]
    # Stride 16, the second anchor there, row 3, column 1.
    raw[1][0, 1, 3, 1] = [0.4, -0.6, 0.2, 0.1, 2, 1]
    row = only_row(YoloV5RawHead(), border(*shapes), raw, activated=False, anchors=ANCHOR_SETS["yolov5"])
    x, y = (2 * sigmoid(0.4) - 0.5 + 1) * 16, (2 * sigmoid(-0.6) - 0.5 + 3) * 16
    w, h = (2 * sigmoid(0.2)) ** 2 * 62, (2 * sigmoid(0.1)) ** 2 * 45
    wanted = [x - w / 2, y - h / 2, x + w / 2, y + h / 2, sigmoid(2) * sigmoid(1), 0]
    np.testing.assert_allclose(row, wanted, rtol=1e-5)


def test_finished_rows_stay_as_they_are_but_for_their_order() -> None:
    raw = np.asarray([[[1, 2, 30, 40, 0.3, 2], [5, 6, 7, 8, 0.9, 1], [0, 0, 1, 1, 0.001, 0]]], np.float32)
    context = HeadContext(border(("o", (1, 3, 6))), HeadOptions(True, False, "xyxy", classes=3), 3, 0.01)
    rows = assert_same(YoloV10Head(), context, [raw])[0]
    np.testing.assert_array_equal(rows, [raw[0, 1], raw[0, 0], [0, 0, 1, 1, 0, 0]])


def test_finished_rows_in_three_outputs_may_have_whole_numbers_for_labels() -> None:
    signature = border(("labels", (1, 2)), ("boxes", (1, 2, 4)), ("scores", (1, 2)))
    boxes = np.asarray([[[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 1, 1]]], np.float32)
    raw: list[NDArray[Any]] = [np.asarray([[7, 1]]), boxes, np.asarray([[0.2, 0.6]], np.float32)]
    context = HeadContext(signature, HeadOptions(True, True, "xyxy", classes=8), 2, 0.01)
    rows = assert_same(YoloV10Head(), context, raw)[0]
    np.testing.assert_allclose(rows, [[32, 32, 64, 64, 0.6, 1], [6.4, 12.8, 19.2, 25.6, 0.2, 7]], rtol=1e-5)


@pytest.mark.parametrize("odd", [0.5, np.nan, np.inf, 1e9])
def test_finished_rows_without_class_numbers_are_refused_though_their_head_was_named(odd: float) -> None:
    raw = np.asarray([[[1, 2, 30, 40, 0.3, 2], [5, 6, 7, 8, 0.9, odd]]], np.float32)
    with pytest.raises(ImportInputError, match="yolov10 wants whole class numbers"):
        YoloV10Head().settle(HeadOptions(), [raw], border(("o", (1, 2, 6))))


@pytest.mark.parametrize("background", ["none", "last", "first"])
def test_a_query_is_read_by_a_sigmoid_or_by_a_softmax_without_its_column_for_no_object(background: Any) -> None:
    signature = border(("logits", (1, 3, 4)), ("pred_boxes", (1, 3, 4)), side=(200, 100))
    logits = np.full((1, 3, 4), -7, np.float32)
    logits[0, 1] = [1, 3, 2, 0.5]
    boxes = np.full((1, 3, 4), 0.5, np.float32)
    boxes[0, 1] = [0.25, 0.5, 0.1, 0.2]
    options = {"activated": False, "normalised": True, "box_format": "cxcywh", "background": background}
    row = only_row(DetrHead(), signature, [logits, boxes], **options)
    total = np.exp([1, 3, 2, 0.5]).sum()
    score = sigmoid(3) if background == "none" else np.exp(3) / total
    np.testing.assert_allclose(row[:5], [40, 40, 60, 60, score], rtol=1e-5)
    assert row[5] == (0 if background == "first" else 1)


def test_an_offset_moves_and_stretches_its_prior() -> None:
    signature = border(("loc", (1, 3, 4)), ("conf", (1, 3, 3)), side=(200, 100))
    offsets, scores = np.zeros((1, 3, 4), np.float32), np.zeros((1, 3, 3), np.float32)
    offsets[0, 2], scores[0] = [1, -2, 0.5, 1], [[9, 0, 0], [9, 0, 0], [0, 1, 4]]
    priors = ((0.1, 0.1, 0.2, 0.2), (0.5, 0.5, 0.2, 0.2), (0.5, 0.4, 0.2, 0.3))
    options = {"normalised": True, "box_format": "cxcywh", "priors": priors, "variances": (0.1, 0.2)}
    row = only_row(SsdHead(), signature, [offsets, scores], activated=False, background="first", **options)
    x, y = (0.5 + 1 * 0.1 * 0.2) * 200, (0.4 - 2 * 0.1 * 0.3) * 100
    w, h = 0.2 * np.exp(0.1) * 200, 0.3 * np.exp(0.2) * 100
    score = np.exp(4) / (1 + np.exp(1) + np.exp(4))
    np.testing.assert_allclose(row, [x - w / 2, y - h / 2, x + w / 2, y + h / 2, score, 1], rtol=1e-5)


def test_a_nanodet_box_reaches_the_mean_of_each_distribution_from_its_cells_corner() -> None:
    raw = np.zeros((1, 85, 2 + 32), np.float32)
    sides = raw[0, 64 + 4 * 2 + 3, 2:].reshape(4, 8)  # stride 16, row 2, column 3
    raw[0, 64 + 4 * 2 + 3, 1] = 0.75
    for side, (low, high) in enumerate([(1, 2), (0, 0), (7, 7), (3, 4)]):
        sides[side] = -100
        sides[side, [low, high]] = 5
    row = only_row(NanoDetHead(), border(("o", (1, 85, 34))), [raw], activated=True, reg_max=7)
    wanted = [(3 - 1.5) * 16, 2 * 16, (3 + 7) * 16, (2 + 3.5) * 16, 0.75, 1]
    np.testing.assert_allclose(row, wanted, rtol=1e-4, atol=1e-3)


def test_nanodets_grids_round_up_where_the_input_is_no_multiple_of_the_stride() -> None:
    cells = 40 * 40 + 20 * 20 + 10 * 10 + 5 * 5
    assert NanoDetHead().fits(border(("o", (1, cells, 112)), side=320)).classes == 80
    assert NanoDetHead().fits(border(("o", (1, 52 * 52 + 26 * 26 + 13 * 13 + 7 * 7, 112)), side=416)).classes == 80


def test_a_fastestdet_cell_is_decoded_by_its_place_and_the_whole_pictures_size() -> None:
    raw = np.full((1, 7, 2, 5), -9, np.float32)
    raw[0, 0], raw[0, 5:] = 0, 0
    raw[0, :, 1, 3] = [0.5, 0.3, -0.2, 0.1, -1, 0.2, 0.8]
    row = only_row(CellsHead(), border(("o", (1, 7, 2, 5)), side=(160, 64)), [raw], activated=True)
    x, y = (np.tanh(0.3) + 3) / 5 * 160, (np.tanh(-0.2) + 1) / 2 * 64
    w, h = sigmoid(0.1) * 160, sigmoid(-1) * 64
    wanted = [x - w / 2, y - h / 2, x + w / 2, y + h / 2, 0.5**0.6 * 0.8**0.4, 1]
    np.testing.assert_allclose(row, wanted, rtol=1e-5)


def test_a_centre_beside_a_higher_one_is_none_and_a_peak_is_decoded_by_its_cell() -> None:
    signature = border(("hm", (1, 2, 16, 32)), ("wh", (1, 2, 16, 32)), ("reg", (1, 2, 16, 32)), side=(128, 64))
    heat, size, offset = (np.zeros((1, 2, 16, 32), np.float32) for _ in range(3))
    heat[0, 1, 4, 9], heat[0, 1, 5, 10], heat[0, 0, 4, 10] = 0.9, 0.8, 0.7
    size[0, :, 4, 9], offset[0, :, 4, 9] = [3, 5], [0.25, 0.75]
    context = HeadContext(signature, HeadOptions(activated=True), 4, 0.01)
    rows = assert_same(CenterNetHead(), context, [heat, size, offset])[0]
    x, y = 9.25 * 4, 4.75 * 4
    np.testing.assert_allclose(rows[0], [x - 6, y - 10, x + 6, y + 10, 0.9, 1], rtol=1e-5)
    # The neighbour of the same class is no peak; the one of another class is.
    np.testing.assert_allclose(rows[1:, 4], [0.7, 0, 0])


def test_keypoints_are_pixels_whether_the_model_writes_pixels_or_fractions() -> None:
    raw = np.zeros((1, 4 + 2 + 6, 12), np.float32)
    raw[0, :, 7] = [20, 30, 8, 4, 0.1, 0.6, 18, 31, 0.9, 22, 29, 0.4]
    signature = border(("o", raw.shape), side=(40, 80))
    options = {
        "activated": True,
        "box_format": "cxcywh",
        "keypoints": ("a", "b"),
        "classes": 2,
        "extras": tuple("abcdef"),
    }
    row = only_row(YoloV8PoseHead(), signature, [raw], normalised=False, **options)
    np.testing.assert_allclose(row, [16, 28, 24, 32, 0.6, 1, 18, 31, 0.9, 22, 29, 0.4], rtol=1e-5)
    shares = raw / np.asarray([40, 80, 40, 80, 1, 1, 40, 80, 1, 40, 80, 1], np.float32)[:, None]
    again = only_row(YoloV8PoseHead(), signature, [shares], normalised=True, **options)
    np.testing.assert_allclose(again, row, rtol=1e-5)


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e20])
def test_an_embedding_of_any_length_is_scaled_to_one_and_none_stays_none(factor: float) -> None:
    vector = np.asarray([[3, 0, -4], [0, 0, 0]], np.float32) * np.float32(factor)
    context = HeadContext(border(("embedding", (1, 3))), HeadOptions(unit_length=True), 1, 0.01)
    scaled = run_head(EmbedderHead(), context, [vector])
    np.testing.assert_allclose(scaled, [[0.6, 0, -0.8], [0, 0, 0]], atol=1e-6)
    plain = HeadContext(border(("embedding", (1, 3))), HeadOptions(unit_length=False), 1, 0.01)
    np.testing.assert_array_equal(run_head(EmbedderHead(), plain, [vector]), vector)


SHAPES: dict[str, tuple[Head, list[tuple[int, ...]], dict[str, Any]]] = {
    "yolov5": (YoloV5Head(), [(30, 8)], {"normalised": True, "box_format": "cxcywh"}),
    "yolov5-raw": (YoloV5RawHead(), [(3, 2, 4, 7), (3, 1, 2, 7)], {"anchors": ANCHOR_SETS["yolov7"][:6]}),
    "yolov8-pose": (
        YoloV8PoseHead(),
        [(56, 60)],
        {"normalised": True, "box_format": "cxcywh", "keypoints": PERSON, "classes": 1},
    ),
    "detr": (DetrHead(), [(40, 3), (40, 4)], {"normalised": True, "box_format": "cxcywh", "background": "none"}),
    "detr softmax": (DetrHead(), [(40, 5), (40, 4)], {"normalised": True, "box_format": "xyxy", "background": "last"}),
    "ssd": (
        SsdHead(),
        [(40, 4), (40, 3)],
        {
            "normalised": False,
            "box_format": "xyxy",
            "background": "first",
            "priors": tuple((float(i), 2.0, i + 9.0, 12.0) for i in range(40)),
            "variances": (0.1, 0.2),
        },
    ),
    "nanodet": (NanoDetHead((32, 64)), [(10, 3 + 4 * 6)], {"reg_max": 5}),
    "cells": (CellsHead(), [(9, 4, 8)], {}),
    "centernet": (CenterNetHead(), [(3, 8, 16), (2, 8, 16), (2, 8, 16)], {}),
    "embedder": (EmbedderHead(), [(24,)], {"unit_length": True}),
}


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("name", SHAPES)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 10), logits=st.booleans())
@settings(max_examples=4, deadline=None)
def test_any_output_is_read_alike_by_graph_and_numpy(name: str, opset: int, seed: int, rows: int, logits: bool) -> None:
    head, shapes, options = SHAPES[name]
    rng = np.random.default_rng(seed)
    raw = [
        (rng.normal(0, 2, (2, *shape)) if logits else rng.random((2, *shape))).astype(np.float32) for shape in shapes
    ]
    outputs = [(f"o{number}", (1, *shape)) for number, shape in enumerate(shapes)]
    options = {**options} if name == "embedder" else {**options, "activated": not logits}
    context = HeadContext(border(*outputs, side=(128, 64)), HeadOptions(**options), rows, 0.05)
    assert_same(head, context, raw, opset)
