"""Read an ONNX file's border and its external data, and copy it into one file."""

from __future__ import annotations

import shutil
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper

from vedette_engines.errors import ImportInputError
from vedette_engines.graft.source import MAX_MODEL_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from onnx import ModelProto


def read_bare(path: Path) -> ModelProto:
    """Read a model without its external weights.

    Raises:
        ImportInputError: It is no ONNX model.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise ImportInputError(f"{path}: not an ONNX file: {_line(error)}") from error
    if not model.graph.node or not model.opset_import:
        raise ImportInputError(f"{path}: not an ONNX file: it holds no graph")
    return model


def external_files(path: Path) -> Sequence[str]:
    """Name the files beside an ONNX file that hold its weights, in order.

    Raises:
        ImportInputError: It is no ONNX model, one is missing, or one is not beside it.
    """
    named = set()
    for tensor in external_data_helper._get_all_tensors(read_bare(path)):
        if external_data_helper.uses_external_data(tensor):
            named.add(external_data_helper.ExternalDataInfo(tensor).location)
    for name in named:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ImportInputError(f"{path}: takes weights from {name!r}; allowed is a file beside it")
        if not (path.parent / name).is_file():
            raise ImportInputError(f"{path}: its weights are in {name}, which is not beside it")
    return sorted(named)


def copy_whole(path: Path, target: Path) -> ModelProto:
    """Copy a model into one file, weights included; tell its border.

    Returns:
        The model without its external weights.

    Raises:
        ImportInputError: It is no ONNX model, or too large for one file.
    """
    bare = read_bare(path)
    parts = [path, *(path.parent / name for name in external_files(path))]
    total = sum(part.stat().st_size for part in parts)
    if total > MAX_MODEL_BYTES:
        raise ImportInputError(
            f"{path}: has {total} bytes with its weights; allowed is {MAX_MODEL_BYTES}, the most that one ONNX file "
            "can hold"
        )
    try:
        if len(parts) == 1:
            shutil.copyfile(path, target)
        else:
            onnx.save(onnx.load(str(path)), str(target))
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise ImportInputError(f"{path}: its weights cannot be read: {_line(error)}") from error
    return bare


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
