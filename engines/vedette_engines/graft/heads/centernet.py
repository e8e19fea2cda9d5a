"""CenterNet: a heatmap of centres for each class, with size and offset beside it.

Source: Zhou et al., "Objects as Points", arXiv:1904.07850: a cell is a centre where nothing in its 3x3 neighbourhood is
higher; cx = (gx + dx) * stride, w = w * stride. One row for each cell, of its best class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vedette_engines.graft.head import Fit, HeadContext, HeadOptions, Reading, Task
from vedette_engines.graft.heads import grids, pairs, steps
from vedette_engines.graft.preprocess import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.signature import Output, Signature


class _Maps(NamedTuple):
    """Which output holds what."""

    heat: int
    size: int
    offset: int


def _find(outputs: Sequence[Output], *words: str) -> int | None:
    found = [number for number, output in enumerate(outputs) if pairs.calls(output, *words)]
    return found[0] if len(found) == 1 else None


def _maps(outputs: Sequence[Output]) -> tuple[_Maps, bool] | None:
    """Find heatmap, size and offset by their names, else in the paper's order; and whether it was by names."""
    if len(outputs) != 3 or any(len(output.shape) != 4 for output in outputs):
        return None
    named = (_find(outputs, "hm", "heat"), _find(outputs, "wh", "size"), _find(outputs, "off", "reg"))
    by_name = None not in named and len(set(named)) == 3
    maps = _Maps(*(number for number in named if number is not None)) if by_name else _Maps(0, 1, 2)
    same = len({output.shape[2:] for output in outputs}) == 1
    pairs_wide = outputs[maps.size].shape[1] == outputs[maps.offset].shape[1] == 2
    return (maps, by_name) if same and pairs_wide else None


class CenterNetHead:
    """Three outputs: heatmap `[N, C, h, w]`, size `[N, 2, h, w]` and offset `[N, 2, h, w]`, in cells."""

    name = "centernet"
    task: Task = "detector"
    preset = Preprocessing(order="bgr", scale=1 / 255, mean=(0.408, 0.447, 0.470), std=(0.289, 0.274, 0.278))
    extras: tuple[str, ...] = ()

    def fits(self, signature: Signature) -> Fit:
        """Judge by three maps of one size, two of them two deep."""
        found = _maps(signature.outputs)
        if found is None:
            return Fit(0, "wants three outputs, heatmap [N, classes, h, w], size [N, 2, h, w] and offset [N, 2, h, w]")
        maps, named = found
        heat, size, offset = (signature.outputs[number] for number in maps)
        return Fit(heat.shape[1], f"heatmap {heat.name}, size {size.name}, offset {offset.name}", named)

    def _take(self, things: Sequence[Any], signature: Signature) -> tuple[Any, Any, Any]:
        found = _maps(signature.outputs)
        if found is None:
            raise ValueError(f"the outputs {signature.shapes} are no maps of centres")
        maps = found[0]
        return things[maps.heat], things[maps.size], things[maps.offset]

    def settle(self, options: HeadOptions, raw: Sequence[NDArray[Any]], signature: Signature) -> HeadOptions:
        """Tell probabilities from logits by their range."""
        heat, _, _ = self._take(raw, signature)
        return HeadOptions(steps.settle_activated(options.activated, heat))

    def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
        """Keep the peaks, reduce over the classes, then decode the K best cells only."""
        heat, size, offset = (steps.as_float32(graph, tensor) for tensor in self._take(outputs, context.signature))
        _, classes, rows, columns = self._take(context.signature.outputs, context.signature)[0].shape
        highest = graph.add("MaxPool", heat, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1])
        # Compared before the sigmoid, which makes large numbers equal that are not.
        lower = graph.add("Less", heat, highest)
        share = heat if context.options.activated else graph.add("Sigmoid", heat)
        peaks = graph.add("Where", lower, graph.scalar(0), share)
        flat = graph.add("Reshape", peaks, graph.constant([0, classes, rows * columns]))
        best = steps.best_anchors(graph, graph.reduce_max(flat, 1), context)
        maps = graph.add("Concat", size, offset, axis=1)
        maps = graph.add("Reshape", maps, graph.constant([0, 4, rows * columns]))
        picked = steps.gather_anchor_columns(graph, maps, best, 4)
        cells = graph.add("Gather", graph.constant(grids.grid(columns, rows, 1)[:, :2]), best.index, axis=0)
        stride = graph.constant(self._stride(context, rows, columns))
        centre = graph.add("Mul", graph.add("Add", cells, graph.slice(picked, 2, 4, 2)), stride)
        extent = graph.add("Mul", graph.slice(picked, 0, 2, 2), stride)
        best_class = steps.best_class(graph, steps.gather_anchor_columns(graph, flat, best, classes))
        return steps.assemble(graph, steps.corners(graph, centre, extent), best.scores, best_class, context)

    def _stride(self, context: HeadContext, rows: int, columns: int) -> NDArray[np.float32]:
        """Tell a cell's width and height in input pixels, as `float32 [2]`."""
        return np.asarray([context.signature.width / columns, context.signature.height / rows], np.float32)

    def read(self, raw: Sequence[NDArray[Any]], context: HeadContext) -> Reading:
        """Decode every cell and every class; what is no peak has score 0."""
        heat, size, offset = (value.astype(np.float32) for value in self._take(raw, context.signature))
        batch, classes, rows, columns = heat.shape
        padded = np.pad(heat, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        around = np.stack([padded[:, :, y : y + rows, x : x + columns] for y in range(3) for x in range(3)])
        share = heat if context.options.activated else steps.sigmoid(heat)
        peaks = np.where(heat == around.max(axis=0), share, np.float32(0))
        scores = peaks.reshape(batch, classes, -1).transpose(0, 2, 1)
        stride = self._stride(context, rows, columns)
        gx, gy = grids.grid(columns, rows, 1)[:, :2].T
        dx, dy = offset.reshape(batch, 2, -1).transpose(1, 0, 2)
        w, h = size.reshape(batch, 2, -1).transpose(1, 0, 2) * stride[:, None, None]
        x, y = (gx + dx) * stride[0], (gy + dy) * stride[1]
        boxes = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=-1)
        return Reading(scores, boxes.astype(np.float32))
