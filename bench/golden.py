"""Every real clip, nothing skipped, against a plain decode and the golden files (goal 1)."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import av

from bench.serving import Server
from bench.setting import ASSETS, ROOT, clip, keep, yolox
from vedette_client import Client, Policy
from vedette_client.sources import open_source

sys.path.insert(0, str(ROOT / "tests"))
from support_agreement import agreement

if TYPE_CHECKING:
    from pathlib import Path

H264, H265 = "intel_one-by-one-person-detection.mp4", "intel_one-by-one_h265.mp4"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    clip(H264)
    with Server("--engines-dir", str(yolox()), "--engine", "yolox-nano") as server:
        keep("golden", asyncio.run(_all(server.address)))


async def _all(address: str) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    found: dict[str, list[Any]] = {}
    for path in sorted((ASSETS / "clips").iterdir()):
        facts, found[path.name] = await _clip(address, path)
        figures[path.name] = facts
        print(f"  {path.name}: {facts}", flush=True)
    precision, recall = agreement(found[H265], found[H264])
    figures["H.265 in H.264, H.264 in H.265"] = (round(precision, 4), round(recall, 4))
    return figures


async def _clip(address: str, path: Path) -> tuple[dict[str, Any], list[Any]]:
    async with Client(address) as client:
        verdicts = [
            verdict
            async for verdict in client.analyze(
                open_source(str(path), pace=False),
                channel=path.stem,
                engines=["yolox-nano"],
                policy=Policy.EVERY_FRAME,
                min_score=0.3,
                iou=0.45,
            )
        ]
    with av.open(str(path)) as container:
        plain = [frame.pts for frame in container.decode(video=0)]
    analysed = [verdict for verdict in verdicts if verdict.analysed]
    found = [[(*one.box_px, one.score, one.label) for one in verdict.detections] for verdict in analysed]
    facts = {
        "packets": len(verdicts),
        "one verdict each": sorted(verdict.sequence for verdict in verdicts) == list(range(len(verdicts))),
        "analysed": len(analysed),
        "a plain loop decodes": len(plain),
        "in its order": [verdict.pts for verdict in analysed] == plain,
        "not analysed": {verdict.reason.name for verdict in verdicts if verdict.reason is not None} or "none",
    }
    golden = ASSETS / "golden" / f"{path.name}.json"
    if golden.exists():
        frames = json.loads(golden.read_text(encoding="utf-8"))["frames"]
        ours_in_golden, golden_in_ours = agreement(found, [[tuple(one) for one in frame["det"]] for frame in frames])
        facts["ours in golden (goal >= 0.99)"] = round(ours_in_golden, 4)
        facts["golden in ours (goal >= 0.99)"] = round(golden_in_ours, 4)
    return {key: str(value) if isinstance(value, set) else value for key, value in facts.items()}, found


if __name__ == "__main__":
    main()
