"""A model that knows red from green from blue, and footage in which it can show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = ("red", "green", "blue")
SIDE = 32


def colour_model(*, gain: float = 40.0, order: tuple[int, int, int] = (0, 1, 2)) -> onnx.ModelProto:
    """A classifier of RGB pictures, 0..1: the mean of each channel through a few convolutions, as logits."""
    random = np.random.default_rng(3)
    spread = np.zeros((16, 3, 3, 3), np.float32)
    for channel in range(16):
        spread[channel, order[channel % 3], 1, 1] = 1.0
    spread += random.normal(0, 0.003, spread.shape).astype(np.float32)
    gather = np.zeros((16, 16, 3, 3), np.float32)
    gather[np.arange(16), np.arange(16), 1, 1] = 1.0
    dense = np.zeros((16, 3), np.float32)
    for channel in range(16):
        dense[channel, channel % 3] = gain / (6 if channel % 3 == 0 else 5)
    weights = {"spread": spread, "gather": gather, "dense": dense}
    nodes = [
        helper.make_node("Conv", ["pictures", "spread"], ["a"], name="spread", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], name="first"),
        helper.make_node("Conv", ["b", "gather"], ["c"], name="gather", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"], name="second"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], name="mean"),
        helper.make_node("Flatten", ["e"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "dense"], ["logits"], name="dense"),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def write_footage(root: Path, days: tuple[str, ...] = ("monday", "tuesday"), count: int = 12) -> None:
    """Write pictures of one colour each into a folder per day, and a table of their labels beside it."""
    random = np.random.default_rng(4)
    for day in days:
        (root / day).mkdir(parents=True)
        lines = ["file_name,label"]
        for number in range(count):
            picture = random.integers(10, 90, (SIDE, SIDE, 3)).astype(np.uint8)
            kind = number % 3
            picture[4:28, 4:28, 2 - kind] = random.integers(150, 250)  # OpenCV writes BGR
            cv2.imwrite(str(root / day / f"{number:02}.png"), picture)
            lines.append(f"{number:02}.png,{COLOURS[kind]}")
        (root / f"{day}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_material(root: Path) -> None:
    """Write model, labels and footage into a folder."""
    onnx.save(colour_model(), str(root / "colours.onnx"))
    (root / "colours.names").write_text("\n".join(COLOURS) + "\n", encoding="utf-8")
    write_footage(root)
