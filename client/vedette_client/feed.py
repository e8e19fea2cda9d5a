"""Carry the packets of a blocking source into a stream.

A thread of its own walks through the source and keeps its pace; a task on the stream's loop sends. The
two meet in a short queue: when it is full, the thread waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from vedette_client.errors import ClientError, SourceError
from vedette_client.options import Policy

if TYPE_CHECKING:
    from vedette_client.sources.base import Source, SourceFormat, SourcePacket
    from vedette_client.stream import Stream

_QUEUED = 16
_JOIN_S = 1.0


async def open_source_in_thread(source: Source) -> SourceFormat:
    """Open a source without holding up the loop.

    Raises:
        SourceError: It cannot be opened.
    """
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[SourceFormat] = loop.create_future()

    def settle(video: SourceFormat | None, error: BaseException | None) -> None:
        if opened.done():
            source.close()  # nobody waits any more
        elif video is not None:
            opened.set_result(video)
        else:
            opened.set_exception(_as_source_error(source, error))

    def run() -> None:
        video, failure = None, None
        try:
            video = source.open()
        except Exception as error:  # noqa: BLE001  it is handed to whoever waits
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, video, failure)

    threading.Thread(target=run, name=f"open {source.name}", daemon=True).start()
    return await opened


class Feed:
    """Sends a source through a stream and finishes the stream after its last packet.

    Args:
        source: An opened source; closed when the feed ends.
        stream: Where its packets go.
    """

    def __init__(self, source: Source, stream: Stream) -> None:
        self._source = source
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._queue: deque[SourcePacket | None] = deque()
        self._lock = threading.Condition()
        self._filled = asyncio.Event()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._walk, name=f"source {source.name}", daemon=True)
        self._task = asyncio.create_task(self._send(), name=f"feed {source.name}")
        self._thread.start()

    async def close(self) -> None:
        """Stop, and wait until the source is closed; may be called twice."""
        self._halt()
        self._task.cancel()
        await asyncio.wait([self._task])
        deadline_s = time.monotonic() + _JOIN_S
        while self._thread.is_alive() and time.monotonic() < deadline_s:
            await asyncio.sleep(0.01)
        if self._thread.is_alive():
            self._source.close()  # it hangs in a read: pull it out

    def raise_failure(self) -> None:
        """Raise what ended the source.

        Raises:
            SourceError: It failed half-way.
        """
        if self._failure is not None:
            raise _as_source_error(self._source, self._failure)

    def _halt(self) -> None:
        self._stop.set()
        with self._lock:
            self._lock.notify_all()

    async def _send(self) -> None:
        try:
            await self._send_all()
        except ClientError:
            return  # the stream itself tells its readers
        except Exception as error:  # noqa: BLE001  it is handed to the reader of the stream
            self._failure = error
        finally:
            self._halt()
        with contextlib.suppress(ClientError):
            await self._stream.finish()

    async def _send_all(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            for packet in self._take_all():
                if packet is None:
                    return
                await self._stream.send(packet, wait=self._may_wait(packet))

    def _may_wait(self, packet: SourcePacket) -> bool:
        """Tell whether the source can be slowed: recorded streams, and files sent as fast as possible."""
        if self._stream.policy is Policy.EVERY_FRAME:
            return True
        return not self._source.live and packet.due_s is None

    def _take_all(self) -> list[SourcePacket | None]:
        with self._lock:
            packets = list(self._queue)
            self._queue.clear()
            self._lock.notify_all()
        return packets

    def _walk(self) -> None:
        """Run in the thread."""
        start_s = time.monotonic()
        try:
            for packet in self._source.packets():
                if packet.due_s is not None:
                    self._stop.wait(max(0.0, start_s + packet.due_s - time.monotonic()))
                if not self._put(packet):
                    break
        except Exception as error:  # noqa: BLE001  it is handed to the reader of the stream
            self._failure = error
        finally:
            self._source.close()
            self._put(None)

    def _put(self, packet: SourcePacket | None) -> bool:
        with self._lock:
            while len(self._queue) >= _QUEUED and packet is not None and not self._stop.is_set():
                self._lock.wait(1.0)
            if self._stop.is_set():
                return False
            self._queue.append(packet)
            first = len(self._queue) == 1
        if first:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._filled.set)
        return True


def _as_source_error(source: Source, error: BaseException | None) -> SourceError:
    if isinstance(error, SourceError):
        return error
    failure = SourceError(f"{source.name}: {error}")
    failure.__cause__ = error
    return failure
