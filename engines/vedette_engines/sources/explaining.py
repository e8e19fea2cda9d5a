"""Say in words why a model does not run or cannot be exported: what it is, which operator, which line, what to do."""

from __future__ import annotations

import linecache
import re
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TORCH = str(Path(torch.__file__).parent)
_LIBRARIES = (_TORCH, *(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")))
_OURS = str(Path(__file__).parent)
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_OPERATORS = (
    re.compile(r"No ONNX function found for <OpOverload\(op='([^']+)'"),
    re.compile(r"operator '([^']+)' to ONNX"),
    re.compile(r"ONNX export of operator ([\w:]+)"),
    re.compile(r"failed on an operator with unrecognized namespace ([\w:]+)"),
    re.compile(r"Unsupported: ([\w:.]+)"),
)
_CAUSES = (
    (
        re.compile(r"data-dependent|Could not guard on|control flow|Could not extract specialized", re.IGNORECASE),
        "what it computes next depends on values in the picture (data-dependent control flow)",
        "write it with torch.where or torch.cond, or leave post-processing out of forward()",
    ),
    (
        re.compile(r"No ONNX function|to ONNX opset|ONNX export of operator|unrecognized namespace|Unsupported: "),
        "an operator that ONNX does not have (unsupported operator)",
        "write it with other operators, try a later --opset, or leave it out of forward()",
    ),
    (
        re.compile(r"dtype|scalar type|(Double|Half|BFloat16|Float|Long|Int)Tensor|\b(double|half|long)\b != "),
        "two tensors of different types meet (type mismatch)",
        "bring both to float32 with .to()",
    ),
    (
        re.compile(r"mutat|in-?place", re.IGNORECASE),
        "it changes a tensor that it was given or keeps (mutated input)",
        "work on a copy, and register what is kept with register_buffer()",
    ),
    (
        re.compile(
            r"shapes? cannot be multiplied|must match the size|size mismatch|expected input|is invalid for input"
        ),
        "shapes do not fit each other",
        "check --input-size and what the model takes: float32 [N, 3, height, width]",
    ),
    (
        re.compile(r"positional argument|unexpected keyword|takes \d+"),
        "it does not take one picture",
        "give a factory whose model takes float32 [N, 3, height, width] alone",
    ),
)


class DisagreementError(Exception):
    """An exported model gives other answers than its source."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One way of exporting that did not work.

    Attributes:
        way: What was tried.
        error: What came of it.
        place: The user's line, where the error itself does not tell; `file:line`.
    """

    way: str
    error: BaseException
    place: str = ""


def explain(failures: Sequence[Failure]) -> str:
    """Write why all ways of exporting failed, each with the operator, the line and what to do."""
    return "; ".join(f"{failure.way}: {reason(failure.error, failure.place)}" for failure in failures)


def reason(error: BaseException, place: str = "") -> str:
    """Write why something failed, in one line: cause, operator, the user's line and what to do."""
    if isinstance(error, DisagreementError):
        return str(error)
    chain = list(_chain(error))
    text = "\n".join(str(link) for link in chain)
    node = next((match[1] for pattern in _OPERATORS if (match := pattern.search(text))), "") or _fx_operator(chain)
    where = place_of(chain) or place
    cause, advice = next(((what, todo) for pattern, what, todo in _CAUSES if pattern.search(text)), ("", ""))
    said = _first_line(chain[-1])
    parts = [cause or said]
    if node:
        parts.append(f"operator {node}")
    if where:
        parts.append(f"at {where}")
    written = ", ".join(parts)
    if cause and not node:
        written += f" ({said})"
    return f"{written}; {advice}" if advice else written


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Go from an error to the one it came from, as the traceback shows them."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def place_of(chain: Sequence[BaseException]) -> str:
    """Find the innermost line of the user's code that an error came through; empty: none is known."""
    for link in reversed(chain):
        places = [*_traceback(link), *_told(str(link)), *_fx_places(link)]
        own = [place for place in places if _is_users(place[0])]
        if own:
            file, line = own[-1]
            code = linecache.getline(file, line).strip()
            return f"{file}:{line}" + (f" `{code}`" if code else "")
    return ""


def _traceback(error: BaseException) -> Iterator[tuple[str, int]]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next


def _told(text: str) -> Iterator[tuple[str, int]]:
    yield from ((match[1], int(match[2])) for match in _FRAME.finditer(text))


def _fx_nodes(error: BaseException) -> Iterator[Any]:
    """Find the graph's node that a translator had in its hands when it failed."""
    trace = error.__traceback__
    while trace is not None:
        node = trace.tb_frame.f_locals.get("node")
        if isinstance(node, torch.fx.Node):
            yield node
        trace = trace.tb_next


def _fx_places(error: BaseException) -> Iterator[tuple[str, int]]:
    for node in _fx_nodes(error):
        yield from _told(str(node.meta.get("stack_trace") or ""))


def _fx_operator(chain: Sequence[BaseException]) -> str:
    return next((str(node.target) for link in reversed(chain) for node in _fx_nodes(link)), "")


def _is_users(file: str) -> bool:
    return not file.startswith(("<", _OURS, *_LIBRARIES)) and "site-packages" not in file


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:250]}" if lines else type(error).__name__
