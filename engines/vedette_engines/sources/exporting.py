"""Export a model of PyTorch to one ONNX file: the current exporter first, then the TorchScript one.

An export counts when ONNX Runtime gives on noise what the model itself gives, alone and in a batch: both exporters
can silently write down what happened to be true for the example.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch

from vedette_engines.errors import ImportInputError
from vedette_engines.graft.source import MAX_MODEL_BYTES
from vedette_engines.sources.eager import EXAMPLE_BATCH, Answer, examine, pictures, run_model
from vedette_engines.sources.explaining import DisagreementError, Failure, explain
from vedette_engines.sources.kinds import Kind
from vedette_engines.sources.modes import source_place
from vedette_engines.sources.outputs import Flat
from vedette_engines.sources.quiet import branches_fixed, mute, quiet
from vedette_engines.sources.session import PlainSession

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from vedette_engines.sources.spec import SourceSpec
    from vedette_engines.sources.torch_model import TorchModel

INPUT_NAME = "images"
BATCH_NAME = "batch"
# How far an export may be from its source to count as the same model. The comparison that follows is finer.
_TOLERANCE = 1e-3
_HALF_TOLERANCE = 2e-2  # two runtimes round half precision at different places
_DATA_DEPENDENT = "data-dependent"
_QUOTED_OPERATOR = re.compile(r"'(\w+::\w+)'")
# The disk's fault and not the model's: another way of exporting does not help.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


@dataclass(frozen=True, slots=True)
class Way:
    """One way of exporting.

    Attributes:
        exporter: `dynamo` or `torchscript`.
        batch: Frames in the example.
        dynamic: The batch stays open.
        scripted: Compile the model's Python before, so that what depends on values stays in the graph.
        frozen: Freeze compiled Python before: that unrolls loops over lists, which the exporter does not take.
    """

    exporter: str
    batch: int
    dynamic: bool
    scripted: bool = False
    frozen: bool = False

    def __str__(self) -> str:
        words = {"dynamo": "torch.onnx (dynamo)", "torchscript": "torch.onnx (TorchScript)"}[self.exporter]
        model = " of the scripted model" if self.scripted else " of the frozen model" if self.frozen else ""
        return words + model + ("" if self.dynamic else ", batch 1")


def export_model(spec: SourceSpec, model: TorchModel, target: Path, say: Callable[[str], None]) -> str:
    """Export a model to an ONNX file; tell the exporter that it was.

    Args:
        spec: Options of the export.
        model: The model; its notes take what was found out.
        target: The file to write.
        say: Takes a line for each thing that was assumed.

    Raises:
        ImportInputError: No way leads to an ONNX file that agrees with the model; the message says why.
        OSError: The disk is full, or cannot be written.
    """
    _check_size(model)
    answer = examine(model)
    failures: list[Failure] = []
    ways = list(_ways(spec, model, answer))
    while ways:
        way = ways.pop(0)
        try:
            fixed = _export(way, spec, model, answer, target)
            _check_export(way, model, target)
        except Exception as error:  # torch and the user's code raise whatever they do
            if isinstance(error, OSError) and error.errno in _DISK:
                target.unlink(missing_ok=True)
                raise
            failures.append(Failure(str(way), error, _script_place(model, error)))
            say(f"an export failed, {explain(failures[-1:])}")
            ways = list(_next_ways(ways, failures))
            continue
        if fixed:
            model.notes.append(f"tracing fixed what depends on values at {', '.join(fixed)}")
        if not way.dynamic:
            model.notes.append("the batch is fixed at 1: the model takes one frame at a time")
        return way.exporter
    target.unlink(missing_ok=True)
    raise ImportInputError(f"{model.what}: cannot be exported to ONNX. {explain(failures)}")


def _check_size(model: TorchModel) -> None:
    total = sum(value.numel() * value.element_size() for value in model.model.state_dict().values())
    if total > MAX_MODEL_BYTES:
        raise ImportInputError(
            f"{model.what}: has {total} bytes of weights; allowed is {MAX_MODEL_BYTES}, the most that one ONNX file "
            "can hold"
        )


def _ways(spec: SourceSpec, model: TorchModel, answer: Answer) -> Sequence[Way]:
    """List the ways to try, the best first."""
    if model.kind == Kind.TORCHSCRIPT and spec.exporter == "dynamo":
        raise ImportInputError(
            f"--exporter dynamo cannot take TorchScript ({model.what}); allowed is auto, torchscript"
        )
    if model.kind == Kind.PROGRAM and spec.exporter == "torchscript":
        raise ImportInputError(f"--exporter torchscript cannot take a program ({model.what}); allowed is auto, dynamo")
    batch = 1 if answer.lone else EXAMPLE_BATCH
    dynamo, torchscript = Way("dynamo", batch, not answer.lone), Way("torchscript", batch, not answer.lone)
    if model.kind == Kind.TORCHSCRIPT:
        return [torchscript, replace(torchscript, frozen=True)]
    if spec.exporter == "torchscript":
        return [torchscript]
    if model.kind == Kind.PROGRAM:
        return [dynamo]
    tried = [dynamo] if answer.lone else [dynamo, Way("dynamo", 1, dynamic=False)]
    return tried if spec.exporter == "dynamo" else [*tried, torchscript]


def _next_ways(ways: Sequence[Way], failures: Sequence[Failure]) -> Sequence[Way]:
    """Leave out what cannot help after the last failure."""
    last = failures[-1]
    told = explain([last])
    if _DATA_DEPENDENT in told:
        # A trace would take the example's branch for all pictures: only a compiled model keeps both.
        return [replace(way, scripted=True) for way in ways if way.exporter != "dynamo"]
    if not isinstance(last.error, _FixedBatchError):
        return [way for way in ways if way.exporter != "dynamo"]
    return ways


class _FixedBatchError(DisagreementError):
    """The batch became a constant."""


def _export(way: Way, spec: SourceSpec, model: TorchModel, answer: Answer, target: Path) -> tuple[str, ...]:
    """Export in one way; tell the lines at which a trace fixed what depends on values."""
    example = (pictures(model, way.batch),)
    options: dict[str, Any] = {"input_names": [INPUT_NAME], "output_names": list(answer.names)}
    options |= {"opset_version": spec.opset, "external_data": False, "verbose": False}
    source: Any = model.program if model.program is not None else model.model
    if way.frozen:
        with quiet():
            source = torch.jit.freeze(source)
    if answer.nested and model.program is None:
        source = Flat(source).eval()
    if way.exporter == "dynamo":
        options["dynamo"] = True
        if way.dynamic and model.program is None:
            options["dynamic_shapes"] = ({0: torch.export.Dim(BATCH_NAME, min=1)},)
    else:
        options["dynamo"] = False
        if way.dynamic:
            options["dynamic_axes"] = {name: {0: BATCH_NAME} for name in (INPUT_NAME, *answer.names)}
    with torch.no_grad(), quiet() as caught, mute():
        if way.scripted:
            source = torch.jit.script(source)
        torch.onnx.export(source, example, str(target), **options)
    return branches_fixed(caught)


def _check_export(way: Way, model: TorchModel, target: Path) -> None:
    """Compare the file with the model, alone and in a batch.

    Raises:
        DisagreementError: They differ, or the batch is no longer open.
    """
    border = onnx.load(str(target), load_external_data=False).graph
    for value in (*border.input, *border.output):
        first = value.type.tensor_type.shape.dim[:1]
        if way.dynamic and first and first[0].dim_value:
            raise _FixedBatchError(f"the batch became the constant {first[0].dim_value} in {value.name}")
    session = PlainSession(target)
    for count in (1, 3) if way.dynamic else (1,):
        images = pictures(model, count, seed=count)
        wanted = run_model(model, images)
        try:
            got = session.run(images.numpy())
        except Exception as error:
            if count > 1:
                raise _FixedBatchError(f"the export fails on a batch of {count}: {_line(error)}") from error
            raise DisagreementError(f"the export does not run: {_line(error)}") from error
        tolerance = _HALF_TOLERANCE if model.dtype == torch.float16 else _TOLERANCE
        _compare([output.float().numpy() for output in wanted], got, session.output_names, count, tolerance)


def _compare(wanted: list[Any], got: list[Any], names: Sequence[str], count: int, tolerance: float) -> None:
    if len(wanted) != len(got):
        raise DisagreementError(f"the export has {len(got)} outputs, the model {len(wanted)}")
    for name, one, other in zip(names, wanted, got, strict=True):
        if one.shape != other.shape:
            error = _FixedBatchError if count > 1 else DisagreementError
            raise error(f"output {name} is {list(other.shape)} in the export, but {list(one.shape)} in the model")
        if not one.size:
            continue
        largest = float(np.nanmax(np.abs(one)))
        apart = np.abs(np.nan_to_num(one) - np.nan_to_num(other.astype(np.float32)))
        if float(apart.max()) > tolerance * largest + 1e-6:
            raise DisagreementError(
                f"the export gives other answers than the model: output {name} differs by {float(apart.max()):.3g} on "
                f"noise, where the largest value is {largest:.3g}"
            )


def _script_place(model: TorchModel, error: BaseException) -> str:
    """Find the line of an operator that the TorchScript exporter does not know; it names the operator only."""
    graph = getattr(model.model, "inlined_graph", None)
    named = _QUOTED_OPERATOR.search(str(error))
    if graph is None or named is None:
        return ""
    nodes = graph.findAllNodes(named[1])
    return source_place(nodes[0]).removeprefix(" at ") if nodes else ""


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
