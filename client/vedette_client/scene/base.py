"""The seam between a scene and the encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vedette_client.scene.truth import FrameTruth


class Scene(Protocol):
    """Pictures that follow from a seed, repeat after a period, and whose content is known."""

    def draw(self, index: int) -> NDArray[np.uint8]:
        """Draw one frame; frame `period_frames` is frame 0 again.

        Returns:
            `uint8 [height, width, 3]`, RGB, C-contiguous, the caller's own.
        """
        ...

    def truth(self, index: int) -> FrameTruth:
        """Tell what is to be seen in that frame."""
        ...
