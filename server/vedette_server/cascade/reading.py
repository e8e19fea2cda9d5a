"""Read what a second stage says of one object. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vedette_server.post.detections import Attached

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from vedette_server.data.verdict import EngineLabel

# So many classes are told, the best first, ...
MOST_CLASSES = 3
# ... those below it only where they are the best.
LEAST_SCORE = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class StageResult:
    """What one engine said of one object.

    Attributes:
        engine: Which engine.
        time_s: When the frame was taken that it looked at.
        classes: Label and score of a classifier's classes, the best first; empty for embedders.
        embedding: ``float32 [D]``, of length 1; None for classifiers.
    """

    engine: EngineLabel
    time_s: float
    classes: tuple[tuple[str, float], ...] = ()
    embedding: NDArray[np.float32] | None = None


def read(engine: EngineLabel, row: NDArray[np.float32], time_s: float) -> StageResult:
    """Read one row.

    Args:
        engine: A classifier or an embedder.
        row: ``float32 [C]`` scores or ``float32 [D]``; not kept.
        time_s: When the frame was taken.

    Raises:
        ValueError: The row holds what is no number, or a vector without a direction.
    """
    if not np.isfinite(row).all():
        raise ValueError(f"engine {engine.name} {engine.version} said what is no number")
    if engine.task == "classifier":
        return StageResult(engine, time_s, _best(engine, row))
    # In 64 bits: the squares of large values must not overflow.
    vector = row.astype(np.float64)
    length = float(np.linalg.norm(vector))
    if not length > 0.0:
        raise ValueError(f"engine {engine.name} {engine.version} gave a vector of length {length:g}")
    return StageResult(engine, time_s, embedding=(vector / length).astype(np.float32))


def attached_of(results: Iterable[StageResult]) -> Attached | None:
    """Put together what a detection carries of an object's results, in their order; None: nothing."""
    attributes: list[tuple[str, str, float]] = []
    embedding = None
    for result in results:
        attributes += [(result.engine.name, label, score) for label, score in result.classes]
        if embedding is None:
            embedding = result.embedding
    return Attached(tuple(attributes), embedding) if attributes or embedding is not None else None


def _best(engine: EngineLabel, row: NDArray[np.float32]) -> tuple[tuple[str, float], ...]:
    few = min(MOST_CLASSES, len(row))
    chosen = np.argpartition(row, len(row) - few)[-few:]
    ordered = sorted((-float(row[index]), int(index)) for index in chosen)
    labels = engine.labels
    told = [(labels[index] if index < len(labels) else str(index), -score) for score, index in ordered]
    return tuple(one for place, one in enumerate(told) if place == 0 or one[1] >= LEAST_SCORE)
