"""Layers that eight bits are too coarse for, and the range in front of a SiLU."""

from __future__ import annotations

import math

import numpy as np
import pytest
from onnx import helper

from vedette_engines.lower.coarse import coarse_layers, signal_to_noise, silu_outputs
from vedette_engines.lower.thresholds import silu_range

# One SiLU between two of the layers, and one layer behind each other.
NODES = [
    helper.make_node("Conv", ["picture", "w0"], ["a"], name="stem"),
    helper.make_node("Sigmoid", ["a"], ["gate"], name="gate"),
    helper.make_node("Mul", ["a", "gate"], ["b"], name="product"),
    *(helper.make_node("Conv", [one, "w0"], [two], name=f"{one}-{two}") for one, two in ("bc", "cd", "de")),
]
GRAPH = helper.make_graph(NODES, "graph", [], [])
LAYERS = ("stem", "b-c", "c-d", "d-e")
RANGES = dict.fromkeys("abcde", (0.0, 255.0))


def fine(**others: float) -> dict[str, np.ndarray]:
    return {name: np.full(8, 10.0) for name in "abcde"} | {name: np.full(8, value) for name, value in others.items()}


def named(variances: dict[str, np.ndarray], times: int = 10) -> tuple[str, ...]:
    """Find them among many layers of which the others are fine."""
    return coarse_layers(GRAPH, (*LAYERS, *("other",) * 4 * times), RANGES, variances)


def test_layers_that_take_or_give_a_coarse_tensor_are_named_behind_a_silu_too() -> None:
    assert named(fine()) == ()
    assert set(named(fine(b=1.0))) == {"stem", "b-c"}
    assert set(named(fine(a=1.0))) == {"stem"}


def test_no_more_than_a_few_are_named_the_worst_first() -> None:
    assert named(fine(e=0.5, b=1.0, c=1.0))[0] == "d-e"
    assert named(fine(e=0.5, b=1.0, c=1.0), times=3) == ("d-e",)
    assert named(fine(a=0.1, b=0.1, c=0.1, d=0.1, e=0.1), times=0) == ()


def test_layers_with_many_of_the_weights_are_not_named() -> None:
    nodes = [helper.make_node("Conv", [one, f"w-{one}"], [two], name=f"{one}-{two}") for one, two in ("ab", "bc", "cd")]
    sizes = {"a": 30, "b": 60, "c": 9910}
    weights = [helper.make_tensor(f"w-{name}", 1, [size], np.zeros(size)) for name, size in sizes.items()]
    graph = helper.make_graph(nodes, "graph", [], [], weights)
    layers = ("a-b", "b-c", "c-d", *("other",) * 60)
    assert coarse_layers(graph, layers, RANGES, fine(a=1.0, c=0.5)) == ("b-c", "a-b")
    assert coarse_layers(graph, layers, RANGES, fine(d=1.0)) == ()


def test_the_second_half_of_a_separable_convolution_goes_with_the_first() -> None:
    nodes = [
        helper.make_node("Conv", ["a", "w"], ["b"], name="first", group=8),
        helper.make_node("Conv", ["b", "w"], ["c"], name="second"),
        helper.make_node("Conv", ["c", "w"], ["d"], name="third"),
    ]
    graph = helper.make_graph(nodes, "graph", [], [])
    layers = ("first", "second", "third", *("other",) * 40)
    assert coarse_layers(graph, layers, RANGES, fine(a=1.0)) == ("first", "second")
    assert coarse_layers(graph, layers, RANGES, fine(d=1.0)) == ("third",)


def test_channels_count_but_those_that_never_change() -> None:
    noise = 1 / 12
    ends = (0.0, 255.0)
    assert signal_to_noise(np.full(4, 100 * noise), ends) == pytest.approx(20)
    assert signal_to_noise(np.array([0.0, 0.0, 0.0, 100 * noise]), ends) == pytest.approx(20)
    assert signal_to_noise(np.array([1e6, 1e6, 1e6, noise, noise]), ends) == pytest.approx(0)
    assert signal_to_noise(np.zeros(4), ends) == math.inf


def test_a_silu_is_known_by_both_its_parts() -> None:
    assert silu_outputs(GRAPH) == {"a": "b"}
    swish = helper.make_graph([*NODES, helper.make_node("Relu", ["a"], ["f"], name="relu")], "graph", [], [])
    assert silu_outputs(swish) == {}, "what else takes it would be cut off"


def test_the_range_before_a_silu_gives_up_what_vanishes_behind_it() -> None:
    values = np.random.default_rng(0).normal(-10, 8, 100_000)
    extremes = float(values.min()), float(values.max())
    counts = np.histogram(values, 2048, extremes)[0]
    low, high = silu_range(counts, extremes, extremes)
    assert high == extremes[1]
    assert -9 < low < -2
    assert loss(values, (low, high)) < 0.5 * loss(values, extremes)


def test_a_range_without_negative_values_stays() -> None:
    assert silu_range(np.ones(2048, np.int64), (0.0, 6.0), (0.0, 5.0)) == (0.0, 5.0)


def loss(values: np.ndarray, ends: tuple[float, float]) -> float:
    """Quantise as eight bits do, and compare behind the SiLU."""
    step = (ends[1] - ends[0]) / 255
    rounded = np.round((np.clip(values, *ends) - ends[0]) / step) * step + ends[0]
    return float(np.mean((silu(rounded) - silu(values)) ** 2))


def silu(values: np.ndarray) -> np.ndarray:
    given: np.ndarray = values / (1 + np.exp(-values))
    return given
