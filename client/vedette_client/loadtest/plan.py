"""What a load test sends, and when. Pure code."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_client.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette_client.options import AnalyzeOptions
    from vedette_client.reach import Reach

MAX_CHANNELS = 100_000


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """One camera of a load test.

    Attributes:
        index: Its number, from 0.
        channel: Name of its channel.
        source: What it shows.
        phase_s: When its first frame is due, after the start.
    """

    index: int
    channel: str
    source: str
    phase_s: float


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """A load test.

    Attributes:
        reach: The server.
        channels: How many cameras.
        fps: Frames per second and camera.
        duration_s: For how long frames are due.
        sources: What the cameras show, dealt out in turn.
        options: What is wanted of each channel.
        jitter_s: Each frame is due up to so much later than the beat says.
        reconnect_every_s: All connections are cut this often; 0: never.
        processes: Sending processes, among which the cameras are dealt out.
        per_connection: Cameras that share one TCP connection.
        seed: Of the jitter.
        prefix: Channels are named `PREFIX-0000` and so on.
    """

    reach: Reach
    channels: int
    fps: float
    duration_s: float
    sources: tuple[str, ...]
    options: AnalyzeOptions
    jitter_s: float = 0.0
    reconnect_every_s: float = 0.0
    processes: int = 1
    per_connection: int = 8
    seed: int = 1
    prefix: str = "load"

    def __post_init__(self) -> None:
        if not self.sources:
            raise OptionsError("a load test without a source; at least one is wanted")
        _check("channels", self.channels, 1, MAX_CHANNELS)
        _check("fps", self.fps, 0.01, 1000)
        _check("duration", self.duration_s, 0.1, 1e6)
        _check("jitter", self.jitter_s, 0, 60)
        _check("seconds between reconnects", self.reconnect_every_s, 0, 1e6)
        _check("processes", self.processes, 1, 256)
        _check("cameras per connection", self.per_connection, 1, MAX_CHANNELS)

    def cameras(self, process: int | None = None) -> list[CameraPlan]:
        """List the cameras, all or those of one process; their beats are spread evenly over one interval."""
        interval_s = 1 / self.fps
        return [
            CameraPlan(
                index,
                f"{self.prefix}-{index:04}",
                self.sources[index % len(self.sources)],
                index / self.channels * interval_s,
            )
            for index in range(self.channels)
            if process is None or index % self.processes == process
        ]

    def schedule(self, camera: CameraPlan) -> Iterator[float]:
        """Tell when each frame of a camera is due, in seconds after the start; never earlier than the one before."""
        draw = random.Random(self.seed * 1_000_003 + camera.index)  # noqa: S311  no secret hangs on it
        due_s = 0.0
        for number in range(self.frames):
            beat_s = camera.phase_s + number / self.fps
            due_s = max(due_s, beat_s + draw.uniform(0, self.jitter_s)) if self.jitter_s else beat_s
            yield due_s

    @property
    def frames(self) -> int:
        """Frames per camera."""
        return max(1, round(self.duration_s * self.fps))

    @property
    def last_due_s(self) -> float:
        """When, at the latest, the last frame of any camera is due, in seconds after the start."""
        return self.duration_s + self.jitter_s + 1 / self.fps


def _check(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise OptionsError(f"{name} is {value:g}; {least:g} to {most:g} is wanted")
