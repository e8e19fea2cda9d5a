"""Run cameras side by side until all have ended, or Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vedette_client.cli.board import Board
    from vedette_client.cli.camera import Camera
    from vedette_client.reach import Reach

# After Ctrl-C the frames that are under way may still get their verdicts within this time.
_FINISH_S = 5.0


class Interruption:
    """Ctrl-C: the first ends the sources, so that the accounts still close; the second ends everything.

    Attributes:
        stop: Set by the first.
        count: How often it came.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.count = 0
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def over(self, task: asyncio.Task[None]) -> Iterator[None]:
        """Watch for signals while a task of the running loop runs."""
        self._task = task
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _interrupt(self) -> None:
        self.count += 1
        self.stop.set()
        if self._task is None:
            return
        if self.count == 1:
            asyncio.get_running_loop().call_later(_FINISH_S, self._task.cancel)
        else:
            self._task.cancel()


async def run_cameras(cameras: Sequence[Camera], reach: Reach, board: Board, interruption: Interruption) -> None:
    """Run cameras and show them; each keeps its own outcome."""
    everything = asyncio.create_task(_run_all(cameras, reach))
    board.start()
    try:
        with interruption.over(everything):
            while not everything.done():
                board.refresh()
                await asyncio.wait([everything], timeout=board.refresh_s)
    finally:
        board.stop()
        everything.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await everything


async def _run_all(cameras: Sequence[Camera], reach: Reach) -> None:
    async with reach.client() as client, asyncio.TaskGroup() as group:
        for camera in cameras:
            group.create_task(camera.run(client), name=camera.shot.channel)
