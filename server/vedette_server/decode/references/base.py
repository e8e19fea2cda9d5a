"""The judges of references: which pictures have all that they refer to.

A lost packet is rarely said to be lost: FFmpeg fills in what is missing and goes on. So the headers
are read for what they say about the pictures before. One object per channel, fed with the access
units in decoding order; it never looks at pixels.

Where the headers of a codec cannot show a loss, the times are asked: see ``gaps``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vedette_server.decode.bitstream.unit import AccessUnit

NO_KEYFRAME = "no keyframe came yet"


class References(Protocol):
    """Judges pictures by what they refer to."""

    def judge(self, unit: AccessUnit) -> str:
        """Take in the next picture and say, in words, which reference it lacks; empty when none.

        Called for every access unit that shows or stores a picture, also for those which are dropped.
        """
        ...

    def restarts(self, unit: AccessUnit) -> bool:
        """Whether decoding begins anew with this picture; asked before ``judge``."""
        ...

    def lose(self, unit: AccessUnit, why: str) -> None:
        """Remember that the picture just judged is missing or broken."""
        ...

    def distrust(self, why: str) -> None:
        """Remember that packets of unknown kind are missing before the next one."""
        ...

    def stalled(self) -> bool:
        """Whether nothing can be believed until decoding begins anew."""
        ...

    def needs(self, unit: AccessUnit) -> bool:
        """Whether the decoder has to see a picture that ``judge`` found lacking, for later ones' sake."""
        ...
