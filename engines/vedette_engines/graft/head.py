"""The seam between a family of models and the one engine contract.

A head knows how one family of models writes its results. It tells whether a model's outputs look like
that family's, adds the decoding to the graph, and can read the same outputs in plain NumPy, against which
the graph is checked before anything is published. Heads of your own join through the entry point group
`vedette.heads`: each entry names an object with the methods of `Head`. `heads/steps.py` has the steps
that detectors share.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.preprocess import Preprocessing
    from vedette_engines.graft.signature import Signature

Task = Literal["detector", "classifier", "embedder"]
BoxFormat = Literal["xyxy", "cxcywh"]
Background = Literal["none", "first", "last"]
Quad = tuple[float, float, float, float]
Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a model's outputs look like a head's.

    Attributes:
        classes: How many classes the outputs have (dimensions of an embedder); 0 when they do not fit.
        reason: In words: what was recognised, or what is missing.
        named: The outputs' names say so too: `--head auto` prefers such a head to those that go by shapes alone.
        counted: The shapes tell the number of classes; else as many as there are labels.
        auto: `--head auto` may take the head; else it must be asked for.
    """

    classes: int
    reason: str
    named: bool = False
    counted: bool = True
    auto: bool = True

    @property
    def ok(self) -> bool:
        """Whether the outputs fit."""
        return self.classes > 0


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """What shapes cannot tell; None until it was said or measured.

    A head settles what means something to it and leaves the rest None, so that what was said in vain is noticed.

    Attributes:
        activated: Scores have been through their sigmoid or softmax in the model.
        normalised: Boxes are fractions of the input size, not pixels.
        box_format: Corners, or centre and size.
        background: Which column of the class scores stands for nothing, and so for a softmax over all of them.
        priors: The boxes that offsets are measured from, in the model's order.
        variances: Factors on the offsets of the centre and of the size.
        anchors: Widths and heights in pixels that sizes are factors of, level by level.
        reg_max: Largest distance, in cells, of a box side that is written as a distribution.
        keypoints: Names of the keypoints, in the model's order.
        unit_length: The engine scales each embedding to length 1.
        classes: How many labels were given, on the way in; how many classes there are, settled. None: as `Fit` says.
        extras: Names of the columns after score and class; None: as the head says.
    """

    activated: bool | None = None
    normalised: bool | None = None
    box_format: BoxFormat | None = None
    background: Background | None = None
    priors: tuple[Quad, ...] | None = None
    variances: Pair | None = None
    anchors: tuple[Pair, ...] | None = None
    reg_max: int | None = None
    keypoints: tuple[str, ...] | None = None
    unit_length: bool | None = None
    classes: int | None = None
    extras: tuple[str, ...] | None = None

    def __str__(self) -> str:
        told = ((tell, getattr(self, name)) for name, tell in _TELLING.items())
        return ", ".join(tell(value) for tell, value in told if value is not None)


# How each option reads, for people.
_TELLING: Mapping[str, Callable[[Any], str]] = {
    "activated": lambda value: "scores are probabilities" if value else "scores are logits",
    "background": lambda value: "no background class" if value == "none" else f"background class {value}",
    "box_format": lambda value: f"boxes are {value}",
    "normalised": lambda value: "fractions of the input" if value else "in pixels",
    "priors": lambda value: f"{len(value)} priors",
    "variances": lambda value: "variances {:g}, {:g}".format(*value),
    "anchors": lambda value: "anchors " + ", ".join(f"{width:g}x{height:g}" for width, height in value),
    "reg_max": lambda value: f"distances up to {value} cells",
    "keypoints": lambda value: f"{len(value)} keypoints",
    "unit_length": lambda value: "scaled to length 1" if value else "length as the model gives it",
}
# How each option is said, for messages.
OPTION_FLAGS: Mapping[str, str] = {
    "activated": "--activated/--logits",
    "normalised": "--normalised/--pixels",
    "box_format": "--box-format",
    "background": "--background",
    "priors": "--priors",
    "variances": "--variances",
    "anchors": "--anchors",
    "reg_max": "--reg-max",
    "keypoints": "--keypoints",
    "unit_length": "--unit-length/--own-length",
}


@dataclass(frozen=True, slots=True)
class HeadContext:
    """Everything a head needs to write its part of the graph.

    Attributes:
        signature: The model's border.
        options: Settled: nothing that the head asks for is None.
        max_candidates: Rows of the output, K.
        score_floor: A row scored below this carries score 0.
    """

    signature: Signature
    options: HeadOptions
    max_candidates: int
    score_floor: float


@dataclass(frozen=True, slots=True)
class Reading:
    """A raw output read in plain NumPy, nothing left out and nothing sorted.

    Attributes:
        scores: `float32 [N, A, C]` of a detector with A anchors, `float32 [N, C]` of a classifier; of an embedder the
            embeddings, `float32 [N, D]`.
        boxes: `float32 [N, A, 4]`, corners in input pixels; empty for a classifier and an embedder.
        extras: `float32 [N, A, E]`, further columns.
    """

    scores: NDArray[np.float32]
    boxes: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0, 4), np.float32))
    extras: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))


class Head(Protocol):
    """One family of models; plain class attributes do for the properties."""

    @property
    def name(self) -> str:
        """As `--head` takes it."""
        ...

    @property
    def task(self) -> Task:
        """What an engine with this head does."""
        ...

    @property
    def preset(self) -> Preprocessing:
        """The family's usual preprocessing."""
        ...

    @property
    def extras(self) -> tuple[str, ...]:
        """Names of the columns after score and class, unless the options name them."""
        ...

    def fits(self, signature: Signature) -> Fit:
        """Judge a model by the names and shapes of its outputs."""
        ...

    def settle(self, options: HeadOptions, raw: Sequence[NDArray[Any]], signature: Signature) -> HeadOptions:
        """Fill in what was not said, from raw outputs (batch N) of the model on sample frames."""
        ...

    def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
        """Add the decoding to the graph, in float32, and return the name of the result.

        Args:
            graph: Takes the nodes.
            outputs: Names of the raw outputs, in the order of the signature, of the model's own type.
            context: Sizes and options.

        Returns:
            A tensor `float32 [N, K, 6 + E]` for a detector, `float32 [N, C]` for a classifier, `float32 [N, D]` for an
            embedder.
        """
        ...

    def read(self, raw: Sequence[NDArray[Any]], context: HeadContext) -> Reading:
        """Read the raw outputs in NumPy: the same arithmetic, written as the definition reads."""
        ...


@runtime_checkable
class Doubter(Protocol):
    """A head that can tell from values that outputs of the right shapes are another family's; heads need not be one."""

    def doubt(self, raw: Sequence[NDArray[Any]], signature: Signature) -> str:
        """Tell what in the raw outputs on sample frames speaks against this head; empty: nothing."""
        ...


def classes_of(head: Head, context: HeadContext) -> int:
    """Tell how many classes an engine has, or dimensions, once the options are settled."""
    return context.options.classes or head.fits(context.signature).classes


def extras_of(head: Head, context: HeadContext) -> tuple[str, ...]:
    """Name the columns after score and class, once the options are settled."""
    return head.extras if context.options.extras is None else context.options.extras
