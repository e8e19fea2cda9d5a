"""Decoded pictures as people see them: upright, with square samples, privacy masks blackened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from vedette_server.data.rules import EvidencePolicy, MaskKind
from vedette_server.picture.letterbox import SQUARE, Letterbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    from numpy.typing import NDArray

    from vedette_server.data.rules import Mask, Points, WatchConfig
    from vedette_server.decode.base import Picture


def upright_bgr(picture: Picture, sample_aspect: Fraction = SQUARE, *, even: bool = False) -> NDArray[np.uint8]:
    """Convert a decoded picture in full size.

    Args:
        picture: The picture; left open.
        sample_aspect: Width of a coded sample over its height, as its channel's format has it.
        even: Make both sides even, as 4:2:0 wants them, by leaving out a row or a column.

    Returns:
        ``uint8 [height, width, 3]``, BGR, C-contiguous, the caller's.

    Raises:
        UndecodableError: The bytes of a still are broken.
    """
    width, height = picture.width, picture.height
    if picture.rotation_degrees in {90, 270}:
        height = max(round(height * sample_aspect), 1)
    else:
        width = max(round(width * sample_aspect), 1)
    pixels = np.empty((height, width, 3), np.uint8)
    picture.letterbox_into(pixels, Letterbox(width, height, pad=0))
    return make_even(pixels) if even else pixels


def make_even(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Leave out a last row and column that make a side odd; a side of one pixel is doubled."""
    height, width = pixels.shape[:2]
    if height < 2 or width < 2:
        pixels = pixels.repeat(2 if height < 2 else 1, 0).repeat(2 if width < 2 else 1, 1)
        height, width = pixels.shape[:2]
    return np.ascontiguousarray(pixels[: height & ~1, : width & ~1])


def hidden(config: WatchConfig) -> tuple[Points, ...]:
    """Return what of a channel's pictures has to be blackened before they are kept or shown."""
    return privacy_areas(config.masks) if config.evidence is EvidencePolicy.MASKED else ()


def privacy_areas(masks: Sequence[Mask]) -> tuple[Points, ...]:
    """Return the corners of the privacy masks."""
    return tuple(mask.vertices for mask in masks if mask.kind is MaskKind.PRIVACY)


def blacken(pixels: NDArray[np.uint8], areas: Sequence[Points]) -> None:
    """Paint areas black, in place; a pixel that an edge touches is painted.

    Args:
        pixels: ``uint8 [height, width, 3]``, C-contiguous, changed.
        areas: Corners, normalised to the picture.
    """
    height, width = pixels.shape[:2]
    for area in areas:
        corners = np.asarray(area, np.float64) * (width, height)
        points = [np.floor(corners).astype(np.int32).reshape(-1, 1, 2)]
        cv2.fillPoly(pixels, points, (0, 0, 0))
        # Two pixels on each side of the edge: rounding never shows what an edge runs through, nor does chroma that
        # 2x2 pixels share.
        cv2.polylines(pixels, points, isClosed=True, color=(0, 0, 0), thickness=5)
