"""Which values tensors take, and which part of them eight bits are to cover."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_lower import frames, model_of, small_engine
from vedette_engines.lower.plan import OP_TYPES, WEIGHTED_OPS, CalibrationPlan
from vedette_engines.lower.prepare import float_activations, idle_nodes, load_engine, weighted_nodes
from vedette_engines.lower.ranges import BINS, Calibration, calibrate
from vedette_engines.lower.thresholds import LEVELS, entropy_range, fold, percentile_range

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAMES = frames(4, 3)


def silent(line: str) -> None:
    del line


def histogram(values: NDArray[np.floating]) -> tuple[NDArray[np.int64], tuple[float, float]]:
    counts, edges = np.histogram(values, BINS)
    return counts, (float(edges[0]), float(edges[-1]))


def error(values: NDArray[np.floating], ends: tuple[float, float]) -> float:
    step = (ends[1] - ends[0]) / (LEVELS - 1)
    rounded = np.clip(np.round((values - ends[0]) / step), 0, LEVELS - 1) * step + ends[0]
    return float(((rounded - values) ** 2).mean())


@given(
    st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=60).filter(lambda values: max(values) > min(values)),
    st.floats(90, 100),
    st.booleans(),
)
def test_a_range_lies_within_what_was_seen(values: list[float], percentile: float, symmetric: bool) -> None:
    counts, extremes = histogram(np.asarray(values, np.float64))
    bound = max(abs(end) for end in extremes) * 1.0001
    for low, high in (
        percentile_range(counts, extremes, percentile, symmetric=symmetric),
        entropy_range(counts, extremes, symmetric=symmetric),
    ):
        assert low <= high
        if symmetric:
            assert low == -high
            assert high <= bound
        else:
            assert low >= extremes[0] - 1e-4 * bound
            assert high <= extremes[1] + 1e-4 * bound


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_rare_large_value_is_cut_off_but_the_mass_is_not(symmetric: bool) -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([np.maximum(rng.normal(0, 1, 200_000), 0), [60.0]])
    counts, extremes = histogram(values)
    for _, high in (
        percentile_range(counts, extremes, 99.99, symmetric=symmetric),
        entropy_range(counts, extremes, symmetric=symmetric),
    ):
        assert 3 < high < 12


@pytest.mark.parametrize("kind", ["normal", "laplace", "relu", "silu"])
def test_no_method_rounds_much_worse_than_the_whole_range(kind: str) -> None:
    rng = np.random.default_rng(2)
    values = rng.laplace(0, 1, 200_000) if kind == "laplace" else rng.normal(0, 2, 200_000)
    values = {"relu": np.maximum(values, 0), "silu": values / (1 + np.exp(-values))}.get(kind, values)
    counts, extremes = histogram(values)
    whole = error(values, extremes)
    assert error(values, percentile_range(counts, extremes, 99.99, symmetric=False)) < 1.5 * whole
    assert error(values, entropy_range(counts, extremes, symmetric=False)) < 3 * whole


def test_folding_keeps_every_value() -> None:
    counts, extremes = histogram(np.random.default_rng(3).normal(0.5, 1, 10_000))
    folded, bound = fold(counts, extremes)
    assert folded.sum() == counts.sum() == 10_000
    assert bound == max(-extremes[0], extremes[1])


def test_a_tensor_that_is_always_the_same_has_a_range() -> None:
    calibration = Calibration({"x": (0.0, 0.0)}, {}, 1)
    assert calibration.ranges(CalibrationPlan("entropy"), symmetric=True) == {"x": (0.0, 0.0)}


def test_tensors_fetched_in_parts_give_the_same_histograms(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_engine(small_engine())
    tensors = float_activations(model, OP_TYPES["onnxruntime"])
    whole = calibrate(model, tensors, FRAMES, "entropy", silent)
    monkeypatch.setattr("vedette_engines.lower.ranges._FETCHED_BYTES", 1)
    said: list[str] = []
    parts = calibrate(model, tensors, FRAMES, "entropy", said.append)
    assert any(f"part {len(whole.histograms)}" in line for line in said)
    for name, counts in whole.histograms.items():
        # Fused otherwise, a sum may fall into the bin beside.
        assert np.abs(parts.histograms[name] - counts).sum() <= 0.01 * counts.sum()


def test_every_value_of_every_frame_is_counted() -> None:
    model = load_engine(small_engine(width=16))
    calibration = calibrate(model, ["stem_relu:0"], FRAMES, "percentile", silent)
    assert calibration.histograms["stem_relu:0"].sum() == len(FRAMES) * 16 * 32 * 32
    assert calibration.frames == len(FRAMES)


def test_batch_norms_are_folded_and_grafted_nodes_are_not_touched() -> None:
    before, after = model_of(small_engine()).graph, load_engine(small_engine()).graph
    assert [node.name for node in before.node if node.name not in {other.name for other in after.node}] == ["stem_norm"]
    assert not any(tensor.name.startswith("stem_norm.") for tensor in after.initializer)


def test_nodes_that_lead_from_no_layer_to_another_are_idle() -> None:
    graph = load_engine(small_engine()).graph
    layers = {node.name for node in weighted_nodes(graph)}
    assert idle_nodes(graph, layers) == set()
    assert idle_nodes(graph, layers - {"fc"}) == {"silu/sigmoid", "silu/mul", "pool", "flat"}
    assert {"sum", "sum_relu"} <= idle_nodes(graph, {"stem", "block1"})
    everything = {node.name for node in graph.node if node.op_type not in WEIGHTED_OPS and "vedette" not in node.name}
    assert idle_nodes(graph, ()) == everything
