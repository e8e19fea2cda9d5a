"""How a command ends: its exit code, and a line for each thing that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_client.cli.camera import Camera

FAILED = 1
WRONG = 2
INTERRUPTED = 130


def printable(text: str) -> str:
    """Make a text from a server safe to show: nothing of it steers the terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def tell(line: str) -> None:
    """Say a line on standard output, whatever a server put into it."""
    typer.echo(printable(line))


def say(who: str, what: str) -> None:
    """Say on standard error what is wrong, in one line; nothing when it was said already, as a help page is."""
    if line := " ".join(what.split()):
        typer.echo(f"{who}: {printable(line)}", err=True)


def outcome(cameras: Sequence[Camera], who: str) -> int:
    """Say which cameras failed, each reason once; returns the exit code."""
    failed: dict[str, list[str]] = {}
    for camera in cameras:
        if camera.error is not None:
            failed.setdefault(str(camera.error), []).append(camera.shot.channel)
    for reason, channels in failed.items():
        names = "" if len(channels) == len(cameras) else f"{', '.join(channels)}: "
        say(who, f"{names}{reason}")
    return FAILED if failed else 0
