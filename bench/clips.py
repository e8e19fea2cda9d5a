"""Two real clips through a server that monitors, with YOLOX-nano: its events against what is in the pictures."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av

from bench.clips_scenes import KNOBS, SCENES, channel_of, site
from bench.clips_told import Sighted, Told, judge, tables
from bench.serving import Server
from bench.setting import RESULTS, circumstances, clip, yolox
from vedette_client import Client, EventKind, EventState, EvidenceState, Policy
from vedette_client.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.clips_scenes import Knob, Scene
    from vedette_client import Event, Verdict

PATIENCE_S = 60.0
CLASSES = ("person", "backpack", "handbag", "suitcase")
# Between these lines of the page the tables stand; what a person wrote around them stays.
BEGIN, END = "<!-- tables: written by python -m bench clips -->", "<!-- end of tables -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None, help="leave the annotated snapshots here, to be looked at")
    options = parser.parse_args()
    for scene in SCENES:
        clip(scene.clip)
    engines = yolox()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "channels.toml"
        file.write_text(site(), encoding="utf-8")
        flags = ("--engines-dir", str(engines), "--engine", "yolox-nano", "--tune-budget-s", "0")
        with Server("--state", f"{folder}/state", "--channels", str(file), *flags) as server:
            figures = asyncio.run(play_all(server.address, options.folder))
    write(tables(figures))
    text = json.dumps({"setting": circumstances(), "figures": figures}, indent=1)
    (RESULTS / "clips.json").write_text(text + "\n", encoding="utf-8")
    print(tables(figures))


async def play_all(address: str, folder: Path | None) -> dict[str, dict[str, Any]]:
    """Play each clip with each setting, and compare what was told with what is in it."""
    figures: dict[str, dict[str, Any]] = {}
    async with Client(address) as client:
        for scene in SCENES:
            figures[scene.name] = {}
            for knob in KNOBS:
                times = await play(client, scene, knob)
                events = await complete(client, channel_of(scene, knob))
                told = [tell(event, times.begin_s[event.sequence]) for event in events]
                figures[scene.name][knob.name] = judge(scene, told, times.frames, knob.later_s)
                print(f"{scene.name}, {knob.name}: {len(told)} events", flush=True)
                if folder is not None:
                    await pictures(client, folder / channel_of(scene, knob), list(zip(events, told, strict=True)))
    return figures


class Times:
    """When each frame was, and what was seen in it.

    Attributes:
        begin_s: Seconds from the clip's beginning, by the packet's sequence number.
        frames: What was seen, in order; skipped frames are not among them.
    """

    def __init__(self, verdicts: Sequence[Verdict], tick_s: float) -> None:
        shown = sorted((one for one in verdicts if one.pts is not None), key=lambda one: one.pts or 0)
        first = shown[0].pts or 0
        self.begin_s = {one.sequence: ((one.pts or 0) - first) * tick_s for one in shown}
        self.frames = [
            Sighted(
                self.begin_s[one.sequence],
                tuple(found.track_id.rpartition("-")[2] for found in one.detections if found.label == "person"),
            )
            for one in shown
            if one.analysed
        ]


async def play(client: Client, scene: Scene, knob: Knob) -> Times:
    """Send a clip, every frame, as fast as it goes."""
    path = clip(scene.clip)
    with av.open(str(path)) as container:
        tick_s = float(container.streams.video[0].time_base or 1)
    verdicts = [
        verdict
        async for verdict in client.analyze(
            open_source(str(path)),
            channel_of(scene, knob),
            engines=["yolox-nano"],
            policy=Policy.EVERY_FRAME,
            classes=CLASSES,
            max_fps=knob.max_fps,
        )
    ]
    return Times(verdicts, tick_s)


async def complete(client: Client, channel: str) -> list[Event]:
    """Wait until a channel's events are over and their evidence is there; return them, the oldest first.

    That nobody is there goes on when the stream is over, until somebody comes in a later one.
    """
    async with asyncio.timeout(PATIENCE_S):
        while True:
            events = await client.events.list(channel)
            pieces = [piece for one in events for piece in (one.snapshot, one.annotated_snapshot, one.clip)]
            pending = any(piece.state is EvidenceState.PENDING for piece in pieces)
            if not pending and all(one.state is EventState.ENDED or one.kind is EventKind.ABSENCE for one in events):
                return sorted(events, key=lambda one: (one.start_time_ns, one.rule))
            await asyncio.sleep(0.2)


def tell(event: Event, begin_s: float) -> Told:
    """Lay an event on the clip's own time."""
    return Told(
        event.rule,
        event.kind.word,
        round(begin_s, 2),
        round(begin_s + event.duration_s, 2),
        event.label,
        None if event.peak_score is None else round(event.peak_score, 2),
        tuple(one.rpartition("-")[2] for one in event.track_ids),
        {name: round(value, 2) for name, value in sorted(event.measures.items())},
        event.snapshot.state.word,
        event.clip.state.word,
        event.detail + ("" if event.state is EventState.ENDED else " (goes on)"),
    )


async def pictures(client: Client, folder: Path, events: Sequence[tuple[Event, Told]]) -> None:
    """Leave each event's annotated snapshot in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for event, told in events:
        if event.annotated_snapshot.state is EvidenceState.READY:
            name = f"{told.begin_s:05.2f}-{told.rule}-{event.event_id[-4:]}.jpg"
            (folder / name).write_bytes(await client.events.snapshot(event, annotated=True))


def write(text: str) -> None:
    """Put the tables into the page, between what a person wrote."""
    page = RESULTS / "clips.md"
    before, _, rest = (page.read_text(encoding="utf-8") if page.exists() else "").partition(BEGIN)
    after = rest.partition(END)[2]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after or chr(10)}", encoding="utf-8")


if __name__ == "__main__":
    main()
