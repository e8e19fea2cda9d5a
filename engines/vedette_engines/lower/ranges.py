"""Run an engine over frames and note what values its tensors take.

Frames are run one at a time. The smallest and the largest value are taken inside the graph, so that a pass holds two
numbers of each tensor; for histograms a second pass fetches the tensors themselves, as many at once as fit into a
fixed piece of memory. ONNX Runtime's calibrators are not used: they hold the tensors of all frames, or forget the
ranges of all but the last few, and pass over NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from vedette_engines.errors import ImportInputError, ImportRefusedError
from vedette_engines.graft.engine import FRAMES
from vedette_engines.graft.session import Session
from vedette_engines.lower.thresholds import entropy_range, percentile_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto

    from vedette_engines.graft.frames import Sample
    from vedette_engines.lower.plan import CalibrationPlan, Method

BINS = 2048
# What the second pass may hold of one frame's tensors at once.
_FETCHED_BYTES = 1 << 28
_SHOWN_STEPS = 4
_IMAGE_DIMS = 4

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What values the tensors took.

    Attributes:
        extremes: Smallest and largest value of each tensor.
        histograms: `int64 [BINS]` of each tensor, evenly from the smallest to the largest value; empty for `minmax`.
        frames: Frames that were run.
        variances: `float64 [C]` of each tensor that is an image of channels, `[N, C, H, W]`; empty for `minmax`.
    """

    extremes: Mapping[str, Range]
    histograms: Mapping[str, NDArray[np.int64]]
    frames: int
    variances: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def ranges(self, plan: CalibrationPlan, *, symmetric: bool) -> dict[str, Range]:
        """Settle the range of each tensor that eight bits are to cover."""
        found: dict[str, Range] = {}
        for name, extremes in self.extremes.items():
            histogram = self.histograms.get(name)
            if plan.method == "minmax" or histogram is None:
                found[name] = extremes
            elif plan.method == "percentile":
                found[name] = percentile_range(histogram, extremes, plan.percentile, symmetric=symmetric)
            else:
                found[name] = entropy_range(histogram, extremes, symmetric=symmetric)
        return found


@dataclass(frozen=True, slots=True)
class _Teller:
    """Tells how far a pass has come, at the first frame of each quarter."""

    what: str
    total: int
    say: Callable[[str], None]

    def tell(self, number: int) -> None:
        if number % math.ceil(self.total / _SHOWN_STEPS) == 0:
            self.say(f"calibrating, {self.what}: {number} of {self.total} frames")


class _Moments:
    """Sums up the values of each channel and their squares."""

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._sums, self._squares = np.zeros(channels), np.zeros(channels)

    def add(self, value: NDArray[np.float32]) -> None:
        """Add one frame's; `value` is `[1, C, H, W]`."""
        rows = value.reshape(value.shape[1], -1)
        self._count += rows.shape[1]
        self._sums += rows.sum(axis=1)
        self._squares += np.einsum("ij,ij->i", rows, rows)

    def variances(self) -> NDArray[np.float64]:
        count = max(self._count, 1)
        return np.maximum(self._squares / count - (self._sums / count) ** 2, 0.0)


def calibrate(
    model: ModelProto, tensors: Sequence[str], frames: Sequence[Sample], method: Method, say: Callable[[str], None]
) -> Calibration:
    """Run all frames and note what values these tensors take.

    Args:
        model: A float32 engine.
        tensors: Names of its float32 tensors.
        frames: What it is shown.
        method: Tells whether histograms are needed.
        say: Takes a line now and then.

    Raises:
        ImportInputError: There are no frames.
        ImportRefusedError: A tensor takes a value that is no number, or infinite.
    """
    if not frames:
        raise ImportInputError(
            "there are no frames to calibrate on; give clips or pictures that show what the engine will see"
        )
    extremes, sizes = measure_extremes(model, tensors, frames, say, finite=True)
    histograms: dict[str, NDArray[np.int64]] = {}
    moments: dict[str, _Moments] = {}
    if method != "minmax":
        spread = [name for name in tensors if extremes[name][0] < extremes[name][1]]
        for number, chunk in enumerate(_chunks(spread, sizes)):
            what = "histograms" if not number else f"histograms, part {number + 1}"
            teller = _Teller(what, len(frames), say)
            histograms |= _measure_histograms(model, chunk, extremes, frames, moments, teller)
    variances = {name: found.variances() for name, found in moments.items()}
    return Calibration(extremes, histograms, len(frames), variances)


def measure_extremes(
    model: ModelProto, tensors: Sequence[str], frames: Sequence[Sample], say: Callable[[str], None], *, finite: bool
) -> tuple[dict[str, Range], dict[str, int]]:
    """Run all frames and note the smallest and largest value of each tensor, and how many values it has.

    Args:
        model: An engine.
        tensors: Names of its float32 tensors.
        frames: What it is shown.
        say: Takes a line now and then.
        finite: Refuse values that are no numbers or infinite; else they become part of the range.

    Raises:
        ImportRefusedError: See `finite`.
    """
    teller = _Teller("ranges", len(frames), say)
    session = Session(_with_extremes(model, tensors), "the engine that is calibrated")
    lowest, highest = np.full(len(tensors), np.inf), np.full(len(tensors), -np.inf)
    sizes = np.zeros(len(tensors), np.int64)
    for number, frame in enumerate(frames):
        teller.tell(number)
        outputs = np.asarray(session.run({FRAMES: frame.pixels[None]}), np.float64).reshape(len(tensors), 4)
        bad = np.flatnonzero(~np.isfinite(outputs[:, :3]).all(axis=1))
        if len(bad) and finite:
            raise ImportRefusedError(
                f"tensor {tensors[bad[0]]} takes a value that is no number or infinite on {frame.label}: it cannot "
                "be calibrated"
            )
        lowest, highest = np.minimum(lowest, outputs[:, 0]), np.maximum(highest, outputs[:, 1])
        sizes = np.maximum(sizes, outputs[:, 3].astype(np.int64))
    ranges = {name: (float(low), float(high)) for name, low, high in zip(tensors, lowest, highest, strict=True)}
    return ranges, dict(zip(tensors, sizes.tolist(), strict=True))


def _with_extremes(model: ModelProto, tensors: Sequence[str]) -> bytes:
    """Return the engine with smallest, largest, sum and size of each tensor as its outputs.

    The sum is there for NaN, which a minimum may pass over.
    """
    augmented = onnx.ModelProto()
    augmented.CopyFrom(model)
    graph = augmented.graph
    del graph.output[:]
    for number, name in enumerate(tensors):
        for op in ("ReduceMin", "ReduceMax", "ReduceSum"):
            output = f"calibration/{number}/{op}"
            graph.node.append(helper.make_node(op, [name], [output], name=output, keepdims=0))
            graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
        output = f"calibration/{number}/Size"
        graph.node.append(helper.make_node("Size", [name], [output], name=output))
        graph.output.append(helper.make_tensor_value_info(output, TensorProto.INT64, []))
    return augmented.SerializeToString()


def _chunks(tensors: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    chunk: list[str] = []
    held = 0
    for name in tensors:
        if chunk and held + 4 * sizes[name] > _FETCHED_BYTES:
            yield chunk
            chunk, held = [], 0
        chunk.append(name)
        held += 4 * sizes[name]
    if chunk:
        yield chunk


def _measure_histograms(
    model: ModelProto,
    tensors: Sequence[str],
    extremes: Mapping[str, Range],
    frames: Sequence[Sample],
    moments: dict[str, _Moments],
    teller: _Teller,
) -> dict[str, NDArray[np.int64]]:
    fetching = onnx.ModelProto()
    fetching.CopyFrom(model)
    del fetching.graph.output[:]
    fetching.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors)
    session = Session(fetching.SerializeToString(), "the engine that is calibrated")
    histograms = {name: np.zeros(BINS, np.int64) for name in tensors}
    for number, frame in enumerate(frames):
        teller.tell(number)
        for name, value in zip(tensors, session.run({FRAMES: frame.pixels[None]}), strict=True):
            low, high = extremes[name]
            places = (value.reshape(-1) - np.float32(low)) * np.float32(BINS / (high - low))
            histograms[name] += np.bincount(np.clip(places.astype(np.int32), 0, BINS - 1), minlength=BINS)
            if value.ndim == _IMAGE_DIMS:
                moments.setdefault(name, _Moments(value.shape[1])).add(value)
    return histograms
