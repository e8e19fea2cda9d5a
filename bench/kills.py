"""Kill -9 a monitoring server a hundred times while it writes: all that a watcher was shown is there, and verifies."""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.kills_site import (
    CAMERAS,
    SCENE,
    START_S,
    Killed,
    Watcher,
    different,
    kind_of,
    site,
    stamp,
    until,
    whole_watch,
)
from bench.kills_store import Files, Kept, check_chain, check_ids, missed, pieces, read
from bench.setting import ROOT, keep
from vedette_client import Client, ClientError, EvidenceState, Policy
from vedette_client.sources import open_source

if TYPE_CHECKING:
    from vedette_client.events_chain import ChainHead

# Where a kill strikes: while the store is opened and recovered, at any time, when the database's log grows, when a file
# of evidence is being written, when a watcher was just shown a change.
MOMENTS = {"start": 15, "any": 20, "commit": 25, "file": 25, "told": 15}
PATIENCE_S = 3.0


class Trial:
    """One state folder, and all that happens to it.

    Args:
        folder: Where to.
        seed: Of moments and scenes.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.state, self.channels, self.log = folder / "state", folder / "channels.toml", folder / "log"
        self.channels.write_text(site(), encoding="utf-8")
        self.rng = random.Random(seed)
        self.watcher = Watcher()
        self.files = Files(self.state / "evidence")
        self.heads: list[ChainHead] = []
        self.acknowledged: set[str] = set()
        self.found: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self._compared = self._open = 0

    async def round(self, moment: str) -> None:
        """Start a server, let it work, kill it, and look at what is left."""
        server = Killed(self.state, self.channels, self.log)
        try:
            if moment == "start":
                await self._recovery(server)
            else:
                await self._work(await server.serving(), moment, server)
        finally:
            server.kill()
        self._look_at_log(server.output)
        self._after_kill(moment)

    async def last(self) -> dict[str, Any]:
        """Start once more, and compare everything."""
        server = Killed(self.state, self.channels, self.log)
        try:
            address = await server.serving()
            figures = await self._ask(address)
        finally:
            server.process.terminate()
            server.process.wait(60)
        self._look_at_log(server.output)
        kept = read(self.state)
        self._whole(kept)
        changes_missed, twice = missed([one.record for one in self.watcher.seen])
        if changes_missed or twice or self.watcher.gaps:
            self.wrong.append(f"the watcher missed {changes_missed}, saw {twice} twice, gaps {self.watcher.gaps[:3]}")
        evidence = [f"{kind_of(one)} {state}" for state in ("ready", "failed") for one in pieces(kept, state)]
        return figures | {
            "records": len(kept.rows),
            "events": len(kept.listed),
            "changes shown to the watcher": len(self.watcher.seen),
            "events shown to the watcher": len({one.name for one in self.watcher.seen}),
            "acknowledgements answered": len(self.acknowledged),
            "evidence": dict(collections.Counter(evidence)),
        }

    async def _work(self, address: str, moment: str, server: Killed) -> None:
        self._after_start()
        tasks = [asyncio.create_task(self.watcher.look(address))]
        tasks += [asyncio.create_task(self._camera(address, name)) for name in CAMERAS]
        tasks.append(asyncio.create_task(self._desk(address)))
        try:
            await self._moment(moment)
            server.kill()
        finally:
            for task in tasks:
                task.cancel()
            for error in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(error, Exception) and not isinstance(error, ClientError):
                    raise error

    async def _recovery(self, server: Killed) -> None:
        """Wait until the store is opened, or until the first of what was left open is ended, and a bit longer."""
        log = self.state / "events.db-wal"
        before = stamp(log)
        await server.opening()
        if self.rng.random() < 0.3:
            await asyncio.sleep(self.rng.uniform(0.0, 0.3))
            return
        # Where nothing was left open, nothing is written until it serves.
        await until(lambda: stamp(log) != before or "serving on" in server.output, START_S, 0.0005)
        await asyncio.sleep(self.rng.uniform(0.0, 0.1))

    async def _moment(self, moment: str) -> None:
        log, incoming = self.state / "events.db-wal", self.state / "evidence" / ".incoming"
        await until(lambda: bool(self.heads), 60.0, 0.05)
        await asyncio.sleep(self.rng.uniform(0.2, 3.0 if moment == "any" else 2.0))
        if moment == "commit":
            before = stamp(log)
            await until(lambda: stamp(log) != before, PATIENCE_S, 0.0005)
        elif moment == "file":
            await until(lambda: any(incoming.glob("*.jpg")), PATIENCE_S, 0.0005)
        elif moment == "told":
            self.watcher.told.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.watcher.told.wait(), PATIENCE_S)
            return
        if moment != "any":
            await asyncio.sleep(self.rng.uniform(0.0, 0.004))

    async def _camera(self, address: str, name: str) -> None:
        """Send short scenes, one after the other: sessions end, and with them events and clips."""
        async with Client(address) as client:
            while True:
                url = SCENE.format(seed=self.rng.randrange(10_000), seconds=self.rng.uniform(0.7, 2.0))
                source = open_source(url, pace=True)
                with contextlib.suppress(ClientError):
                    async for _ in client.analyze(source, name, engines=["blobs"], policy=Policy.EVERY_FRAME):
                        pass
                await asyncio.sleep(0.05)

    async def _desk(self, address: str) -> None:
        """Acknowledge some of what is shown, and export the chain's head now and then."""
        async with Client(address) as client:
            while True:
                await asyncio.sleep(0.3)
                with contextlib.suppress(ClientError):
                    if (head := await client.events.chain_head()).length:
                        self.heads.append(head)
                    if self.watcher.seen:
                        event = self.rng.choice(self.watcher.seen[-20:])
                        await client.events.acknowledge(event, user="ann", note="seen")
                        self.acknowledged.add(event.event_id)

    def _after_kill(self, moment: str) -> None:
        """Look at what a kill has left: what was shown must be there at once; the rest tells what was struck."""
        kept = read(self.state)
        self.found[f"kills, {moment}"] += 1
        left = len(kept.open())
        if moment == "start" and self._open:
            done = "not begun" if left == self._open else "half done" if left else "done"
            self.found[f"kills while starting, recovery {done}"] += 1
        self._open = left
        self.found["kills that left events or evidence open"] += bool(left)
        self.found["events left open"] += left
        self.found["kills that left a half-written file"] += bool(self.files.incoming())
        self.found["kills that left a file no event names"] += bool(self.files.orphans(kept))
        self.wrong += [f"after a kill ({moment}): {one}" for one in check_chain(kept) + self.files.check(kept)[1]]
        for event in self.watcher.seen[self._compared :]:
            self.wrong += different(event, kept)
        self._compared = len(self.watcher.seen)

    def _after_start(self) -> None:
        """Look at what a start has made of it, before any camera is back."""
        kept = read(self.state)
        count, wrong = self.files.check(kept)
        self.found["restarts that served"] += 1
        self.found["files compared after restarts"] += count
        wrong += [f"{one} is open though its server is dead" for one in kept.open()]
        wrong += [f"{one} belongs to no event" for one in self.files.orphans(kept)]
        wrong += ["files in .incoming"] * bool(self.files.incoming())
        self.wrong += [f"after a restart: {one}" for one in wrong + check_chain(kept) + check_ids(kept)]

    def _whole(self, kept: Kept) -> None:
        """Compare everything with all that was shown, answered and exported."""
        self.wrong += [f"at the end: {one}" for one in check_chain(kept) + check_ids(kept) + self.files.check(kept)[1]]
        self.wrong += [f"at the end: {one} belongs to no event" for one in self.files.orphans(kept)]
        self.wrong += [f"at the end: {one} is open" for one in kept.open()]
        for event in self.watcher.seen:
            self.wrong += different(event, kept)
        latest = kept.latest
        for name in self.acknowledged:
            if (latest[name]["acknowledgement"] or {}).get("user") != "ann":
                self.wrong.append(f"the acknowledgement of {name} was answered, and is lost")
        for head in self.heads:
            if head.length and kept.rows[head.length - 1].hash.hex() != head.hash:
                self.wrong.append(f"the chain has another hash at {head.length} than its head, which was exported")

    async def _ask(self, address: str) -> dict[str, Any]:
        """Have the server and its own tools check everything, and watch it all once more from the beginning."""
        await self._catch_up(address)
        async with Client(address) as client:
            listed = [event async for event in client.events.find()]
            names = collections.Counter(event.name for event in listed)
            self.wrong += [f"{name} is listed {count} times" for name, count in names.items() if count > 1]
            length = (await client.events.chain_head()).length
            again = {event.record: event async for event in whole_watch(client, length)}
            self.wrong += [
                f"{event.name} was shown otherwise at {event.record}"
                for event in self.watcher.seen
                if again.get(event.record) != event
            ]
            kept = {event.name: event.record for event in listed}
            self.wrong += [f"{e.name} is lost" for e in self.watcher.seen if kept.get(e.name, 0) < e.record]
            for head in (self.heads[0], *self.heads[-5:]):
                checked = await client.events.verify(head, files=head is self.heads[0])
                self.wrong += checked.findings
            fetched = 0
            for event in self.rng.sample(listed, min(len(listed), 100)):
                if event.clip.state is EvidenceState.READY:
                    await client.events.clip(event, self.state.parent / "clip.mp4")
                    fetched += 1
        said = await asyncio.to_thread(self._cli, address)
        return {
            "events verify --head --files": said,
            "records behind the head exported before the first kill": length - self.heads[0].length,
            "heads exported": len(self.heads),
            "clips fetched and their hashes compared": fetched,
        }

    async def _catch_up(self, address: str) -> None:
        """Let the watcher see the last of it."""
        async with Client(address) as client:
            length = (await client.events.chain_head()).length
        task = asyncio.create_task(self.watcher.look(address))
        await until(lambda: bool(self.watcher.seen) and self.watcher.seen[-1].record >= length, 30.0, 0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _cli(self, address: str) -> str:
        head = self.state.parent / "head.json"
        head.write_text(self.heads[0].to_json(), encoding="utf-8")
        command = ["events", "verify", "--server", address, "--head", str(head), "--files"]
        done = subprocess.run(
            [Path(sys.executable).with_name("vedette"), *command],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            self.wrong.append(f"vedette events verify: {done.stdout}{done.stderr}")
        return f"exit code {done.returncode}: {' '.join(done.stdout.split())}"

    def _look_at_log(self, output: str) -> None:
        if "Traceback" in output or "event_lost" in output:
            self.wrong.append(f"the log has {output[max(output.find('Traceback') - 300, 0) :][:2000]}")
        self.found["restarts that removed files no event names"] += "files that no event names were removed" in output
        self.found["restarts that ended what was open"] += "were left open and are ended now" in output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="kill so often")
    parser.add_argument("--seed", type=int, default=0, help="of moments and scenes")
    parser.add_argument("--folder", type=Path, default=None, help="work here, and leave everything there")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(dir=out())))
        folder.mkdir(parents=True, exist_ok=True)
        figures, wrong = asyncio.run(run(folder, options.kills, options.seed))
    keep("kills", figures | {"wrong": len(wrong), "what is wrong": wrong[:50]})
    if wrong:
        raise SystemExit(f"{len(wrong)} things are wrong")


async def run(folder: Path, kills: int, seed: int) -> tuple[dict[str, Any], list[str]]:
    """Kill so often, then compare everything; return figures, and what is wrong."""
    began = time.monotonic()
    trial = Trial(folder, seed)
    weighted = [moment for moment, weight in MOMENTS.items() for _ in range(weight)]
    # The first server lives until it has exported a head that all others have to contain.
    moments = ["any", *trial.rng.sample(weighted * (kills // len(weighted) + 1), kills - 1)]
    for number, moment in enumerate(moments, 1):
        await trial.round(moment)
        print(f"{number:3} {moment:6} {len(trial.watcher.seen):6} changes shown, {len(trial.wrong)} wrong", flush=True)
    figures = await trial.last()
    how = "SIGKILL of the worker: the kernel lives on, so what was written but not yet synchronised is not lost."
    return {"how": how, "kills": kills, **trial.found, **figures, "seconds": time.monotonic() - began}, trial.wrong


def out() -> Path:
    """Return the folder for what a run leaves behind: beside the project, on a real disk."""
    folder = ROOT / "out"
    folder.mkdir(exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
