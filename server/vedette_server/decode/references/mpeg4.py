"""Whether an MPEG-4 part 2 picture has its references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.decode.references.base import NO_KEYFRAME

if TYPE_CHECKING:
    from vedette_server.decode.bitstream.mpeg4 import Mpeg4Vop
    from vedette_server.decode.bitstream.unit import AccessUnit


class Mpeg4References:
    """Watches the times of an MPEG-4 part 2 stream's VOPs (ISO/IEC 14496-2, 6.3.5).

    The headers count nothing, but each says when it is shown. Seen: a B-VOP that is shown after all
    that came (the one that it comes before is missing), and, in a stream without B-VOPs, a step in time
    longer than the usual one. Other losses show only in the times of the packets.
    """

    def __init__(self) -> None:
        self._why = NO_KEYFRAME
        self._anchor: Mpeg4Vop | None = None
        self._alone = True
        self._step = 0
        self._bidirectional = False

    def restarts(self, unit: AccessUnit) -> bool:
        """Whether decoding begins anew with this picture."""
        return bool(self._why) and unit.keyframe

    def judge(self, unit: AccessUnit) -> str:
        """Take in the next VOP and say what it lacks."""
        vop = unit.mpeg4
        if vop is None:
            return self._why
        if vop.bidirectional:
            self._bidirectional = True
            return self._why or self._lacks_between(vop)
        self._check_step(vop)
        self._alone = False
        if vop.intra:
            self._alone = bool(self._why)
            self._why = ""
        self._anchor = vop
        return self._why

    def _lacks_between(self, vop: Mpeg4Vop) -> str:
        if self._anchor is not None and vop.time > self._anchor.time:
            self.distrust("the picture that it comes before is missing")
            return self._why
        return "the picture that it comes after is missing" if self._alone else ""

    def _check_step(self, vop: Mpeg4Vop) -> None:
        if self._anchor is None or self._bidirectional or vop.resolution != self._anchor.resolution:
            return
        step = vop.time - self._anchor.time
        if step <= 0:
            return
        if self._step and step > self._step and not vop.intra:
            self.distrust(f"{step - self._step} ticks of time are missing before it")
        else:
            self._step = min(self._step, step) if self._step else step

    def lose(self, unit: AccessUnit, why: str) -> None:
        """Remember that the VOP just judged is missing or broken."""
        if not unit.disposable:
            self.distrust(why)

    def distrust(self, why: str) -> None:
        """Trust nothing until the next I-VOP."""
        self._why = self._why or why

    def stalled(self) -> bool:
        """Whether nothing can be believed until decoding begins anew."""
        return bool(self._why)

    def needs(self, unit: AccessUnit) -> bool:
        """Never: an I-VOP needs nothing."""
        del unit
        return False
