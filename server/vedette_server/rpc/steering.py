"""Run calls that block on threads of their own, so many at once, and so many waiting.

Called from the event loop. Whoever waits may give up; what has begun is finished all the same, and what has
not is left.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from vedette_server.errors import LimitError, UnavailableError

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Hands:
    """A few threads.

    Args:
        name: For the threads' names and for messages.
        threads: So many calls at once.
        waiting: So many more may wait for their turn.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._name = name
        self._most = threads + waiting
        self._busy = 0
        self._closed = False
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def submit(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have a call run; event loop only.

        Raises:
            LimitError: Too many wait already.
            UnavailableError: The server is shutting down.
        """
        if self._closed:
            raise UnavailableError("DRAINING", "the server is shutting down")
        if self._busy >= self._most:
            raise LimitError("TOO_MANY_CALLS", f"{self._busy} calls are {self._name}; allowed at once: {self._most}")
        loop = asyncio.get_running_loop()
        future = self._threads.submit(call, *args, **kwargs)
        self._busy += 1

        def over(_: Future[R]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._free)

        future.add_done_callback(over)
        return future

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Have a call run and wait for it.

        Raises:
            LimitError: Too many wait already.
            UnavailableError: The server is shutting down.
        """
        return await asyncio.wrap_future(self.submit(call, *args, **kwargs))

    def close(self) -> None:
        """Begin nothing more; may be called twice."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _free(self) -> None:
        self._busy -= 1


class Tray(Generic[T]):
    """Hands things from a worker to the event loop; when it is full the oldest goes.

    Args:
        room: The most that wait, a `deque` with a bound.
    """

    def __init__(self, room: deque[T]) -> None:
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        self._dropped = 0

    def put(self, thing: T) -> None:
        """Hand over; from any thread, never blocks."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, thing)

    async def take(self) -> tuple[T, int]:
        """Wait for the next, with how many were dropped since the one before."""
        while not self._room:
            self._filled.clear()
            await self._filled.wait()
        dropped, self._dropped = self._dropped, 0
        return self._room.popleft(), dropped

    def _put(self, thing: T) -> None:
        self._dropped += len(self._room) == self._room.maxlen
        self._room.append(thing)
        self._filled.set()
