"""Engine against engine: what agrees passes its gate, what is broken does not, and what shows nothing is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from support_compare import classifier, detector, embedder, numbered, rows, saying
from vedette_engines.compare.agreement import compare_engines
from vedette_engines.compare.gates import gate_for, judge
from vedette_engines.errors import ImportInputError, ImportRefusedError, MissingRuntimeError
from vedette_engines.manifest import Task

A = (0, 0, 10, 10, 0.9, 0)
B = (20, 20, 30, 30, 0.5, 1)
C = (40, 40, 50, 50, 0.4, 2)
SEEN = [rows(A, B), rows(), rows(A, C)]


def test_a_detector_agrees_with_itself() -> None:
    said: list[str] = []
    found = compare_engines(detector(), saying(SEEN), saying(SEEN), numbered(3), batch=2, say=said.append)
    assert (found.figures["map50"], found.figures["map50_95"], found.loss) == (1.0, 1.0, 0.0)
    assert (found.figures["wanted"], found.figures["found"], found.worst_frames) == (4.0, 4.0, ())
    assert judge(found, gate_for(Task.DETECTOR, "fp32")) == ()
    assert said == ["3 frames through the FP32 engine and the candidate, 2 at a time"]


def test_what_a_detector_misses_and_makes_up_is_told_by_class_and_frame() -> None:
    worse = [rows(A), rows(C), rows(A, C)]
    found = compare_engines(detector(), saying(SEEN), saying(worse), numbered(3))
    assert {name: found.figures[name] for name in ("precision", "recall")} == {"precision": 0.75, "recall": 0.75}
    by_class = {
        label: (one.wanted, one.hits, one.false) for label, one in zip(found.labels, found.classes, strict=True)
    }
    assert by_class == {"a": (2, 2, 0), "b": (1, 0, 0), "c": (1, 1, 1)}
    assert found.worst_frames == (("frame 0", "1 missed, 0 false"), ("frame 1", "0 missed, 1 false"))
    reasons = judge(found, gate_for(Task.DETECTOR, "int8"))
    assert reasons[0].startswith("against the FP32 engine: mAP50 is 0.")
    assert "int8.map50 wants at least 0.9" in reasons[0]
    assert "int8.recall wants at least 0.8" in "; ".join(reasons)


def test_a_class_that_the_reference_never_sees_lowers_the_precision() -> None:
    spurious = [rows(A, B, (60, 60, 70, 70, 0.8, 2)), rows((0, 0, 9, 9, 0.7, 2)), rows(A)]
    found = compare_engines(detector(), saying([rows(A, B), rows(), rows(A)]), saying(spurious), numbered(3))
    assert (found.figures["map50"], found.figures["precision"]) == (1.0, 0.6)
    (reason,) = judge(found, gate_for(Task.DETECTOR, "int8"))
    assert "precision is 0.6" in reason


def test_a_reference_that_sees_nothing_is_no_check() -> None:
    blind = [rows((0, 0, 9, 9, 0.2, 0)), rows()]  # below the least score
    found = compare_engines(detector(), saying(blind), saying(blind), numbered(2))
    (reason,) = judge(found, gate_for(Task.DETECTOR, "int8", {"int8.map50": 0, "int8.precision": 0, "int8.recall": 0}))
    assert "inconclusive" in reason
    assert "give footage in which it sees something" in reason
    with pytest.raises(ImportInputError, match="give footage"):
        _ = found.loss


def test_few_detections_are_said_to_be_few() -> None:
    found = compare_engines(detector(), saying(SEEN), saying(SEEN), numbered(3))
    assert "only 4 detections to find" in found.notes[0]


def test_nan_in_a_row_is_refused_though_all_else_agrees() -> None:
    sick = rows(A, B)
    sick[2] = (0, 0, np.nan, 9, 0.3, 0)
    found = compare_engines(detector(), saying(SEEN), saying([sick, *SEEN[1:]]), numbered(3))
    (reason,) = judge(found, gate_for(Task.DETECTOR, "int8"))
    assert "rows with NaN, an infinity or a class without a label is 1" in reason
    turned = compare_engines(detector(), saying([sick, *SEEN[1:]]), saying(SEEN), numbered(3))
    assert "inconclusive" in judge(turned, gate_for(Task.DETECTOR, "int8"))[0]


def scores(*best: int, sure: float = 0.9, classes: int = 8) -> list[np.ndarray]:
    table = []
    for number in best:
        row = np.full(classes, (1 - sure) / (classes - 1), np.float32)
        row[number] = sure
        table.append(row)
    return table


def test_a_classifier_agrees_with_itself() -> None:
    said = scores(0, 3, 5, 1)
    found = compare_engines(classifier(), saying(said), saying(said), numbered(4))
    assert (found.figures["top1"], found.figures["top5"], found.figures["kl_mean"]) == (1.0, 1.0, 0.0)
    assert judge(found, gate_for(Task.CLASSIFIER, "fp32")) == ()


def test_a_classifier_that_changes_its_mind_once_in_four_is_refused() -> None:
    found = compare_engines(classifier(), saying(scores(0, 3, 5, 1)), saying(scores(0, 3, 5, 2)), numbered(4))
    assert found.figures["top1"] == 0.75
    # The divergence of 0.9 from 0.1 / 7, by hand.
    assert found.figures["kl_max"] == pytest.approx((0.9 - 0.1 / 7) * np.log(0.9 / (0.1 / 7)), rel=1e-5)
    assert found.worst_frames[0][0] == "frame 3"
    reasons = judge(found, gate_for(Task.CLASSIFIER, "int8"))
    assert "top-1 agreement is 0.75; int8.top1 wants at least 0.95" in reasons[0]


def test_a_classifier_that_says_the_same_of_all_classes_agrees_with_nobody() -> None:
    flat = [np.full(8, 0.125, np.float32)] * 3
    found = compare_engines(classifier(), saying(scores(0, 0, 1)), saying(flat), numbered(3))
    assert (found.figures["top1"], found.figures["top5"]) == (0.0, 0.0)


def test_a_reference_classifier_that_tells_nothing_apart_is_no_check() -> None:
    for said in (scores(2, 2, 2), [np.full(8, 0.125, np.float32)]):
        found = compare_engines(classifier(), saying(said), saying(said), numbered(len(said)))
        assert "inconclusive" in judge(found, gate_for(Task.CLASSIFIER, "int8"))[0]


def test_one_best_class_on_all_frames_is_said_to_tell_little() -> None:
    said = [*scores(2, sure=0.9), *scores(2, sure=0.5)]
    found = compare_engines(classifier(), saying(said), saying(said), numbered(2))
    assert "the best class is the same on all frames" in found.notes[0]


def test_scores_of_sigmoids_and_raw_ones_are_compared_too() -> None:
    sigmoids = [np.array([0.9, 0.8, 0.1], np.float32), np.array([0.1, 0.9, 0.2], np.float32)]
    found = compare_engines(classifier(3), saying(sigmoids), saying([row - 0.05 for row in sigmoids]), numbered(2))
    assert found.figures["difference_mean"] == pytest.approx(0.05)
    assert "top5" not in found.figures
    assert "do not sum to one" in found.notes[0]
    raw = [np.array([4.0, -2.0, 1.0], np.float32), np.array([-3.0, 2.0, 9.0], np.float32)]
    found = compare_engines(classifier(3), saying(raw), saying([row + 1 for row in raw]), numbered(2))
    # A softmax does not see what is added to all.
    assert found.figures["kl_max"] == pytest.approx(0, abs=1e-9)
    assert found.figures["difference_max"] == pytest.approx(0, abs=1e-6)


def test_a_classifier_that_gives_nan_is_refused() -> None:
    said = scores(0, 3)
    found = compare_engines(classifier(), saying(said), saying([said[0], said[1] * np.nan]), numbered(2))
    assert any("NaN" in reason for reason in judge(found, gate_for(Task.CLASSIFIER, "int8")))
    assert found.figures["top1"] == 0.5


def vectors(seed: int, count: int = 6, offset: float = 0.0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, 8)) + offset
    return drawn.astype(np.float32)


def test_an_embedder_agrees_with_itself_and_with_its_double() -> None:
    said = list(vectors(1))
    found = compare_engines(embedder(), saying(said), saying([row * 2 for row in said]), numbered(6))
    assert found.figures["cosine_lowest"] == pytest.approx(1.0)
    assert found.figures["retrieval"] == 1.0
    assert judge(found, gate_for(Task.EMBEDDER, "fp32")) == ()


def test_embeddings_that_all_point_one_way_do_not_hide_a_broken_one() -> None:
    # Their own offset makes every cosine nearly 1, that of other frames included.
    said, other = vectors(1, offset=100.0), vectors(2, offset=100.0)
    found = compare_engines(embedder(), saying(list(said)), saying(list(other)), numbered(6))
    assert found.figures["cosine_mean"] > 0.999
    assert found.figures["confusion"] > 0.8
    (reason,) = judge(found, gate_for(Task.EMBEDDER, "int8"))
    assert "int8.confusion wants at most 0.5" in reason


def test_an_embedder_that_tells_no_frames_apart_is_no_check() -> None:
    said = [vectors(1)[0]] * 3
    found = compare_engines(embedder(), saying(said), saying(said), numbered(3))
    assert "inconclusive" in judge(found, gate_for(Task.EMBEDDER, "int8"))[0]


def test_zeros_agree_with_no_embedding() -> None:
    found = compare_engines(embedder(), saying(list(vectors(1))), saying(list(vectors(1) * 0)), numbered(6))
    assert found.figures["cosine_mean"] == 0.0
    assert judge(found, gate_for(Task.EMBEDDER, "int8")) != ()


def test_no_frames_and_a_wrong_shape_are_told() -> None:
    with pytest.raises(ImportInputError, match="give footage"):
        compare_engines(detector(), saying(SEEN), saying(SEEN), [])
    short = [row[:4] for row in SEEN]
    with pytest.raises(ImportRefusedError, match=r"the engine gives \[1, 4, 6\] for 1 frames; its manifest says"):
        compare_engines(detector(), saying(SEEN), saying(short), numbered(3))


def test_what_came_of_it_is_plain_data_the_same_every_time() -> None:
    def text() -> str:
        worse = [rows(A), rows(C), rows(A, C)]
        found = compare_engines(detector(), saying(SEEN), saying(worse), numbered(3))
        return json.dumps([found.to_json(), found.tables({}), found.lines()], allow_nan=False)

    assert text() == text()
    assert json.loads(text())[0]["classes"][1] == {
        "label": "b",
        "wanted": 1,
        "map50": 0.0,
        "map50_95": 0.0,
        "hits": 0,
        "false": 0,
    }


def test_without_pycocotools_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.coco", None)
    with pytest.raises(MissingRuntimeError, match=r"pip install 'vedette\[build\]'"):
        compare_engines(detector(), saying(SEEN), saying(SEEN), numbered(3))
