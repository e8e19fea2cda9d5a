"""Write an ONNX graph op by op, as if it were NumPy."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

OPSET = 18
# The oldest that has the opset: older runtimes load it, too.
IR_VERSION = 8


class Graph:
    """A graph in the making; every method adds to it and returns names of tensors.

    The same calls give the same bytes: names are counted, equal constants are stored once.

    Args:
        name: The graph's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}
        self._count = itertools.count()

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, which is named after the node's kind, or by the attribute `named`."""
        name = str(attributes.pop("named", "")) or f"{kind}_{next(self._count)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        name = f"{kind}_{next(self._count)}"
        names = [f"{name}_{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return names

    def array(self, values: NDArray[Any]) -> str:
        """Add a constant array."""
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(values, f"const_{len(self._constants)}")
        return self._constants[key].name

    def number(self, value: float) -> str:
        """Add a float32 scalar."""
        return self.array(np.array(value, np.float32))

    def ints(self, *values: int) -> str:
        """Add an int64 vector: a shape, axes, pads."""
        return self.array(np.array(values, np.int64))

    def reshape(self, x: str, *shape: int) -> str:
        """Reshape; 0 keeps a dimension, -1 is what is left."""
        return self.op("Reshape", x, self.ints(*shape))

    def slice(self, x: str, axis: int, start: int, end: int, step: int = 1) -> str:
        """Take a range along one axis."""
        return self.op("Slice", x, self.ints(start), self.ints(end), self.ints(axis), self.ints(step))

    def grid(self, x: str, axes: Sequence[int], ends: Sequence[int], step: int, start: int = 0) -> str:
        """Take every step-th element along some axes."""
        starts, steps = [start] * len(axes), [step] * len(axes)
        return self.op("Slice", x, self.ints(*starts), self.ints(*ends), self.ints(*axes), self.ints(*steps))

    def reduce(self, kind: str, x: str, axis: int, *, keep: bool = True) -> str:
        """Reduce one axis; `kind` is Max, Min or Sum."""
        return self.op(f"Reduce{kind}", x, self.ints(axis), keepdims=int(keep))

    def model(self, output: str, frame_shape: Sequence[int], output_shape: Sequence[int]) -> onnx.ModelProto:
        """Close the graph as an engine: `frames` in, the named output out, any batch.

        Raises:
            onnx.checker.ValidationError: The graph is wrong.
        """
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", *frame_shape])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", *output_shape])],
            initializer=list(self._constants.values()),
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="vedette", ir_version=IR_VERSION
        )
        onnx.checker.check_model(model, full_check=True)
        return model
