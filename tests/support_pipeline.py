"""A pipeline among fakes: engines that run when a test lets them, channels with scripted pictures."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from support_session import ToyPicture
from vedette_server.data.outcome import SkipReason
from vedette_server.data.packet import Packet
from vedette_server.frame import Binding, Frame
from vedette_server.picture.letterbox import Letterbox
from vedette_server.picture.slots import SlotPool

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from vedette_server.data.config import ChannelConfig
    from vedette_server.decode.base import Picture
    from vedette_server.execute.client import Inference, Surface
    from vedette_server.picture.slots import Slot
    from vedette_server.pipeline import Pipeline


class FakeInference:
    """An engine with so many slots; surfaces wait until `finish`."""

    def __init__(self, slots: int, on_free: Callable[[], None] = lambda: None) -> None:
        self.pool = SlotPool(slots, 8, 6)
        self.submitted: deque[Surface] = deque()
        self.arrived = threading.Semaphore(0)
        self.on_free = on_free
        self.fit = Letterbox(8, 6)

    def acquire(self) -> Slot | None:
        return self.pool.acquire()

    def release(self, slot: Slot) -> None:
        self.pool.release(slot)

    def fill(self, slot: Slot, picture: Picture) -> None:
        picture.letterbox_into(slot.pixels, self.fit)

    def pixels(self, slot: Slot, picture: Picture) -> NDArray[np.uint8]:
        return slot.pixels

    def submit(self, surface: Surface) -> None:
        self.submitted.append(surface)
        self.arrived.release()

    def finish(self, result: Any = None) -> None:
        """Answer the surface that waited longest."""
        surface = self.submitted.popleft()
        self.pool.release(surface.slot)
        self.on_free()
        surface.done(result)


class FakeChannel:
    """Gives a picture for every `arrive`; remembers what became of its frames."""

    def __init__(self, pipeline: Pipeline, config: ChannelConfig, inferences: tuple[FakeInference, ...]) -> None:
        self.config = config
        engines: Any = inferences
        reader: Any = None
        self.binding = Binding(engines, reader)
        self.pipeline = pipeline
        self.waiting = 0
        self.made = 0
        self.working = False
        self.overlapped = False
        self.lock = threading.Lock()
        self.skipped: list[tuple[int, SkipReason]] = []
        self.analysed: list[int] = []
        self.pictures: list[ToyPicture] = []
        self.changed = threading.Condition()
        self.while_working: Callable[[], None] = lambda: None
        self.picture_fails: type[Exception] | None = None

    def arrive(self, count: int = 1) -> None:
        with self.lock:
            self.waiting += count
        self.pipeline.wake(self)  # type: ignore[arg-type]

    def work(self) -> bool:
        with self.lock:
            self.overlapped |= self.working
            self.working = True
            if not self.waiting:
                self.working = False
                return False
            self.waiting -= 1
            place, self.made = self.made, self.made + 1
        self.while_working()
        frame = self.frame(place)
        displaced = self.pipeline.offer(frame)
        if displaced is not None:
            self.skip(displaced, SkipReason.SESSION_LOST if displaced is frame else SkipReason.SUPERSEDED)
        with self.lock:
            self.working = False
            return self.waiting > 0

    def frame(self, place: int) -> Frame:
        picture = ToyPicture() if self.picture_fails is None else FailingPicture(self.picture_fails)
        self.pictures.append(picture)
        packet = Packet(place, b"", received_s=self.pipeline._clock())
        fake: Any = self
        return Frame(fake, place, packet, picture, None, 8, 6, 0, offered_s=self.pipeline._clock())

    def skip(self, frame: Frame, reason: SkipReason, detail: str = "") -> None:
        frame.picture.close()
        self._note(lambda: self.skipped.append((frame.place, reason)))

    def infer(self, frame: Frame, engine_index: int, inference: Inference) -> None:
        with self.lock:
            frame.missing -= 1
            last = frame.missing == 0
        if last:
            self._note(lambda: self.analysed.append(frame.place))

    def _note(self, act: Callable[[], None]) -> None:
        with self.changed:
            act()
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, timeout=20), (self.analysed, self.skipped)


class FailingPicture(ToyPicture):
    """A picture that cannot be converted."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self.error = error

    def letterbox_into(self, slot: np.ndarray[Any, Any], fit: Letterbox) -> None:
        raise self.error("broken")
