"""The bounds that a comparison has to keep before anything is published, and the judgement.

A bound is named `SCOPE.FIGURE`. The scopes:

- `source`: raw outputs of the exported model against the framework it came from (`TensorGate`).
- `fp32`, `fp16`, `int8`: an engine of that precision against the FP32 engine, end to end.
- `truth`: the FP32 engine against what people say is in the frames.
- `reference`: the FP32 engine against what another program with the same model says.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_engines.compare.figures import FIGURES, MAIN_FIGURE, text_of
from vedette_engines.compare.result import Agreement
from vedette_engines.compare.tensors import ATOL, RTOL
from vedette_engines.errors import ImportInputError
from vedette_engines.manifest import Precision, Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vedette_engines.compare.tensors import OutputDifference

SOURCE = "source"
TRUTH = "truth"
REFERENCE = "reference"

# Of each scope and task: figure and bound. Why so and not otherwise:
#
# fp32: the same arithmetic in another order (another runtime, fused nodes). Rounding may turn one near tie in a
#   hundred, of boxes at NMS's threshold or of two classes, and nothing else.
# fp16: ten bits of mantissa. A sound conversion keeps mAP50 above 0.99 and turns near ties only; what overflows or
#   sums up too far loses whole detections. Precision and recall at one score are looser: detections right at that
#   score fall to either side of it.
# int8: eight bits. A good calibration loses up to two or three points of a detector's mAP50 and one or two of a
#   classifier's top-1; below these a range is wrong or a layer too sensitive. Precision and recall guard
#   against what mAP does not count: detections of classes that the reference does not see.
# Embeddings: what is asked of them is to tell one from another, so the distance to the FP32 embedding must stay
#   small beside the distance between frames (`confusion`), however alike all cosines are.
# truth: how good a model is, is its maker's business: 0.5 of mAP50 and of top-1, and three in ten of what it reports
#   and of what there is at its own least score, is only what no model with wrong preprocessing or a wrong head
#   attains. Whoever knows what the model scored elsewhere gives that as the bound.
# reference: another program with the same model must see the same, as far as two ways to scale a picture do. Measured
#   with YOLOX-nano and four clips: mAP50 0.93 to 1, mAP50-95 0.91 to 1, precision 0.8 at the least (detections right
#   at the least score). The weights of one convolution mixed up: mAP50 0.92, recall 0.3: what is left stands in the
#   right order, so the curve hardly falls. Red and blue swapped: mAP50 above 0.93 in three clips of four. Hence:
# swap_gain: with its own order of channels a model is never worse by more than chance than with the other one.
#   Measured as above: mAP50-95 is 0.08 to 0.35 lower with the wrong order, though mAP50 may hardly move.
_DEFAULTS: dict[str, dict[Task, dict[str, float]]] = {
    "fp32": {
        Task.DETECTOR: {"map50": 0.99, "precision": 0.98, "recall": 0.98},
        Task.CLASSIFIER: {"top1": 0.99, "kl_mean": 1e-3},
        Task.EMBEDDER: {"cosine_mean": 0.9999, "confusion": 0.01},
    },
    "fp16": {
        Task.DETECTOR: {"map50": 0.98, "precision": 0.95, "recall": 0.95},
        Task.CLASSIFIER: {"top1": 0.99, "kl_mean": 0.01},
        Task.EMBEDDER: {"cosine_mean": 0.999, "confusion": 0.1},
    },
    "int8": {
        Task.DETECTOR: {"map50": 0.9, "precision": 0.8, "recall": 0.8},
        Task.CLASSIFIER: {"top1": 0.95, "kl_mean": 0.2},
        Task.EMBEDDER: {"cosine_mean": 0.98, "confusion": 0.5},
    },
    TRUTH: {
        Task.DETECTOR: {"map50": 0.5, "precision": 0.3, "recall": 0.3, "swap_gain": 0.03},
        Task.CLASSIFIER: {"top1": 0.5, "swap_gain": 0.05},
        Task.EMBEDDER: {},
    },
    REFERENCE: {
        Task.DETECTOR: {"map50": 0.9, "map50_95": 0.8, "precision": 0.75, "recall": 0.75, "swap_gain": 0.03},
        Task.CLASSIFIER: {"top1": 0.95, "swap_gain": 0.05},
        Task.EMBEDDER: {},
    },
}
_TENSOR_BOUNDS = ("largest_relative", "share_beyond")


@dataclass(frozen=True, slots=True)
class Bound:
    """The worst that one figure may be: the least where more is better, else the most.

    Attributes:
        figure: By its name in `figures.FIGURES`.
        limit: The bound; a figure right on it passes.
    """

    figure: str
    limit: float

    def broken_by(self, value: float) -> bool:
        """Tell whether a value is beyond the bound; NaN is."""
        return not (value >= self.limit if FIGURES[self.figure].high else value <= self.limit)

    def __str__(self) -> str:
        return f"{self.figure} {'>=' if FIGURES[self.figure].high else '<='} {text_of(self.limit)}"


@dataclass(frozen=True, slots=True)
class Gate:
    """The bounds of one comparison end to end.

    Attributes:
        scope: Which kind of comparison.
        task: Of which engines.
        bounds: Each must be kept.
    """

    scope: str
    task: Task
    bounds: tuple[Bound, ...]

    @property
    def loss(self) -> float:
        """The largest `Agreement.loss` that passes, as far as the main figure goes."""
        main = MAIN_FIGURE[self.task]
        return next((1.0 - bound.limit for bound in self.bounds if bound.figure == main), 1.0)

    @property
    def shown(self) -> dict[str, str]:
        """The bounds for a table, by figure."""
        return {bound.figure: str(bound).removeprefix(f"{bound.figure} ") for bound in self.bounds}

    def __str__(self) -> str:
        return ", ".join(f"{self.scope}.{bound}" for bound in self.bounds)


@dataclass(frozen=True, slots=True)
class TensorGate:
    """The bounds of raw outputs against the source framework, for each output.

    Two correct float32 programs differ by rounding in another order. Measured, PyTorch against ONNX Runtime: ResNet-50
    2e-5 of the largest value and 13 % of the elements beyond rtol 1e-4 / atol 1e-5, a YOLO-class detector 8e-5 and
    0.3 %; against the same networks in float64 each of the two is as far off as the other (8 and 9 % of ResNet-50's
    elements), so that is rounding: small values that are differences of large ones. A wrong operator moves most
    elements. So a quarter of them may be beyond, and the largest difference is what bites.

    Attributes:
        largest_relative: The most that any element may be off, as a part of the output's largest value.
        share_beyond: The largest share of elements that may be off by more than rtol and atol.
    """

    largest_relative: float = 1e-4
    share_beyond: float = 0.25

    @classmethod
    def from_bounds(cls, bounds: Mapping[str, float]) -> TensorGate:
        """Take the defaults with what `source.*` replaces.

        Raises:
            ImportInputError: A name or a value is not allowed.
        """
        check_bounds(bounds)
        own = {name.partition(".")[2]: value for name, value in bounds.items() if name.startswith(f"{SOURCE}.")}
        return cls(**own)

    def __str__(self) -> str:
        return (
            f"{SOURCE}.largest_relative <= {self.largest_relative:g}, {SOURCE}.share_beyond <= {self.share_beyond:g} "
            f"(rtol {RTOL:g}, atol {ATOL:g})"
        )


def gate_for(task: Task, precision: Precision | str, bounds: Mapping[str, float] | None = None) -> Gate:
    """Make the gate of one comparison: the defaults with what the user's bounds replace or add.

    Args:
        task: What the engines do.
        precision: The candidate's; or `truth` or `reference`.
        bounds: By `SCOPE.FIGURE`; those of other scopes are left alone.

    Raises:
        ImportInputError: A name or a value is not allowed, or the task has no such figure.
    """
    scope = str(precision)
    given = check_bounds(bounds or {})
    own = {name.partition(".")[2]: value for name, value in given.items() if name.partition(".")[0] == scope}
    for figure in own:
        if task not in FIGURES[figure].tasks:
            allowed = ", ".join(name for name in _figures_of(scope) if task in FIGURES[name].tasks)
            raise ImportInputError(
                f"gate {scope}.{figure}: a {task} has no {FIGURES[figure].words}; allowed is {allowed}"
            )
    limits = {**_DEFAULTS[scope][task], **own, "broken": 0.0}
    return Gate(scope, task, tuple(Bound(figure, limit) for figure, limit in limits.items()))


def parse_gates(texts: Sequence[str]) -> dict[str, float]:
    """Read bounds as a command line gives them: `int8.map50=0.93`.

    Raises:
        ImportInputError: One is no such thing; the message tells what is allowed.
    """
    bounds: dict[str, float] = {}
    for text in texts:
        name, sign, number = (part.strip() for part in text.partition("="))
        try:
            bounds[name] = float(number)
        except ValueError:
            wanted = "NAME=NUMBER, like int8.map50=0.93"
            raise ImportInputError(f"--gate is {text!r}; allowed is {wanted}") from None
        if not sign:
            raise ImportInputError(f"--gate is {text!r}; allowed is NAME=NUMBER, like int8.map50=0.93")
    return check_bounds(bounds)


def check_bounds(bounds: Mapping[str, float]) -> dict[str, float]:
    """Check names and values of bounds, and return a copy.

    Raises:
        ImportInputError: One is unknown, or its value is not a number that the figure can have.
    """
    known = known_bounds()
    for name, value in bounds.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            meant = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}"
            raise ImportInputError(f"gate {name!r} is unknown; {meant}")
        figure = name.partition(".")[2]
        share = figure in _TENSOR_BOUNDS or FIGURES[figure].share
        if not math.isfinite(value) or value < 0 or (share and value > 1):
            raise ImportInputError(f"gate {name} is {value:g}; allowed is {'0..1' if share else '0 and up'}")
    return dict(bounds)


def known_bounds() -> tuple[str, ...]:
    """Name all bounds that can be given."""
    tensor = [f"{SOURCE}.{figure}" for figure in _TENSOR_BOUNDS]
    return (*tensor, *(f"{scope}.{figure}" for scope in _DEFAULTS for figure in _figures_of(scope)))


def _figures_of(scope: str) -> list[str]:
    """Name the figures that a scope measures; how many rows are broken is never a matter of taste."""
    with_truth = scope in {TRUTH, REFERENCE}
    of_truth = [name for name, figure in FIGURES.items() if Task.EMBEDDER not in figure.tasks]
    figures = of_truth if with_truth else [name for name in FIGURES if name != "swap_gain"]
    return [name for name in figures if name != "broken"]


def judge(result: Agreement | Sequence[OutputDifference], gate: Gate | TensorGate) -> tuple[str, ...]:
    """Say in words which bounds are not kept, each with its figure; nothing: all are.

    What could not be compared is not passed: an inconclusive comparison, a figure that was not measured, no output.

    Raises:
        TypeError: The gate is not for this kind of result.
    """
    if isinstance(result, Agreement) and isinstance(gate, Gate):
        return _judge_agreement(result, gate)
    if not isinstance(result, Agreement) and isinstance(gate, TensorGate):
        reasons = [reason for difference in result for reason in _judge_output(difference, gate)]
        return tuple(reasons) if result else ("no output was compared with the source",)
    raise TypeError(f"{type(gate).__name__} does not judge {type(result).__name__}")


def _judge_agreement(agreement: Agreement, gate: Gate) -> tuple[str, ...]:
    where = f"against {agreement.against}"
    if agreement.task is not gate.task:
        raise TypeError(f"a gate for a {gate.task} does not judge a {agreement.task}")
    if agreement.inconclusive:
        return (f"{where}: inconclusive: {agreement.inconclusive}",)
    reasons = []
    for bound in gate.bounds:
        value = agreement.figures.get(bound.figure)
        words = FIGURES[bound.figure].words
        name = f"{gate.scope}.{bound.figure}"
        if value is None:
            reasons.append(f"{where}: {words} was not measured, so {name} cannot be kept")
        elif bound.broken_by(value):
            least = "at least" if FIGURES[bound.figure].high else "at most"
            # A figure that misses its bound by a hair shows the hair.
            shown = text_of(value) if text_of(value) != text_of(bound.limit) else f"{value:.9g}"
            reasons.append(f"{where}: {words} is {shown}; {name} wants {least} {text_of(bound.limit)}")
    return tuple(reasons)


def _judge_output(difference: OutputDifference, gate: TensorGate) -> list[str]:
    if difference.reason:
        return [f"output {difference.name}: {difference.reason}"]
    reasons = []
    if difference.mismatched:
        reasons.append(
            f"output {difference.name}: {difference.mismatched} values are NaN or infinite on one side only, the "
            f"first at {list(difference.where)}"
        )
    if not difference.largest_relative <= gate.largest_relative:
        reasons.append(
            f"output {difference.name}: the largest difference is {difference.largest:.3g} at "
            f"{list(difference.where)}, {difference.largest_relative:.3g} of the largest value "
            f"{difference.largest_reference:.4g}; source.largest_relative wants at most {gate.largest_relative:g}"
        )
    if not difference.share_beyond <= gate.share_beyond:
        reasons.append(
            f"output {difference.name}: {difference.share_beyond:.3%} of the elements are beyond rtol {RTOL:g} / atol "
            f"{ATOL:g}; source.share_beyond wants at most {gate.share_beyond:.3%}"
        )
    return reasons
