"""Whether an HEVC picture has its references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.decode.references.base import NO_KEYFRAME

if TYPE_CHECKING:
    from vedette_server.decode.bitstream.hevc import HevcSlice
    from vedette_server.decode.bitstream.unit import AccessUnit

_HOPELESS = 8
"""After so many pictures in a row that lack a reference, none will come that does not."""


class HevcReferences:
    """Keeps the book of the pictures that an HEVC decoder holds (ITU-T H.265 8.3.1, 8.3.2).

    Every picture names those that it refers to and those that later ones may refer to, by picture order
    count: so what a loss breaks is known exactly, picture by picture. Not seen: a run of lost pictures
    after which counts and distances are what they would have been, such as a whole number of equal
    groups of pictures; ``TimeGaps`` sees those when packets carry times.
    """

    def __init__(self) -> None:
        self._why = NO_KEYFRAME
        self._kept: dict[int, str] = {}
        self._anchor = 0
        self._anchor_lost = False
        self._poc = 0
        self._lacking_in_a_row = 0

    def restarts(self, unit: AccessUnit) -> bool:
        """Whether decoding begins anew with this picture."""
        return unit.hevc is not None and unit.hevc.irap and (bool(self._why) or self._anchor_lost)

    def judge(self, unit: AccessUnit) -> str:
        """Take in the next picture and say what it lacks."""
        picture = unit.hevc
        if picture is None:
            return self._why
        anew = self.restarts(unit) or picture.idr or picture.breaks
        if anew:
            self._why, self._anchor_lost = "", False
            self._kept.clear()
        self._poc = picture.poc_lsb if anew else self._count(picture)
        if not anew and self._poc in self._kept:
            self.distrust(f"picture order count {self._poc} came twice")
        if picture.anchors:
            self._anchor = self._poc
        lacking = self._why or self._lacks(picture)
        self._kept[self._poc] = lacking
        self._anchor_lost |= bool(lacking) and picture.anchors
        self._lacking_in_a_row = self._lacking_in_a_row + 1 if lacking else 0
        if self._lacking_in_a_row >= _HOPELESS:
            self.distrust(lacking)
        return lacking

    def _count(self, picture: HevcSlice) -> int:
        """Tell the whole picture order count from its low bits (8.3.1)."""
        modulus = picture.max_poc_lsb
        anchor_lsb = self._anchor % modulus
        high = self._anchor - anchor_lsb
        if picture.poc_lsb < anchor_lsb and anchor_lsb - picture.poc_lsb >= modulus // 2:
            high += modulus
        elif picture.poc_lsb > anchor_lsb and picture.poc_lsb - anchor_lsb > modulus // 2:
            high -= modulus
        return high + picture.poc_lsb

    def _lacks(self, picture: HevcSlice) -> str:
        """Forget the pictures that no one needs any more, and name the first one that is missing."""
        kept: dict[int, str] = {}
        lacking = ""
        for poc, used in self._wanted(picture):
            state = self._kept.get(poc, f"picture {poc}, which it refers to, is missing")
            if poc in self._kept:
                kept[poc] = state
            if used and not picture.irap:
                lacking = lacking or state
        self._kept = kept
        return lacking

    def _wanted(self, picture: HevcSlice) -> list[tuple[int, bool]]:
        wanted = [(self._poc + delta, used) for delta, used in picture.short]
        modulus = picture.max_poc_lsb
        for lsb, cycles, used in picture.long:
            if cycles is not None:
                wanted.append((self._poc - self._poc % modulus - cycles * modulus + lsb, used))
                continue
            found = [poc for poc in self._kept if poc % modulus == lsb]
            wanted.append((found[0] if len(found) == 1 else lsb, used))
        return wanted

    def lose(self, unit: AccessUnit, why: str) -> None:
        """Remember that the picture just judged is missing or broken."""
        picture = unit.hevc
        if picture is None:
            self.distrust(why)
            return
        self._kept[self._poc] = why
        self._anchor_lost |= picture.anchors

    def distrust(self, why: str) -> None:
        """Trust nothing until the next intra random access point."""
        self._why = self._why or why

    def stalled(self) -> bool:
        """Whether nothing can be believed until decoding begins anew."""
        return bool(self._why)

    def needs(self, unit: AccessUnit) -> bool:
        """Never: what a picture lacks, those that refer to it lack as well."""
        del unit
        return False
