"""The seam between a channel's frames and whatever runs an engine.

A channel hands over a surface and gets back the engine's rows for it, through a callback. In one
process that is `execute/local.py`; a process of its own behind shared memory takes the same calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.manifest import Defaults
    from vedette_engines.runners.base import LoadedEngine
    from vedette_server.data.verdict import EngineLabel
    from vedette_server.decode.base import Picture
    from vedette_server.metrics_figures import EngineDepths
    from vedette_server.picture.letterbox import Letterbox
    from vedette_server.picture.slots import Slot


@dataclass(slots=True)
class Inference:
    """What became of one surface.

    Attributes:
        row: The engine's output for this surface, ``float32 [K, 6 + E]``, ``[C]`` or ``[D]``; valid
            until the callback returns. None when the batch failed.
        batch_size: Surfaces in the same batch.
        started_s: When the batch left, monotonic seconds.
        finished_s: When its results were there, monotonic seconds.
        error: Why the batch failed; empty when it did not.
        lane: Which of the engine's lanes ran it, as `lane_name` says.
    """

    row: NDArray[np.float32] | None
    batch_size: int
    started_s: float
    finished_s: float
    error: str = ""
    lane: str = "lane 0"


def lane_name(number: int, place: str = "") -> str:
    """Say which of an engine's lanes is meant; of an engine in several places, in which place (GPU)."""
    return f"{place}, lane {number}" if place else f"lane {number}"


@dataclass(slots=True)
class Surface:
    """A frame in a slot of the engine that will run it, filled with `InferenceClient.fill` or written into its pixels.

    Attributes:
        slot: The slot; given back by the InferenceClient once the engine has read it.
        done: Called once, from the client's thread, with what became of it. Must not block or raise.
    """

    slot: Slot
    done: Callable[[Inference], None]


class InferenceClient(Protocol):
    """Runs one version of one engine on surfaces."""

    @property
    def label(self) -> EngineLabel:
        """Name, version and output layout of the engine."""
        ...

    @property
    def fit(self) -> Letterbox:
        """Size and placement of the engine's input."""
        ...

    @property
    def defaults(self) -> Defaults:
        """What holds for a channel that says nothing of scores and overlap."""
        ...

    def acquire(self) -> Slot | None:
        """Take a free slot, or None when all are in use. Never blocks."""
        ...

    def release(self, slot: Slot) -> None:
        """Give back a slot that was not submitted."""
        ...

    def fill(self, slot: Slot, picture: Picture) -> None:
        """Put a picture into a slot as the engine takes it.

        That is letterboxed, or as it was decoded where the device letterboxes. The picture may be closed afterwards.
        Called by whoever owns the slot, outside of all locks.

        Raises:
            UndecodableError: The bytes of a still are broken; the slot is still the caller's.
        """
        ...

    def pixels(self, slot: Slot, picture: Picture) -> NDArray[np.uint8]:
        """Give what the engine gets of a slot that was filled, for those who look; letterboxed now if it was not yet.

        Returns:
            `uint8 [height, width, 3]`, BGR, C-contiguous; the slot's, to be read before it is submitted.

        Raises:
            UndecodableError: The bytes of a still are broken.
        """
        ...

    def submit(self, surface: Surface) -> None:
        """Run the surface in one of the next batches. Never blocks."""
        ...


class LoadedInference(InferenceClient, Protocol):
    """One loaded version as its owner sees it: what runs frames, and a source of jobs for the pipeline's workers."""

    @property
    def engine(self) -> LoadedEngine:
        """What was loaded; closed with this object."""
        ...

    @property
    def lanes(self) -> int:
        """Batches that run at the same time."""
        ...

    @property
    def max_batch(self) -> int:
        """Most surfaces in a batch."""
        ...

    @property
    def workers(self) -> int:
        """Workers that its jobs keep busy, besides those that decode."""
        ...

    @property
    def depths(self) -> EngineDepths:
        """How much waits and is in use now."""
        ...

    @property
    def healthy(self) -> bool:
        """Whether it neither failed several times in a row nor hangs."""
        ...

    @property
    def idle(self) -> bool:
        """Whether nothing of it is in use; so it stays when nobody acquires slots any more."""
        ...

    def warm_up(self) -> None:
        """Run before anybody else uses it, and touch all memory.

        Raises:
            RunError: The engine fails on an empty picture.
        """

    def take(self, now: float) -> Callable[[], None] | None:
        """Return a job that is due: a batch to run, or the results of one to hand over."""

    def due_at(self) -> float | None:
        """Tell when `take` will have something, monotonic seconds; None when that is not known."""

    def drop_waiting(self) -> None:
        """Forget the surfaces that nobody was told of, and take their slots back; nobody is told."""

    def close(self) -> None:
        """Let go of everything; may be called twice. Nobody runs a batch any more."""
