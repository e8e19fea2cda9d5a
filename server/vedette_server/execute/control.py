"""The seam between whoever steers engines (EngineService) and whoever runs them.

All methods may be called from any thread but the event loop's: they may block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_server.data.engine import (
        EngineVersion,
        Route,
        RouteChange,
        SampledFrame,
        ShadowSample,
        ShadowTotals,
    )


class EngineControl(Protocol):
    """Lists, loads, unloads and routes the engines of this process."""

    def versions(self, name: str = "") -> Sequence[EngineVersion]:
        """Tell of all versions of one engine, or of all, by name, the newest first."""
        ...

    def load(self, name: str, version: str = "") -> EngineVersion:
        """Load and warm up a version (empty: the newest that is not withdrawn), and keep it loaded.

        Raises:
            NotFoundError: There is no such engine, or it is bad.
            EngineError: It cannot be loaded here, or the memory budget does not allow it.
        """
        ...

    def unload(self, name: str, version: str) -> EngineVersion:
        """Let go of a version that no channel and no route needs.

        Raises:
            NotFoundError: It is not loaded.
            StateError: It is needed; the message says by what.
        """
        ...

    def route(self, name: str) -> Route:
        """Tell an engine's route.

        Raises:
            NotFoundError: There is no such engine.
        """
        ...

    def change_route(self, name: str, change: RouteChange) -> Route:
        """Load what the change names, then let it take over between two batches.

        Raises:
            NotFoundError: There is no such engine or version.
            InvalidError: The parts contradict each other.
            OutdatedError: The revision is not the one in effect.
            StateError: A version cannot take over; says why.
            EngineError: A version cannot be loaded here.
        """
        ...

    def promote(self, name: str) -> Route:
        """Make the canary, or where there is none the shadow, the stable version.

        Raises:
            NotFoundError: There is no such engine.
            StateError: There is neither.
        """
        ...

    def roll_back(self, name: str, to: str = "") -> Route:
        """End canary and shadow, withdraw the stable version and take the one before it, or the one named.

        Raises:
            NotFoundError: There is no such engine or version.
            StateError: There is nothing to go back to.
        """
        ...

    def shadow(self, name: str) -> tuple[ShadowTotals | None, Sequence[ShadowSample]]:
        """Tell how the shadow compares, with the latest samples; None where there is none.

        Raises:
            NotFoundError: There is no such engine.
        """
        ...

    def sample_frames(self, name: str, interval_s: float, take: Callable[[SampledFrame], None]) -> Callable[[], None]:
        """Hand over a copy of one letterboxed frame of each channel every so often, until the returned stop is called.

        `take` is called from a worker and must not block.

        Raises:
            NotFoundError: No version of the engine is loaded.
        """
        ...
