"""Snapshots: one picture of an event as JPEG, plain or with what was seen drawn into it.

Masks are painted before anything else: no other function here sees the pixels that they hide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

import cv2
import numpy as np
import simplejpeg

from vedette_server.errors import EvidenceError
from vedette_server.evidence.drawing import Drawing, Labelled, draw
from vedette_server.evidence.pixels import blacken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_server.data.event import Event, SeenObject
    from vedette_server.data.rules import Points, WatchConfig

MEDIA_TYPE = "image/jpeg"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A JPEG and its SHA-256, 64 hexadecimal digits."""

    jpeg: bytes
    sha256: str
    width: int
    height: int


def drawing_of(event: Event, watch: WatchConfig) -> Drawing:
    """Say what is drawn into the picture of an event: what it is about, its zone or its line, and how many count.

    Where no single object caused it these are all that counted, those that were hidden at that moment, too: as many
    boxes as the number says.
    """
    boxes = tuple(_labelled(one) for one in event.objects)
    if not boxes and event.box is not None:
        boxes = (Labelled(event.box, f"{event.label} {event.peak_score or 0.0:.2f}".strip()),)
    # The picture may be older than what the event measures by now.
    count = len(event.objects) or event.measures.get("count")
    zones = (zone for zone in watch.zones if zone.name == event.place)
    return Drawing(
        boxes,
        tuple(zone if count is None else replace(zone, name=f"{count:.0f} in {zone.name}") for zone in zones),
        tuple(line for line in watch.lines if line.name == event.place),
    )


def _labelled(one: SeenObject) -> Labelled:
    if one.ago_s > 0:
        return Labelled(one.box, f"{one.label} {one.ago_s:.1f} s ago", seen=False)
    return Labelled(one.box, f"{one.label} {one.score:.2f}")


def take_snapshot(
    pixels: NDArray[np.uint8],
    hidden: Sequence[Points] = (),
    drawing: Drawing | None = None,
    *,
    max_width: int = 1920,
    quality: int = 85,
) -> Snapshot:
    """Make a JPEG of an upright picture.

    Args:
        pixels: ``uint8 [height, width, 3]``, BGR; left alone. Of a `Picture`: see `pixels.upright_bgr`.
        hidden: What is blackened first; see `pixels.hidden`.
        drawing: What is drawn in; None: nothing.
        max_width: A wider picture is made smaller, pixels.
        quality: Of the JPEG, 1..100.

    Raises:
        EvidenceError: The pixels are no picture, or a limit is not allowed.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size or pixels.dtype != np.uint8:
        raise EvidenceError(f"a snapshot of {pixels.dtype} {pixels.shape}; it must be uint8 [height, width, 3]")
    if max_width < 1 or not 1 <= quality <= 100:
        raise EvidenceError(f"max_width {max_width} and quality {quality}; allowed are 1 and up, and 1..100")
    picture = np.array(pixels, np.uint8, order="C")
    blacken(picture, hidden)
    if picture.shape[1] > max_width:
        height = max(round(picture.shape[0] * max_width / picture.shape[1]), 1)
        picture = np.asarray(cv2.resize(picture, (max_width, height), interpolation=cv2.INTER_AREA), np.uint8)
    if drawing is not None:
        draw(picture, drawing)
    jpeg = bytes(simplejpeg.encode_jpeg(picture, quality, "BGR"))
    return Snapshot(jpeg, sha256(jpeg).hexdigest(), picture.shape[1], picture.shape[0])
