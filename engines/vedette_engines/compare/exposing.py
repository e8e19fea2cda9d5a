"""Run an ONNX file so that the tensors inside it can be seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from vedette_engines.compare.running import first_line
from vedette_engines.errors import ImportInputError, ImportRefusedError, MissingRuntimeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto


@dataclass(frozen=True, slots=True)
class Graph:
    """A model, and who makes and who uses each tensor; what is inside of branches and loops is left out.

    Attributes:
        what: How messages call it.
        model: The model; left alone.
        tensors: By tensor: the node that makes it, in the graph's order.
        users: By tensor: the nodes that take it.
    """

    what: str
    model: ModelProto
    tensors: Mapping[str, NodeProto]
    users: Mapping[str, Sequence[NodeProto]]

    def carried(self, name: str) -> str:
        """Follow a tensor through the pair of quantise and dequantise behind it, if there is one."""
        for quantise in self.users.get(name, ()):
            if quantise.op_type == "QuantizeLinear" and quantise.input[0] == name:
                for user in self.users.get(quantise.output[0], ()):
                    if user.op_type == "DequantizeLinear":
                        return user.output[0]
        return name


def read_graph(content: bytes, what: str) -> Graph:
    """Read an ONNX file.

    Raises:
        ImportInputError: It is none.
    """
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError) as error:
        raise ImportInputError(f"{what}: not an ONNX file: {first_line(error)}") from error
    tensors = {name: node for node in model.graph.node for name in node.output if name}
    users: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    return Graph(what, model, tensors, users)


class Exposed:
    """A model whose inner tensors are outputs, run as it is written: nothing fused, nothing left out.

    Args:
        graph: The model.
        names: The tensors to see.
        threads: Threads within one run.

    Raises:
        ImportInputError: ONNX Runtime cannot load it.
    """

    def __init__(self, graph: Graph, names: Sequence[str], threads: int) -> None:
        self._what = graph.what
        self._names = list(dict.fromkeys(names))
        model = onnx.ModelProto()
        model.CopyFrom(graph.model)
        own = {value.name for value in model.graph.output}
        # ONNX Runtime infers the type of an output that tells none.
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._names if name not in own)
        self._session = self._open(model.SerializeToString(), threads)
        given = self._session.get_inputs()[0]
        self._input = given.name
        self._batch = given.shape[0] if isinstance(given.shape[0], int) else 1

    def run(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Run one frame, `uint8 [H, W, 3]`, and give every tensor that is to be seen.

        Raises:
            ImportRefusedError: The model fails on it.
        """
        frames = np.repeat(pixels[None], self._batch, axis=0)
        try:
            values = self._session.run(self._names, {self._input: frames})
        except Exception as error:  # the binding's exceptions share no base but this
            raise ImportRefusedError(f"{self._what}: running it fails: {first_line(error)}") from error
        return dict(zip(self._names, (np.asarray(value) for value in values), strict=True))

    def _open(self, content: bytes, threads: int) -> Any:
        try:
            import onnxruntime as ort  # noqa: PLC0415  (an extra)
        except ImportError as error:
            raise MissingRuntimeError("comparing layers needs onnxruntime: pip install 'vedette[cpu]'") from error
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4  # what matters comes as an exception
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # as above
            raise ImportInputError(f"{self._what}: ONNX Runtime cannot load it: {first_line(error)}") from error
