"""Made detections, manifests and engines for the tests of the comparator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.compare.detections import Boxes, boxes_of
from vedette_engines.graft.frames import Sample
from vedette_engines.manifest import (
    ClassifierOutput,
    Defaults,
    DetectorOutput,
    EmbedderOutput,
    EngineFile,
    InputSpec,
    Manifest,
    Task,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

SIDE = 16
ROWS = 8


def boxes(*found: tuple[float, float, float, float, float, int]) -> Boxes:
    """Make boxes of x1, y1, x2, y2, score, class."""
    table = np.asarray(found, np.float64).reshape(-1, 6)
    return boxes_of(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def rows(*found: tuple[float, float, float, float, float, int]) -> NDArray[np.float32]:
    """Make an engine's output for one frame, `float32 [8, 6]`."""
    table = np.zeros((ROWS, 6), np.float32)
    ordered = sorted(found, key=lambda row: -row[4])
    table[: len(found)] = np.asarray(ordered, np.float32).reshape(-1, 6)
    return table


def detector(labels: tuple[str, ...] = ("a", "b", "c")) -> Manifest:
    return Manifest(
        "made",
        "1",
        Task.DETECTOR,
        InputSpec(SIDE, SIDE),
        DetectorOutput(ROWS, 0.01),
        labels,
        (EngineFile("model.onnx"),),
        Defaults(0.25, 0.5),
    )


def classifier(classes: int = 8) -> Manifest:
    labels = tuple(f"c{i}" for i in range(classes))
    output = ClassifierOutput(classes)
    return Manifest("made", "1", Task.CLASSIFIER, InputSpec(SIDE, SIDE), output, labels, (EngineFile("model.onnx"),))


def embedder(dimensions: int = 8) -> Manifest:
    output = EmbedderOutput(dimensions)
    return Manifest("made", "1", Task.EMBEDDER, InputSpec(SIDE, SIDE), output, (), (EngineFile("model.onnx"),))


def numbered(count: int) -> list[Sample]:
    """Make frames whose first value is their number."""
    frames = []
    for number in range(count):
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        pixels[0, 0, 0] = number
        frames.append(Sample(f"frame {number}", pixels))
    return frames


def saying(outputs: Sequence[NDArray[np.float32]]) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Make an engine that says this of the numbered frames."""
    table = np.stack(outputs)
    return lambda frames: table[frames[:, 0, 0, 0]]
