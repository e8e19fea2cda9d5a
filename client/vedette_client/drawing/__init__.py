"""Draw what was found into the pictures it was found in."""

from vedette_client.drawing.annotate import Annotator
from vedette_client.drawing.boxes import draw_boxes

__all__ = ["Annotator", "draw_boxes"]
