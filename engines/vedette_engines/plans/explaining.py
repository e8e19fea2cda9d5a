"""Say why TensorRT refuses a model: the node, where it comes from, and what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx

from vedette_engines.graft.builder import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from onnx import GraphProto, ModelProto, NodeProto

# CUDA says so on each call where there is no driver, also when all goes well.
_NOISE = re.compile(r"cudaError 35|catchCudaError|no CUDA-capable device", re.IGNORECASE)
_PLACE = re.compile(r"\s*In [\w:()<>~]+ at /_src/[^\s)]+?:\d+")
_KIND = re.compile(r"^(?:\w+::\w+: )?(?:Error Code \d+: )?(?:\w+ )*Error \(")
_STACK_KEY = "pkg.torch.onnx.stack_trace"
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in ([^\n]+)(?:\n[ \t]+(\S[^\n]*))?')
_SCOPES_KEY = "pkg.torch.onnx.name_scopes"
_MOST_REFUSALS = 20

# What is refused, by the words of TensorRT or by the operator's name, and what helps. The first that matches holds.
_ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"Non-zero zero point|shiftIsAllZeros",
        "TensorRT takes signed, symmetric INT8 only: quantise for it (`--int8-target tensorrt`: QInt8, zero point 0)",
    ),
    (
        r"DequantizeLinear.*Int32|input has type Int32 but must have type",
        "a bias was quantised to Int32, which TensorRT refuses: quantise for it (`--int8-target tensorrt`), "
        "which leaves biases in float",
    ),
    (r"K exceeds the maximum|TopK.*3840", "TopK gives at most 3840 rows on TensorRT: lower --max-candidates"),
    (
        r"Resize .*(axes|negative length)",
        "Resize with the attribute `axes` is refused on a dynamic batch: write it without, with the scales of all "
        "dimensions",
    ),
    (r"[Aa]ntialias", "TensorRT resizes without antialiasing only: export with `antialias=False`"),
    (
        r"NonMaxSuppression|\bnms",
        "leave non-maximum suppression out of the export: the head grafts TopK, and the server suppresses",
    ),
    (
        r"DynamicQuantizeLinear|MatMulInteger|ConvInteger|QLinear",
        "dynamic and integer-only quantisation is ONNX Runtime's: build plans of the FP32, FP16 or static INT8 file",
    ),
    (
        r"Plugin not found|com\.microsoft|ai\.onnx\.contrib|org\.pytorch",
        "the node's domain belongs to one runtime: export without it, or build from the file before `--optimise`",
    ),
    (
        r"must have same input types|type mismatch|validateTypes",
        "two types meet that ONNX would not let meet in a strongly typed network: put a Cast between them, "
        "or leave this node in float32 (`--exclude`)",
    ),
    (
        r"NonZero|plugin creator version",
        "the number of rows depends on the data: replace the mask by a comparison and TopK, or end the export before",
    ),
    (r"data.?dependent|shape tensor", "a shape depends on values: fix it in the model before the export"),
    (
        r"for Turing",
        "TensorRT for RTX has no float32 matrices on Turing: build from the FP16 file, or without sm_75",
    ),
    (r"[Dd]ata type|convertDtype", "TensorRT has no such type: cast to float32 or int64 in the model"),
    (r"operator is not supported", "rewrite it with other operators in the model, and export again"),
    (
        r"UNSUPPORTED_NODE|Assertion failed",
        "TensorRT has this operator, but not in this form: change what its words name in the model, and export again",
    ),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason why a model is not taken.

    Attributes:
        message: TensorRT's own words, without its places and without CUDA's noise.
        node: The node's name; empty when none is known.
        operator: Its operator; empty when none is known.
        source: What the node is of: a layer of the model, with its line in Python where the exporter kept it, or
            something that this project added.
        advice: What to do; empty when nothing is known.
    """

    message: str
    node: str = ""
    operator: str = ""
    source: str = ""
    advice: str = ""

    def __str__(self) -> str:
        parts = [f"node {self.node} ({self.operator})" if self.operator else f"node {self.node}"] if self.node else []
        if self.source:
            parts.append(self.source)
        parts.append(self.message or "not supported")
        text = ": ".join(parts)
        return f"{text}; {self.advice}" if self.advice else text


def parser_refusals(parser: Any, model: ModelProto) -> tuple[Refusal, ...]:
    """Explain each error of an ONNX parser."""
    found = []
    for index in range(min(parser.num_errors, _MOST_REFUSALS)):
        error = parser.get_error(index)
        node = _node_of(model, str(error.node_name()), int(error.node()))
        operator = str(error.node_operator()) or (node.op_type if node is not None else "")
        code = str(error.code()).rpartition(".")[2]
        domain = node.domain if node is not None else ""
        message = clean(str(error.desc()))
        if message in {"false", ""}:
            message = "the operator is not supported"
        found.append(
            Refusal(
                message,
                (node.name if node is not None else "") or str(error.node_name()) or f"number {error.node()}",
                operator,
                source_of(node) if node is not None else "",
                _advice(f"{operator} {domain} {message} {code}"),
            )
        )
    return tuple(found)


def builder_refusals(messages: Sequence[str], model: ModelProto) -> tuple[Refusal, ...]:
    """Explain what the builder logged as errors; the node is the one whose name a message has."""
    nodes = {node.name: node for node in _nodes(model.graph) if node.name}
    found = []
    for message in dict.fromkeys(clean(message) for message in messages if not _is_noise(message)):
        if not message:
            continue
        # The longest name first: one may be the beginning of another.
        named = next((name for name in sorted(nodes, key=len, reverse=True) if _has_name(message, name)), "")
        node = nodes.get(named)
        operator = node.op_type if node is not None else ""
        source = source_of(node) if node is not None else ""
        found.append(Refusal(message, named, operator, source, _advice(f"{operator} {message}")))
    return tuple(found[:_MOST_REFUSALS])


def source_of(node: NodeProto) -> str:
    """Tell where a node comes from."""
    if node.name.startswith(PREFIX):
        scope = node.name.removeprefix(PREFIX).partition("/")[0]
        return f"added by vedette: {'preprocessing' if scope.startswith('pre') else f'head ({scope})'}"
    notes = {entry.key: entry.value for entry in node.metadata_props}
    layer = _shown_scope(notes.get(_SCOPES_KEY, ""))
    line = _python_line(notes.get(_STACK_KEY, "") or node.doc_string)
    parts = [f"layer {layer}" if layer else "", line]
    return ", ".join(part for part in parts if part)


def clean(message: str) -> str:
    """Take out of a message what only TensorRT's developers need: places in its sources, and CUDA's noise."""
    lines = [line.strip() for line in message.splitlines()]
    kept = [line for line in lines if line and not _is_noise(line) and not line.startswith("Invalid Node - ")]
    text, count = _KIND.subn("", _PLACE.sub("", " ".join(kept)))
    return text.removesuffix(")").strip() if count else text.strip()


def _is_noise(message: str) -> bool:
    return bool(_NOISE.search(message)) and len(message.splitlines()) == 1


def _has_name(message: str, name: str) -> bool:
    # TensorRT numbers what it makes of one node.
    return re.search(rf"(?<![\w/.]){re.escape(name)}(?:_\d+)?(?![\w/])", message) is not None


def _advice(text: str) -> str:
    return next((advice for pattern, advice in _ADVICE if re.search(pattern, text)), "")


def _shown_scope(layer: str) -> str:
    """Show the exporter's list of scopes, outermost first and the operator last, as the path of the innermost layer."""
    scopes = re.findall(r"'([^']*)'", layer)
    return scopes[-2] if len(scopes) > 1 else ""


def _python_line(stack: str) -> str:
    frames = [match for match in _FRAME.finditer(stack) if "/torch/" not in match[1]]
    if not frames:
        return ""
    last = frames[-1]
    return f"{last[1]}:{last[2]}" + (f" `{last[4].strip()}`" if last[4] else "")


def _node_of(model: ModelProto, name: str, index: int) -> NodeProto | None:
    named = [node for node in _nodes(model.graph) if node.name == name] if name else []
    if len(named) == 1:
        return named[0]
    return model.graph.node[index] if 0 <= index < len(model.graph.node) else None


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Give all nodes, those of branches and loops, too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)
