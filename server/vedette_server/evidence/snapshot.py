"""Snapshots: one picture of an event as JPEG, plain or with what was seen drawn into it.

Masks are painted before anything else: no other function here sees the pixels that they hide.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING

import cv2
import numpy as np
import simplejpeg

from vedette_server.errors import EvidenceError
from vedette_server.evidence.pixels import blacken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_server.data.event import Event, SeenObject
    from vedette_server.data.rules import Line, Points, WatchConfig, Zone
    from vedette_server.monitor.base import Box

MEDIA_TYPE = "image/jpeg"
_ZONE, _LINE, _BOX, _TEXT = (0, 200, 255), (255, 160, 0), (60, 60, 255), (255, 255, 255)
_UNSEEN = (130, 130, 130)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A box, normalised, what stands at it, and whether its object is seen in this picture."""

    box: Box
    label: str = ""
    seen: bool = True


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn into an annotated snapshot, normalised to the upright picture."""

    boxes: Sequence[Labelled] = field(default_factory=tuple)
    zones: Sequence[Zone] = field(default_factory=tuple)
    lines: Sequence[Line] = field(default_factory=tuple)


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
        _draw(picture, drawing)
    jpeg = bytes(simplejpeg.encode_jpeg(picture, quality, "BGR"))
    return Snapshot(jpeg, sha256(jpeg).hexdigest(), picture.shape[1], picture.shape[0])


def _draw(picture: NDArray[np.uint8], drawing: Drawing) -> None:
    height, width = picture.shape[:2]
    thick = max(width // 480, 1)
    for zone in drawing.zones:
        points = _points(zone.vertices, width, height)
        cv2.polylines(picture, [points], isClosed=True, color=_ZONE, thickness=thick, lineType=cv2.LINE_AA)
        _write(picture, zone.name, int(points[0, 0, 0]), int(points[0, 0, 1]), _ZONE)
    for line in drawing.lines:
        points = _points(line.points, width, height)
        cv2.polylines(picture, [points], isClosed=False, color=_LINE, thickness=thick, lineType=cv2.LINE_AA)
        _write(picture, line.name, int(points[0, 0, 0]), int(points[0, 0, 1]), _LINE)
    for labelled in drawing.boxes:
        (x1, y1), (x2, y2) = _points((labelled.box[:2], labelled.box[2:]), width, height).reshape(2, 2).tolist()
        colour = _BOX if labelled.seen else _UNSEEN
        cv2.rectangle(picture, (x1, y1), (x2, y2), colour, thick)
        _write(picture, labelled.label, x1, y1, colour)


def _points(points: Points, width: int, height: int) -> NDArray[np.int32]:
    scaled = np.nan_to_num(np.asarray(points, np.float64)).clip(-1, 2) * (width - 1, height - 1)
    return np.rint(scaled).astype(np.int32).reshape(-1, 1, 2)


def _write(picture: NDArray[np.uint8], text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    """Write a label above a point, or below it at the picture's upper edge; its face has Latin letters only."""
    if not text:
        return
    text = text.encode("ascii", "replace").decode()[:48]
    height, width = picture.shape[:2]
    scale = max(width / 1600, 0.35)
    (text_width, text_height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x = min(max(x, 0), max(width - text_width, 0))
    y = y - below if y - text_height - below >= 0 else y + text_height + below
    y = min(max(y, text_height), height - 1)
    cv2.rectangle(picture, (x, y - text_height - 1), (x + text_width, y + below), colour, -1)
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, _TEXT, 1, cv2.LINE_AA)
