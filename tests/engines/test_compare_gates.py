"""Bounds: their defaults, how they are replaced, and that a figure right on its bound passes."""

from __future__ import annotations

import math

import pytest

from vedette_engines.compare.figures import FIGURES, MAIN_FIGURE
from vedette_engines.compare.gates import (
    Gate,
    TensorGate,
    gate_for,
    judge,
    known_bounds,
    parse_gates,
)
from vedette_engines.compare.result import Agreement
from vedette_engines.errors import ImportInputError
from vedette_engines.manifest import Precision, Task

GOOD = {
    Task.DETECTOR: {"map50": 1.0, "map50_95": 1.0, "precision": 1.0, "recall": 1.0},
    Task.CLASSIFIER: {"top1": 1.0, "kl_mean": 0.0},
    Task.EMBEDDER: {"cosine_mean": 1.0, "confusion": 0.0},
}


def agreement(task: Task, **figures: float) -> Agreement:
    measured = {**GOOD[task], "swap_gain": -0.5, "broken": 0.0, **figures}
    return Agreement(task, "the FP32 engine", 8, measured)


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("task", Task)
def test_every_default_bound_is_passed_on_it_and_missed_beyond_it(task: Task, precision: Precision) -> None:
    gate = gate_for(task, precision)
    assert MAIN_FIGURE[task] in {bound.figure for bound in gate.bounds}
    for bound in gate.bounds:
        assert judge(agreement(task, **{bound.figure: bound.limit}), gate) == ()
        worse = -1.0 if FIGURES[bound.figure].high else 1.0
        (reason,) = judge(agreement(task, **{bound.figure: bound.limit + worse * 1e-9}), gate)
        assert f"{precision}.{bound.figure} wants at {'least' if worse < 0 else 'most'}" in reason


@pytest.mark.parametrize("task", Task)
def test_bounds_tighten_with_the_precision(task: Task) -> None:
    losses = [gate_for(task, precision).loss for precision in (Precision.FP32, Precision.FP16, Precision.INT8)]
    assert losses == sorted(losses)
    assert losses[0] < losses[2]


def test_a_bound_of_the_users_replaces_a_default_or_joins_it() -> None:
    bounds = parse_gates(["int8.map50=0.93", " int8.map50_95 = 0.7", "fp16.map50=0.5"])
    gate = gate_for(Task.DETECTOR, Precision.INT8, bounds)
    assert gate.loss == pytest.approx(0.07)
    assert "int8.map50 >= 0.93" in str(gate)
    assert "0.92" in judge(agreement(Task.DETECTOR, map50=0.92), gate)[0]
    assert "mAP50-95 is 0.6" in judge(agreement(Task.DETECTOR, map50_95=0.6), gate)[0]
    assert judge(agreement(Task.DETECTOR, map50=0.92), gate_for(Task.DETECTOR, Precision.INT8)) == ()


def test_how_many_rows_are_broken_cannot_be_allowed() -> None:
    assert not any(name.endswith(".broken") for name in known_bounds())
    assert judge(agreement(Task.DETECTOR, broken=1.0), gate_for(Task.DETECTOR, Precision.INT8)) != ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("int8.map5=0.9", "'int8.map5' is unknown; did you mean int8.map50"),
        ("nonsense=1", "'nonsense' is unknown; known are source.largest_relative"),
        ("int8.map50", "allowed is NAME=NUMBER"),
        ("int8.map50=good", "allowed is NAME=NUMBER"),
        ("int8.map50=1.5", "int8.map50 is 1.5; allowed is 0..1"),
        ("int8.map50=nan", "int8.map50 is nan; allowed is 0..1"),
        ("fp16.kl_mean=-1", "fp16.kl_mean is -1; allowed is 0 and up"),
        ("int8.broken=3", "'int8.broken' is unknown"),
        ("source.share_beyond=2", "source.share_beyond is 2; allowed is 0..1"),
    ],
)
def test_a_wrong_bound_is_refused_by_name_value_and_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(ImportInputError) as caught:
        parse_gates([text])
    assert said in str(caught.value)


def test_a_bound_for_another_task_is_refused() -> None:
    with pytest.raises(ImportInputError, match=r"int8.top1: a detector has no top-1 agreement; allowed is map50"):
        gate_for(Task.DETECTOR, Precision.INT8, {"int8.top1": 0.9})
    with pytest.raises(ImportInputError, match="is unknown"):
        gate_for(Task.DETECTOR, Precision.INT8, {"int8.speed": 0.9})


def test_a_figure_that_was_not_measured_is_not_passed() -> None:
    gate = gate_for(Task.CLASSIFIER, Precision.INT8, {"int8.top5": 0.5})
    (reason,) = judge(agreement(Task.CLASSIFIER), gate)
    assert "top-5 agreement was not measured" in reason
    (reason,) = judge(agreement(Task.CLASSIFIER, top1=math.nan, top5=1.0), gate)
    assert "is nan" in reason


def test_a_figure_that_misses_by_a_hair_shows_the_hair() -> None:
    (reason,) = judge(agreement(Task.DETECTOR, map50=0.89999), gate_for(Task.DETECTOR, Precision.INT8))
    assert "mAP50 is 0.89999; int8.map50 wants at least 0.9" in reason


def test_what_is_inconclusive_is_refused_whatever_the_bounds() -> None:
    nothing = Agreement(Task.DETECTOR, "truth.json", 3, {}, inconclusive="nothing is in the frames")
    assert judge(nothing, Gate("truth", Task.DETECTOR, ())) == (
        "against truth.json: inconclusive: nothing is in the frames",
    )


def test_the_bounds_against_the_source_can_be_replaced() -> None:
    gate = TensorGate.from_bounds({"source.largest_relative": 0.01, "int8.map50": 0.9})
    assert gate == TensorGate(0.01, 0.25)
    with pytest.raises(ImportInputError, match=r"did you mean source\.largest_relative"):
        TensorGate.from_bounds({"source.largest": 0.01})


def test_a_gate_judges_only_its_own_kind() -> None:
    with pytest.raises(TypeError):
        judge(agreement(Task.DETECTOR), TensorGate())
    with pytest.raises(TypeError):
        judge(agreement(Task.DETECTOR), gate_for(Task.CLASSIFIER, "int8"))
