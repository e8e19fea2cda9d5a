"""Executors on simulated devices: a waiting on the virtual clock, sources, and engines whose answer is known."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.cuda.base import CudaError
from vedette_engines.cuda.ordering import MisuseError
from vedette_engines.cuda.simulated import SimulatedDevice, VirtualClock
from vedette_engines.gpu.base import Batch, Outcome, SlotFrame
from vedette_engines.gpu.executor import Executor, LaneSettings, Member
from vedette_engines.gpu.simulated_engine import SimulatedEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

SHAPE = (2, 4, 3)
FRAME_BYTES = 24
COLUMNS = 3
# A wait without an end: long enough that a test that waits in vain ends.
FOR_GOOD_S = 1e6


def sums(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the engines here give of a frame: its sum, its first byte, its last."""
    flat = frames.reshape(len(frames), -1)
    return np.stack([flat.sum(axis=1), flat[:, 0], flat[:, -1]], axis=1).astype(np.float32)


class VirtualWaiting:
    """Waits on a virtual clock."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._woken = False

    def wait(self, seconds: float | None) -> None:
        if not self._woken:
            self._clock.sleep(FOR_GOOD_S if seconds is None else seconds)
        self._woken = False

    def wake(self) -> None:
        self._woken = True


def give_back(pinned: Any) -> None:
    """Close memory; of a device that is lost, too."""
    with contextlib.suppress(CudaError):
        pinned.close()


@dataclass(eq=False)
class Told:
    """What became of one batch, and what was to become of it."""

    frames: list[NDArray[np.uint8]]
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome:
        assert len(self.outcomes) == 1, f"told {len(self.outcomes)} times"
        return self.outcomes[0]

    def check(self) -> None:
        """It was told once, and the rows are what the engine gives for these frames."""
        assert self.outcome.error == ""
        rows = self.outcome.rows
        assert rows is not None
        assert rows.flags.c_contiguous
        assert rows.dtype == np.float32
        assert np.array_equal(rows, sums(np.stack(self.frames)))


class Store:
    """A source: batches wait in a queue, each due at its time. Its frames lie in pinned memory of their own."""

    def __init__(self, device: Any, shape: tuple[int, int, int] = SHAPE) -> None:
        self._device = device
        self._shape = shape
        self._queue: deque[tuple[float, Batch]] = deque()
        self._random = np.random.default_rng(len(shape))
        self.told: list[Told] = []
        # What went wrong where nobody looks: in a callback.
        self.problems: list[MisuseError] = []
        self._pinned: dict[int, Any] = {}

    def put(self, count: int, due_s: float = 0.0, then: Callable[[Outcome], None] = lambda _: None) -> Told:
        """Let a batch of so many random frames be due at a moment."""
        frames = [self._random.integers(0, 256, self._shape, np.uint8) for _ in range(count)]
        size = frames[0].nbytes if frames else 0
        pinned = self._device.pin(max(count, 1) * size)
        for index, frame in enumerate(frames):
            pinned.array[index * size : (index + 1) * size] = frame.reshape(-1)
        told = Told(frames)

        def done(outcome: Outcome) -> None:
            told.outcomes.append(outcome)
            try:
                # Whoever was told may write and give back the memory of the frames.
                pinned.array[:] = 0
                give_back(self._pinned.pop(id(told)))
            except MisuseError as error:
                self.problems.append(error)
            then(outcome)

        self._pinned[id(told)] = pinned
        self.told.append(told)
        batch = Batch([SlotFrame(pinned, index * size) for index in range(count)], done)
        self._queue.append((due_s, batch))
        return told

    def take(self, now: float) -> Batch | None:
        if self._queue and self._queue[0][0] <= now:
            return self._queue.popleft()[1]
        return None

    def due_at(self) -> float | None:
        return self._queue[0][0] if self._queue else None

    def drop(self) -> int:
        """Forget what was not taken, and give its memory back."""
        left = len(self._queue)
        self._queue.clear()
        for pinned in self._pinned.values():
            give_back(pinned)
        self._pinned.clear()
        return left


class Endless:
    """A source that always has a batch, of the same frames; it keeps what became of them."""

    def __init__(self, device: Any, count: int = 4, batches: int | None = None) -> None:
        self.pinned = device.pin(count * FRAME_BYTES)
        self.pinned.array[:] = np.arange(count * FRAME_BYTES) % 251
        self._frames = [SlotFrame(self.pinned, index * FRAME_BYTES) for index in range(count)]
        self._left = batches
        self.outcomes: list[Outcome] = []
        self.taken = 0

    def take(self, now: float) -> Batch | None:
        if self._left == 0:
            return None
        if self._left is not None:
            self._left -= 1
        self.taken += 1
        return Batch(self._frames, self.outcomes.append)

    def due_at(self) -> float | None:
        return None if self._left == 0 else 0.0

    def end(self) -> None:
        self._left = 0


class Rig:
    """A device, and an executor on it, on a virtual clock."""

    def __init__(self, device: Any = None, **executor: Any) -> None:
        given: Any = device or SimulatedDevice()
        self.device = given
        self.clock: VirtualClock = given.clock
        self.executor = Executor(
            self.device, clock=self.clock, waiting=executor.pop("waiting", VirtualWaiting(self.clock)), **executor
        )

    def engine(self, duration_s: Callable[[int], float] = lambda _: 0.0, **options: Any) -> SimulatedEngine:
        return SimulatedEngine(self.device, SHAPE, (COLUMNS,), sums, duration_s, **options)

    def add(self, source: Any, engine: SimulatedEngine | None = None, weight: float = 1.0, **settings: Any) -> Member:
        return self.executor.add(engine or self.engine(), source, LaneSettings(**settings), weight)

    def run(self, until: Callable[[], bool], longest_s: float = 1e4) -> None:
        """Take turns until something is so."""
        end_s = self.clock() + longest_s
        while not until():
            wait_s = self.executor.step()
            if until():
                return
            assert wait_s is not None, "nothing is due and nothing is under way"
            assert self.clock() < end_s, "it never came to be"
            self.clock.sleep(wait_s)

    def settle(self, told: Sequence[Told]) -> None:
        """Take turns until all were told."""
        self.run(lambda: all(entry.outcomes for entry in told))

    def close(self) -> None:
        assert self.executor.close()
        self.device.close()
