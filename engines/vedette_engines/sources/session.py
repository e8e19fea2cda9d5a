"""Run an ONNX file in ONNX Runtime as it came: without any of its graph optimisations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.errors import ImportInputError, ImportRefusedError, MissingRuntimeError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class PlainSession:
    """An ONNX file with one picture as its input, unoptimised, on the CPU.

    Args:
        path: The file; external weights beside it.

    Raises:
        ImportInputError: ONNX Runtime cannot load it, or it does not take one picture.
        MissingRuntimeError: ONNX Runtime is not installed.
    """

    name = "onnxruntime, as it came"

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime as ort  # noqa: PLC0415  (an extra)
        except ImportError as error:
            raise MissingRuntimeError("onnxruntime is not installed: pip install 'vedette[cpu]'") from error
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the binding's exceptions share no base but this
            raise ImportInputError(f"{path}: ONNX Runtime cannot load it: {_line(error)}") from error
        self._what = str(path)
        self._given = self._border()

    def _border(self) -> Any:
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _DTYPES or len(inputs[0].shape) != 4:
            told = ", ".join(f"{given.name} {given.type} {given.shape}" for given in inputs) or "none"
            raise ImportInputError(f"{self._what}: takes {told}; allowed is one picture, float [N, 3, height, width]")
        return inputs[0]

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        return [output.name for output in self._session.get_outputs()]

    def run(self, tensor: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Run on `float32 [N, 3, height, width]`; a model that takes one frame at a time is run so often.

        Raises:
            ImportRefusedError: The model fails on this input.
        """
        if self._session is None:
            raise ImportRefusedError(f"{self._what}: is closed")
        images: NDArray[Any] = tensor.astype(_DTYPES[self._given.type])
        if self._given.shape[1] != 3 and self._given.shape[3] == 3:
            images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        fixed = self._given.shape[0]
        step = fixed if isinstance(fixed, int) else len(images)
        try:
            parts = [
                self._session.run(None, {self._given.name: images[start : start + step]})
                for start in range(0, len(images), step)
            ]
        except Exception as error:  # as above
            raise ImportRefusedError(f"{self._what}: fails on {list(images.shape)}: {_line(error)}") from error
        return [
            np.asarray(values[0] if len(values) == 1 else np.concatenate(values)) for values in zip(*parts, strict=True)
        ]

    def close(self) -> None:
        """Let go of the session; may be called twice."""
        self._session = None


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
