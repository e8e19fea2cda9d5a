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
    from vedette_server.data.verdict import EngineLabel
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
    """

    row: NDArray[np.float32] | None
    batch_size: int
    started_s: float
    finished_s: float
    error: str = ""


@dataclass(slots=True)
class Surface:
    """A letterboxed frame in a slot of the engine that will run it.

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

    def submit(self, surface: Surface) -> None:
        """Run the surface in one of the next batches. Never blocks."""
        ...
