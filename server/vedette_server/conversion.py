"""Convert one picture for all engines of its channel, and hand it over to them.

Called by the pipeline's workers, several at once. Holds no lock while it converts.
"""

from __future__ import annotations

import logging
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Protocol

from vedette_server.data.config import DeliveryPolicy
from vedette_server.data.outcome import SkipReason
from vedette_server.errors import UndecodableError
from vedette_server.execute.client import Surface

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vedette_server.decode.base import Picture
    from vedette_server.execute.client import Inference, InferenceClient
    from vedette_server.frame import Binding, Frame
    from vedette_server.picture.slots import Slot
    from vedette_server.trace import Tracer

_log = logging.getLogger(__name__)


class Look(NamedTuple):
    """What somebody who looks at a frame wants besides.

    Attributes:
        hear: Called with the frame's result after its channel was; must not block.
        after: Called once the frame is on its way, while its picture is still there.
    """

    hear: Callable[[Inference], None]
    after: Callable[[], None]


class Sight(Protocol):
    """A frame as its engine gets it; a `Slot` of letterboxed pixels is one."""

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """`uint8 [height, width, 3]`, BGR, C-contiguous."""
        ...


class Tap(Protocol):
    """Somebody who looks at the frames of an engine, and changes nothing."""

    def look(self, frame: Frame, slot: Sight, *, idle: bool) -> Look | None:
        """Look at a frame that was converted.

        Args:
            frame: The frame; its picture is open.
            slot: Its pixels as the engine gets them; to be read before this returns, never after. Where a device
                letterboxes they are made when they are asked for.
            idle: Nothing waits for the worker that calls.
        """
        ...


class _Filled(NamedTuple):
    """A slot that an engine has filled, and what with."""

    inference: InferenceClient
    slot: Slot
    picture: Picture

    @property
    def pixels(self) -> NDArray[np.uint8]:
        return self.inference.pixels(self.slot, self.picture)


class Converter:
    """Converts frames whose turn has come.

    Args:
        slots_freed: Called when slots were given back that were not used.
        is_idle: Tells whether the workers have nothing else to do.
        clock: Monotonic seconds.
        tracer: Records conversions; None: nobody does.
    """

    def __init__(
        self,
        slots_freed: Callable[[], None],
        is_idle: Callable[[], bool],
        clock: Callable[[], float],
        tracer: Tracer | None = None,
    ) -> None:
        self._slots_freed = slots_freed
        self._is_idle = is_idle
        self._clock = clock
        self._tracer = tracer
        self._taps: dict[InferenceClient, tuple[Tap, ...]] = {}

    def show(self, taps: Mapping[InferenceClient, Sequence[Tap]]) -> None:
        """Show the frames of engines to those who look, and to nobody else any more."""
        # Replaced as a whole: workers look at it without a lock.
        self._taps = {inference: tuple(those) for inference, those in taps.items() if those}

    def convert(self, frame: Frame, binding: Binding, slots: list[Slot]) -> None:
        """Convert a frame into a slot of each of its engines, and submit it; or skip it and give the slots back."""
        inferences = binding.inferences
        started = self._clock()
        frame.times.wait_s = started - frame.offered_s
        config = frame.channel.config
        if config.policy is DeliveryPolicy.LIVE and started - frame.packet.received_s > config.max_age_s:
            self._give_back(inferences, slots)
            frame.channel.skip(frame, SkipReason.STALE)
            return
        try:
            for inference, slot in zip(inferences, slots, strict=True):
                inference.fill(slot, frame.picture)
        except UndecodableError as error:
            self._abandon(frame, binding, slots, str(error))
            return
        except Exception:  # noqa: BLE001 - a bug or a picture nobody foresaw costs this frame, not its slots
            _log.exception("conversion failed")
            self._abandon(frame, binding, slots, "conversion failed")
            return
        looks = self._show(frame, binding, slots) if self._taps else ()
        if not looks and not frame.kept:
            frame.picture.close()
        frame.submitted_s = self._clock()
        frame.times.convert_s = frame.submitted_s - started
        if self._tracer is not None:
            self._tracer.work("convert", config.channel, frame.packet.sequence, started, frame.submitted_s)
        self._submit(frame, inferences, slots, looks)

    def _submit(
        self,
        frame: Frame,
        inferences: tuple[InferenceClient, ...],
        slots: Sequence[Slot],
        looks: tuple[tuple[Look, ...], ...],
    ) -> None:
        frame.missing = len(inferences)
        frame.outcomes = [None] * len(inferences)
        for index, (inference, slot) in enumerate(zip(inferences, slots, strict=True)):
            done: Callable[[Inference], None] = partial(frame.channel.infer, frame, index)
            inference.submit(Surface(slot, partial(_tell_all, done, looks[index]) if looks else done))
        if looks:
            _follow(looks)
            if not frame.kept:
                frame.picture.close()

    def _show(self, frame: Frame, binding: Binding, slots: Sequence[Slot]) -> tuple[tuple[Look, ...], ...]:
        """Let those look who want to; return for each engine what they want besides, nothing when nobody does."""
        looks = tuple(
            tuple(
                look
                for tap in self._taps.get(inference, ())
                if (look := self._look(tap, frame, _Filled(inference, slot, frame.picture))) is not None
            )
            for inference, slot in zip(binding.inferences, slots, strict=True)
        )
        return looks if any(looks) else ()

    def _look(self, tap: Tap, frame: Frame, slot: Sight) -> Look | None:
        try:
            return tap.look(frame, slot, idle=self._is_idle())
        except Exception:  # noqa: BLE001 - who only looks costs the frame nothing
            _log.exception("a tap failed")
            return None

    def _abandon(self, frame: Frame, binding: Binding, slots: list[Slot], detail: str) -> None:
        self._give_back(binding.inferences, slots)
        frame.channel.skip(frame, SkipReason.UNDECODABLE, detail)

    def _give_back(self, inferences: tuple[InferenceClient, ...], slots: list[Slot]) -> None:
        release(inferences, slots)
        self._slots_freed()


def release(inferences: tuple[InferenceClient, ...], slots: list[Slot]) -> None:
    """Give slots back to the engines that they are of."""
    for inference, slot in zip(inferences, slots, strict=False):
        inference.release(slot)


def _tell_all(done: Callable[[Inference], None], looks: tuple[Look, ...], inference: Inference) -> None:
    done(inference)
    for look in looks:
        look.hear(inference)


def _follow(looks: tuple[tuple[Look, ...], ...]) -> None:
    for look in chain.from_iterable(looks):
        try:
            look.after()
        except Exception:  # noqa: BLE001 - who only looks costs the frame nothing
            _log.exception("a tap failed")
