"""The seam between a family of models and the one engine contract.

A head knows how one family of models writes its results. It tells whether a model's outputs look like
that family's, adds the decoding to the graph, and can read the same outputs in plain NumPy, against which
the graph is checked before anything is published. Heads of your own join through the entry point group
`vedette.heads`: each entry names an object with the methods of `Head`. `heads/steps.py` has the steps
that detectors share.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.preprocess import Preprocessing
    from vedette_engines.graft.signature import Signature

Task = Literal["detector", "classifier"]
BoxFormat = Literal["xyxy", "cxcywh"]


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a model's outputs look like a head's.

    Attributes:
        classes: How many classes the outputs have; 0 when they do not fit.
        reason: In words: what was recognised, or what is missing.
    """

    classes: int
    reason: str

    @property
    def ok(self) -> bool:
        """Whether the outputs fit."""
        return self.classes > 0


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """What shapes cannot tell; None until it was said or measured.

    Attributes:
        activated: Scores have been through their sigmoid or softmax in the model.
        normalised: Boxes are fractions of the input size, not pixels.
        box_format: Corners, or centre and size.
    """

    activated: bool | None = None
    normalised: bool | None = None
    box_format: BoxFormat | None = None

    def __str__(self) -> str:
        parts = []
        if self.activated is not None:
            parts.append("scores are probabilities" if self.activated else "scores are logits")
        if self.box_format is not None:
            parts.append(f"boxes are {self.box_format}")
        if self.normalised is not None:
            parts.append("fractions of the input" if self.normalised else "in pixels")
        return ", ".join(parts)


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
        scores: `float32 [N, A, C]` of a detector with A anchors, `float32 [N, C]` of a classifier.
        boxes: `float32 [N, A, 4]`, corners in input pixels; empty for a classifier.
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
        """Names of the columns after score and class."""
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
            A tensor `float32 [N, K, 6 + E]` for a detector, `float32 [N, C]` for a classifier.
        """
        ...

    def read(self, raw: Sequence[NDArray[Any]], context: HeadContext) -> Reading:
        """Read the raw outputs in NumPy: the same arithmetic, written as the definition reads."""
        ...
