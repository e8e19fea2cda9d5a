"""Whether a VP9 picture has its references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.decode.references.base import NO_KEYFRAME

if TYPE_CHECKING:
    from vedette_server.decode.bitstream.unit import AccessUnit


class Vp9References:
    """Remembers what was lost of a VP9 stream until its next key frame.

    VP9 headers count nothing: a packet that is missing without a word shows only in the times of the
    others, or in what the decoder makes of them. In a stream whose packets carry no times, or times
    that were made up after the loss, such a loss is not seen.
    """

    def __init__(self) -> None:
        self._why = NO_KEYFRAME
        self._left_out = False

    def restarts(self, unit: AccessUnit) -> bool:
        """Whether decoding begins anew with this picture."""
        return bool(self._why) and unit.keyframe

    def judge(self, unit: AccessUnit) -> str:
        """Take in the next packet and say what it lacks."""
        if unit.keyframe:
            self._why, self._left_out = "", False
        if self._left_out and unit.vp9:
            self._left_out = False
            if not unit.vp9[0].resilient:
                self.distrust("it builds on a picture that was left out")
        return self._why

    def lose(self, unit: AccessUnit, why: str) -> None:
        """Remember that the packet just judged is missing or broken."""
        if unit.disposable:
            self._left_out = True
        else:
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
