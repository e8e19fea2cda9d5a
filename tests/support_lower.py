"""Small engines to lower, made with onnx alone: convolutions between a grafted front and a grafted end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vedette_engines.graft.builder import GraphBuilder
from vedette_engines.graft.frames import Sample, made_samples
from vedette_engines.graft.session import Session
from vedette_engines.manifest import InputSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

SIDE = 32
CLASSES = 10
SPEC = InputSpec(SIDE, SIDE)


class NetBuilder:
    """Writes nodes and seeded weights in the order they are computed."""

    def __init__(self, seed: int = 1) -> None:
        self._rng = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.weights: list[Any] = []

    def weight(self, name: str, *shape: int, gain: float = 1.0) -> str:
        fan_in = int(np.prod(shape[1:])) or 1
        value = self._rng.normal(0, gain * np.sqrt(2 / fan_in), shape).astype(np.float32)
        return self.constant(name, value)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [f"{name}:0"], name=name, **attributes))
        return f"{name}:0"

    def conv(self, x: str, name: str, inputs: int, outputs: int, stride: int = 1) -> str:
        weights = [self.weight(f"{name}.w", outputs, inputs, 3, 3), self.weight(f"{name}.b", outputs, gain=0.05)]
        return self.node("Conv", [x, *weights], name, pads=[1] * 4, strides=[stride] * 2)

    def batch_norm(self, x: str, name: str, channels: int) -> str:
        parts = [
            self._rng.uniform(low, high, channels) for low, high in ((0.5, 1.5), (-0.2, 0.2), (-0.2, 0.2), (0.5, 2))
        ]
        names = [self.constant(f"{name}.{i}", part.astype(np.float32)) for i, part in enumerate(parts)]
        return self.node("BatchNormalization", [x, *names], name)

    def silu(self, x: str, name: str) -> str:
        return self.node("Mul", [x, self.node("Sigmoid", [x], f"{name}/sigmoid")], f"{name}/mul")


def small_engine(opset: int = 17, width: int = 48) -> bytes:
    """Make a classifier: conv + batch norm + ReLU, a residual sum, conv + SiLU, pooling, Gemm; grafted softmax."""
    net = NetBuilder()
    front, back = GraphBuilder(opset, "preprocess"), GraphBuilder(opset, "classifier")
    x = front.add("Transpose", front.float32("frames"), perm=[0, 3, 1, 2])
    x = front.add("Mul", x, front.scalar(1 / 255))
    x = net.batch_norm(net.conv(x, "stem", 3, width), "stem_norm", width)
    x = net.node("Relu", [x], "stem_relu")
    y = net.node("Relu", [net.conv(x, "block1", width, width)], "block1_relu")
    x = net.node("Relu", [net.node("Add", [x, net.conv(y, "block2", width, width)], "sum")], "sum_relu")
    x = net.silu(net.conv(x, "down", width, 2 * width, 2), "silu")
    x = net.node("Flatten", [net.node("GlobalAveragePool", [x], "pool")], "flat")
    head = [net.weight("fc.w", CLASSES, 2 * width), net.weight("fc.b", CLASSES, gain=0.1)]
    x = net.node("Gemm", [x, *head], "fc", transB=1)
    back.rename(back.add("Softmax", x, axis=1), "scores")
    return _engine(front, net, back, "scores", [CLASSES], opset)


def matrix_engine(opset: int = 17, width: int = 96) -> bytes:
    """Make a classifier of matrices: patches, two layers with GELU-like gates, layer norm, mean; grafted softmax."""
    net = NetBuilder(2)
    front, back = GraphBuilder(opset, "preprocess"), GraphBuilder(opset, "classifier")
    x = front.add("Mul", front.float32("frames"), front.scalar(1 / 255))
    x = net.node("Reshape", [x, net.constant("patches", np.asarray([0, 32, -1], np.int64))], "patch")
    x = net.node("MatMul", [x, net.constant("embed.w", net_matrix(net, 96, width))], "embed")
    for number in range(2):
        ones = net.constant(f"norm{number}.g", np.ones(width, np.float32))
        y = net.node("LayerNormalization", [x, ones], f"norm{number}")
        y = net.node("MatMul", [y, net.constant(f"up{number}.w", net_matrix(net, width, 2 * width))], f"up{number}")
        y = net.silu(y, f"gate{number}")
        y = net.node("MatMul", [y, net.constant(f"down{number}.w", net_matrix(net, 2 * width, width))], f"down{number}")
        x = net.node("Add", [x, y], f"sum{number}")
    x = net.node("ReduceMean", [x], "mean", axes=[1], keepdims=0)
    x = net.node("MatMul", [x, net.constant("fc.w", net_matrix(net, width, CLASSES))], "fc")
    back.rename(back.add("Softmax", x, axis=1), "scores")
    return _engine(front, net, back, "scores", [CLASSES], opset)


def net_matrix(net: NetBuilder, inputs: int, outputs: int) -> NDArray[np.float32]:
    net.weight("scratch", outputs, inputs)
    return np.ascontiguousarray(numpy_helper.to_array(net.weights.pop()).T)


def frames(count: int = 8, seed: int = 3) -> list[Sample]:
    return made_samples(SPEC, count, seed)[count:]


def scores_of(content: bytes, samples: Sequence[Sample]) -> NDArray[np.float32]:
    """Run all frames in one batch."""
    batch = np.stack([sample.pixels for sample in samples])
    return Session(content, "an engine").run({"frames": batch})[0]


def model_of(content: bytes) -> ModelProto:
    return onnx.load_from_string(content)


def _engine(front: GraphBuilder, net: NetBuilder, back: GraphBuilder, result: str, row: list[int], opset: int) -> bytes:
    given = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", SIDE, SIDE, 3])
    wanted = helper.make_tensor_value_info(result, TensorProto.FLOAT, ["N", *row])
    graph = helper.make_graph(
        [*front.nodes, *net.nodes, *back.nodes],
        "small",
        [given],
        [wanted],
        [*front.constants, *net.weights, *back.constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
