"""A program of the user's own as truth: what it may return, and what it is told when it returns something else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from support_compare import classifier, detector, embedder
from vedette_engines.compare.program import load_program, truth_of_program
from vedette_engines.errors import ImportInputError
from vedette_engines.footage.clips import Clip, find_clips

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

BOXES, SCORES = [[0, 0, 4, 4], [5, 5, 9, 9], [1, 1, 1, 9]], [0.4, 0.9, 0.8]


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Clip, ...]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, size in enumerate([(40, 30), (20, 50), (40, 30)]):
        Image.new("RGB", size, (10 * number, 0, 200)).save(folder / f"{number}.png")
    return find_clips([folder], "--validation")


def test_it_sees_pictures_as_they_came(clips: tuple[Clip, ...]) -> None:
    seen: dict[tuple[int, ...], int] = {}

    def program(picture: NDArray[np.uint8]) -> Any:
        assert picture.dtype == np.uint8
        assert picture.flags.c_contiguous
        assert picture[0, 0, 0] == 200  # blue comes first
        seen[picture.shape] = seen.get(picture.shape, 0) + 1
        return [], [], []

    truth_of_program(program, "p", detector(), clips, count=3)
    assert seen == {(30, 40, 3): 2, (50, 20, 3): 1}


@pytest.mark.parametrize(
    "result",
    [
        (BOXES, SCORES, [0, 2, 1]),
        (np.asarray(BOXES), np.asarray(SCORES), np.asarray([0.0, 2.0, 1.0])),
        {"boxes": BOXES, "scores": SCORES, "classes": ["a", "c", "b"]},
    ],
)
def test_boxes_come_as_tuple_or_mapping_with_numbers_or_labels(result: Any, clips: tuple[Clip, ...]) -> None:
    truth = truth_of_program(lambda _: result, "p", detector(), clips, count=3)
    for frame in truth.frames:
        assert frame.boxes is not None
        assert frame.boxes.corners.tolist() == [[5, 5, 9, 9], [0, 0, 4, 4]]
        assert frame.boxes.class_ids.tolist() == [2, 0]
    assert [frame.file[-5:] for frame in truth.frames] == ["0.png", "2.png", "1.png"]
    assert truth.by_program


def test_what_is_below_the_engines_own_least_score_is_left_out(clips: tuple[Clip, ...]) -> None:
    truth = truth_of_program(lambda _: (BOXES[:2], [0.24, 0.25], [0, 0]), "p", detector(), clips, count=1)
    assert truth.frames[0].boxes is not None
    assert truth.frames[0].boxes.scores.tolist() == [0.25]


@pytest.mark.parametrize("result", [[0.1, 0.0, 0.6, 0, 0, 0.1, 0.1, 0.1], np.int64(2), 2, "c2"])
def test_a_class_comes_as_scores_number_or_label(result: Any, clips: tuple[Clip, ...]) -> None:
    truth = truth_of_program(lambda _: result, "p", classifier(), clips, count=3)
    assert [frame.class_id for frame in truth.frames] == [2, 2, 2]


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (None, "returned NoneType"),
        ((BOXES, SCORES), "not enough values"),
        ({"boxes": BOXES, "scores": SCORES}, "'classes'"),
        ((BOXES, SCORES[:2], [0, 0, 0]), "3 boxes, 2 scores, 3 classes"),
        ((BOXES, [0.5, np.nan, 0.5], [0, 0, 0]), "NaN or an infinity"),
        ((BOXES, SCORES, [0, 3, 0]), "class 3; the engine has 0..2"),
        ((BOXES, SCORES, ["a", "z", "a"]), "the label 'z', which the engine does not have"),
        (("x", "y", "z"), "could not convert"),
    ],
)
def test_anything_else_is_refused_with_what_is_wanted(result: Any, said: str, clips: tuple[Clip, ...]) -> None:
    with pytest.raises(ImportInputError) as caught:
        truth_of_program(lambda _: result, "my.program:see", detector(), clips, count=1)
    assert said in str(caught.value)
    assert "--reference my.program:see" in str(caught.value)
    assert "wanted: boxes [n, 4], scores [n], classes [n]" in str(caught.value)


def test_a_classifiers_result_of_another_size_is_refused(clips: tuple[Clip, ...]) -> None:
    with pytest.raises(ImportInputError, match=r"returned 3 values of float64 .*; wanted: 8 scores, or one class"):
        truth_of_program(lambda _: [0.1, 0.2, 0.7], "p", classifier(), clips, count=1)


def test_a_program_that_fails_is_told_with_its_frame(clips: tuple[Clip, ...]) -> None:
    def failing(_: NDArray[np.uint8]) -> Any:
        raise ZeroDivisionError("no luck")

    with pytest.raises(ImportInputError, match=r"fails on pictures/1\.png: ZeroDivisionError: no luck"):
        truth_of_program(failing, "p", detector(), clips, count=1)


def test_an_embedder_has_no_truth(clips: tuple[Clip, ...]) -> None:
    with pytest.raises(ImportInputError, match="an embedder has no truth"):
        truth_of_program(lambda _: 0, "p", embedder(), clips)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "allowed is module:function"),
        ("h4_no_such_module:see", "there is no module 'h4_no_such_module'"),
        ("h4_program:other", "has no attribute 'other'"),
        ("h4_program:NUMBER", "is a int; wanted is a function"),
        ("h4_sick:see", "importing it fails: RuntimeError: out of order"),
    ],
)
def test_a_program_that_cannot_be_had_is_refused(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "h4_program.py").write_text("NUMBER = 3\ndef see(picture):\n    return [], [], []\n")
    (tmp_path / "h4_sick.py").write_text("raise RuntimeError('out of order')\n")
    with pytest.raises(ImportInputError) as caught:
        load_program(name, tmp_path)
    assert said in str(caught.value)
