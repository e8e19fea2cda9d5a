"""What the slots of an engine on a GPU hold: letterboxed pixels, a picture as it was decoded, or one on the GPU.

A slot is pinned memory for one letterboxed frame. Where the device letterboxes it stands for a picture instead: a copy
in pinned staging memory, or a decoder's surface, which is held until the batch is done. Whatever does not suit (no
layout that a device takes, another GPU's memory, a size over the kernel's, no staging memory left) is letterboxed into
the slot by the CPU, so that frames of all kinds mix in one batch.

Threads: whoever owns a slot calls for it; the staging pool has a lock of its own.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING

from vedette_engines.cuda.base import CudaError
from vedette_engines.gpu.base import DevicePicture, HostPicture, SlotFrame
from vedette_server.picture.slots import SlotPool
from vedette_server.picture.source import DeviceSource, HostSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.cuda.base import Device, PinnedBuffer
    from vedette_engines.gpu.base import Feed
    from vedette_engines.gpu.staging import Staging
    from vedette_server.decode.base import Picture
    from vedette_server.picture.letterbox import Geometry, Letterbox
    from vedette_server.picture.slots import Slot

_log = logging.getLogger(__name__)

# Pictures of about the same size share staging memory.
_GRAIN = 64 * 1024
# The kernel computes places in 32 bits; see `vedette_engines.cuda.letterboxing`.
_LARGEST_PRODUCT = 1 << 30

Source = HostSource | DeviceSource


class StagingPool:
    """Pinned memory for pictures as they were decoded, reused by size and bounded as a whole.

    Args:
        device: Gives the memory.
        limit_bytes: Most of it.
    """

    def __init__(self, device: Device, limit_bytes: int) -> None:
        self._device = device
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._free: list[PinnedBuffer] = []
        self._taken: dict[int, PinnedBuffer] = {}
        self._bytes = 0
        self._closed = False

    @property
    def in_use(self) -> int:
        """Pieces that are owned by somebody now."""
        return len(self._taken)

    @property
    def size_bytes(self) -> int:
        """All memory that was taken from the system."""
        return self._bytes

    def take(self, size_bytes: int) -> PinnedBuffer | None:
        """Take a piece of at least this size; None: the bound is reached, and what is free is too small."""
        size = -(-size_bytes // _GRAIN) * _GRAIN
        with self._lock:
            if self._closed or not self._make_room(size):
                return None
            found = next((piece for piece in self._free if piece.array.size == size), None)
            if found is not None:
                self._free.remove(found)
            else:
                try:
                    with self._device.attached():
                        found = self._device.pin(size)
                except CudaError as error:
                    _log.warning("no pinned memory for pictures: %s", error)
                    # Asked for again at every frame it would cost more than it gives.
                    self._limit_bytes = self._bytes
                    return None
                self._bytes += size
            self._taken[id(found)] = found
            return found

    def give_back(self, piece: PinnedBuffer) -> None:
        """Give back a piece whose copy to the device is done.

        Raises:
            ValueError: It was given back already, or is not the pool's.
        """
        with self._lock:
            if self._taken.pop(id(piece), None) is None:
                raise ValueError("staging memory was given back already")
            self._free.append(piece)

    def close(self) -> None:
        """Give the memory back to the system, attached; may be called twice. Pieces that are still taken stay."""
        with self._lock:
            self._closed = True
            while self._free:
                close_pinned(self._free.pop())

    def _make_room(self, size: int) -> bool:
        """Let go of free pieces of other sizes until one of this size is free or fits."""
        if any(piece.array.size == size for piece in self._free):
            return True
        while self._bytes + size > self._limit_bytes and self._free:
            piece = self._free.pop(0)
            self._bytes -= piece.array.size
            with self._device.attached():
                close_pinned(piece)
        return self._bytes + size <= self._limit_bytes


class Feeds:
    """The slots of one engine on one GPU, and what each of them holds.

    Args:
        device: The GPU; the caller is attached to it.
        count: Slots.
        fit: Size and placement of the engine's input.
        staging_bytes: Most pinned memory for pictures; None: pictures are letterboxed by the CPU.

    Raises:
        CudaError: There is not so much pinned memory.
    """

    def __init__(self, device: Device, count: int, fit: Letterbox, staging_bytes: int | None) -> None:
        self._device = device
        self._fit = fit
        self._stride = slot_stride(fit)
        self._memory = device.pin(self._stride * count)
        self._frames = tuple(SlotFrame(self._memory, index * self._stride) for index in range(count))
        offered = iter(range(count))

        def allocate(size_bytes: int) -> NDArray[np.uint8]:
            start = next(offered) * self._stride
            return self._memory.array[start : start + size_bytes]

        self.slots = SlotPool(count, fit.width, fit.height, allocate)
        self.staging = None if staging_bytes is None else StagingPool(device, staging_bytes)
        self._stager = None if staging_bytes is None else _stager()
        # By slot: what it stands for instead of its pixels, and what to call when that is let go.
        self._pictures: list[HostPicture | DevicePicture | None] = [None] * count
        self._releases: list[Callable[[], None] | None] = [None] * count

    @property
    def takes_pictures(self) -> bool:
        """Whether the device letterboxes."""
        return self._stager is not None

    def fill(self, slot: Slot, picture: Picture) -> None:
        """Put a picture into a slot, as the device takes it where that can be, else letterboxed.

        Raises:
            UndecodableError: The bytes of a still are broken.
        """
        self.put(slot, picture, picture.source(self._fit) if self.takes_pictures else None)

    def put(self, slot: Slot, picture: Picture, source: Source | None) -> None:
        """Do as `fill`, with what the picture gave as its source; from here on the source is let go of by this object.

        Raises:
            UndecodableError: The bytes of a still are broken.
        """
        self.let_go(slot)
        if isinstance(source, DeviceSource):
            if source.device == self._device.facts.index and _suits(source.place, source.surface.width):
                self._releases[slot.index] = source.release
                self._pictures[slot.index] = DevicePicture(source.surface, source.place, source.colour, source.order)
                return
            _call(source.release)
        elif source is not None and self._stage(slot, source):
            return
        picture.letterbox_into(slot.pixels, self._fit)

    def pixels(self, slot: Slot, picture: Picture) -> NDArray[np.uint8]:
        """Give a slot's pixels; those of one that stands for a picture are made now.

        Raises:
            UndecodableError: The bytes of a still are broken.
        """
        if self._pictures[slot.index] is not None:
            picture.letterbox_into(slot.pixels, self._fit)
        return slot.pixels

    def feed(self, slot: Slot) -> Feed:
        """Tell what the device gets of a slot."""
        return self._pictures[slot.index] or self._frames[slot.index]

    def let_go(self, slot: Slot) -> None:
        """Let go of what a slot stands for, if anything; nothing reads it any more. Never raises."""
        index = slot.index
        release, self._releases[index] = self._releases[index], None
        self._pictures[index] = None
        if release is not None:
            _call(release)

    def release(self, slots: Sequence[Slot]) -> None:
        """Take slots back, with what they stand for."""
        for slot in slots:
            self.let_go(slot)
        self.slots.release_all(slots)

    def close(self) -> None:
        """Give all memory back, attached; may be called twice. Nothing of it is under way."""
        if self.staging is not None:
            self.staging.close()
        close_pinned(self._memory)

    def _stage(self, slot: Slot, source: HostSource) -> bool:
        stager, pool = self._stager, self.staging
        height, width = source.planes[0].shape[:2]
        if stager is None or pool is None or not _suits(source.place, max(width, height)):
            return False
        layout = stager.layout_of(source.kind, width, height)
        memory = pool.take(layout.size_bytes)
        if memory is None:
            return False
        try:
            stager.stage(source.planes, layout, memory)
        except BaseException:
            pool.give_back(memory)
            raise
        self._releases[slot.index] = lambda: pool.give_back(memory)
        self._pictures[slot.index] = HostPicture(memory, layout, source.place, source.colour)
        return True


def slot_stride(fit: Letterbox) -> int:
    """Tell the bytes from one slot to the next: none between them, so that neighbours are uploaded by one copy."""
    return fit.width * fit.height * 3


def close_pinned(memory: PinnedBuffer) -> None:
    """Give pinned memory back; of a GPU that is lost that is not to be had, nor worth an error."""
    try:
        memory.close()
    except CudaError as error:
        _log.warning("pinned memory not given back: %s", error)


def ways(feeds: Iterable[Feed]) -> Counter[str]:
    """Count how frames reach the device: `slot`, `host` (as decoded), `device` (they are there)."""
    return Counter(_WAYS[type(feed)] for feed in feeds)


_WAYS = {SlotFrame: "slot", HostPicture: "host", DevicePicture: "device"}


def _stager() -> Staging:
    # Only where the device letterboxes.
    from vedette_engines.gpu.staging import Staging  # noqa: PLC0415

    return Staging()


def _suits(place: Geometry, longest: int) -> bool:
    """Tell whether the kernel can compute with the sizes of a picture."""
    return max(place.fit_width, place.fit_height) * max(longest, place.width, place.height) < _LARGEST_PRODUCT


def _call(release: Callable[[], None]) -> None:
    try:
        release()
    except Exception:  # noqa: BLE001 - a decoder's failure costs its own picture only
        _log.exception("a picture could not be let go")
