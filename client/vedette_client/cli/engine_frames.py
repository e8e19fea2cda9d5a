"""Write frames that a server's engine saw into folders, one for each channel."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from vedette_client.engine_info import SampledFrame

# Nothing for so long is told: most likely no camera is connected.
_SILENCE_S = 10.0


class FrameFolder:
    """A folder of clips, each a folder of pictures; what lies there already stays.

    Args:
        path: The folder; it is made with the first frame.

    Attributes:
        frames: How many were written.
        channels: Of which channels.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next: dict[str, int] = {}
        self.frames = 0

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels of which there are frames."""
        return tuple(self._next)

    def told(self) -> str:
        """Say in a line what is there now."""
        channels = "1 channel" if len(self._next) == 1 else f"{len(self._next)} channels"
        return f"{self.frames} frame{'' if self.frames == 1 else 's'} of {channels} in {self._path}"

    def write(self, frame: SampledFrame) -> None:
        """Write a frame behind those of its channel.

        Raises:
            OSError: It cannot be written.
        """
        folder = self._path / folder_name(frame.channel)
        if frame.channel not in self._next:
            folder.mkdir(parents=True, exist_ok=True)
            numbers = [int(found[1]) for one in folder.iterdir() if (found := re.fullmatch(r"(\d+)\.png", one.name))]
            self._next[frame.channel] = max(numbers, default=0) + 1
        (folder / f"{self._next[frame.channel]:06d}.png").write_bytes(frame.png)
        self._next[frame.channel] += 1
        self.frames += 1


async def take(frames: AsyncGenerator[SampledFrame, None], folder: FrameFolder, count: int) -> None:
    """Write frames as they come, and say how far it is.

    Raises:
        ClientError: The server refuses, or the connection breaks.
        OSError: A frame cannot be written.
    """
    from rich.progress import Progress  # noqa: PLC0415  other commands need none

    from vedette_client.cli.terminal import console  # noqa: PLC0415

    reminder = asyncio.create_task(_remind(folder))
    output = console(stderr=True)
    try:
        with Progress(console=output, transient=True, disable=not output.is_terminal) as progress:
            task = progress.add_task("frames", total=count)
            async for frame in frames:
                await asyncio.to_thread(folder.write, frame)
                progress.update(task, completed=folder.frames, description=f"{len(folder.channels)} channels")
    finally:
        reminder.cancel()
        await frames.aclose()


def folder_name(channel: str) -> str:
    """Make a channel's name fit for a folder: never one that leads elsewhere."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", channel)
    return name if name.strip(".") else f"_{name}"


async def _remind(folder: FrameFolder) -> None:
    await asyncio.sleep(_SILENCE_S)
    if not folder.frames:
        typer.echo("vedette engine: no frame yet; only channels that run this engine now give frames", err=True)
