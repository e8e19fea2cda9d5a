"""Read a foreign ONNX file and bring it up to an opset that the graft can write in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError
from onnx import inliner, version_converter

from vedette_engines.errors import ImportInputError

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

# From 13 on the shapes of Squeeze, Unsqueeze and Softmax's meaning are today's.
OLDEST_OPSET = 13
# What older models become; from 19 on a quantised model may have float16 scales.
PREFERRED_OPSET = 19
# Protobuf takes 2 GiB; a part of it is left for what is grafted on.
MAX_MODEL_BYTES = (1 << 31) - (1 << 24)


def read_model(path: Path) -> ModelProto:
    """Read an ONNX file, external weights included, with local functions written out.

    Raises:
        ImportInputError: It is no ONNX model, or parts of it are missing.
    """
    try:
        model = onnx.load(str(path))
    except (DecodeError, ValueError, OSError, onnx.checker.ValidationError) as error:
        raise ImportInputError(f"{path}: not an ONNX file: {str(error).splitlines()[0]}") from error
    if not model.graph.node or not model.opset_import:
        raise ImportInputError(f"{path}: not an ONNX file: it holds no graph")
    if model.ByteSize() > MAX_MODEL_BYTES:
        raise ImportInputError(
            f"{path}: has {model.ByteSize()} bytes with its weights; allowed is {MAX_MODEL_BYTES}, the most that one "
            "ONNX file can hold"
        )
    if model.functions:
        model = inliner.inline_local_functions(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [given for given in model.graph.input if given.name not in constants]
    # Old files list their weights as inputs too: then nobody may take them for constant.
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return model


def opset_of(model: ModelProto) -> int:
    """Tell the version of the default operator set."""
    return next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 0)


def upgrade(model: ModelProto) -> ModelProto:
    """Bring a model to an opset that the graft can write in; one that is new enough is returned as it is.

    Raises:
        ImportInputError: ONNX's converter cannot.
    """
    opset = opset_of(model)
    if opset >= OLDEST_OPSET:
        return model
    try:
        upgraded = version_converter.convert_version(model, PREFERRED_OPSET)
    except Exception as error:  # the converter's C++ exceptions share no base but this
        raise ImportInputError(
            f"opset {opset} cannot be converted to {PREFERRED_OPSET} ({str(error).strip().splitlines()[0][:200]}); "
            f"export the model again with opset {OLDEST_OPSET} or later"
        ) from error
    upgraded.ir_version = max(upgraded.ir_version, 9)
    return upgraded
