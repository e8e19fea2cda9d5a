"""Draw what two versions of an engine saw in one frame, side by side."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from vedette_client.drawing.boxes import draw_boxes, font_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_client.engine_info import ShadowFinding, ShadowSample

_GAP = 4
_SMALLEST = 320
_DARK, _LIGHT, _PALE = (24, 24, 24), (240, 240, 240), (150, 150, 150)


@dataclass(frozen=True, slots=True)
class _Box:
    """A finding as drawing takes it."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    track_id: str = ""


def draw_sample(sample: ShadowSample, stable: str, shadow: str) -> Image.Image:
    """Draw a sample twice: what the stable version saw on the left, what the shadow saw on the right.

    What the other version has nothing like is drawn in colour with its score, what both saw thin and grey; the
    classes of a classifier are written below its picture.

    Args:
        sample: With its picture.
        stable: Name for the left.
        shadow: Name for the right.

    Raises:
        OSError: The picture cannot be read.
    """
    with Image.open(io.BytesIO(sample.jpeg), formats=["JPEG"]) as image:
        frame = image.convert("RGB")
    # Small inputs are shown larger, so that captions can be read.
    times = max(1, -(-_SMALLEST // frame.width))
    frame = frame.resize((frame.width * times, frame.height * times), Image.Resampling.NEAREST)
    high = max(16, frame.height // 24)
    strips = 2 if any(one.box is None for one in (*sample.stable, *sample.shadow)) else 1
    sheet = Image.new("RGB", (2 * frame.width + _GAP, frame.height + strips * (high + 8)), _DARK)
    for place, (title, findings) in enumerate(((stable, sample.stable), (shadow, sample.shadow))):
        left = place * (frame.width + _GAP)
        sheet.paste(Image.fromarray(_drawn(frame, findings)), (left, high + 8))
        pen = ImageDraw.Draw(sheet)
        pen.text((left + 4, 2), title, fill=_LIGHT, font=font_of(high))
        classes = ", ".join(f"{one.label} {one.score:.2f}" for one in findings if one.box is None)
        pen.text((left + 4, frame.height + high + 8), classes, fill=_PALE, font=font_of(high))
    return sheet


def _drawn(frame: Image.Image, findings: Sequence[ShadowFinding]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    picture = np.array(frame, np.uint8)
    boxes = [(_Box(one.label, one.score, one.box), one.unmatched) for one in findings if one.box is not None]
    draw_boxes(picture, [box for box, unmatched in boxes if not unmatched], dimmed=True)
    draw_boxes(picture, [box for box, unmatched in boxes if unmatched])
    return picture
