"""A foreign detector whose every answer is known, and pictures for it with the truth about them.

It finds squares of pure red, green or blue on a tinted grey: RGB, 0..1, boxes decoded, with objectness, at the anchors
of YOLOX's grids. So `yolov5` is its head, `yolox` fits its shapes and is wrong, and colours tell the order of channels.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from support_models import SIDE, Draft, save
from vedette_engines.importing import ImportRequest, Made, make_engine

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

LABELS = ("red", "green", "blue")
RGB = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
HEAD = "yolov5"
# Source pixels for each pixel of the input.
ZOOM = 2
STRIDES = (8, 16, 32)


def coloured_model(path: Path, *, broken: bool = False) -> Path:
    """Write the model; broken: its weights are drawn at random."""
    weight = 20.0 * (1.5 * np.eye(3) - 0.5)
    if broken:
        weight = np.random.default_rng(5).normal(0, 10, (3, 3))
    d = Draft()
    levels = []
    for stride in STRIDES:
        # Only the finest grid sees anything.
        used = weight if stride == STRIDES[0] else weight * 0
        means = d.add("AveragePool", "images", kernel_shape=[stride, stride], strides=[stride, stride])
        kernel = d.const(used.astype(np.float32).reshape(3, 3, 1, 1))
        logits = d.add("Conv", means, kernel, d.const(np.full(3, -10, np.float32)))
        levels.append(d.add("Reshape", d.add("Sigmoid", logits), d.shape(0, 3, -1)))
    classes = d.add("Concat", *levels, axis=2)
    nothing = d.add("Mul", d.slice(classes, 0, 1, 1), d.const(np.zeros(1, np.float32)))
    fixed = d.const(np.concatenate([_anchors(), np.full((1, _anchors().shape[1]), 0.98)])[None].astype(np.float32))
    rows = d.add("Concat", d.add("Add", nothing, fixed), classes, axis=1)
    d.add("Transpose", rows, name="output", perm=[0, 2, 1])
    return save(d.model({"output": [_anchors().shape[1], 5 + len(LABELS)]}, "N"), path)


def _anchors() -> NDArray[np.float32]:
    """Tabulate centre and size of every cell, `[4, 84]`."""
    cells = []
    for stride in STRIDES:
        y, x = np.mgrid[: SIDE // stride, : SIDE // stride].reshape(2, -1) * stride + stride / 2
        cells.append(np.stack([x, y, np.full_like(x, stride), np.full_like(x, stride)]))
    return np.concatenate(cells, axis=1)


def coloured_pictures(folder: Path, count: int = 8) -> Path:
    """Draw pictures into a folder and return the truth about them, COCO's JSON."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    images, annotations = [], []
    for number in range(count):
        pixels = np.empty((SIDE, SIDE, 3), np.float64)
        pixels[:] = (70, 84, 76)
        pixels += rng.normal(0, 3, pixels.shape)
        # Not side by side, so that scaling mixes no two.
        for cell in rng.choice(16, 4 if number else 0, replace=False):
            x, y = 16 * (cell % 4), 16 * (cell // 4)
            kind = int(rng.integers(3))
            pixels[y : y + 8, x : x + 8] = RGB[kind]
            box = [ZOOM * float(x), ZOOM * float(y), ZOOM * 8.0, ZOOM * 8.0]
            annotations.append({"image_id": number, "category_id": kind + 1, "bbox": box, "iscrowd": 0})
        picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        picture.resize((ZOOM * SIDE, ZOOM * SIDE), Image.Resampling.NEAREST).save(folder / f"{number:03}.png")
        side = ZOOM * SIDE
        images.append({"id": number, "file_name": f"{number:03}.png", "width": side, "height": side})
    categories = [{"id": number + 1, "name": label.title()} for number, label in enumerate(LABELS)]
    truth = folder.with_suffix(".json")
    truth.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return truth


def import_coloured(model: Path, **how: Any) -> Made:
    """Import the model; right unless told otherwise."""
    request = {"head": HEAD, "order": "rgb", "scale": 1 / 255, **how}
    return make_engine(ImportRequest(model, LABELS, "coloured", "1", model.parent, **request), lambda _: None)
