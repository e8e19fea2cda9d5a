"""The one place where the tool runs an ONNX model, and where ONNX Runtime's errors are translated."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto

from vedette_engines.errors import ImportInputError, ImportRefusedError
from vedette_engines.graft.signature import Layout, Output, Signature

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_FLOATS = {"tensor(float)": TensorProto.FLOAT, "tensor(float16)": TensorProto.FLOAT16}


class Session:
    """An ONNX model, ready to run on the CPU.

    Args:
        model: The file, or its bytes.
        what: How messages call it.

    Raises:
        ImportInputError: ONNX Runtime cannot load it.
    """

    def __init__(self, model: Path | bytes, what: str) -> None:
        self.what = what
        options = ort.SessionOptions()
        options.log_severity_level = 4  # what matters comes as an exception
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # many short runs beside other work
        source = model if isinstance(model, bytes) else str(model)
        try:
            self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the binding's exceptions share no base but this
            raise ImportInputError(f"{what}: ONNX Runtime cannot load it: {_first_line(error)}") from error

    @property
    def inputs(self) -> list[Any]:
        """ONNX Runtime's description of the inputs: `name`, `shape`, `type`."""
        return list(self._session.get_inputs())

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        return [output.name for output in self._session.get_outputs()]

    def run(self, feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run once and return every output.

        Raises:
            ImportRefusedError: The model fails on this input.
        """
        try:
            outputs = self._session.run(None, dict(feed))
        except Exception as error:  # as above
            shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in feed.items())
            raise ImportRefusedError(f"{self.what}: running it on {shapes} fails: {_first_line(error)}") from error
        return [np.asarray(output) for output in outputs]


def measure_signature(session: Session, input_size: tuple[int, int] | None) -> Signature:
    """Run a model once on black and note what it takes and gives.

    Args:
        session: The model.
        input_size: Width and height, needed where the model leaves them open.

    Raises:
        ImportInputError: The model does not take one picture, or the sizes disagree.
    """
    if len(session.inputs) != 1:
        names = ", ".join(f"{given.name} {given.shape}" for given in session.inputs) or "none"
        raise ImportInputError(f"{session.what}: takes {len(session.inputs)} inputs ({names}); allowed is one picture")
    given = session.inputs[0]
    layout = _layout(session, given)
    if isinstance(given.shape[0], int) and given.shape[0] != 1:
        raise ImportInputError(
            f"{session.what}: its batch is fixed at {given.shape[0]}; allowed is 1 or dynamic: export it again"
        )
    height, width = given.shape[2:4] if layout == "nchw" else given.shape[1:3]
    width, height = _settle_size(session, (width, height), input_size)
    border = Signature(given.name, _FLOATS[given.type], layout, width, height, ())
    shape = (1, 3, height, width) if layout == "nchw" else (1, height, width, 3)
    return _with_outputs(session, border, shape)


def _with_outputs(session: Session, border: Signature, shape: tuple[int, ...]) -> Signature:
    raw = session.run({border.input_name: np.zeros(shape, border.dtype)})
    outputs = tuple(Output(name, value.shape) for name, value in zip(session.output_names, raw, strict=True))
    for output in outputs:
        if output.shape[:1] != (1,):
            raise ImportInputError(
                f"{session.what}: output {output} does not start with the batch; wanted are raw outputs: export the "
                "model without its NMS"
            )
    return replace(border, outputs=outputs)


def _layout(session: Session, given: Any) -> Layout:
    if given.type not in _FLOATS:
        raise ImportInputError(f"{session.what}: input {given.name} is {given.type}; allowed is {' or '.join(_FLOATS)}")
    if len(given.shape) == 4 and given.shape[1] == 3:
        return "nchw"
    if len(given.shape) == 4 and given.shape[3] == 3:
        return "nhwc"
    raise ImportInputError(
        f"{session.what}: input {given.name} is {given.shape}; "
        "allowed is [N, 3, height, width] or [N, height, width, 3]"
    )


def _settle_size(
    session: Session, own: tuple[int | str | None, int | str | None], wanted: tuple[int, int] | None
) -> tuple[int, int]:
    width, height = own
    if isinstance(width, int) and isinstance(height, int):
        if wanted not in {None, (width, height)}:
            raise ImportInputError(f"--input-size is {_by(wanted)}, but {session.what} takes {width}x{height} only")
        return width, height
    if wanted is None:
        raise ImportInputError(f"{session.what}: leaves its input size open ({width}x{height}); give --input-size WxH")
    return wanted


def _by(size: tuple[int, int] | None) -> str:
    return f"{size[0]}x{size[1]}" if size else "open"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
