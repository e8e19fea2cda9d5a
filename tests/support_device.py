"""An engine on a GPU without one: an executor that takes and ends batches when a test says so."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from support_bundles import HEIGHT, WIDTH, toy_manifest
from vedette_engines.cuda.letterboxing import SurfaceKind
from vedette_engines.gpu.base import DevicePicture, HostPicture, Outcome, SlotFrame
from vedette_engines.gpu.lane import LaneSettings
from vedette_engines.manifest import EngineFile
from vedette_server.execute.client import Surface
from vedette_server.execute.device import DeviceInference, DeviceSettings
from vedette_server.metrics_figures import EngineMetrics
from vedette_server.picture.source import DeviceSource, HostSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle
    from vedette_engines.gpu.base import Batch, Feed, Source
    from vedette_server.execute.client import Inference
    from vedette_server.picture.letterbox import Letterbox
    from vedette_server.picture.slots import Slot

MAX_BATCH = 3
LANES = 2
WAIT_S = 0.5


class HandPinned:
    """Memory that knows whether it was given back."""

    def __init__(self, device: HandDevice, size_bytes: int) -> None:
        self.device = device
        self.array: NDArray[np.uint8] = np.zeros(size_bytes, np.uint8)
        self.open = True
        device.pinned.append(self)

    def close(self) -> None:
        assert self.device.attachments, "memory is given back by a thread that is not attached"
        self.open = False


class HandDevice:
    """A GPU with nothing but pinned memory."""

    def __init__(self, index: int = 0) -> None:
        self.facts: Any = SimpleNamespace(index=index)
        self.pinned: list[HandPinned] = []
        self.attachments = 0

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        self.attachments += 1
        try:
            yield
        finally:
            self.attachments -= 1

    def pin(self, size_bytes: int) -> HandPinned:
        assert self.attachments, "memory is pinned by a thread that is not attached"
        return HandPinned(self, size_bytes)


class HandEngine:
    """A loaded engine on such a GPU."""

    file = EngineFile("model.onnx")
    fallback = ""
    backend = "hand"
    max_batch = MAX_BATCH

    def __init__(self, bundle: Bundle, device: HandDevice) -> None:
        self.bundle = bundle
        self.closed = False
        self.on_device: Any = SimpleNamespace(device=device, backend="hand:1", max_batch=MAX_BATCH)

    def close(self) -> None:
        self.closed = True


@dataclass(eq=False)
class HandMember:
    """An engine with its source."""

    source: Source
    lanes: int = LANES
    max_batch: int = MAX_BATCH
    in_flight: int = 0
    hung_since: float | None = None


class HandExecutor:
    """Takes a batch when a test lets it, and ends one when a test says how."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.members: list[HandMember] = []
        self.flying: list[tuple[HandMember, Batch]] = []
        self.nudges = 0
        self.hangs = False

    def add(self, _engine: object, source: Source, _settings: LaneSettings, _weight: float = 1.0) -> HandMember:
        self.members.append(HandMember(source))
        return self.members[-1]

    def remove(self, member: HandMember, _timeout_s: float = 30.0) -> bool:
        while (index := next((i for i, (whose, _) in enumerate(self.flying) if whose is member), None)) is not None:
            self.end(index)
        self.members.remove(member)
        return not self.hangs

    def nudge(self) -> None:
        self.nudges += 1

    def launch(self) -> bool:
        """Take the batch that is due, if a lane is free; as a real one it takes no more than it has lanes for."""
        for member in self.members:
            batch = member.source.take(self._clock()) if member.in_flight < member.lanes else None
            if batch is not None:
                member.in_flight += 1
                self.flying.append((member, batch))
                return True
        return False

    def end(self, index: int = 0, error: str = "") -> None:
        """End a batch: each row repeats the first byte of what the device got for its frame."""
        member, batch = self.flying.pop(index)
        member.in_flight -= 1
        rows = None if error else np.array([[first_byte(feed)] for feed in batch.frames], np.float32)
        batch.done(Outcome(rows, error, self._clock(), self._clock(), 0, len(batch.frames)))


def first_byte(feed: Feed) -> int:
    """Tell what a frame begins with; of one that is on the device its height, which tests number."""
    match feed:
        case SlotFrame(memory, at):
            return int(memory.array[at])
        case HostPicture(memory, layout):
            return int(memory.array[layout.plane_at[0]])
        case DevicePicture(surface):
            return surface.height


class NumberedPicture:
    """A picture of one grey value, which lies where a test says; it counts how often it is let go.

    Args:
        number: The value.
        where: None: it has no layout; "host"; or the number of a GPU.
        released: Counts by number.
    """

    width, height, rotation_degrees = WIDTH, HEIGHT, 0

    def __init__(self, number: int, where: str | int | None, released: Counter[int]) -> None:
        self.number = number
        self.where = where
        self.released = released
        self.held = 0
        self.letterboxed = 0
        self.fails: type[Exception] | None = None

    def letterbox_into(self, slot: NDArray[np.uint8], fit: Letterbox) -> None:
        assert slot.shape == (fit.height, fit.width, 3)
        if self.fails is not None:
            raise self.fails("broken")
        self.letterboxed += 1
        slot[:] = self.number

    def source(self, fit: Letterbox) -> HostSource | DeviceSource | None:
        if self.where is None:
            return None
        place = fit.place(WIDTH, HEIGHT)
        if self.where == "host":
            return HostSource(SurfaceKind.BGR, (np.full((HEIGHT, WIDTH, 3), self.number, np.uint8),), place, None)
        self.held += 1
        surface: Any = SimpleNamespace(width=WIDTH, height=self.number)
        assert isinstance(self.where, int)
        return DeviceSource(self.where, surface, place, None, None, self._release)

    def close(self) -> None:
        pass

    def _release(self) -> None:
        self.released[self.number] += 1


class Desk:
    """Engines on GPUs in front of a test, with a clock and everything that is told."""

    def __init__(self, gpus: int = 1, **settings: Any) -> None:
        self.now = 10.0
        self.ready = self.freed = 0
        self.health = 0
        self.told: dict[int, Inference] = {}
        self.values: dict[int, float] = {}
        self.released: Counter[int] = Counter()
        self.pictures: dict[int, NumberedPicture] = {}
        self.metrics = EngineMetrics("toy", "1")
        bundle: Any = SimpleNamespace(manifest=toy_manifest(), name="toy", version="1")
        self.devices = [HandDevice(index) for index in range(gpus)]
        self.engines = [HandEngine(bundle, device) for device in self.devices]
        self.executors = [HandExecutor(lambda: self.now) for _ in self.devices]
        defaults: dict[str, Any] = {"lanes": LaneSettings(), "max_wait_s": WAIT_S} | settings
        self.parts = [
            DeviceInference(
                self._any(engine),
                self._any(executor),
                DeviceSettings(**defaults),
                on_slot_free=self._free,
                on_health=self._healthy,
                on_ready=self._stir,
                metrics=self.metrics,
                clock=lambda: self.now,
            )
            for engine, executor in zip(self.engines, self.executors, strict=True)
        ]

    @staticmethod
    def _any(thing: object) -> Any:
        return thing

    def _free(self) -> None:
        self.freed += 1

    def _healthy(self) -> None:
        self.health += 1

    def _stir(self) -> None:
        self.ready += 1

    @property
    def part(self) -> DeviceInference:
        return self.parts[0]

    @property
    def executor(self) -> HandExecutor:
        return self.executors[0]

    def surface(self, slot: Slot, number: int) -> Surface:
        def done(result: Inference) -> None:
            assert number not in self.told, f"{number} was told twice"
            self.told[number] = result
            if result.row is not None:
                self.values[number] = float(result.row[0])

        return Surface(slot, done)

    def picture(self, number: int, where: str | int | None = None) -> NumberedPicture:
        self.pictures[number] = NumberedPicture(number, where, self.released)
        return self.pictures[number]

    def submit(self, number: int, where: str | int | None = None, into: Any = None) -> bool:
        """Send a frame the way that conversion does; tell whether there was a slot."""
        inference = into or self.part
        slot = inference.acquire()
        if slot is None:
            return False
        inference.fill(slot, self.picture(number, where))
        inference.submit(self.surface(slot, number))
        return True

    def tell(self, inference: Any = None) -> int:
        """Do all jobs of the workers; tell how many there were."""
        count = 0
        while (job := (inference or self.part).take(self.now)) is not None:
            job()
            count += 1
        return count

    def run(self, numbers: Sequence[int] = ()) -> None:
        """Let everything go through."""
        self.now += WAIT_S
        for executor in self.executors:
            while executor.launch() or executor.flying:
                if executor.flying:
                    executor.end()
        assert set(numbers) <= set(self.told) or self.tell() or not numbers

    def check_accounts(self, forgotten: bool = False) -> None:
        """Every slot is back, every picture on a GPU was let go as often as it was held, every frame was told."""
        for part in self.parts:
            assert part.depths.slots_in_use == 0
        for number, picture in self.pictures.items():
            assert self.released[number] == picture.held, f"{number} was let go {self.released[number]} times"
        if not forgotten:
            assert set(self.told) == set(self.pictures)
