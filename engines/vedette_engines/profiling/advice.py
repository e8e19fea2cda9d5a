"""What to do about where the time goes: rules that follow from measured shares, each with its reason.

A rule speaks only where the time it speaks about is a share that matters. It names the share, so that the reader can
tell what there is to win: advice about a hundredth of the time wins a hundredth at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_engines.profiling.graph import NodeFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vedette_engines.profiling.profile import Measured, NodeCost, Profile

COSTLIEST = 10
# From this share of the time on a kind of node is worth a word, and a single node.
MATTERS = 0.03
NODE_MATTERS = 0.01
_LARGE_WEIGHTS_BYTES = 1 << 20
_GAPS = 0.2
_SMALL_NODE_S = 20e-6

_CONVOLUTIONS = {"Conv", "FusedConv", "ConvTranspose", "Convolution", "GroupConvolution"}
_PRODUCTS = {"Gemm", "MatMul", "FusedMatMul", "FusedGemm", "FullyConnected"}
_QUANTISED = {
    *("QLinearConv", "QLinearMatMul", "QGemm", "MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul"),
    *("MatMulIntegerToFloat", "QuantizeLinear", "DequantizeLinear", "FakeQuantize"),
}
_ELEMENTWISE = {"Cast", "Mul", "Sub", "Div", "Add", "Transpose", "Slice", "Gather", "Split", "Concat"}


@dataclass(frozen=True, slots=True)
class Advice:
    """One piece of advice.

    Attributes:
        about: A node, or a kind of node.
        share: Of the time of all nodes that it is about, 0..1.
        do: What to do.
        why: What was measured that speaks for it.
    """

    about: str
    share: float
    do: str
    why: str


def node_advice(node: NodeCost, measured: Measured) -> Advice | None:
    """Say what to do about one node; None: nothing that the figures speak for."""
    case = Case(node, measured.facts.get(node.name, NodeFacts()), measured.profile)
    share = measured.profile.share(node.seconds)
    if share < NODE_MATTERS:
        return None
    said = next((said for rule in _NODE_RULES if (said := rule(case)) is not None), None)
    return None if said is None else Advice(node.name, share, *said)


def operator_advice(op: str, measured: Measured) -> Advice | None:
    """Say what to do about all nodes of one operator: what most of their time speaks for.

    The nodes that the same advice is about count together; the costliest of them gives the reason.
    """
    profile = measured.profile
    groups: dict[str, list[tuple[NodeCost, str]]] = {}
    for node in profile.nodes:
        if node.op != op:
            continue
        case = Case(node, measured.facts.get(node.name, NodeFacts()), profile)
        said = next((said for rule in _NODE_RULES if (said := rule(case)) is not None), None)
        if said is not None:
            groups.setdefault(said[0], []).append((node, said[1]))
    found = [
        Advice(op, profile.share(sum(node.seconds for node, _ in nodes)), do, _reason(nodes))
        for do, nodes in groups.items()
    ]
    best = max(found, key=lambda advice: advice.share, default=None)
    return best if best is not None and best.share >= MATTERS else None


def _reason(nodes: list[tuple[NodeCost, str]]) -> str:
    first = max(nodes, key=lambda entry: entry[0].seconds)[1]
    return first + (f"; and {len(nodes) - 1} more like it" if len(nodes) > 1 else "")


def profile_advice(measured: Measured) -> tuple[Advice, ...]:
    """Say what to do about whole kinds of nodes, and about what is between them; the largest share first."""
    found = [advice for rule in _PROFILE_RULES for advice in rule(measured)]
    return tuple(sorted(found, key=lambda advice: -advice.share))


# What to do, and why.
Said = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """One node, what stands around it, and the profile that it is in."""

    node: NodeCost
    facts: NodeFacts
    profile: Profile

    @property
    def what(self) -> str:
        """Name and operator."""
        return f"{self.node.name} ({self.node.op})"

    @property
    def taken(self) -> str:
        """The first input's type and shape."""
        return self.node.inputs[0] if self.node.inputs else "of unknown shape"


def _island(case: Case) -> Said | None:
    if not case.facts.is_island:
        return None
    return (
        "quantise it, too",
        f"{case.what} is between DequantizeLinear and QuantizeLinear and runs in float: its input is made "
        "float for it alone, and its output is quantised again",
    )


def _few_frames(case: Case) -> Said | None:
    if case.node.op not in _PRODUCTS or case.node.weight_bytes < _LARGE_WEIGHTS_BYTES or case.profile.batch > 1:
        return None
    rate = case.node.weight_bytes / case.node.seconds / 1e9
    return (
        "run larger batches",
        f"{case.what} reads {case.node.weight_bytes / 1e6:.1f} MB of weights for one frame ({rate:.1f} GB/s): "
        "memory bounds it, and a batch shares what is read",
    )


def _float_layer(case: Case) -> Said | None:
    if case.node.op not in _CONVOLUTIONS | _PRODUCTS or not _is_float32(case.node):
        return None
    shape = case.node.outputs[0] if case.node.outputs else "an unknown shape"
    if case.profile.share_of(*_QUANTISED) > 0:
        return (
            "see why it was left out of the quantisation: measure its sensitivity",
            f"{case.node.name} ({case.node.op} to {shape}) runs in float in a quantised file",
        )
    why = f"{case.node.name} ({case.node.op} to {shape}) runs in float32"
    if case.facts.groups > 1:
        why += (
            f"; with {case.facts.groups} groups it moves more than it multiplies, so that INT8 wins less than elsewhere"
        )
    return "quantise the engine to INT8: vedette engine build --precision int8", why


def _resize(case: Case) -> Said | None:
    if case.node.op not in {"Resize", "Upsample", "Interpolate"}:
        return None
    mode = case.facts.attributes.get("mode", "nearest")
    if mode == "nearest":
        return (
            "give it a whole factor and the coordinate mode `asymmetric`",
            f"{case.node.name} copies pixels ({mode}); with a whole factor runtimes have a kernel for it",
        )
    return (
        "train with nearest neighbours and a whole factor",
        f"{case.node.name} interpolates ({mode}), several reads and products for each value; few detectors need it",
    )


def _suppression(case: Case) -> Said | None:
    if case.node.op not in {"NonMaxSuppression", "NMSRotated", "MatrixNms", "MulticlassNms"}:
        return None
    return (
        "take it out of the graph: export raw outputs",
        f"{case.node.name} suppresses in the graph, frame by frame and with fixed thresholds; the server does so for "
        "each channel with the channel's own",
    )


def _selection(case: Case) -> Said | None:
    if case.node.op != "TopK":
        return None
    return (
        "keep fewer rows: --max-candidates",
        f"{case.node.name} sorts all anchors ({case.taken}) for the best rows",
    )


def _gathering(case: Case) -> Said | None:
    if case.node.op not in {"GatherElements", "GatherND", "ScatterND", "ScatterElements"}:
        return None
    return (
        "keep fewer rows: --max-candidates; or select before decoding instead of after",
        f"{case.what} picks values one by one out of {case.taken}",
    )


def _activation(case: Case) -> Said | None:
    if case.node.op not in {"Sigmoid", "Softplus", "Tanh", "HardSigmoid", "Erf", "Exp"}:
        return None
    silu = case.node.op == "Sigmoid" and "Mul" in case.facts.after
    name = "SiLU (Sigmoid, then Mul)" if silu else case.node.op
    return (
        "let a runtime that fuses activations run it (OpenVINO, TensorRT), or train with ReLU or HardSwish",
        f"{case.node.name} is {name} that was not fused into the layer before it: memory is gone through once more",
    )


def _preparing(case: Case) -> Said | None:
    if not case.facts.opening or case.node.op not in _ELEMENTWISE:
        return None
    return (
        "fold scale, mean and order into the first convolution's weights",
        f"{case.what} prepares the input before the first layer; a convolution can do the same arithmetic",
    )


def _control(case: Case) -> Said | None:
    if case.node.op not in {"Loop", "If", "Scan"}:
        return None
    return (
        "export without control flow, with fixed sizes",
        f"{case.what} runs a graph of its own: nothing is fused across its border",
    )


# The first that has something to say about a node says it.
_NODE_RULES: tuple[Callable[[Case], Said | None], ...] = (
    _island, _control, _few_frames, _float_layer, _resize, _suppression, _selection, _gathering, _preparing,
    _activation,
)  # fmt: skip


def _many(profile: Profile, ops: tuple[str, ...], do: str, why: str, least: float) -> Iterator[Advice]:
    """Speak about many nodes of a kind that together take a share, whatever each of them does."""
    share = profile.share_of(*ops)
    if share < least:
        return
    present = [cost for cost in profile.operators if cost.op in ops]
    names = ", ".join(cost.op for cost in present)
    count = sum(cost.nodes for cost in present)
    yield Advice(names, share, do, f"{count} nodes of {names} take {share:.0%}: {why}")


def _transposes(measured: Measured) -> Iterator[Advice]:
    yield from _many(
        measured.profile, ("Transpose",), "simplify the graph, or export with one layout throughout",
        "they move data and compute nothing", 0.05,
    )  # fmt: skip


def _casts(measured: Measured) -> Iterator[Advice]:
    yield from _many(
        measured.profile, ("Cast",), "convert the whole file to one precision", "they change types between nodes", 0.05
    )


def _reorders(measured: Measured) -> Iterator[Advice]:
    yield from _many(
        measured.profile, ("ReorderInput", "ReorderOutput", "Reorder"),
        "look for nodes between convolutions that want the plain layout, and replace or move them",
        "ONNX Runtime and OpenVINO lay tensors out for convolutions and back again around what is none", 0.05,
    )  # fmt: skip


def _requantising(measured: Measured) -> Iterator[Advice]:
    ops = ("QuantizeLinear", "DequantizeLinear")
    share = measured.profile.share_of(*ops)
    if share < 0.05:
        return
    islands = [node for node in measured.profile.nodes if measured.facts.get(node.name, NodeFacts()).is_island]
    if islands:
        named = ", ".join(f"{node.name} ({node.op})" for node in islands[:5])
        more = f" and {len(islands) - 5} more" if len(islands) > 5 else ""
        lost = share + measured.profile.share(sum(node.seconds for node in islands))
        yield Advice(
            "QuantizeLinear and DequantizeLinear", lost, "quantise what runs in float between them",
            f"they take {share:.0%}, and around float nodes: {named}{more}",
        )  # fmt: skip
        return
    yield Advice(
        "QuantizeLinear and DequantizeLinear", share, "quantise longer chains, or leave short ones in float altogether",
        f"they take {share:.0%}: quantised and float layers change places often",
    )  # fmt: skip


def _moving(measured: Measured) -> Iterator[Advice]:
    ops = ("Slice", "Split", "VariadicSplit", "StridedSlice", "Concat", "Gather", "Expand", "Tile", "Pad")
    yield from _many(
        measured.profile, ops, "simplify the graph; a first layer that slices pixels apart can be a convolution",
        "they copy data and compute nothing", 0.1,
    )  # fmt: skip


def _elementwise(measured: Measured) -> Iterator[Advice]:
    ops = ("Add", "Sub", "Mul", "Div", "Sqrt", "Where", "Min", "Max", "Clip", "Greater", "Less", "Abs", "Neg", "Pow")
    yield from _many(
        measured.profile, ops, "let a runtime that fuses them run it (TensorRT), or do fewer of them",
        "each goes through memory once for a little arithmetic", 0.25,
    )  # fmt: skip


def _gaps(measured: Measured) -> Iterator[Advice]:
    """Speak about the time that no node has: the runtime's own."""
    if measured.profile.run_s <= 0 or not measured.profile.nodes:
        return
    gap = max(0.0, 1.0 - measured.profile.nodes_s / measured.profile.run_s)
    small = sum(node.seconds < _SMALL_NODE_S for node in measured.profile.nodes)
    if gap >= _GAPS:
        yield Advice(
            "between the nodes", gap, "run larger batches, or simplify the graph",
            f"{gap:.0%} of a run is in no node: {small} of {len(measured.profile.nodes)} nodes take less than "
            f"{_SMALL_NODE_S * 1e6:.0f} us, and starting each costs about as much",
        )  # fmt: skip


def _elsewhere(measured: Measured) -> Iterator[Advice]:
    """Speak about nodes that a GPU's provider left to the CPU."""
    providers = {node.provider for node in measured.profile.nodes if node.provider}
    on_cpu = [node for node in measured.profile.nodes if node.provider == "CPUExecutionProvider"]
    if len(providers) < 2 or not on_cpu:
        return
    share = measured.profile.share(sum(node.seconds for node in on_cpu))
    if share >= MATTERS:
        named = ", ".join(sorted({node.op for node in on_cpu})[:6])
        yield Advice(
            "nodes left to the CPU", share, "replace operators that the provider has no kernel for",
            f"{len(on_cpu)} nodes ({named}) run on the CPU, and their data goes there and back",
        )  # fmt: skip


_PROFILE_RULES: tuple[Callable[[Measured], Iterator[Advice]], ...] = (
    _transposes, _casts, _reorders, _moving, _elementwise, _requantising, _gaps, _elsewhere,
)  # fmt: skip


def _is_float32(node: NodeCost) -> bool:
    """Whether its data are float32, as far as the profiler says; one that says nothing is taken for it."""
    return not node.inputs or node.inputs[0].startswith(("float ", "float32", "f32"))
