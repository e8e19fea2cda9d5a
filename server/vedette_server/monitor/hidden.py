"""Where the feet are of whoever stands behind somebody else: the box a rule goes by, of the box that was seen.

A detector's box ends where the one in front begins, so that its lower edge, and with it the point of reference, rises
from the floor to a shoulder and comes back, though nobody has moved. A box is completed at its lower edge to the height
that is known, where

- the height was known for `_KNOWN_S` at least, and is less now by more than width alone explains: whoever goes away
  from the camera shrinks on all sides;
- the upper edge is where it was: whoever sits down or bends lowers the head and keeps the feet;
- what is missing is covered by the box of another object: there is somebody to hide it.

For `_LONGEST_S` at most: by then nobody knows where the feet are, and the box counts as it is seen. What is known of a
size follows slowly, and not while it is completed. Who is hidden by what nobody tracks (a shelf, a pillar) is not
completed: from boxes alone that cannot be told from one who walks off. Neither are boxes hidden at a side or above.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vedette_server.monitor.base import Box

# A size is known after so long, and follows what is seen with this time constant; seconds.
_KNOWN_S, _FOLLOWS_S = 0.7, 2.0
# So long a box is completed at a stretch; seconds.
_LONGEST_S = 10.0
# Less than this share of the height that the width lets expect is hidden in part; less than these of height and width
# is another thing.
_PART, _LEAST_HEIGHT, _LEAST_WIDTH = 0.92, 0.2, 0.6
# The upper edge is where it was: within this share of the height.
_STAYS = 0.15
# So much of what is missing another box has to cover.
_COVERED = 0.6


class Wholeness:
    """What is known of the size of one object.

    Attributes:
        height: Its height as it is known, while its box is completed; None: it is not.
    """

    def __init__(self) -> None:
        self.height: float | None = None
        # Upper edge, width, height; None: it was never seen.
        self._known: tuple[float, float, float] | None = None
        self._time_s = -math.inf
        self._since_s = math.inf
        self._hidden_s = math.inf

    def take(self, box: Box, time_s: float, others: Iterable[Box]) -> Box:
        """Take the box of a sighting; return the one that rules go by, which may reach below the picture.

        Args:
            box: As it was seen.
            time_s: When.
            others: The boxes of all other objects in the same picture.
        """
        if self._known is None:
            self._since_s = time_s
        elif time_s - self._since_s >= _KNOWN_S and _is_shortened(box, self._known):
            whole = (box[0], box[1], box[2], box[1] + self._known[2])
            missing = (box[0], box[3], box[2], min(whole[3], 1.0))
            if any(_share(missing, other) >= _COVERED for other in others):
                self._hidden_s = min(self._hidden_s, time_s)
                if time_s - self._hidden_s <= _LONGEST_S:
                    self.height, self._time_s = self._known[2], time_s
                    return whole
                self._known, self._since_s = None, time_s
        self.height, self._hidden_s = None, math.inf
        self._follow(box, time_s)
        return box

    def _follow(self, box: Box, time_s: float) -> None:
        """Let what is known come nearer to what is seen."""
        seen = box[1], box[2] - box[0], box[3] - box[1]
        if self._known is None:
            self._known = seen
        else:
            share = 1.0 - math.exp(-max(time_s - self._time_s, 0.0) / _FOLLOWS_S)
            top, width, height = (old + share * (new - old) for old, new in zip(self._known, seen, strict=True))
            self._known = top, width, height
        self._time_s = time_s


def _is_shortened(box: Box, known: tuple[float, float, float]) -> bool:
    top, width, height = known
    if width <= 0.0 or height <= 0.0:
        return False
    wide, high = (box[2] - box[0]) / width, (box[3] - box[1]) / height
    stays = abs(box[1] - top) <= _STAYS * height
    return stays and wide >= _LEAST_WIDTH and _LEAST_HEIGHT <= high < _PART * min(wide, 1.0)


def _share(part: Box, cover: Box) -> float:
    """Tell how much of a box another one covers; 0 where it has no area."""
    wide = min(part[2], cover[2]) - max(part[0], cover[0])
    high = min(part[3], cover[3]) - max(part[1], cover[1])
    whole = (part[2] - part[0]) * (part[3] - part[1])
    return max(wide, 0.0) * max(high, 0.0) / whole if whole > 0.0 else 0.0
