"""The command `vedette stream`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from vedette_client import AnalyzeOptions, OptionsError
from vedette_client.cli import reach as to
from vedette_client.cli import wanted
from vedette_client.cli.outcome import INTERRUPTED, outcome
from vedette_client.cli.wanted import PolicyName, labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vedette_client.cli.camera import Listener, Shot
    from vedette_client.reach import Reach

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="A video file, a still, a directory of stills, an RTSP or HTTP URL, /dev/videoN or webcam:N, "
        "synthetic:walkers or synthetic:blobs (with ?seed=1&fps=15&...).",
    ),
]
Channels = Annotated[
    list[str] | None,
    typer.Option(
        "--channel", metavar="NAME", help="Name of the channel, once per source. Default: from the source's name."
    ),
]
Loop = Annotated[bool, typer.Option("--loop", help="Begin recordings again at their end.")]
Pace = Annotated[
    bool, typer.Option("--pace/--no-pace", help="Send recordings by their own clock, or as fast as they are taken.")
]
Duration = Annotated[
    float | None,
    typer.Option(
        "--duration",
        metavar="S",
        min=0.0,
        help="End after so many seconds; 0: do not. Default: at the sources' own end, which cameras have not.",
    ),
]
JsonlFile = Annotated[
    str | None,
    typer.Option(
        "--jsonl",
        metavar="FILE",
        help="Write each verdict as one JSON object a line, - for standard output. Default: none. "
        "Keys: channel, source, sequence, index, time_s, outcome (analysed, skipped), reason, detail, age_ms, picture, "
        "concealed, times_us, request_id, results.",
    ),
]
AnnotateFile = Annotated[
    Path | None,
    typer.Option(
        "--annotate",
        metavar="OUT.mp4",
        help="Write a video with what was found drawn into it; OUT-CHANNEL.mp4 each when there are several sources. "
        "Default: none.",
    ),
]


@app.command(
    "stream",
    help="Send cameras, files or scenes to a server and show what is seen.\n\n"
    "Ends with a summary: what was sent, what became of it, and whether the server counted the same. Ctrl-C ends the "
    "sources and waits for the verdicts under way; a second one ends at once.",
)
def stream(
    sources: Sources,
    server: to.Server = to.DEFAULT_SERVER,
    engine: wanted.Engine = ["person"],  # noqa: B006  typer copies it
    channel: Channels = None,
    policy: wanted.PolicyOption = PolicyName.LIVE,
    max_fps: wanted.MaxFps = None,
    min_score: wanted.MinScore = None,
    iou: wanted.Iou = None,
    classes: wanted.Classes = None,
    priority: wanted.Priority = None,
    max_age_ms: wanted.MaxAge = None,
    loop: Loop = False,
    pace: Pace = True,
    duration: Duration = None,
    jsonl: JsonlFile = None,
    annotate: AnnotateFile = None,
    tls: to.Tls = False,
    tls_ca: to.TlsCa = None,
    tls_cert: to.TlsCert = None,
    tls_key: to.TlsKey = None,
    token: to.Token = None,
) -> None:
    """Send cameras, files or scenes to a server and show what is seen."""
    from vedette_client.cli.shots import shots  # noqa: PLC0415  it imports PyAV

    options = AnalyzeOptions(
        engines=tuple(engine),
        policy=policy.policy,
        max_fps=max_fps,
        max_age_s=None if max_age_ms is None else max_age_ms / 1000,
        min_score=min_score,
        iou=iou,
        classes=labels(classes),
        priority=priority,
    )
    where = to.reach(server, tls, tls_ca, tls_cert, tls_key, token)
    wishes = shots(sources, channel or [], options, pace=pace, loop=loop, duration_s=duration or None)
    files = clip_paths(annotate, [shot.channel for shot in wishes])  # before the other file is emptied
    with _opened(jsonl) as output:
        code = asyncio.run(_stream(wishes, where, output, files))
    raise typer.Exit(code)


async def _stream(wishes: Sequence[Shot], where: Reach, output: TextIO | None, files: Sequence[Path | None]) -> int:
    from vedette_client.cli.board import Board, summary  # noqa: PLC0415
    from vedette_client.cli.camera import Camera  # noqa: PLC0415
    from vedette_client.cli.running import Interruption, run_cameras  # noqa: PLC0415
    from vedette_client.cli.terminal import console as build_console  # noqa: PLC0415

    console = build_console(stderr=output is sys.stdout)
    interruption = Interruption()
    cameras = [
        Camera(shot, interruption.stop, _listeners(shot, output, path))
        for shot, path in zip(wishes, files, strict=True)
    ]
    await run_cameras(cameras, where, Board(cameras, console, f"vedette stream to {where.address}"), interruption)
    if any(camera.stream is not None for camera in cameras):
        console.print(summary(cameras))
    for camera, path in zip(cameras, files, strict=True):
        if path is not None and path.exists():
            console.print(f"{camera.shot.channel}: drawn into {path}", soft_wrap=True)
    # Why a camera failed is told, also when the others went on until Ctrl-C.
    code = outcome(cameras, "vedette stream")
    return INTERRUPTED if interruption.count else code


def clip_paths(path: Path | None, channels: Sequence[str]) -> list[Path | None]:
    """Name the annotated videos: the path itself for one channel, one beside it for each of several.

    Raises:
        OptionsError: The name does not end in .mp4, or there is no such directory.
    """
    if path is None:
        return [None] * len(channels)
    if path.suffix.lower() != ".mp4":
        raise OptionsError(f"--annotate is {str(path)!r}; a name that ends in .mp4 is wanted")
    if not path.parent.is_dir():
        raise OptionsError(f"--annotate is {str(path)!r}; there is no directory {path.parent}")
    if len(channels) == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{channel}{path.suffix}") for channel in channels]


@contextlib.contextmanager
def _opened(jsonl: str | None) -> Iterator[TextIO | None]:
    """Open the file for the verdicts.

    Raises:
        OptionsError: It cannot be written.
    """
    if jsonl is None:
        yield None
    elif jsonl == "-":
        yield sys.stdout
    else:
        with contextlib.ExitStack() as stack:
            try:
                output = stack.enter_context(Path(jsonl).open("w", encoding="utf-8"))
            except OSError as error:
                raise OptionsError(f"--jsonl is {jsonl!r}; it cannot be written: {error.strerror}") from error
            yield output


def _listeners(shot: Shot, output: TextIO | None, path: Path | None) -> list[Listener]:
    from vedette_client.cli.annotating import Annotating  # noqa: PLC0415
    from vedette_client.cli.jsonl import JsonLines  # noqa: PLC0415

    listeners: list[Listener] = []
    if output is not None:
        listeners.append(JsonLines(output, shot.channel, shot.spec))
    if path is not None:
        listeners.append(Annotating(path))
    return listeners
