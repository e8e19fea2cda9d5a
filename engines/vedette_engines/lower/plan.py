"""What is to be quantised and how, and what came of it, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Method = Literal["minmax", "entropy", "percentile"]
Target = Literal["onnxruntime", "tensorrt"]

# What carries the weights, and nearly all of the arithmetic.
WEIGHTED_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What stands between them and has an integer kernel in ONNX Runtime, or just moves numbers: left out, each of these
# would cost a way to float32 and back.
_BETWEEN_OPS = (
    *("Add", "Mul", "Sigmoid", "LeakyRelu", "Relu", "Clip", "GlobalAveragePool", "AveragePool", "MaxPool"),
    *("Concat", "Split", "Slice", "Resize", "Pad", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"),
)
# TensorRT fuses what stands between by itself, where a Q/DQ pair does not hold it apart.
OP_TYPES: dict[Target, tuple[str, ...]] = {
    "onnxruntime": (*WEIGHTED_OPS, *_BETWEEN_OPS),
    "tensorrt": WEIGHTED_OPS,
}


@dataclass(frozen=True, slots=True)
class CalibrationPlan:
    """How ranges are found, and what is quantised with them.

    Attributes:
        method: `minmax` takes the whole range of what was seen, `percentile` cuts off the rarest values, `entropy`
            the range whose eight-bit picture tells most of the distribution.
        percentile: Share of the values that stays inside the range, in percent, for `percentile`.
        exclude: Names of nodes that stay float32.
        per_channel: One scale for each output channel of a weight, instead of one for all.
        op_types: Operators to quantise; empty: those that suit the target.
        reduce_range: Seven bits for weights: for processors without VNNI, whose int16 sums overflow.
    """

    method: Method = "percentile"
    percentile: float = 99.99
    exclude: tuple[str, ...] = ()
    per_channel: bool = True
    op_types: tuple[str, ...] = ()
    reduce_range: bool = False

    def ops_for(self, target: Target) -> tuple[str, ...]:
        """Tell the operators to quantise."""
        return self.op_types or OP_TYPES[target]


@dataclass(frozen=True, slots=True)
class Quantised:
    """A quantised engine.

    Attributes:
        content: The ONNX file.
        quantised_nodes: Names of the nodes with weights that compute in eight bits.
        kept_nodes: Names of those that were left as they are.
        seconds: How long it took, calibration included.
    """

    content: bytes
    quantised_nodes: tuple[str, ...]
    kept_nodes: tuple[str, ...]
    seconds: float
