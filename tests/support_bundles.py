"""Small engines for tests: a graph whose rows tell which frame they come from, and bundles around it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.bundle import Bundle, write_bundle
from vedette_engines.making.graph import Graph
from vedette_engines.manifest import DetectorOutput, EngineFile, InputSpec, Manifest, Task

if TYPE_CHECKING:
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

WIDTH, HEIGHT, ROWS = 6, 4, 3
# A frame whose pixels add up to more makes the toy fail.
MOST = WIDTH * HEIGHT * 3 * 200


def toy_model(batch: int | None = None) -> onnx.ModelProto:
    """Build a detector whose every value is the sum of the frame's pixels; it fails on frames brighter than 200."""
    g = Graph("toy")
    flat = g.reshape(g.op("Cast", "frames", to=1), 0, -1)
    total = g.reduce("Sum", flat, 1)
    whole = g.op("Cast", total, to=7)
    # An index past the end is an error at run time, as a kernel's failure would be.
    kept = g.op("Gather", g.array(np.arange(MOST + 1, dtype=np.float32)), whole)
    spread = g.op("Mul", g.op("Unsqueeze", kept, g.ints(2)), g.array(np.ones((1, ROWS, 6), np.float32)))
    g.op("Identity", spread, named="candidates")
    model = g.model("candidates", (HEIGHT, WIDTH, 3), (ROWS, 6))
    if batch is not None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch
    return model


def toy_manifest(name: str = "toy", version: str = "1", **changes: object) -> Manifest:
    """Describe the toy."""
    manifest = Manifest(
        name=name,
        version=version,
        task=Task.DETECTOR,
        input=InputSpec(WIDTH, HEIGHT),
        output=DetectorOutput(ROWS, score_floor=0.1),
        labels=("thing",),
        files=(EngineFile("model.onnx"),),
    )
    return replace(manifest, **changes)  # type: ignore[arg-type]


def toy_bundle(
    root: Path, name: str = "toy", version: str = "1", *, model: onnx.ModelProto | None = None, **changes: object
) -> Bundle:
    """Publish the toy below a root."""
    content = (model or toy_model()).SerializeToString()
    manifest = toy_manifest(name, version, **changes)
    return write_bundle(root, manifest, {file.path: content for file in manifest.files})


def toy_frames(count: int, start: int = 0) -> list[NDArray[np.uint8]]:
    """Draw frames that are all different."""
    return [np.full((HEIGHT, WIDTH, 3), start + index, np.uint8) for index in range(count)]


def toy_answer(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Tell what the toy says to a frame."""
    return np.full((ROWS, 6), frame.sum(dtype=np.int64), np.float32)
