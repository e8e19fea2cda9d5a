"""Take the slots of several engines for one frame, without starving it behind frames that need but one.

A frame for several engines needs a slot of each at the same moment. Where each engine is kept busy by frames
that need it alone, every slot that becomes free is taken at once, and that moment never comes. So one group
of channels at a time may hold what it got until it has the rest; one only, so that no two wait for each other,
and so that an engine with two slots or more is never held up as a whole.

Threads: none of this locks; the caller holds one lock around every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette_server.execute.client import InferenceClient
    from vedette_server.picture.slots import Slot

Inferences = tuple["InferenceClient", ...]


class Claims:
    """The slots that one group holds while it waits for the rest; a group is named by its engines."""

    def __init__(self) -> None:
        self._holder: Inferences | None = None
        self._held: list[Slot | None] = []

    def take(self, inferences: Inferences) -> list[Slot] | None:
        """Take one slot of each engine, in their order; None when they are not all free."""
        if len(inferences) == 1:
            only = inferences[0].acquire()
            return None if only is None else [only]
        ours = self._holder is not None and self._holder == inferences
        held: list[Slot | None] = self._held if ours else [None for _ in inferences]
        for index, inference in enumerate(inferences):
            if held[index] is None:
                held[index] = inference.acquire()
        whole = [slot for slot in held if slot is not None]
        if len(whole) == len(inferences):
            if ours:
                self._holder = None
            return whole
        if ours or self._holder is None:
            self._holder, self._held = inferences, held
        else:
            _release(inferences, held)
        return None

    def drop(self, inferences: Inferences) -> bool:
        """Give back what a group holds, since it has nothing more to run; return whether it held anything."""
        if self._holder is None or self._holder != inferences:
            return False
        self._holder = None
        _release(inferences, self._held)
        return True


def _release(inferences: Inferences, held: list[Slot | None]) -> None:
    for inference, slot in zip(inferences, held, strict=True):
        if slot is not None:
            inference.release(slot)
