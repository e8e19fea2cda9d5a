"""Whether an AV1 picture has its references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.decode.references.base import NO_KEYFRAME

if TYPE_CHECKING:
    from vedette_server.decode.bitstream.av1 import Av1Frame
    from vedette_server.decode.bitstream.unit import AccessUnit

_SLOTS = 8


class Av1References:
    """Follows the order hints of an AV1 stream (AV1 specification, 7.20 and 7.21).

    Pictures are shown one by one, so a missing temporal unit leaves a gap in the order hints of those
    that are shown. Whether the missing one was referred to cannot be known: nothing is trusted until
    the next key frame. Not seen: a run whose length is a multiple of the hints' modulus, and any loss
    in a stream without order hints, but by its times.
    """

    def __init__(self) -> None:
        self._why = NO_KEYFRAME
        self._shown: int | None = None
        self._slots: list[int | None] = [None] * _SLOTS

    def restarts(self, unit: AccessUnit) -> bool:
        """Whether decoding begins anew with this picture."""
        return bool(self._why) and unit.keyframe

    def judge(self, unit: AccessUnit) -> str:
        """Take in the next temporal unit and say what it lacks."""
        if unit.keyframe:
            self._why, self._shown = "", None
        for frame in unit.av1:
            self._follow(frame)
        return self._why

    def _follow(self, frame: Av1Frame) -> None:
        hint = frame.order_hint if frame.slot is None else self._slots[frame.slot]
        for slot in range(_SLOTS):
            if frame.refresh >> slot & 1:
                self._slots[slot] = hint
        if not frame.shown:
            return
        before, self._shown = self._shown, hint
        if before is None or hint is None or frame.max_order_hint == 1:
            return
        missing = (hint - before - 1) % frame.max_order_hint
        if missing:
            self.distrust(f"{missing} pictures are missing before order hint {hint}")

    def lose(self, unit: AccessUnit, why: str) -> None:
        """Remember that the temporal unit just judged is missing or broken."""
        if not unit.disposable:
            self.distrust(why)

    def distrust(self, why: str) -> None:
        """Trust nothing until the next key frame."""
        self._why = self._why or why

    def stalled(self) -> bool:
        """Whether nothing can be believed until decoding begins anew."""
        return bool(self._why)

    def needs(self, unit: AccessUnit) -> bool:
        """Never: a key frame replaces all that was before."""
        del unit
        return False
