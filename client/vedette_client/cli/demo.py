"""The command `vedette demo`: a server, cameras, the events that they give, and a clip, in one go."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vedette_client import AnalyzeOptions, OptionsError
from vedette_client.cli.outcome import INTERRUPTED, outcome
from vedette_client.reach import Reach

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from rich.console import Console

    from vedette_client.cli.camera import Shot
    from vedette_client.cli.finding import TruthCheck
    from vedette_client.cli.server_process import ServerProcess

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_SCENES = 4
_ENGINE_SCENES = {"person": "walkers", "blobs": "blobs"}

Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SOURCE]...", help="Cameras, files or scenes to show as well, as for vedette stream. Default: none."
    ),
]
EngineName = Annotated[str, typer.Option("--engine", metavar="NAME[@VERSION]", help="Engine that looks.")]
Seconds = Annotated[
    float, typer.Option("--seconds", metavar="S", min=0.0, help="How long, in seconds; 0: until Ctrl-C.")
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Directory for the clip and the server's log.")]


@app.command("demo")
def demo(
    sources: Sources = None, engine: EngineName = "person", seconds: Seconds = 30.0, out: Out = Path("out")
) -> None:
    """Show it all: a server, four synthetic cameras, the events they give, and an annotated clip."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionsError(f"--out is {str(out)!r}; it cannot be made: {error.strerror}") from error
    wishes = _wishes(sources or [], engine, seconds or None)
    raise typer.Exit(asyncio.run(_demo(wishes, engine, out)))


def _wishes(sources: Sequence[str], engine: str, duration_s: float | None) -> list[Shot]:
    from vedette_client.cli.shots import shots, unique_names  # noqa: PLC0415  it imports PyAV

    scene = _ENGINE_SCENES.get(engine.partition("@")[0], "walkers")
    scenes = [f"synthetic:{scene}?seed={seed}" for seed in range(1, _SCENES + 1)]
    names = [f"street-{number}" for number in range(1, _SCENES + 1)]
    options = AnalyzeOptions(engines=(engine,))
    # What a user brings is shown for as long as the scenes are.
    given = shots(sources, unique_names([*names, *sources])[_SCENES:], options, loop=True, duration_s=duration_s)
    return given + shots(scenes, names, options, duration_s=duration_s)


async def _demo(wishes: Sequence[Shot], engine: str, out: Path) -> int:
    from vedette_client.cli.terminal import console as build_console  # noqa: PLC0415  other commands need no table

    console = build_console()
    async with _serving(engine, [wish.channel for wish in wishes[-_SCENES:]], out, console) as server:
        return await _show(wishes, Reach(server.address), console, out)


@contextlib.asynccontextmanager
async def _serving(engine: str, scenes: Sequence[str], out: Path, console: Console) -> AsyncIterator[ServerProcess]:
    """Start a server that monitors the scenes, and stop it at the end, whatever happens."""
    from vedette_client.cli.demo_events import write_channels  # noqa: PLC0415
    from vedette_client.cli.server_process import ServerProcess  # noqa: PLC0415

    # A demo begins without a past.
    shutil.rmtree(out / "state", ignore_errors=True)
    write_channels(out / "channels.toml", scenes)
    log = out / "server.log"
    server = ServerProcess(
        ["--engine", engine, "--state", str(out / "state"), "--channels", str(out / "channels.toml")], log
    )
    try:
        with console.status(f"starting a server with the engine {engine} ..."):
            await server.start()
        console.print(f"server on {server.address}, process {server.pid}, log in {log}", soft_wrap=True)
        yield server
    finally:
        with console.status("stopping the server ..."):
            code = await server.stop()
        if server.address:
            console.print(f"server stopped, exit code {code}")


async def _show(wishes: Sequence[Shot], where: Reach, console: Console, out: Path) -> int:
    from vedette_client.cli.annotating import Annotating  # noqa: PLC0415
    from vedette_client.cli.board import Board, summary  # noqa: PLC0415
    from vedette_client.cli.camera import Camera, Listener  # noqa: PLC0415
    from vedette_client.cli.demo_events import EventShow  # noqa: PLC0415
    from vedette_client.cli.finding import TruthCheck  # noqa: PLC0415
    from vedette_client.cli.running import Interruption, run_cameras  # noqa: PLC0415

    interruption, events, clip = Interruption(), EventShow(console), out / "demo.mp4"
    checks = [TruthCheck() for _ in wishes]
    listeners: list[list[Listener]] = [[check] for check in checks]
    listeners[0].append(Annotating(clip))
    cameras = [Camera(shot, interruption.stop, heard) for shot, heard in zip(wishes, listeners, strict=True)]
    board = Board(cameras, console, f"vedette demo: {len(cameras)} cameras, engine {wishes[0].options.engines[0]}")
    async with events.watching(where):
        await run_cameras(cameras, where, board, interruption)
    console.print(summary(cameras))
    console.print(_found(checks))
    await events.keep_one(where, out)
    if clip.exists():
        console.print(f"annotated clip of {wishes[0].channel}: {clip}", soft_wrap=True)
    code = outcome(cameras, "vedette demo")
    return INTERRUPTED if interruption.count and not code else code


def _found(checks: Sequence[TruthCheck]) -> str:
    """Say how what was found compares with what the scenes know to be there."""
    frames = sum(check.frames for check in checks)
    hits, misses = sum(check.hits for check in checks), sum(check.misses for check in checks)
    if not hits + misses:
        return f"truth: {frames} analysed pictures of scenes, nothing to be found in them"
    false = sum(check.false_positives for check in checks)
    return (
        f"truth: in {frames} analysed pictures of scenes {hits} of {hits + misses} objects were found "
        f"({hits / (hits + misses):.1%}), {false} times something that is not there"
    )
