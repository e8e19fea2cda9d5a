"""Compare two files of one model layer by layer, to find where a lowered one goes wrong.

Both run without any rewriting by the runtime, so that every tensor that a file names exists, on the same frames; each
tensor of the reference is set against the one that carries it on in the candidate. In a quantised file that is the one
behind the pair of quantise and dequantise, which is what the next layer sees; a Relu or Clip that was folded into a
range is found behind the layer that it followed.

What stands behind a sorting (a detector's rows) is left out: rows that change places are no noise.

Signal to noise is `10 log10(sum reference^2 / sum difference^2)` over all frames: 20 dB is noise of a tenth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.compare.exposing import Exposed, Graph, read_graph
from vedette_engines.errors import ImportInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from onnx import NodeProto

    from vedette_engines.graft.frames import Sample

# What is called exact, and what is called lost: a logarithm has no end.
MOST_DB, LEAST_DB = 200.0, -200.0
# A layer below it is in trouble: noise of a tenth.
LOW_DB = 20.0
# Above it a layer's input counts as clean: how much cleaner does not matter to who looks for the culprit.
_CLEAN_DB = 60.0
_SORTING = frozenset({"TopK", "NonMaxSuppression", "NonZero", "Unique"})


@dataclass(frozen=True, slots=True)
class LayerDifference:
    """How far one tensor is from the reference's.

    Attributes:
        name: The tensor's name in the reference.
        candidate_name: In the candidate.
        node: The node that makes it, in the reference.
        op: That node's operator.
        signal_to_noise_db: Over all frames; `MOST_DB` where nothing differs, `LEAST_DB` where values are NaN or
            infinite on one side only.
        drop_db: How much cleaner its worst input is, which counts as clean from 60 dB up: what this layer adds.
        largest: Largest difference.
        largest_reference: Largest value of the reference, its sign left off.
        mismatched: Values that are NaN or infinite on one side only.
        first_low: It is the first in the graph's order below `LOW_DB`.
        worst: It has the lowest signal to noise of all.
    """

    name: str
    candidate_name: str
    node: str
    op: str
    signal_to_noise_db: float
    drop_db: float
    largest: float
    largest_reference: float
    mismatched: int = 0
    first_low: bool = False
    worst: bool = False

    def to_json(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "name": self.name,
            "candidate_name": self.candidate_name,
            "node": self.node,
            "op": self.op,
            "signal_to_noise_db": round(self.signal_to_noise_db, 3),
            "drop_db": round(self.drop_db, 3),
            "largest": self.largest,
            "largest_reference": self.largest_reference,
            "mismatched": self.mismatched,
            "first_low": self.first_low,
            "worst": self.worst,
        }

    def __str__(self) -> str:
        odd = f", {self.mismatched} NaN or infinite on one side only" if self.mismatched else ""
        marks = [" (the worst)"] if self.worst else []
        marks += [f" (the first below {LOW_DB:g} dB)"] if self.first_low else []
        return (
            f"{self.op} {self.node or '-'}, {self.name}: {self.signal_to_noise_db:.1f} dB, {self.drop_db:.1f} dB less "
            f"than its input; largest difference {self.largest:.3g} of {self.largest_reference:.3g}"
            f"{odd}{''.join(marks)}"
        )


def compare_layers(
    reference: bytes,
    candidate: bytes,
    frames: Sequence[Sample],
    *,
    say: Callable[[str], None] = lambda _: None,
    threads: int = 1,
) -> list[LayerDifference]:
    """Run both files on the same frames and compare all tensors that they share, in the reference's order.

    Args:
        reference: An ONNX file with one input.
        candidate: The same model, lowered.
        frames: Letterboxed; few are enough.
        say: Takes how many tensors could not be matched.
        threads: Threads within one run.

    Raises:
        ImportInputError: There is no frame, a file cannot be loaded, or they have no tensor in common.
        ImportRefusedError: A file fails on a frame.
    """
    if not frames:
        raise ImportInputError("layers cannot be compared without frames: give footage")
    graphs = [read_graph(content, what) for content, what in ((reference, "the reference"), (candidate, "the engine"))]
    ordered = _in_order(graphs[0])
    pairs = {name: other for name, other in match_tensors(*graphs).items() if name in ordered}
    if not pairs:
        raise ImportInputError("the two files have no tensor in common: they are not the same model")
    sides = [
        Exposed(graph, names, threads) for graph, names in zip(graphs, (list(pairs), list(pairs.values())), strict=True)
    ]
    sums: dict[str, _Sums] = {}
    for frame in frames:
        want, have = (side.run(frame.pixels) for side in sides)
        for name, other in pairs.items():
            if _is_float(want[name]) and _is_float(have[other]) and want[name].shape == have[other].shape:
                sums.setdefault(name, _Sums()).add(want[name], have[other])
    layers = _layers(graphs[0], pairs, sums)
    lost = len(ordered) - len(pairs)
    say(f"{len(layers)} tensors were compared on {len(frames)} frames; {lost} have no counterpart in the engine")
    return layers


def _in_order(graph: Graph) -> set[str]:
    """Name the tensors that are computed and that no sorting stands before."""
    sorted_ones: set[str] = set()
    for name, node in graph.tensors.items():
        if node.op_type in _SORTING or sorted_ones.intersection(node.input):
            sorted_ones.add(name)
    constants = {name for name, node in graph.tensors.items() if node.op_type == "Constant"}
    return set(graph.tensors) - sorted_ones - constants


def match_tensors(reference: Graph, candidate: Graph) -> dict[str, str]:
    """Find for each tensor of the reference the one that carries it on in the candidate, in the reference's order."""
    pairs: dict[str, str] = {}
    for name, node in reference.tensors.items():
        source = node.input[0] if node.input else ""
        if name in candidate.tensors:
            # A lone Relu behind it that the candidate lacks is in its range: what comes out of that is the Relu's.
            folded = any(
                _clips(user) and user.output[0] not in candidate.tensors for user in reference.users.get(name, [])
            )
            pairs[name] = name if folded else candidate.carried(name)
        elif _clips(node) and source in candidate.tensors and candidate.carried(source) != source:
            pairs[name] = candidate.carried(source)
    return pairs


def _clips(node: NodeProto) -> bool:
    return node.op_type in {"Relu", "Clip"}


def _is_float(values: NDArray[Any]) -> bool:
    return values.dtype.kind == "f"


class _Sums:
    """What is summed up of one tensor over the frames."""

    def __init__(self) -> None:
        self.signal = 0.0
        self.noise = 0.0
        self.largest = 0.0
        self.largest_reference = 0.0
        self.mismatched = 0

    def add(self, want: NDArray[Any], have: NDArray[Any]) -> None:
        expected, got = want.astype(np.float64), have.astype(np.float64)
        finite = np.isfinite(expected) & np.isfinite(got)
        same = (expected == got) | (np.isnan(expected) & np.isnan(got))
        self.mismatched += int((~finite & ~same).sum())
        difference = np.abs(expected[finite] - got[finite])
        self.signal += float(np.square(expected[finite]).sum())
        self.noise += float(np.square(difference).sum())
        self.largest = max(self.largest, float(difference.max(initial=0.0)))
        self.largest_reference = max(self.largest_reference, float(np.abs(expected[finite]).max(initial=0.0)))

    @property
    def signal_to_noise_db(self) -> float:
        if self.mismatched:
            return LEAST_DB
        if self.noise == 0.0:
            return MOST_DB
        if self.signal == 0.0:
            return LEAST_DB
        return min(max(10.0 * math.log10(self.signal / self.noise), LEAST_DB), MOST_DB)


def _layers(graph: Graph, pairs: Mapping[str, str], sums: Mapping[str, _Sums]) -> list[LayerDifference]:
    """Put the figures in the graph's order, tell what each layer adds, and mark the first low one and the worst."""
    noise_at: dict[str, float] = {}
    layers: list[LayerDifference] = []
    for name, node in graph.tensors.items():
        before = min((noise_at.get(given, MOST_DB) for given in node.input), default=MOST_DB)
        found = sums.get(name)
        noise_at[name] = before if found is None else found.signal_to_noise_db
        if found is not None:
            layers.append(
                LayerDifference(
                    name,
                    pairs[name],
                    node.name,
                    node.op_type,
                    noise_at[name],
                    max(min(before, _CLEAN_DB) - noise_at[name], 0.0),
                    found.largest,
                    found.largest_reference,
                    found.mismatched,
                )
            )
    worst = min(layers, key=lambda layer: layer.signal_to_noise_db, default=None)
    first = next((layer for layer in layers if layer.signal_to_noise_db < LOW_DB), None)
    spoilt = worst is not None and worst.signal_to_noise_db < MOST_DB
    return [replace(layer, first_low=layer is first, worst=spoilt and layer is worst) for layer in layers]
