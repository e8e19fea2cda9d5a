"""Compare the embeddings of two engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.compare.result import WORST_FRAMES, Agreement
from vedette_engines.manifest import Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Cosine distances below this are rounding.
_SAME = 1e-6
# Nearest neighbours of few frames say nothing.
_LEAST_FRAMES = 3


def compare_embeddings(
    want: NDArray[np.float32], have: NDArray[np.float32], names: Sequence[str], against: str
) -> Agreement:
    """Measure how far two engines' embeddings agree, `float32 [n, D]` each.

    A cosine alone deceives where all embeddings point much the same way, as those of an untrained or a badly
    centred network do. So `confusion` sets the distance (1 - cosine) between a frame's two embeddings in relation to
    the mean distance between different frames of the reference: at 1 the engine tells nothing apart.
    """
    broken = ~np.isfinite(have).all(axis=1)
    figures = {"broken": float(broken.sum())}
    if not np.isfinite(want).all():
        why = f"{against} itself gives NaN or an infinity"
        return Agreement(Task.EMBEDDER, against, len(names), figures, inconclusive=why)
    expected, got = _unit(want), _unit(np.where(np.isfinite(have), have, 0.0))
    between = 1.0 - expected @ expected.T
    apart = _mean_of_pairs(between)
    if len(names) < 2 or apart <= _SAME:
        why = f"{against} tells no two of these frames apart: give footage that differs"
        return Agreement(Task.EMBEDDER, against, len(names), figures, inconclusive=why)
    cosine = (expected * got).sum(axis=1)
    figures = {
        "cosine_mean": float(cosine.mean()),
        "cosine_lowest": float(cosine.min()),
        "confusion": max(float((1.0 - cosine).mean()), 0.0) / apart,
        **({"retrieval": _retrieval(expected, got)} if len(names) >= _LEAST_FRAMES else {}),
        **figures,
    }
    order = np.argsort(cosine, kind="stable")[:WORST_FRAMES]
    worst = tuple(
        (names[int(number)], f"cosine {cosine[number]:.4g}") for number in order if cosine[number] < 1 - _SAME
    )
    return Agreement(Task.EMBEDDER, against, len(names), figures, worst_frames=worst)


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale to length 1; a vector of zeros stays one, and agrees with nothing."""
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(exact, lengths, out=np.zeros_like(exact), where=lengths > 0)
    return unit


def _mean_of_pairs(between: NDArray[np.float64]) -> float:
    count = len(between)
    return float(between[~np.eye(count, dtype=np.bool_)].mean()) if count > 1 else 0.0


def _retrieval(expected: NDArray[np.float64], got: NDArray[np.float64]) -> float:
    """Share of the frames whose nearest other frame is the same for both."""
    nearest = []
    for vectors in (expected, got):
        likeness = vectors @ vectors.T
        np.fill_diagonal(likeness, -np.inf)
        nearest.append(likeness.argmax(axis=1))
    return float((nearest[0] == nearest[1]).mean())
