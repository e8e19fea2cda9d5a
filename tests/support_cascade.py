"""Second stages without a server: engines that answer when a test lets them, and objects of known shades."""

from __future__ import annotations

import threading
from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.manifest import Defaults
from vedette_server.cascade.cascades import Cascades
from vedette_server.data.channel import StageConfig
from vedette_server.data.config import EngineRef
from vedette_server.data.format import Codec, PixelFormat, VideoFormat
from vedette_server.data.verdict import EngineLabel
from vedette_server.decode.raw import RawPicture
from vedette_server.errors import EngineError, NotFoundError, UndecodableError
from vedette_server.execute.client import Inference
from vedette_server.picture.letterbox import Letterbox
from vedette_server.picture.slots import SlotPool
from vedette_server.post.detections import Detections

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from vedette_server.cascade.channel import ChannelCascade
    from vedette_server.decode.base import Picture
    from vedette_server.execute.client import InferenceClient, Surface
    from vedette_server.execute.guest import Guest
    from vedette_server.picture.slots import Slot

WIDTH, HEIGHT = 128, 96
SHADES = 8
LABELS = ("person", "car")
Box = tuple[float, float, float, float]


class ShadeEngine:
    """Tells which of eight shades a crop has; answers when `finish` is called."""

    def __init__(self, name: str = "shade", version: str = "1", task: str = "classifier", slots: int = 6) -> None:
        names = tuple(f"shade {number}" for number in range(SHADES)) if task == "classifier" else ()
        self.label = EngineLabel(name, version, "fake", task, names)
        self.fit = Letterbox(16, 16, "centre")
        self.defaults = Defaults()
        self.slots = SlotPool(slots, 16, 16)
        self.waiting: deque[Surface] = deque()
        self.fill_error: Exception | None = None
        self.filled = 0

    def acquire(self) -> Slot | None:
        return self.slots.acquire()

    def release(self, slot: Slot) -> None:
        self.slots.release(slot)

    def fill(self, slot: Slot, picture: Picture) -> None:
        if self.fill_error is not None:
            raise self.fill_error
        picture.letterbox_into(slot.pixels, self.fit)
        self.filled += 1

    def pixels(self, slot: Slot, picture: Picture) -> NDArray[np.uint8]:
        return slot.pixels

    def submit(self, surface: Surface) -> None:
        self.waiting.append(surface)

    def finish(self, *, error: str = "", row: NDArray[np.float32] | None = None) -> None:
        """Answer the crop that waited longest."""
        surface = self.waiting.popleft()
        shade = shade_of(surface.slot.pixels)
        self.slots.release(surface.slot)
        answer = np.eye(SHADES, dtype=np.float32)[shade] * np.float32(3.0 if self.label.task == "embedder" else 0.9)
        told = None if error else (answer if row is None else row)
        surface.done(Inference(told, 1, 0.0, 0.0, error))

    def finish_all(self) -> None:
        while self.waiting:
            self.finish()


class ShadeHouse:
    """Engines by name; loading may be held up, or fail."""

    def __init__(self, *engines: ShadeEngine) -> None:
        self.by_name = {engine.label.name: engine for engine in engines}
        self.guests: dict[Guest, None] = {}
        self.held: dict[str, threading.Event] = {}
        self.broken: set[str] = set()
        self.loads = 0
        # Called while an engine is chosen, and when somebody is about to join.
        self.choosing = self.joining = lambda: None

    def hold(self, name: str = "shade") -> threading.Event:
        """Keep an engine from being loaded until the event is set."""
        return self.held.setdefault(name, threading.Event())

    def prepare(self, refs: Iterable[EngineRef]) -> None:
        for ref in refs:
            held = self.held.get(ref.name)
            assert held is None or held.wait(20)
            self.loads += 1
            if ref.name in self.broken:
                raise EngineError(f"{ref.name} is broken")
            if ref.name not in self.by_name:
                raise NotFoundError("ENGINE_NOT_FOUND", f"no engine {ref.name}")

    def choose(self, config: Any) -> tuple[InferenceClient, ...]:
        self.choosing()
        return tuple(self.by_name[ref.name] for ref in config.engines)

    def join(self, guest: Guest) -> None:
        self.joining()
        self.guests[guest] = None

    def leave(self, guest: Guest) -> None:
        self.guests.pop(guest, None)

    def swap(self, engine: ShadeEngine) -> None:
        """Have another version take over, as `Engines` does."""
        self.by_name[engine.label.name] = engine
        for guest in tuple(self.guests):
            if guest.config.engines[0].name == engine.label.name:
                guest.rebind((engine,))


class Waking:
    """Takes note of being woken."""

    def __init__(self) -> None:
        self.freed = self.ready = 0

    def slots_freed(self) -> None:
        self.freed += 1

    def jobs_ready(self) -> None:
        self.ready += 1


class Bench:
    """Cascades over fake engines, and a clock."""

    def __init__(self, *engines: ShadeEngine, most_under_way: int = 100) -> None:
        self.house = ShadeHouse(*engines)
        self.waking = Waking()
        self.now = 100.0
        # Called when somebody looks at the clock.
        self.ticking = lambda: None
        self.cascades = Cascades(self.house, self.waking, self.clock, most_under_way=most_under_way)

    def clock(self) -> float:
        self.ticking()
        return self.now

    def open(self, *stages: StageConfig, channel: str = "gate") -> ChannelCascade:
        """Open a channel's cascade, its engines loaded."""
        cascade = self.cascades.open(channel, stages)
        self.settle()
        return cascade

    def settle(self) -> None:
        """Wait until nothing is being loaded."""
        for thread in threading.enumerate():
            if thread.name.startswith("stage-"):
                thread.join(20)


def stage(engine: str = "shade", **changes: Any) -> StageConfig:
    return StageConfig(EngineRef(engine), **changes)


def shade_of(pixels: NDArray[np.uint8]) -> int:
    """Tell the shade of what stands in the middle."""
    height, width = pixels.shape[:2]
    middle = pixels[height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1]
    return min(round(float(middle.mean()) / 32 - 0.5), SHADES - 1)


class NotingPicture(RawPicture):
    """Counts how often it is converted as a whole, and knows whether it was closed."""

    closed = False
    broken = False

    def source(self, fit: Letterbox) -> Any:
        assert not self.closed
        if self.broken:
            raise UndecodableError("broken")
        return super().source(fit)

    def close(self) -> None:
        self.closed = True
        super().close()


def picture_of(
    objects: Sequence[tuple[int, Box]], pixel_format: PixelFormat = PixelFormat.BGR24, rotation: int = 0
) -> NotingPicture:
    """Paint objects of so many shades into a grey-blue picture."""
    pixels = np.full((HEIGHT, WIDTH, 3), (90, 40, 30), np.uint8)
    for shade, (x1, y1, x2, y2) in objects:
        pixels[round(y1 * HEIGHT) : round(y2 * HEIGHT), round(x1 * WIDTH) : round(x2 * WIDTH)] = shade * 32 + 16
    fmt = VideoFormat(Codec.RAW, width=WIDTH, height=HEIGHT, pixel_format=pixel_format, rotation_degrees=rotation)
    return NotingPicture([pixels], fmt)


def seen(*objects: tuple[str, Box], class_id: int = 0, score: float = 0.8) -> Detections:
    """Detections of tracks at boxes."""
    count = len(objects)
    return Detections(
        np.array([box for _, box in objects], np.float32).reshape(count, 4),
        np.full(count, score, np.float32),
        np.full(count, class_id, np.int32),
        np.empty((count, 0), np.float32),
        track_ids=tuple(track for track, _ in objects),
    )


def show(
    cascade: ChannelCascade, objects: Sequence[tuple[str, int, Box]], time_s: float, *, class_id: int = 0
) -> Detections:
    """Show a frame with objects (track, shade, box) as a channel's monitor does; return its detections."""
    picture = picture_of([(shade, box) for _, shade, box in objects])
    detections = seen(*((track, box) for track, _, box in objects), class_id=class_id)
    cascade.look(picture, Fraction(1), detections, LABELS, time_s)
    assert not picture.closed
    picture.close()
    cascade.attach(detections)
    return detections


def said(cascade: ChannelCascade, track_id: str) -> str:
    """Tell the class of a track; empty: none is known."""
    results = cascade.results_of(track_id)
    return results[0].classes[0][0] if results else ""
