"""Real clips through the whole server, against what a plain loop over the same model found."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import av
import pytest

from support_agreement import agreement
from vedette_client import Client, Policy
from vedette_client.sources import open_source

if TYPE_CHECKING:
    from pathlib import Path

    from support_serving import ServerProcess
    from vedette_client import Verdict

CLIPS = [
    "intel_store-aisle-detection_h264_pingpong4.mp4",
    "intel_classroom_h264_pingpong4.mp4",
    "intel_worker-zone-detection_h264_pingpong4.mp4",
]
# The longest of the four, 1394 frames, is checked by bench/golden.py.


async def analyse(server: ServerProcess, clip: Path, engine: str, min_score: float) -> list[Verdict]:
    async with Client(server.address) as client:
        stream = client.analyze(
            open_source(str(clip), pace=False),
            channel=clip.stem,
            engines=[engine],
            policy=Policy.EVERY_FRAME,
            min_score=min_score,
            iou=0.45,
        )
        return [verdict async for verdict in stream]


def decodable(clip: Path) -> list[int]:
    """Presentation times of the frames that a plain loop decodes."""
    with av.open(str(clip)) as container:
        return [frame.pts for frame in container.decode(video=0)]


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.timeout(300)
async def test_a_clip_gives_what_the_plain_loop_gave(name: str, assets: Path, yolox_server: ServerProcess) -> None:
    clip = assets / "clips" / name
    golden = json.loads((assets / "golden" / f"{name}.json").read_text())["frames"]

    verdicts = await analyse(yolox_server, clip, "yolox-nano", min_score=0.3)

    assert [verdict.index for verdict in verdicts] == list(range(len(verdicts)))
    assert sorted(verdict.sequence for verdict in verdicts) == list(range(len(verdicts)))
    analysed = [verdict for verdict in verdicts if verdict.analysed]
    assert [verdict.pts for verdict in analysed] == decodable(clip)
    ours = [
        [(*detection.box_px, detection.score, detection.label) for detection in verdict.detections]
        for verdict in analysed
    ]
    theirs = [[tuple(found) for found in frame["det"]] for frame in golden]
    precision, recall = agreement(ours, theirs)
    assert precision >= 0.99
    assert recall >= 0.99
