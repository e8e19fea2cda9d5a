"""Decide whether a picture that was kept may still be shown, by what its channel allows now.

With each piece it is kept what was blackened in it: `original` for nothing, else `masked:` and a mark for each area,
by commas. A piece may be shown when every area that has to be blackened now was blackened then: so a mask that was
added, moved or reshaped since refuses it, one that was taken away does not. Of a channel with NONE nothing may be
shown, nor of one that is not known any more, since nobody says what may be. Where it is not known what was blackened,
nothing was.

Threads: pure functions, callable from any.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from vedette_server.data.rules import EvidencePolicy
from vedette_server.errors import NotFoundError
from vedette_server.evidence.pixels import hidden

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_server.data.rules import Points, WatchConfig

ORIGINAL = "original"
_MASKED = "masked:"
_MARK_CHARS = 16


def kept_under(blackened: Sequence[Points]) -> str:
    """Tell of a piece what was blackened in it."""
    marks = sorted({_mark(area) for area in blackened})
    return _MASKED + ",".join(marks) if marks else ORIGINAL


def check_shown(what: str, channel: str, policy: str, watch: WatchConfig | None) -> None:
    """Let a piece be shown, or say why not.

    Args:
        what: Names the piece, for a person.
        channel: The channel's bare name.
        policy: What `kept_under` told when it was kept.
        watch: What is wanted of the channel now; None: it is not known.

    Raises:
        NotFoundError: EVIDENCE_NOT_SHOWN.
    """
    if watch is None:
        raise _not_shown(what, channel, f"channel {channel} is not known, so nothing says that it may be shown")
    if watch.evidence is EvidencePolicy.NONE:
        raise _not_shown(what, channel, f"nothing of channel {channel} may be shown now: its evidence is none")
    blackened = policy.removeprefix(_MASKED).split(",") if policy.startswith(_MASKED) else []
    missing = {_mark(area) for area in hidden(watch)}.difference(blackened)
    if missing:
        masks = "a privacy mask" if len(missing) == 1 else f"{len(missing)} privacy masks"
        raise _not_shown(what, channel, f"it was kept without {masks} that channel {channel} has now")


def _not_shown(what: str, channel: str, why: str) -> NotFoundError:
    return NotFoundError("EVIDENCE_NOT_SHOWN", f"{what}: {why}", channel=channel)


def _mark(area: Points) -> str:
    corners = json.dumps([[float(x), float(y)] for x, y in area])
    return hashlib.sha256(corners.encode()).hexdigest()[:_MARK_CHARS]
