"""The commands of `vedette engine` that talk to a running server.

`cli/engine_group.py` decides when it is these that are meant.
"""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003  connected() has the annotations evaluated
from typing import TYPE_CHECKING, Annotated

import typer

from vedette_client.cli.connected import connected
from vedette_client.cli.outcome import say, tell
from vedette_client.client import Client  # noqa: TC001  connected() has the annotations evaluated
from vedette_client.engines import LOAD_TIMEOUT_S, MOST_FRAMES
from vedette_client.errors import OptionsError, RefusedError

if TYPE_CHECKING:
    from vedette_client.engine_info import Route, ShadowReport, ShadowSample

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help="Engines of a running server.")

_SHARE = re.compile(r"(\d+(?:\.\d+)?)(%?)")
_PICTURES_AT_ONCE = 50

Name = Annotated[str, typer.Argument(metavar="NAME", help="The engine.")]
NameOrVersion = Annotated[
    str, typer.Argument(metavar="NAME[@VERSION]", help="The engine. Default version: the newest.")
]
Patience = Annotated[
    float, typer.Option("--timeout", metavar="S", min=0.1, help="Wait so long for the server to be done.")
]


@app.command("list")
@connected
async def list_command(client: Client) -> None:
    """List the server's engines: what is loaded, and which version the channels get."""
    from vedette_client.cli.engine_pages import engines_table, troubles  # noqa: PLC0415  other commands need no table
    from vedette_client.cli.terminal import console  # noqa: PLC0415

    engines = await client.engines.list()
    output = console()
    output.print(engines_table(engines, f"engines of {client.address}"))
    for line in troubles(engines):
        output.print(line)


@app.command("inspect")
@connected
async def inspect_command(client: Client, name: NameOrVersion) -> None:
    """Show all that the server knows of an engine, or of one version of it."""
    from vedette_client.cli.engine_pages import engine_page  # noqa: PLC0415
    from vedette_client.cli.terminal import console  # noqa: PLC0415

    engine, _, version = name.partition("@")
    found = await client.engines.get(engine)
    if version and version not in {one.version for one in found.versions}:
        there = ", ".join(one.version for one in found.versions)
        raise OptionsError(f"engine {engine} has no version {version}; there are {there}")
    console().print(engine_page(found, version))


@app.command("load")
@connected
async def load_command(client: Client, name: NameOrVersion, timeout: Patience = LOAD_TIMEOUT_S) -> None:
    """Load and warm up an engine, and keep it loaded."""
    from vedette_client.cli.engine_pages import readable_bytes, runs_on  # noqa: PLC0415

    engine, _, version = name.partition("@")
    loaded = await client.engines.load(engine, version, timeout_s=timeout)
    tell(f"{engine} {loaded.version}: ready on {runs_on(loaded)}, {readable_bytes(loaded.memory_bytes)}")
    if loaded.fallback:
        tell(f"{engine} {loaded.version} runs {loaded.file}: {loaded.fallback}")


@app.command("unload")
@connected
async def unload_command(
    client: Client,
    name: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="The engine and its version.")],
    timeout: Patience = LOAD_TIMEOUT_S,
) -> None:
    """Let go of a version that no channel and no route needs."""
    engine, _, version = name.partition("@")
    if not version:
        raise OptionsError(f"which version of {engine} to unload is not said; {engine}@VERSION is wanted")
    gone = await client.engines.unload(engine, version, timeout_s=timeout)
    tell(f"{engine} {gone.version}: {gone.state.name.lower()}")


@app.command("route")
@connected
async def route_command(
    client: Client,
    name: Name,
    stable: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION|newest",
            help="The version for all channels but the canary's; newest: that, and those to come. Default: as it is.",
        ),
    ] = None,
    canary: Annotated[
        str | None,
        typer.Option(metavar="VERSION|none", help="The version for a share of the channels. Default: as it is."),
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(metavar="PERCENT", help="The canary's share, like 10% or 0.1. Default: as it is."),
    ] = None,
    shadow: Annotated[
        str | None,
        typer.Option(metavar="VERSION|none", help="The version that runs beside, compared. Default: as it is."),
    ] = None,
    revision: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Change nothing if the route is not at this revision. Default: any."),
    ] = None,
    timeout: Patience = LOAD_TIMEOUT_S,
) -> None:
    """Show which version the channels get, or change it."""
    if all(one is None for one in (stable, canary, share, shadow)):
        if revision is not None:
            raise OptionsError("--revision is for a change; say what is to change")
        _show(await client.engines.route(name))
        return
    route = await client.engines.update_route(
        name,
        stable="" if stable == "newest" else stable,
        canary="" if canary == "none" else canary,
        canary_share=None if share is None else read_share(share),
        shadow="" if shadow == "none" else shadow,
        revision=revision,
        timeout_s=timeout,
    )
    _show(route)
    if route.canary and not route.canary_share:
        typer.echo(f"No channel runs the canary yet: vedette engine route {name} --share 10%")


@app.command("promote")
@connected
async def promote_command(client: Client, name: Name, timeout: Patience = LOAD_TIMEOUT_S) -> None:
    """Make the canary, or where there is none the shadow, the stable version."""
    _show(await client.engines.promote(name, timeout_s=timeout))


@app.command("rollback")
@connected
async def rollback_command(
    client: Client,
    name: Name,
    to: Annotated[
        str, typer.Option("--to", metavar="VERSION", help="Take this version. Default: the stable one before.")
    ] = "",
    timeout: Patience = LOAD_TIMEOUT_S,
) -> None:
    """End canary and shadow, withdraw the stable version and take an earlier one."""
    _show(await client.engines.roll_back(name, to, timeout_s=timeout))


@app.command("shadow")
@connected
async def shadow_command(
    client: Client,
    name: Name,
    samples: Annotated[int, typer.Option("--samples", metavar="N", min=0, help="Show so many of the frames.")] = 10,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Write their pictures here, both results drawn. Default: none."
        ),
    ] = None,
) -> None:
    """Show how an engine's shadow compares with the stable version."""
    from vedette_client.cli.engine_pages import report_table, samples_table  # noqa: PLC0415
    from vedette_client.cli.terminal import console  # noqa: PLC0415

    report = await client.engines.shadow(name)
    console().print(report_table(report))
    found = await _samples(client, name, samples, output)
    if found:
        console().print()
        console().print(samples_table(found, samples))
    if output is not None:
        _write_samples(found, report, output)


@app.command("frames")
@connected
async def frames_command(
    client: Client,
    name: Name,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Write the frames here.")],
    count: Annotated[
        int, typer.Option("--count", metavar="N", min=1, max=MOST_FRAMES, help="End after so many frames.")
    ] = 200,
    interval: Annotated[
        float, typer.Option("--interval", metavar="S", min=0.01, max=3600, help="Seconds between two of one channel.")
    ] = 1.0,
    channel: Annotated[
        list[str] | None,
        typer.Option("--channel", metavar="NAME", help="Only of this channel; may be repeated. Default: of all."),
    ] = None,
) -> None:
    """Write frames of the live channels as PNG files, a folder for each channel.

    They are what the engine sees, for `vedette engine build --calibration DIR`.
    """
    from vedette_client.cli.engine_frames import FrameFolder, take  # noqa: PLC0415

    folder = FrameFolder(output)
    frames = client.engines.frames(name, count=count, interval_s=interval, channels=channel or ())
    try:
        await take(frames, folder, count)
    finally:
        if folder.frames:
            typer.echo(folder.told())


def read_share(text: str) -> float:
    """Read a share: a percentage with its sign, or a number from 0 to 1.

    Raises:
        OptionsError: It is neither.
    """
    found = _SHARE.fullmatch(text.strip())
    share = float(found[1]) / (100 if found[2] else 1) if found else -1.0
    if not 0 <= share <= 1:
        raise OptionsError(f"--share is {text!r}; allowed: 0% to 100%, or 0 to 1")
    return share


def _show(route: Route) -> None:
    from vedette_client.cli.engine_pages import route_page  # noqa: PLC0415
    from vedette_client.cli.terminal import console  # noqa: PLC0415

    console().print(route_page(route))


async def _samples(client: Client, name: str, wanted: int, output: Path | None) -> list[ShadowSample]:
    """Get the samples; who may not see pictures still gets the totals."""
    try:
        most = _PICTURES_AT_ONCE if output is not None else 1000
        return list(await client.engines.shadow_samples(name, limit=max(wanted, most), pictures=output is not None))
    except RefusedError as error:
        if output is not None or error.code != "PERMISSION_DENIED":
            raise
        say("vedette engine", f"the frames themselves are not shown: {error}")
        return []


def _write_samples(samples: list[ShadowSample], report: ShadowReport, folder: Path) -> None:
    from vedette_client.cli.engine_frames import folder_name  # noqa: PLC0415
    from vedette_client.drawing.compared import draw_sample  # noqa: PLC0415  it imports Pillow

    folder.mkdir(parents=True, exist_ok=True)
    for one in samples:
        sheet = draw_sample(
            one, f"{report.engine} {report.against}, stable", f"{report.engine} {report.version}, shadow"
        )
        sheet.save(folder / f"{one.index:05d}-{folder_name(one.channel)}-{one.sequence}.png")
    typer.echo(f"{len(samples)} pictures in {folder}")
