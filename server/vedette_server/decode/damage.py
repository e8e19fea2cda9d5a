"""Read FFmpeg's messages for what they say about a picture.

FFmpeg conceals damage and says so in its log alone, at the moment of decoding; the flag on the frame
comes later, after pictures that refer to it may have been shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import av.logging

if TYPE_CHECKING:
    from collections.abc import Iterable

_HARMLESS = (
    "mmco: unref short failure",  # forgets a picture that is missing already
    "number of reference frames",
    "sei type",
    "invalid sei",
    "unknown sei",
    "truncating likely oversized",
    "overread vui",
    "overread sps",
    "additional information",
    "invalid nal unit size",  # padding; a unit that is cut off is seen by the header reader
)
_MISSING = ("missing reference", "reference picture missing", "frame num gap", "co located", "could not find ref")


def damage_in(messages: Iterable[tuple[int, str, str]]) -> str:
    """Find the first message that means a broken picture.

    Args:
        messages: Level, context and text of each, as PyAV's ``Capture`` gives them.

    Returns:
        The message, or nothing when the picture is whole as far as FFmpeg knows.
    """
    for level, _, text in messages:
        told = text.strip()
        lower = told.lower()
        if level <= av.logging.ERROR and not lower.startswith(_HARMLESS):
            return told
        if lower.startswith("concealing"):
            return told
    return ""


def tells_only_of_references(damage: str) -> bool:
    """Whether a message complains of other pictures, and not of the bytes of this one."""
    return damage.lower().startswith(_MISSING)
