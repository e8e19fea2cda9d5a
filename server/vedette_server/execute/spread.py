"""One version of an engine on several GPUs, as if it were on one.

Frames are spread one by one: each goes to the GPU on which the largest share of slots is free. That is one queue in
front of several servers, which waits less than a queue for each, keeps no GPU idle while frames wait, gives a slower
GPU as much less as it is slower, and needs no rebalancing when channels come, go, or change; verdicts are put into
their order per channel anyway. Binding channels to GPUs was the other way: it would keep a channel's frames together,
which nothing on a GPU gains by but pictures that a GPU has decoded. Those go to the GPU that they are on, whatever slot
their turn was granted with; only where that has no free slot they are letterboxed by the CPU.

A GPU that is lost takes what was on it, and nothing more: it has no free slots any more.

Threads: any.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from vedette_server.execute.client import Surface
from vedette_server.metrics_figures import EngineDepths
from vedette_server.picture.source import DeviceSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vedette_server.decode.base import Picture
    from vedette_server.execute.device import DeviceInference
    from vedette_server.execute.feeds import Source
    from vedette_server.metrics import EngineMetrics
    from vedette_server.picture.slots import Slot


class SpreadInference:
    """The same version on each of several GPUs.

    Args:
        parts: It on each of them, at least one; closed with this object.
        metrics: Is told whom to ask for depths.
        on_slot_free: Called when slots became free that nobody could be told of before.

    Raises:
        ValueError: There are no parts.
    """

    def __init__(
        self, parts: Sequence[DeviceInference], metrics: EngineMetrics, on_slot_free: Callable[[], None]
    ) -> None:
        if not parts:
            raise ValueError("an engine on no GPU cannot run")
        self.parts = tuple(parts)
        first = self.parts[0]
        self.label, self.fit, self.defaults, self.engine = first.label, first.fit, first.defaults, first.engine
        self.lanes = sum(part.lanes for part in self.parts)
        self.max_batch = min(part.max_batch for part in self.parts)
        self.workers = sum(part.workers for part in self.parts)
        self._metrics = metrics
        self._on_slot_free = on_slot_free
        self._lock = threading.Lock()
        self._owners: dict[Slot, DeviceInference] = {}
        # Slots whose picture was put into a slot of the GPU that it is on.
        self._moved: dict[Slot, tuple[DeviceInference, Slot]] = {}
        self._turn = 0
        metrics.watch(lambda: self.depths)

    @property
    def takes_pictures(self) -> bool:
        """Whether devices letterbox."""
        return self.parts[0].takes_pictures

    # -- channels -------------------------------------------------------------------------------

    def acquire(self) -> Slot | None:
        """Take a free slot of the GPU with the most of them, or None when all are in use. Never blocks."""
        # Of equals the next one in turn, so that a light load keeps all of them warm.
        for part in sorted(self._in_turn(), key=lambda part: -part.free_share):
            slot = part.acquire()
            if slot is not None:
                self._owners[slot] = part
                return slot
        return None

    def release(self, slot: Slot) -> None:
        """Give back a slot that was not submitted, and let go of what it holds."""
        moved = self._moved.pop(slot, None)
        if moved is not None:
            moved[0].release(moved[1])
        self._owners.pop(slot).release(slot)

    def fill(self, slot: Slot, picture: Picture) -> None:
        """Put a picture into a slot, or into one of the GPU that the picture is on.

        Raises:
            UndecodableError: The bytes of a still are broken.
        """
        part = self._owners[slot]
        source = picture.source(self.fit) if part.takes_pictures else None
        if isinstance(source, DeviceSource) and source.device != part.device:
            home = next((part for part in self.parts if part.device == source.device), None)
            other = None if home is None else home.acquire()
            if home is not None and other is not None:
                self._move(slot, home, other, picture, source)
                return
        part.put(slot, picture, source)

    def pixels(self, slot: Slot, picture: Picture) -> NDArray[np.uint8]:
        """Give what the engine gets of a slot that was filled, letterboxed now if it was not yet.

        Raises:
            UndecodableError: The bytes of a still are broken.
        """
        moved = self._moved.get(slot)
        return self._owners[slot].pixels(slot, picture) if moved is None else moved[0].pixels(moved[1], picture)

    def submit(self, surface: Surface) -> None:
        """Run the surface in one of its GPU's next batches. Never blocks."""
        part = self._owners.pop(surface.slot)
        moved = self._moved.pop(surface.slot, None)
        if moved is None:
            part.submit(surface)
            return
        part.release(surface.slot)
        self._on_slot_free()
        moved[0].submit(Surface(moved[1], surface.done))

    def _in_turn(self) -> list[DeviceInference]:
        with self._lock:
            self._turn += 1
            first = self._turn % len(self.parts)
        return [*self.parts[first:], *self.parts[:first]]

    def _move(self, slot: Slot, home: DeviceInference, other: Slot, picture: Picture, source: Source) -> None:
        try:
            home.put(other, picture, source)
        except BaseException:
            home.release(other)
            raise
        self._moved[slot] = (home, other)

    # -- its owner ------------------------------------------------------------------------------

    @property
    def depths(self) -> EngineDepths:
        """How much waits and is in use now, on all GPUs."""
        return EngineDepths(*map(sum, zip(*(part.depths for part in self.parts), strict=True)))

    @property
    def lost(self) -> str:
        """Why the last of its GPUs is lost; empty: one is left."""
        reasons = [part.lost for part in self.parts]
        return reasons[-1] if all(reasons) else ""

    @property
    def healthy(self) -> bool:
        """Whether it runs well on every GPU that is left, of which there is one."""
        left = [part for part in self.parts if not part.lost]
        return bool(left) and all(part.healthy for part in left)

    @property
    def idle(self) -> bool:
        """Whether nothing of it is in use; so it stays when nobody acquires slots any more."""
        return all(part.idle for part in self.parts)

    def warm_up(self) -> None:
        """Run a batch on each GPU, and touch all memory; before anybody else uses it.

        Raises:
            RunError: The engine fails on an empty picture.
        """
        for part in self.parts:
            part.warm_up()

    def take(self, now: float) -> Callable[[], None] | None:
        """Return a job that tells some surfaces of their results, each GPU in turn."""
        for part in self._in_turn():
            job = part.take(now)
            if job is not None:
                return job
        return None

    def due_at(self) -> float | None:
        """Tell when `take` will have something; None: not before it says so."""
        return min((due for part in self.parts if (due := part.due_at()) is not None), default=None)

    def drop_waiting(self) -> None:
        """Forget the surfaces that nobody was told of; nobody is told."""
        for part in self.parts:
            part.drop_waiting()

    def close(self) -> None:
        """Let go of it on every GPU; may be called twice."""
        self._metrics.watch(None)
        for part in self.parts:
            part.close()
