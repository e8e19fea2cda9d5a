"""Open the lanes of an engine: as many as were asked for, or as there is memory for."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vedette_engines.cuda.base import CudaError
from vedette_engines.cuda.letterboxing import DeviceLetterbox
from vedette_engines.errors import EnginesError, LoadError
from vedette_engines.gpu.buckets import choose_sizes
from vedette_engines.gpu.keeping import Kept
from vedette_engines.gpu.lane import Lane, frame_bytes, no_annotation, row_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from vedette_engines.cuda.base import Device
    from vedette_engines.gpu.base import DeviceEngine
    from vedette_engines.gpu.lane import LaneSettings

MOST_LANES = 4
# What is left to others of the memory that is free: a runtime's own working memory, staged pictures, other engines.
_LEFT_FREE = 0.1
_MIB = 1 << 20


@dataclass(slots=True)
class OpenLanes:
    """The lanes of an engine. Whoever opens and closes them is attached to the device.

    Attributes:
        device: Where they are.
        engine: What they run.
        settings: How.
        max_batch: Most frames per batch.
        sizes: Batch sizes, rising.
        annotate: Marks what the host does for a batch.
        lanes: Those that are open.
    """

    device: Device
    engine: DeviceEngine
    settings: LaneSettings
    max_batch: int
    sizes: tuple[int, ...]
    annotate: Callable[[str], AbstractContextManager[object]] = no_annotation
    lanes: list[Lane] = field(default_factory=list)
    _letterbox: DeviceLetterbox | None = None
    _kept: Kept = field(default_factory=Kept)
    _hangs: bool = False

    def open(self) -> None:
        """Open all.

        Raises:
            LoadError: Not even one lane fits, fewer than were asked for do, or the engine refuses.
            CudaError: The device is lost.
        """
        try:
            if self.settings.letterbox:
                height, width, _ = self.engine.input_shape
                self._letterbox = self._kept.keep(DeviceLetterbox(self.device, width, height, self.settings.pad))
            wanted = self.settings.lanes or self._affordable()
            for number in range(wanted):
                self._open_one(number, last_chance=self.settings.lanes is not None or number == 0)
                if len(self.lanes) == number:
                    break
        except BaseException:
            self.close()
            raise

    def reopen(self, number: int) -> Lane:
        """Open a lane in place of one that was discarded.

        Raises:
            EnginesError: The engine refuses, or the device failed.
        """
        lane = self._lane(number)
        self.lanes.append(lane)
        return lane

    def discard(self, lane: Lane) -> None:
        """Close a lane that is broken; nothing is under way in it."""
        self.lanes.remove(lane)
        lane.close()

    def abandon(self, lane: Lane) -> None:
        """Leave a lane open for good: it hangs, and giving its memory back would wait for it."""
        self.lanes.remove(lane)
        self._hangs = True

    def close(self) -> None:
        """Close those in which nothing is under way; may be called twice."""
        while self.lanes:
            self.lanes.pop().close()
        if not self._hangs:
            self._kept.close()

    def _lane(self, number: int) -> Lane:
        return Lane(self.device, self.engine, number, self.sizes, self.settings, self._letterbox, self.annotate)

    def _open_one(self, number: int, *, last_chance: bool) -> None:
        try:
            self.lanes.append(self._lane(number))
        except EnginesError as error:
            if isinstance(error, CudaError) and error.sticky:
                raise
            if last_chance:
                raise LoadError(
                    f"lane {number + 1} of {self.settings.lanes or 1} cannot be opened: {error}; {self._figures()}"
                ) from error

    def _affordable(self) -> int:
        """Tell how many lanes the free memory is enough for.

        Raises:
            LoadError: Not even for one.
        """
        fit = int(self.device.free_bytes() * (1 - _LEFT_FREE)) // self._lane_bytes
        if fit < 1:
            raise LoadError(f"the GPU has no room for a lane: {self._figures()}")
        return min(fit, MOST_LANES)

    @property
    def _lane_bytes(self) -> int:
        slots = self.sizes[-1]
        return self.engine.lane_bytes + slots * (frame_bytes(self.engine) + row_bytes(self.engine))

    def _figures(self) -> str:
        free: float = 0
        with contextlib.suppress(CudaError):
            free = self.device.free_bytes()
        return (
            f"a lane of {self.sizes[-1]} frames takes about {self._lane_bytes / _MIB:.1f} MiB, "
            f"of which the engine takes {self.engine.lane_bytes / _MIB:.1f} MiB; {free / _MIB:.1f} MiB are free, "
            f"{_LEFT_FREE:.0%} of which is left to others"
        )


def plan_lanes(
    device: Device,
    engine: DeviceEngine,
    settings: LaneSettings,
    annotate: Callable[[str], AbstractContextManager[object]] = no_annotation,
) -> OpenLanes:
    """Check what was asked for and choose the batch sizes; nothing is open yet.

    Raises:
        LoadError: The settings ask for what the engine cannot do.
    """
    if settings.lanes is not None and settings.lanes < 1:
        raise LoadError(f"lanes is {settings.lanes}; allowed is 1 and up")
    if not 0 <= settings.pad <= 255:
        raise LoadError(f"pad is {settings.pad}; allowed is 0..255")
    if engine.device.facts.index != device.facts.index:
        raise LoadError(
            f"the engine is on GPU {engine.device.facts.index}, its lanes are wanted on {device.facts.index}"
        )
    max_batch = engine.max_batch if settings.max_batch is None else settings.max_batch
    sizes = choose_sizes(engine.sizes, max_batch, settings.mode)
    return OpenLanes(device, engine, settings, max_batch, sizes, annotate)
