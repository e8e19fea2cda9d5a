"""What a model takes and gives, measured by running it once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from onnx import TensorProto

Layout = Literal["nchw", "nhwc"]


@dataclass(frozen=True, slots=True)
class Output:
    """One raw output.

    Attributes:
        name: The tensor's name.
        shape: Its shape when one frame is run.
    """

    name: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {list(self.shape)}"


@dataclass(frozen=True, slots=True)
class Signature:
    """The border of a model with one image input.

    Attributes:
        input_name: Name of the image tensor.
        elem_type: Its ONNX element type, FLOAT or FLOAT16.
        layout: Where its channels stand.
        width: Input width in pixels.
        height: Input height in pixels.
        outputs: Every output, in the model's order.
    """

    input_name: str
    elem_type: int
    layout: Layout
    width: int
    height: int
    outputs: tuple[Output, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The input's element type in NumPy's terms."""
        return np.dtype(np.float16 if self.elem_type == TensorProto.FLOAT16 else np.float32)

    @property
    def shapes(self) -> str:
        """All outputs with their shapes, for messages."""
        return ", ".join(str(output) for output in self.outputs)
