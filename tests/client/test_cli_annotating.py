"""The thread that draws a camera's clip: what it fails of is told, and nothing piles up behind it."""

from __future__ import annotations

import pytest

from vedette_client.cli.annotating import Annotating
from vedette_client.sources import open_source
from vedette_client.sources.base import SourcePacket
from vedette_client.verdicts import Verdict

SCENE = "synthetic:blobs?width=64&height=64&codec=jpeg&seconds=1"


class Odd:
    """A packet whose bytes cannot be taken."""

    def __len__(self) -> int:
        return 10


async def test_an_unforeseen_failure_of_drawing_is_told_and_nothing_waits_behind_it(tmp_path) -> None:
    source = open_source(SCENE, pace=False)
    annotating = Annotating(tmp_path / "seen.mp4")
    annotating.opened(source.open())
    annotating.sent(0, SourcePacket(Odd(), 0, 0, 1, keyframe=True))
    annotating._thread.join(10)
    for number in range(100):
        annotating.sent(number, SourcePacket(b"x", 0, 0, 1, keyframe=True))
        annotating.judged(Verdict(number, number, None, None), 0.0)

    with pytest.raises(OSError, match=r"seen\.mp4: drawing failed: TypeError"):
        await annotating.close()
    assert not annotating._steps
