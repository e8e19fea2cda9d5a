"""Every broken file beside a good camera: what becomes of each, and of the good one (goal 6)."""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from bench.serving import Server
from bench.setting import ASSETS, clip, keep, yolox
from vedette_client import Client, ClientError, Policy
from vedette_client.sources import open_source

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "intel_worker-zone-detection_h264_pingpong4.mp4"
ENGINE = "yolox-nano"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    clip(GOOD)
    with Server("--engines-dir", str(yolox()), "--engine", ENGINE) as server:
        keep("broken", asyncio.run(_all(server.address)))


async def _all(address: str) -> dict[str, Any]:
    alone = await _verdicts(address, ASSETS / "clips" / GOOD, "good")
    figures: dict[str, Any] = {}
    for path in sorted((ASSETS / "broken").iterdir()):
        outcome, beside = await asyncio.gather(
            _outcome(address, path), _verdicts(address, ASSETS / "clips" / GOOD, "good")
        )
        same = "the good camera's verdicts are the same" if beside == alone else "THE GOOD CAMERA'S VERDICTS DIFFER"
        figures[path.name] = f"{outcome}; {same}"
    return figures


async def _outcome(address: str, path: Path) -> str:
    try:
        told = await _verdicts(address, path, "broken")
    except ClientError as error:
        return f"{type(error).__name__}: {error}".replace(str(path), path.name)
    return ", ".join(f"{count} {what}" for what, count in Counter(one[1] for one in told).items())


async def _verdicts(address: str, path: Path, channel: str) -> list[tuple[Any, ...]]:
    async with Client(address) as client:
        stream = client.analyze(
            open_source(str(path), pace=False), channel, engines=[ENGINE], policy=Policy.EVERY_FRAME
        )
        return [
            (
                verdict.sequence,
                "analysed" if verdict.reason is None else verdict.reason.name,
                tuple((one.label, round(one.score, 5), one.box) for one in verdict.detections),
            )
            async for verdict in stream
        ]


if __name__ == "__main__":
    main()
