"""Shorten what an exporter wrote to each node about where it comes from.

PyTorch's writes whole stack traces and the names of all classes around: a kilobyte for each node, with paths of the
machine that it ran on. What a message about a node needs of it stays: the layer, and the line of the model's source.
"""

from __future__ import annotations

import ast
import re
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import GraphProto, ModelProto, NodeProto

SCOPES_KEY = "pkg.torch.onnx.name_scopes"
STACK_KEY = "pkg.torch.onnx.stack_trace"
_OTHERS = re.compile(r"namespace|pkg\.(torch\.onnx|onnxscript)\..*")
_FRAME = re.compile(r'File "(?P<path>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')


def shorten_notes(model: ModelProto) -> None:
    """Shorten the notes of all nodes of a model, in place; notes of other tools stay."""
    for node in _nodes(model.graph):
        notes = {entry.key: entry.value for entry in node.metadata_props}
        kept = {key: value for key, value in notes.items() if not _OTHERS.fullmatch(key)}
        scopes, frame = _inner(notes.get(SCOPES_KEY, "")), _own_frame(notes.get(STACK_KEY, ""))
        kept |= {SCOPES_KEY: scopes} if scopes else {}
        kept |= {STACK_KEY: frame} if frame else {}
        if kept != notes:
            del node.metadata_props[:]
            for key, value in kept.items():
                node.metadata_props.add(key=key, value=value)


def _inner(scopes: str) -> str:
    """Keep the innermost layer and the operator of an exporter's list of scopes."""
    try:
        names = ast.literal_eval(scopes) if scopes else []
    except (SyntaxError, ValueError):
        return ""
    return repr([str(name) for name in names][-2:]) if isinstance(names, list) and len(names) > 1 else ""


def _own_frame(stack: str) -> str:
    """Keep the innermost frame that is not PyTorch's own, with the name of its file alone."""
    frames = [frame for frame in _FRAME.finditer(stack) if "/torch/" not in frame["path"].replace("\\", "/")]
    if not frames:
        return ""
    last = frames[-1]
    return f'File "{PurePath(last["path"]).name}", line {last["line"]}, in {last["function"]}'


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)
