"""Run a model in PyTorch, eager or as TorchScript, with the engine's preprocessing before it.

What comes after the model, the head's decoding, is not part of it: there is none in PyTorch. So PyTorch has a little
less to do here than the engines have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from vedette_engines.benching.way import Runtime
from vedette_engines.errors import ImportInputError
from vedette_engines.graft.preprocess import Preprocessing
from vedette_engines.sources.reference import open_reference, open_torchscript

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_engines.benching.way import Way


class OpenTorch:
    """A source in PyTorch. One thread at a time.

    Args:
        way: The candidate, with its source.
        threads: Threads of one run; they hold for the whole process.

    Raises:
        ImportInputError: The source cannot be opened.
    """

    def __init__(self, way: Way, threads: int) -> None:
        if way.source is None:
            raise ImportInputError(f"{way.runner}: there is no --source to run")
        torch.set_num_threads(threads)
        opened = open_torchscript if way.runtime is Runtime.TORCHSCRIPT else open_reference
        self._reference = opened(way.source)
        self._preprocessing = way.preprocessing or Preprocessing()
        mean, std = self._preprocessing.mean, self._preprocessing.std
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32).reshape(1, 3, 1, 1) for values in (mean, std)
        )
        self.backend = f"torch:{self._reference.name}"

    def run(self, frames: Sequence[NDArray[np.uint8]]) -> None:
        """Run a batch; what comes out is the model's own, and nobody's here."""
        self._reference.run(self.prepare(frames).numpy())

    def prepare(self, frames: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Make the model's input of frames, as the grafted preprocessing does: `float32 [N, 3, H, W]`."""
        batch = torch.from_numpy(frames[0][None] if len(frames) == 1 else np.stack(frames))
        if self._preprocessing.order == "rgb":
            batch = batch.flip(3)
        pixels = batch.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        return pixels.mul_(self._preprocessing.scale).sub_(self._mean).div_(self._std)

    def close(self) -> None:
        """Let go of the model."""
        self._reference.close()
