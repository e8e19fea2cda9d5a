"""Classifiers: one score per class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.errors import ImportInputError
from vedette_engines.graft.head import Fit, HeadContext, HeadOptions, Reading, Task
from vedette_engines.graft.heads import pairs, steps
from vedette_engines.graft.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.signature import Signature


class ClassifierHead:
    """One output `[N, C]`, or `[N, C, 1, 1]`: logits or probabilities; the engine gives probabilities."""

    name = "classifier"
    task: Task = "classifier"
    preset = Preprocessing(order="rgb", scale=1 / 255, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    extras: tuple[str, ...] = ()

    def fits(self, signature: Signature) -> Fit:
        """Judge by one output of rank 2, or of rank 4 that is one pixel large."""
        output = signature.outputs[0]
        shape = output.shape
        if len(signature.outputs) == 1 and (len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1))):
            named = pairs.calls(output, "logit", "prob", "score", "class")
            return Fit(shape[1], f"one score for each of {shape[1]} classes", named)
        return Fit(0, "wants one output [N, classes]")

    def settle(
        self,
        options: HeadOptions,
        raw: Sequence[NDArray[Any]],
        signature: Signature,  # noqa: ARG002 - the seam gives it
    ) -> HeadOptions:
        """Take values in 0..1 that sum to 1 for probabilities, and values beyond 0..1 for logits.

        Raises:
            ImportInputError: They lie in 0..1 and sum to something else, as a sigmoid of each class does, and now and
                then logits, too; or it was said that they are probabilities, but they leave 0..1.
        """
        if options.activated is not None:
            return HeadOptions(activated=steps.settle_activated(options.activated, raw[0]))
        sums = raw[0].astype(np.float32).reshape(len(raw[0]), -1).sum(axis=1)
        activated = steps.are_probabilities(raw[0])
        if activated and not np.allclose(sums, 1, atol=1e-2):
            raise ImportInputError(
                f"the scores lie within 0..1, but sum to {sums.min():.3g} to {sums.max():.3g}; say --activated for a "
                "sigmoid of each class, or --logits for a softmax over them"
            )
        return HeadOptions(activated=activated)

    def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
        """Add the softmax where the model has none."""
        scores = steps.as_float32(graph, outputs[0])
        shape = context.signature.outputs[0].shape
        if len(shape) == 4:
            scores = graph.add("Reshape", scores, graph.constant([-1, shape[1]]))
        return scores if context.options.activated else graph.add("Softmax", scores, axis=1)

    def read(self, raw: Sequence[NDArray[Any]], context: HeadContext) -> Reading:
        """Read the scores, through the softmax where the model has none."""
        values = raw[0].astype(np.float32).reshape(len(raw[0]), -1)
        if context.options.activated:
            return Reading(values)
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return Reading(powers / powers.sum(axis=1, keepdims=True))
