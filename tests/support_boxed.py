"""What the tests of the boxed engines share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from vedette_engines.repository import EngineRepository, boxed_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle


def boxed(name: str) -> Bundle:
    """Load an engine out of the box."""
    return EngineRepository([boxed_root()]).resolve(name)


def boxed_model(name: str) -> onnx.ModelProto:
    """Read its ONNX file."""
    bundle = boxed(name)
    return onnx.load(str(bundle.path_of(bundle.manifest.files[0])))


def assert_same_graph(one: onnx.ModelProto, other: onnx.ModelProto) -> None:
    """Check that two models are the same but for the last digits of their constants, which depend on the machine."""
    for left, right in zip(one.graph.initializer, other.graph.initializer, strict=True):
        a, b = numpy_helper.to_array(left), numpy_helper.to_array(right)
        assert (left.name, a.dtype, a.shape) == (right.name, b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    bare = []
    for model in (one, other):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        del copy.graph.initializer[:]
        bare.append(copy.SerializeToString(deterministic=True))
    assert bare[0] == bare[1]


def resizes_with_axes(model: onnx.ModelProto) -> list[str]:
    """Name the nodes that TensorRT's parser refuses on a dynamic batch."""
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Resize" and any(attribute.name == "axes" for attribute in node.attribute)
    ]


def overlap(box: Sequence[float] | NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of one box with many: `float32 [n]`."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[2:4], boxes[:, 2:4])
    common = np.clip(high - low, 0, None).prod(axis=1)
    area = (box[2] - box[0]) * (box[3] - box[1])
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    result: NDArray[np.float32] = common / (area + areas - common)
    return result
