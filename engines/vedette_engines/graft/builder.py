"""Add nodes to an ONNX graph, with names that collide with nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from onnx import GraphProto, NodeProto

PREFIX = "vedette/"


class GraphBuilder:
    """Collects nodes and constants, and knows how each operator is spelled in the model's opset.

    Every method that adds a node returns the name of its (first) output tensor.

    Args:
        opset: Version of the default operator set, 13 or later.
        scope: Part of every new name, so that two builders on one graph do not collide.
    """

    def __init__(self, opset: int, scope: str) -> None:
        self.opset = opset
        self._scope = f"{PREFIX}{scope}/"
        self._count = 0
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Add one node; with several outputs the others are named like the first, with `:1`, `:2` ... added."""
        self._count += 1
        first = f"{self._scope}{op.lower()}_{self._count}"
        names = [first] + [f"{first}:{i}" for i in range(1, outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=first, **attributes))
        return first

    def constant(self, value: NDArray[Any] | Sequence[int]) -> str:
        """Add a constant: an array as it is, a sequence of numbers as int64."""
        self._count += 1
        name = f"{self._scope}constant_{self._count}"
        array = value if isinstance(value, np.ndarray) else np.asarray(value, np.int64)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def scalar(self, value: float) -> str:
        """Add a float32 constant without dimensions."""
        return self.constant(np.asarray(value, np.float32))

    def cast(self, tensor: str, elem_type: int) -> str:
        """Convert to another element type."""
        return self.add("Cast", tensor, to=elem_type)

    def float32(self, tensor: str) -> str:
        """Convert to float32; a tensor that is float32 already costs nothing, runtimes drop such a cast."""
        return self.cast(tensor, TensorProto.FLOAT)

    def slice(self, tensor: str, start: int, end: int, axis: int) -> str:
        """Take `start:end` along one axis."""
        return self.add(
            "Slice", tensor, self.constant([start]), self.constant([end]), self.constant([axis]), self.constant([1])
        )

    def reduce_max(self, tensor: str, axis: int) -> str:
        """Take the largest value along one axis, which goes away."""
        if self.opset < 18:
            return self.add("ReduceMax", tensor, axes=[axis], keepdims=0)
        return self.add("ReduceMax", tensor, self.constant([axis]), keepdims=0)

    def unsqueeze(self, tensor: str, axis: int) -> str:
        """Insert an axis of length 1."""
        return self.add("Unsqueeze", tensor, self.constant([axis]))

    def squeeze(self, tensor: str, axis: int) -> str:
        """Remove an axis of length 1."""
        return self.add("Squeeze", tensor, self.constant([axis]))

    def rename(self, tensor: str, name: str) -> str:
        """Give a tensor that this builder made the name by which the outside knows it."""
        for node in self.nodes:
            node.output[:] = [name if output == tensor else output for output in node.output]
            node.input[:] = [name if given == tensor else given for given in node.input]
        return name

    def write_into(self, graph: GraphProto, *, front: bool) -> None:
        """Put everything into the graph, before its own nodes or after them."""
        graph.initializer.extend(self.constants)
        if not front:
            graph.node.extend(self.nodes)
            return
        own = list(graph.node)
        del graph.node[:]
        graph.node.extend([*self.nodes, *own])
