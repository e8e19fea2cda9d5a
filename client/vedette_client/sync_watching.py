"""The blocking twin of `vedette_client.watching`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Self

from vedette_client.errors import StreamClosedError

if TYPE_CHECKING:
    from types import TracebackType

    from vedette_client.sync_engines import Call
    from vedette_client.watching import News
    from vedette_client.watching import Watch as AsyncWatch


class Watch:
    """One watch, an iterator; see `vedette_client.watching.Watch`. `close` may be called from another thread."""

    def __init__(self, watch: AsyncWatch, call: Call) -> None:
        self._watch = watch
        self._call = call

    @property
    def offset(self) -> str:
        """Where to go on behind what was handed out last."""
        return self._watch.offset

    def close(self) -> None:
        """End it; may be called twice."""
        with contextlib.suppress(StreamClosedError):  # the client was closed, and this with it
            self._call(self._watch.close())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> News:
        news = self._call(_next(self._watch))
        if news is None:
            raise StopIteration
        return news

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _next(watch: AsyncWatch) -> News | None:
    return await anext(watch, None)
