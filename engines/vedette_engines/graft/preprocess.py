"""From camera pixels to the tensor a model was trained on, in the graph and in NumPy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from onnx import TensorProto

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.signature import Signature

Triple = tuple[float, float, float]
ChannelOrder = Literal["bgr", "rgb"]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a model wants of a pixel: `(pixel * scale - mean) / std`, channel by channel.

    Attributes:
        order: Channel order of the model's input.
        scale: Factor on the pixel's 0..255.
        mean: Subtracted after scaling, in the model's channel order.
        std: Divides the rest, in the model's channel order.
    """

    order: ChannelOrder = "bgr"
    scale: float = 1.0
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)

    def __str__(self) -> str:
        mean, std = (", ".join(f"{value:g}" for value in triple) for triple in (self.mean, self.std))
        return f"{self.order}, (pixel * {self.scale:.6g} - ({mean})) / ({std})"

    def overridden(
        self,
        order: ChannelOrder | None = None,
        scale: float | None = None,
        mean: Triple | None = None,
        std: Triple | None = None,
    ) -> Preprocessing:
        """Return a copy in which everything that is not None replaces the preset."""
        given = {"order": order, "scale": scale, "mean": mean, "std": std}
        return replace(self, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]

    def build(self, graph: GraphBuilder, frames: str, signature: Signature) -> str:
        """Add the arithmetic to the graph and return the name of the model's input tensor.

        The cast comes first: TensorRT takes uint8 at the network's border only.
        """
        tensor = graph.float32(frames)
        channels_first = signature.layout == "nchw"
        if channels_first:
            tensor = graph.add("Transpose", tensor, perm=[0, 3, 1, 2])
        if self.order == "rgb":
            tensor = graph.add("Gather", tensor, graph.constant([2, 1, 0]), axis=1 if channels_first else 3)
        shape = (1, 3, 1, 1) if channels_first else (1, 1, 1, 3)
        std = np.asarray(self.std, np.float64)
        factor = (self.scale / std).astype(np.float32)
        offset = (np.asarray(self.mean, np.float64) / std).astype(np.float32)
        if np.any(factor != 1):
            tensor = graph.add("Mul", tensor, graph.constant(factor.reshape(shape)))
        if np.any(offset != 0):
            tensor = graph.add("Sub", tensor, graph.constant(offset.reshape(shape)))
        if signature.elem_type != TensorProto.FLOAT:
            tensor = graph.cast(tensor, signature.elem_type)
        return tensor

    def apply(self, frames: NDArray[np.uint8], signature: Signature) -> NDArray[np.floating]:
        """Do the same in NumPy, as the definition reads.

        Args:
            frames: `uint8 [N, H, W, 3]`, BGR.
            signature: Tells layout and element type.

        Returns:
            `[N, 3, H, W]` or `[N, H, W, 3]` of the model's type, C-contiguous.
        """
        pixels = frames[..., ::-1] if self.order == "rgb" else frames
        scaled = pixels.astype(np.float32) * np.float32(self.scale)
        value = (scaled - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        if signature.layout == "nchw":
            value = value.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(value, signature.dtype)
