"""Memory on a GPU for pictures that its decoders gave, and that wait for an engine.

A decoder's own surfaces are reused by its next call. So each picture is copied off at once, on the device and in the
decoder's stream, which takes microseconds: however long it waits, no decoder starves. The memory is bounded; where the
bound is reached, or the device has no more, the picture goes to the host instead.

Threads: any; one lock. The device is attached where it is used.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING

from vedette_engines.cuda.base import CudaError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from vedette_engines.cuda.base import Device, DeviceBuffer, Event, PinnedBuffer, Stream

_log = logging.getLogger(__name__)

# Pictures of about the same size share memory.
_GRAIN = 64 * 1024


def let_go(*steps: Callable[[], None]) -> None:
    """Take each step: a device that is lost refuses them, and whatever uses it next says so."""
    for step in steps:
        with contextlib.suppress(CudaError):
            step()


class Piece:
    """Memory of one picture.

    Args:
        buffer: The memory.
        ready: Recorded when the picture stands in it.
    """

    __slots__ = ("buffer", "ready", "written")

    def __init__(self, buffer: DeviceBuffer, ready: Event) -> None:
        self.buffer = buffer
        self.ready = ready
        self.written = False

    def fill(self, stream: Stream, source: DeviceBuffer, size_bytes: int) -> None:
        """Copy a picture in, in the order of `stream`."""
        if self.written:
            # The picture before may have been written in another stream, and never been looked at.
            stream.wait(self.ready)
        self.written = True
        stream.copy(self.buffer, source, size_bytes)
        stream.record(self.ready)

    def close(self) -> None:
        """Give the memory back, attached."""
        let_go(self.ready.synchronize, self.buffer.close, self.ready.close)


class SurfacePool:
    """The pieces of one GPU.

    Args:
        device: The GPU.
        limit_bytes: Most memory.
    """

    def __init__(self, device: Device, limit_bytes: int) -> None:
        self.device = device
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._free: list[Piece] = []
        self._taken: set[Piece] = set()
        self._bytes = 0
        self._closed = False
        self._fetching = threading.Lock()
        self._stream: Stream | None = None
        self._pinned: PinnedBuffer | None = None

    @property
    def held(self) -> int:
        """Pieces that hold a picture."""
        return len(self._taken)

    @property
    def size_bytes(self) -> int:
        """Memory taken of the device."""
        return self._bytes

    def take(self, size_bytes: int) -> Piece | None:
        """Take a piece of at least this size, attached; None: the bound is reached, or the device has no more."""
        size = -(-size_bytes // _GRAIN) * _GRAIN
        with self._lock:
            found = next((piece for piece in self._free if piece.buffer.size_bytes == size), None)
            if found is not None:
                self._free.remove(found)
            else:
                found = None if self._closed else self._allocate(size)
            if found is not None:
                self._taken.add(found)
            return found

    def give_back(self, piece: Piece) -> None:
        """Give a piece back which nobody reads any more; any thread."""
        with self._lock:
            self._taken.discard(piece)
            if not self._closed:
                self._free.append(piece)
                return
        with contextlib.suppress(CudaError), self.device.attached():
            piece.close()

    def fetch(self, memory: DeviceBuffer, size_bytes: int, after: Event | None) -> NDArray[np.uint8]:
        """Copy a picture to the host; blocks until it is there.

        Args:
            memory: Where it lies.
            size_bytes: Its length.
            after: It is there when this event is done; None: it is there.

        Returns:
            `uint8 [size_bytes]`, the caller's.

        Raises:
            CudaError: The device failed.
        """
        with self._fetching, self.device.attached():
            if self._stream is None:
                self._stream = self.device.stream()
            if self._pinned is None or self._pinned.array.size < size_bytes:
                if self._pinned is not None:
                    self._pinned.close()
                self._pinned = self.device.pin(size_bytes)
            if after is not None:
                self._stream.wait(after)
            self._stream.download(self._pinned, memory, size_bytes)
            self._stream.synchronize()
            return self._pinned.array[:size_bytes].copy()

    def close(self) -> None:
        """Give the memory back; may be called twice. Pieces that are still taken go when they are given back."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        with self._fetching, contextlib.suppress(CudaError), self.device.attached():
            for piece in free:
                piece.close()
            let_go(*(thing.close for thing in (self._stream, self._pinned) if thing is not None))
            self._stream = self._pinned = None

    def _allocate(self, size: int) -> Piece | None:
        while self._bytes + size > self._limit_bytes and self._free:
            old = self._free.pop(0)
            self._bytes -= old.buffer.size_bytes
            old.close()
        if self._bytes + size > self._limit_bytes:
            return None
        try:
            buffer = self.device.allocate(size)
        except CudaError as error:
            _log.warning("no memory for decoded pictures on GPU %d: %s", self.device.facts.index, error)
            # Asked for again at every picture it would cost more than it gives.
            self._limit_bytes = self._bytes
            return None
        self._bytes += size
        return Piece(buffer, self.device.event())


class Lease:
    """A piece that several hold; it goes back when the last lets go.

    Args:
        pool: Where it goes.
        piece: It.
    """

    def __init__(self, pool: SurfacePool, piece: Piece) -> None:
        self.pool = pool
        self.piece = piece
        self._lock = threading.Lock()
        self._holders = 1

    def hold(self) -> Holding:
        """Hold it once more."""
        with self._lock:
            self._holders += 1
        return Holding(self)

    def let_go(self) -> None:
        """Let go of it, of as many as hold it; any thread."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self.pool.give_back(self.piece)


class Holding:
    """One hold of a lease; called, it is let go, once.

    Args:
        lease: It.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease: Lease | None = lease
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """Let go of it; any thread, may be called twice."""
        with self._lock:
            lease, self._lease = self._lease, None
        if lease is not None:
            lease.let_go()
