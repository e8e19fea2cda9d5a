"""Hold what was found against what a synthetic scene knows to be there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_client.cli.timed import Due
from vedette_client.scene.truth import FrameTruth, match

if TYPE_CHECKING:
    from vedette_client.sources import SourceFormat, SourcePacket
    from vedette_client.verdicts import Verdict


class TruthCheck:
    """Counts hits and misses of one camera; a listener of its `Camera`.

    Attributes:
        frames: Analysed pictures whose truth is known.
        hits: Objects that were found.
        misses: Objects, visible enough, that were not.
        false_positives: Detections of nothing that is there.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.hits = 0
        self.misses = 0
        self.false_positives = 0

    def opened(self, form: SourceFormat) -> None:
        """Take no notice of what the source contains."""

    def sent(self, sequence: int, packet: SourcePacket) -> None:
        """Take no notice of packets: their verdicts bring them along."""

    def judged(self, verdict: Verdict, age_s: float) -> None:  # noqa: ARG002  a listener is told the age
        """Compare an analysed picture with its truth."""
        due = verdict.packet.truth if verdict.packet is not None else None
        if not verdict.analysed or not isinstance(due, Due) or not isinstance(due.truth, FrameTruth):
            return
        found = match(due.truth, verdict.detections)
        self.frames += 1
        self.hits += found.hits
        self.misses += found.misses
        self.false_positives += found.false_positives

    async def close(self) -> None:
        """Let go of nothing: nothing is held."""
