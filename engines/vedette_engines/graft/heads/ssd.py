"""SSD and its kin: offsets from priors, and class scores with a background.

Source: Liu et al., "SSD: Single Shot MultiBox Detector", arXiv:1512.02325, with the variances of its implementation:
cx = px + o0 * v0 * pw, w = pw * exp(o2 * v1). Torchvision's weights 10 and 5 are the variances 0.1 and 0.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.errors import ImportInputError
from vedette_engines.graft.head import Fit, HeadContext, HeadOptions, Quad, Reading, Task
from vedette_engines.graft.heads import pairs, steps
from vedette_engines.graft.preprocess import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.signature import Signature

VARIANCES = (0.1, 0.2)
# An offset beyond this moves a box by more than it is wide.
_LARGEST_OFFSET = 40
_PRIOR_NAMES = ("prior", "anchor", "default")


def _priors_index(signature: Signature) -> int | None:
    """Find the output that holds priors, by its name."""
    for number, output in enumerate(signature.outputs):
        if len(output.shape) == 3 and output.shape[2] == 4 and pairs.calls(output, *_PRIOR_NAMES):
            return number
    return None


class SsdHead:
    """Offsets `[N, A, 4]` and scores `[N, A, C + 1]`, the background first; priors `[1, A, 4]` as an output or said."""

    name = "ssd"
    task: Task = "detector"
    preset = Preprocessing(order="rgb", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    extras: tuple[str, ...] = ()

    def fits(self, signature: Signature) -> Fit:
        """Judge by offsets and scores of as many anchors, and by the names that exporters give."""
        kept, priors = self._rest(list(signature.outputs), signature), _priors_index(signature)
        told = pairs.tell_apart(kept)
        if told is None or len(kept[told[1]].shape) != 3 or kept[told[1]].shape[2] < 2:
            return Fit(0, "wants offsets [N, anchors, 4] and scores [N, anchors, 1 + classes], and maybe priors")
        offsets, scores = kept[told[0]], kept[told[1]]
        if priors is not None and signature.outputs[priors].shape != offsets.shape:
            return Fit(0, f"wants as many priors as offsets {offsets}")
        where = "given by --priors" if priors is None else f"in {signature.outputs[priors].name}"
        named = priors is not None or pairs.calls(offsets, "loc", "offset", "delta", "regression")
        reason = f"offsets in {offsets.name}, scores in {scores.name} (background first), priors {where}"
        return Fit(scores.shape[2] - 1, reason, named)

    def _rest(self, things: list[Any], signature: Signature) -> list[Any]:
        """Leave the priors out of things that stand in the outputs' order."""
        priors = _priors_index(signature)
        return [thing for number, thing in enumerate(things) if number != priors]

    def _split(self, things: Sequence[Any], signature: Signature) -> tuple[Any, Any]:
        """Take offsets and scores out of things that stand in the outputs' order."""
        told = pairs.tell_apart(self._rest(list(signature.outputs), signature))
        if told is None:
            raise ValueError(f"the outputs {signature.shapes} are not offsets and scores")
        kept = self._rest(list(things), signature)
        return kept[told[0]], kept[told[1]]

    def settle(self, options: HeadOptions, raw: Sequence[NDArray[Any]], signature: Signature) -> HeadOptions:
        """Take the priors that were said or that the model gives; tell logits and fractions by their range.

        Raises:
            ImportInputError: There are no priors, or as many as anchors are not there, or each frame has its own.
        """
        _, scores = self._split(raw, signature)
        background = options.background or "first"
        start, end = steps.class_columns(scores.shape[2], background)
        priors = self._settle_priors(options, raw, signature)
        return HeadOptions(
            steps.settle_activated(options.activated, scores),
            steps.settle_normalised(options.normalised, np.asarray(priors)),
            options.box_format or "cxcywh",
            background,
            priors,
            options.variances or VARIANCES,
            classes=end - start,
        )

    def _settle_priors(
        self, options: HeadOptions, raw: Sequence[NDArray[Any]], signature: Signature
    ) -> tuple[Quad, ...]:
        anchors = self._split(signature.outputs, signature)[0].shape[1]
        number = _priors_index(signature)
        if options.priors is not None:
            if len(options.priors) != anchors:
                raise ImportInputError(f"--priors: {len(options.priors)} boxes; the model has {anchors} anchors")
            return options.priors
        if number is None:
            raise ImportInputError(
                f"--priors: not given; the head {self.name} wants the {anchors} boxes from which the model measures "
                "its offsets: a file of NumPy's, [anchors, 4]"
            )
        table = raw[number].astype(np.float32)
        if (table != table[:1]).any():
            raise ImportInputError(f"output {signature.outputs[number]} is another one for each frame: no priors")
        return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in table[0])

    def doubt(self, raw: Sequence[NDArray[Any]], signature: Signature) -> str:
        """Doubt offsets that are too large, or all on one side."""
        offsets, _ = self._split(raw, signature)
        low, high = float(offsets.min()), float(offsets.max())
        if max(-low, high) > _LARGEST_OFFSET or low >= 0:
            return f"the offsets would go from {low:.3g} to {high:.3g}"
        return ""

    def table(self, context: HeadContext) -> NDArray[np.float32]:
        """Tabulate the priors' centre and size in input pixels, as `float32 [A, 4]`."""
        priors = np.asarray(context.options.priors, np.float32)
        corners = steps.read_corners(priors, context)
        size = corners[:, 2:] - corners[:, :2]
        return np.concatenate([corners[:, :2] + size / 2, size], axis=1, dtype=np.float32)

    def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
        """Reduce over the classes first, then decode the K best boxes only."""
        offsets, raw = (steps.as_float32(graph, tensor) for tensor in self._split(outputs, context.signature))
        columns = self._split(context.signature.outputs, context.signature)[1].shape[2]
        scores = steps.class_scores(graph, raw, columns, context)
        best = steps.best_anchors(graph, scores.best, context)
        first, second = context.options.variances or VARIANCES
        rows = graph.add(
            "Mul",
            steps.gather_anchors(graph, offsets, best, 4),
            graph.constant(np.asarray([first, first, second, second], np.float32)),
        )
        table = graph.add("Gather", graph.constant(self.table(context)), best.index, axis=0)
        prior_size = graph.slice(table, 2, 4, 2)
        moved = graph.add("Mul", graph.slice(rows, 0, 2, 2), prior_size)
        centre = graph.add("Add", graph.slice(table, 0, 2, 2), moved)
        size = graph.add("Mul", prior_size, graph.add("Exp", graph.slice(rows, 2, 4, 2)))
        classes = steps.best_class(graph, steps.gather_anchors(graph, scores.rows, best, scores.count))
        return steps.assemble(graph, steps.corners(graph, centre, size), best.scores, classes, context)

    def read(self, raw: Sequence[NDArray[Any]], context: HeadContext) -> Reading:
        """Decode every anchor and every class."""
        offsets, scores = (value.astype(np.float32) for value in self._split(raw, context.signature))
        first, second = np.asarray(context.options.variances or VARIANCES, np.float32)
        centre, prior_size = np.split(self.table(context), 2, axis=1)
        centre = centre + offsets[..., :2] * first * prior_size
        size = prior_size * np.exp(offsets[..., 2:] * second)
        boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=-1, dtype=np.float32)
        return Reading(steps.read_class_scores(scores, context), boxes)
