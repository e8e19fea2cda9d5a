"""Quantise an engine to eight bits with ranges that were measured: explicit Q/DQ nodes, fused by the runtime.

For ONNX Runtime activations are `uint8` with a zero point, which is the fast kind on processors with VNNI; for
TensorRT they are `int8` without one, and biases stay float32: its parsers take nothing else.
"""

from __future__ import annotations

import json
import logging
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import add_infer_metadata

from vedette_engines.errors import ImportInputError, ImportRefusedError
from vedette_engines.graft.builder import PREFIX
from vedette_engines.graft.engine import FRAMES
from vedette_engines.graft.session import Session
from vedette_engines.lower.coarse import coarse_layers, silu_outputs
from vedette_engines.lower.plan import WEIGHTED_OPS, CalibrationPlan, Quantised
from vedette_engines.lower.prepare import (
    float_activations,
    idle_nodes,
    is_grafted,
    last_outputs,
    load_engine,
    weighted_nodes,
)
from vedette_engines.lower.ranges import Calibration, calibrate
from vedette_engines.lower.shield import activations_of, shield
from vedette_engines.lower.thresholds import silu_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from onnx import ModelProto

    from vedette_engines.graft.frames import Sample
    from vedette_engines.lower.plan import Target
    from vedette_engines.lower.ranges import Range

QDQ_OPS = frozenset({"QuantizeLinear", "DequantizeLinear"})
RANGES_FILE = "ranges.json"
# The narrowest range, so that a tensor that is always 0 has a scale.
_LEAST_WIDTH = 1e-6

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
# Share of the weights that the layers of the answer may have to be left out.
_SMALL_ANSWER = 0.1

_OPTIONS: dict[Target, dict[str, Any]] = {
    "onnxruntime": {"ActivationSymmetric": False, "WeightSymmetric": True},
    "tensorrt": {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        # What follows a convolution is fused with it as long as nothing is rounded between them.
        "OpTypesToExcludeOutputQuantization": list(WEIGHTED_OPS),
    },
}
_ACTIVATIONS = {"onnxruntime": QuantType.QUInt8, "tensorrt": QuantType.QInt8}


@dataclass(frozen=True, slots=True)
class Quantiser:
    """An engine that was calibrated once, and can be quantised in many ways.

    Attributes:
        model: The prepared float32 engine.
        calibration: What values its tensors took.
        plan: How ranges are settled, and what stays float32 in every case.
        target: The runtime it is for.
        frame: What a result is tried on.
        ranges: By tensor, what eight bits cover.
    """

    model: ModelProto
    calibration: Calibration
    plan: CalibrationPlan
    target: Target
    frame: Sample
    ranges: Mapping[str, Range]

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of the nodes with weights that the plan lets be quantised."""
        ops = self.plan.ops_for(self.target)
        kept = {*self.plan.exclude, *self._answering()}
        layers = [
            node.name for node in weighted_nodes(self.model.graph) if node.op_type in ops and node.name not in kept
        ]
        coarse = set(self._coarse(layers))
        return tuple(name for name in layers if name not in coarse)

    def _coarse(self, layers: Sequence[str]) -> tuple[str, ...]:
        """Name those that eight bits are too coarse for.

        Of YOLOX-nano they are the first ones: quantised with the others, half of its detections on clips that it was
        not calibrated on are gone; float32 costs them nothing that can be measured.
        """
        if self.target != "onnxruntime":
            return ()
        return coarse_layers(self.model.graph, layers, self.ranges, self.calibration.variances)

    def _answering(self) -> set[str]:
        """Name the convolutions that give the model's answer, where they are small.

        ONNX Runtime rounds what a quantised convolution gives (a matrix may give float32). Rounded logits move a
        detector's scores: YOLOX-nano's by 0.08 instead of 0.03, for a saving that cannot be measured.
        """
        if self.target != "onnxruntime":
            return set()
        graph = self.model.graph
        sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
        last = last_outputs(graph)
        found = [node for node in weighted_nodes(graph) if node.op_type in _CONVOLUTIONS and node.output[0] in last]
        total = sum(sizes.get(node.input[1], 0) for node in weighted_nodes(graph))
        small = sum(sizes.get(node.input[1], 0) for node in found) <= _SMALL_ANSWER * total
        return {node.name for node in found} if small else set()

    def write_ranges(self, folder: Path) -> None:
        """Write `RANGES_FILE`: by tensor the range that eight bits cover."""
        (folder / RANGES_FILE).write_text(json.dumps(dict(self.ranges), indent=1) + "\n", encoding="utf-8")

    def quantise(self, exclude: Sequence[str] = ()) -> Quantised:
        """Quantise all that the plan says but for these nodes, and try the result.

        Raises:
            ImportRefusedError: The result cannot be run.
        """
        started = time.monotonic()
        content = self._write(set(self.candidates) - set(exclude))
        return _checked(content, self, time.monotonic() - started)

    def quantise_only(self, nodes: Sequence[str]) -> Quantised:
        """Quantise these nodes and nothing else, to see what each of them costs.

        Raises:
            ImportRefusedError: The result cannot be run.
        """
        started = time.monotonic()
        content = self._write(set(nodes))
        return _checked(content, self, time.monotonic() - started)

    def _write(self, layers: set[str]) -> bytes:
        graph = self.model.graph
        left = [node.name for node in weighted_nodes(graph) if node.name not in layers]
        kept = {*left, *activations_of(graph, left), *idle_nodes(graph, layers), *self.plan.exclude}
        kept.update(node.name for node in graph.node if is_grafted(node))
        copied = onnx.ModelProto()
        copied.CopyFrom(self.model)
        add_infer_metadata(copied)
        with quiet():
            quantizer = QDQQuantizer(
                copied,
                self.plan.per_channel,
                self.plan.reduce_range,
                QuantType.QInt8,
                _ACTIVATIONS[self.target],
                TensorsData(CalibrationMethod.MinMax, {name: _data(*ends) for name, ends in self.ranges.items()}),
                [],
                sorted(kept),
                list(self.plan.ops_for(self.target)),
                dict(_OPTIONS[self.target]),
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        quantised = quantizer.model.model
        for node in quantised.graph.node:
            # A Q/DQ pair behind a grafted tensor is named after it, but was not grafted on.
            if node.op_type in QDQ_OPS:
                node.name = node.name.removeprefix(PREFIX)
        shield(quantised.graph, left)
        # Shapes of the tensors within can be inferred again; of a small engine they are a good part of the file.
        del quantised.graph.value_info[:]
        return bytes(quantised.SerializeToString())


def to_int8(
    content: bytes,
    frames: Sequence[Sample],
    plan: CalibrationPlan,
    target: Target,
    folder: Path,
    say: Callable[[str], None],
) -> Quantised:
    """Quantise an engine with ranges measured on frames.

    Args:
        content: A float32 engine.
        frames: What it is calibrated on; never what it is judged on.
        plan: How.
        target: The runtime that it is for.
        folder: Takes `RANGES_FILE`, the range of each tensor.
        say: Takes a line now and then.

    Raises:
        ImportInputError: There are no frames, nothing can be quantised, or a node to leave out does not exist.
        ImportRefusedError: A tensor takes no finite value, or the result cannot be run.
    """
    started = time.monotonic()
    quantiser = open_quantiser(content, frames, plan, target, say)
    quantiser.write_ranges(folder)
    quantised = quantiser.quantise()
    say(
        f"int8 for {target}: {len(quantised.quantised_nodes)} nodes with weights quantised, "
        f"{len(quantised.kept_nodes)} left in float32, {len(quantised.content) / len(content):.0%} of the size"
    )
    return Quantised(
        quantised.content, quantised.quantised_nodes, quantised.kept_nodes, round(time.monotonic() - started, 3)
    )


def open_quantiser(
    content: bytes, frames: Sequence[Sample], plan: CalibrationPlan, target: Target, say: Callable[[str], None]
) -> Quantiser:
    """Calibrate an engine; see `to_int8`."""
    model = load_engine(content)
    ops = plan.ops_for(target)
    names = {node.name for node in model.graph.node}
    unknown = [name for name in plan.exclude if name not in names]
    if unknown:
        known = ", ".join(node.name for node in weighted_nodes(model.graph)[:5])
        raise ImportInputError(f"node {unknown[0]!r} is to be left out, but there is none; there are {known}, ...")
    if not any(node.op_type in ops for node in weighted_nodes(model.graph)):
        raise ImportInputError(f"nothing to quantise: the engine has no node of {', '.join(ops)}")
    calibration = calibrate(model, float_activations(model, ops), frames, plan.method, say)
    return Quantiser(model, calibration, plan, target, frames[0], settle_ranges(model, calibration, plan, target))


def settle_ranges(
    model: ModelProto, calibration: Calibration, plan: CalibrationPlan, target: Target
) -> dict[str, Range]:
    """Settle the range of each tensor that eight bits are to cover.

    A model's answer keeps all of its own: the rarest values of a detector's last layers are its detections, and cut
    off, their scores would sink. In front of a SiLU ONNX Runtime rounds, where TensorRT does not.
    """
    ranges = calibration.ranges(plan, symmetric=target == "tensorrt")
    if target == "onnxruntime":
        for name in silu_outputs(model.graph):
            if name in calibration.histograms:
                ranges[name] = silu_range(calibration.histograms[name], calibration.extremes[name], ranges[name])
    extremes = calibration.extremes
    return ranges | {name: extremes[name] for name in last_outputs(model.graph) if name in extremes}


def _data(low: float, high: float) -> TensorData:
    if high - low < _LEAST_WIDTH:
        high = low + _LEAST_WIDTH
    return TensorData(lowest=np.float32(low), highest=np.float32(high))


def _checked(content: bytes, quantiser: Quantiser, seconds: float) -> Quantised:
    """Run the result once, and list what it computes in eight bits."""
    try:
        session = Session(content, f"the engine in int8 for {quantiser.target}")
        outputs = session.run({FRAMES: quantiser.frame.pixels[None]})
    except ImportInputError as error:
        raise ImportRefusedError(str(error)) from error
    if not all(np.isfinite(output).all() for output in outputs):
        raise ImportRefusedError(f"the engine in int8 for {quantiser.target} gives values that are no numbers")
    graph = onnx.load_from_string(content).graph
    dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    done = {node.name for node in graph.node if node.op_type in WEIGHTED_OPS and set(node.input[:2]) <= dequantised}
    names = [node.name for node in weighted_nodes(quantiser.model.graph)]
    return Quantised(
        content,
        tuple(name for name in names if name in done),
        tuple(name for name in names if name not in done),
        round(seconds, 3),
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep ONNX Runtime's quantiser from writing warnings to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
