"""Dynamic quantisation of matrices."""

from __future__ import annotations

import numpy as np
import pytest

from support_lower import frames, matrix_engine, model_of, scores_of, small_engine
from vedette_engines.errors import ImportInputError
from vedette_engines.lower.dynamic import to_int8_dynamic

FRAMES = frames(6, 4)


def silent(line: str) -> None:
    del line


def test_matrices_are_quantised_without_frames() -> None:
    content = matrix_engine()
    said: list[str] = []
    quantised = to_int8_dynamic(content, said.append)
    assert quantised.quantised_nodes == ("embed", "up0", "down0", "up1", "down1", "fc")
    assert np.abs(scores_of(quantised.content, FRAMES) - scores_of(content, FRAMES)).max() < 0.05
    assert len(quantised.content) < 0.4 * len(content)
    assert "6 matrices quantised" in said[0]


def test_the_matrix_of_a_gemm_is_quantised_and_convolutions_are_not() -> None:
    content = small_engine()
    quantised = to_int8_dynamic(content, silent)
    assert quantised.quantised_nodes == ("fc",)
    assert quantised.kept_nodes == ("stem", "block1", "block2", "down")
    assert np.abs(scores_of(quantised.content, FRAMES) - scores_of(content, FRAMES)).max() < 0.01


def test_nodes_that_are_left_out_stay() -> None:
    quantised = to_int8_dynamic(matrix_engine(), silent, ["up1", "fc"])
    assert quantised.kept_nodes == ("up1", "fc")
    graph = model_of(quantised.content).graph
    assert {node.name for node in graph.node if node.op_type == "MatMul"} == {"up1", "fc"}


def test_a_batch_may_have_any_size() -> None:
    quantised = to_int8_dynamic(matrix_engine(), silent)
    assert scores_of(quantised.content, FRAMES[:3]).shape == (3, 10)
    assert scores_of(quantised.content, FRAMES[:1]).shape == (1, 10)


def test_what_has_no_matrices_or_not_that_node_is_refused() -> None:
    with pytest.raises(ImportInputError, match="nothing to quantise"):
        to_int8_dynamic(small_engine(), silent, ["fc"])
    with pytest.raises(ImportInputError, match="'nope' is to be left out, but there is none"):
        to_int8_dynamic(matrix_engine(), silent, ["nope"])
