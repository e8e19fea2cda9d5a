"""Whether an H.264 picture has its references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.decode.references.base import NO_KEYFRAME

if TYPE_CHECKING:
    from vedette_server.decode.bitstream.h264 import H264Slice
    from vedette_server.decode.bitstream.unit import AccessUnit


class H264References:
    """Counts the reference frames of an H.264 stream (`frame_num`, ITU-T H.264 7.4.3).

    Every reference frame raises the count by one, so a missing one shows at the next picture. From
    then on nothing is trusted until an IDR picture, or until a recovery point (D.2.8) is reached. Not
    seen: a run of lost pictures with a multiple of ``max_frame_num`` reference frames, or a whole
    number of equal groups of pictures; ``TimeGaps`` sees those when packets carry times.
    A stream that resets its count by `memory_management_control_operation` 5 is taken for a loss.
    A recovery point whose pictures are only approximately right is accepted as its encoder's word.
    """

    def __init__(self) -> None:
        self._why = NO_KEYFRAME
        self._previous: int | None = None
        self._recovery: tuple[int, int] | None = None
        self._leading: int | None = None

    def restarts(self, unit: AccessUnit) -> bool:
        """Whether decoding begins anew with this picture."""
        return bool(self._why) and unit.h264 is not None and _starts(unit.h264) and not unit.h264.second

    def judge(self, unit: AccessUnit) -> str:
        """Take in the next picture and say what it lacks."""
        picture = unit.h264
        if picture is None:
            return self._why
        if not picture.second:
            self._count(picture)
        if picture.reference:
            self._previous = picture.frame_num
        return self._why or self._lacks_before(picture)

    def _count(self, picture: H264Slice) -> None:
        if picture.idr:
            self._why, self._recovery, self._leading = "", None, None
            return
        if not self._why and self._previous is not None:
            missing = (picture.frame_num - self._previous - 1) % picture.max_frame_num
            if missing:
                self._why = f"{missing} reference frames are missing before frame_num {picture.frame_num}"
        if self._why:
            self._recover(picture)

    def _recover(self, picture: H264Slice) -> None:
        if self._recovery is None and _starts(picture):
            self._recovery = (picture.frame_num, picture.recovery_frames or 0)
            self._leading = None
        elif self._recovery is not None and self._previous is not None:
            missing = (picture.frame_num - self._previous - 1) % picture.max_frame_num
            if missing:
                self._recovery = None
        if self._recovery is None:
            return
        start, frames = self._recovery
        if (picture.frame_num - start) % picture.max_frame_num >= frames:
            self._why, self._recovery = "", None
            self._leading = picture.poc_lsb

    def _lacks_before(self, picture: H264Slice) -> str:
        """Name what a picture lacks that is shown before the recovery point it follows in the stream."""
        if self._leading is None or picture.poc_lsb is None:
            return ""
        after = (picture.poc_lsb - self._leading) % picture.max_poc_lsb
        if after > picture.max_poc_lsb // 2:
            return "it is shown before the point of recovery that it follows"
        if after and picture.reference:
            self._leading = None
        return ""

    def lose(self, unit: AccessUnit, why: str) -> None:
        """Remember that the picture just judged is missing or broken."""
        picture = unit.h264
        if picture is not None and not picture.reference:
            return
        if picture is not None and self._leading is not None and self._lacks_before(picture):
            return
        self.distrust(why)

    def distrust(self, why: str) -> None:
        """Trust nothing until the next place to start."""
        self._why = self._why or why
        self._recovery = None

    def stalled(self) -> bool:
        """Whether nothing can be believed until decoding begins anew."""
        return bool(self._why) and self._recovery is None

    def needs(self, unit: AccessUnit) -> bool:
        """Whether recovery is under way, or others that come before the recovery point refer to it."""
        return self._recovery is not None or (not self._why and unit.h264 is not None)


def _starts(picture: H264Slice) -> bool:
    """Whether a picture, or one that soon follows, owes nothing to those before it."""
    if picture.idr or picture.recovery_frames is not None:
        return True
    # With one reference frame an I picture that is one itself pushes out all that was before.
    return picture.intra and picture.reference and picture.max_ref_frames == 1 and not picture.field
