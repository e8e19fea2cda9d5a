"""Drop the detections that a channel's masks hide, before anything else sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vedette_server.data.rules import MaskKind
from vedette_server.post.regions import Regions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_server.data.rules import Mask
    from vedette_server.post.detections import Detections


_FIRST, _LAST = np.float32(0.0), np.float32(1.0 - 1e-6)


class DetectionMasks:
    """The detection and privacy masks of one channel.

    A detection mask hides what stands in it: the middle of a box's lower edge. A privacy mask hides that as well, and
    what has its middle in it.

    Args:
        masks: All of its masks.
    """

    def __init__(self, masks: Sequence[Mask]) -> None:
        self._standing = Regions([mask.vertices for mask in masks if mask.kind is not MaskKind.MOTION])
        self._middle = Regions([mask.vertices for mask in masks if mask.kind is MaskKind.PRIVACY])

    def apply(self, found: Detections) -> None:
        """Drop what is hidden, in place."""
        if not self._standing or not len(found):
            return
        boxes = found.boxes
        # An edge of the picture belongs to the mask that ends there, and so does what reaches beyond it.
        middle = ((boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5)).clip(_FIRST, _LAST)
        standing = np.stack([middle[:, 0], boxes[:, 3].clip(_FIRST, _LAST)], axis=1)
        hidden = self._standing.contain(standing)
        if self._middle:
            hidden |= self._middle.contain(middle)
        if hidden.any():
            found.keep(~hidden)
