"""The blocking twin of `vedette_client.engines`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from vedette_client.engines import LOAD_TIMEOUT_S
from vedette_client.errors import StreamClosedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence

    from vedette_client.engine_info import (
        Engine,
        EngineVersion,
        Route,
        SampledFrame,
        ShadowReport,
        ShadowSample,
    )
    from vedette_client.engines import Engines as AsyncEngines

T = TypeVar("T")


class Call(Protocol):
    """Runs a coroutine on the client's event loop and waits for it."""

    def __call__(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it."""
        ...


class Engines:
    """The engines of one server; see `vedette_client.engines.Engines` for all of it."""

    def __init__(self, engines: AsyncEngines, call: Call) -> None:
        self._engines = engines
        self._call = call

    def list(self) -> list[Engine]:
        """List the engines."""
        return self._call(self._engines.list())

    def get(self, name: str) -> Engine:
        """Get one engine."""
        return self._call(self._engines.get(name))

    def load(self, name: str, version: str = "", *, timeout_s: float = LOAD_TIMEOUT_S) -> EngineVersion:
        """Load a version and keep it loaded."""
        return self._call(self._engines.load(name, version, timeout_s=timeout_s))

    def unload(self, name: str, version: str, *, timeout_s: float = LOAD_TIMEOUT_S) -> EngineVersion:
        """Let go of a version."""
        return self._call(self._engines.unload(name, version, timeout_s=timeout_s))

    def route(self, name: str) -> Route:
        """Get an engine's route."""
        return self._call(self._engines.route(name))

    def update_route(
        self,
        name: str,
        *,
        stable: str | None = None,
        canary: str | None = None,
        canary_share: float | None = None,
        shadow: str | None = None,
        revision: int | None = None,
        timeout_s: float = LOAD_TIMEOUT_S,
    ) -> Route:
        """Change an engine's route."""
        wanted = self._engines.update_route(
            name,
            stable=stable,
            canary=canary,
            canary_share=canary_share,
            shadow=shadow,
            revision=revision,
            timeout_s=timeout_s,
        )
        return self._call(wanted)

    def promote(self, name: str, *, timeout_s: float = LOAD_TIMEOUT_S) -> Route:
        """Make the version on trial the stable one."""
        return self._call(self._engines.promote(name, timeout_s=timeout_s))

    def roll_back(self, name: str, to: str = "", *, timeout_s: float = LOAD_TIMEOUT_S) -> Route:
        """Go back to an earlier version."""
        return self._call(self._engines.roll_back(name, to, timeout_s=timeout_s))

    def shadow(self, name: str) -> ShadowReport:
        """Tell how an engine's shadow compares."""
        return self._call(self._engines.shadow(name))

    def shadow_samples(self, name: str, *, limit: int = 100, pictures: bool = False) -> Sequence[ShadowSample]:
        """List frames on which shadow and stable version differed."""
        return self._call(self._engines.shadow_samples(name, limit=limit, pictures=pictures))

    def frames(
        self, name: str, *, count: int = 1000, interval_s: float = 1.0, channels: Sequence[str] = ()
    ) -> Iterator[SampledFrame]:
        """Iterate over frames of the live channels as the engine sees them."""
        frames = self._engines.frames(name, count=count, interval_s=interval_s, channels=channels)
        try:
            while (frame := self._call(_next(frames))) is not None:
                yield frame
        finally:
            with contextlib.suppress(StreamClosedError):  # the client was closed meanwhile
                self._call(_close(frames))


async def _next(frames: AsyncGenerator[SampledFrame, None]) -> SampledFrame | None:
    return await anext(frames, None)


async def _close(frames: AsyncGenerator[SampledFrame, None]) -> None:
    await frames.aclose()
