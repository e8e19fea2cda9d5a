"""The second stages of all channels: what they share.

Threads: any.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vedette_server.cascade.channel import ChannelCascade
from vedette_server.cascade.loading import StageLoader
from vedette_server.cascade.tallies import Tallies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_server.cascade.channel import Waker
    from vedette_server.cascade.loading import EngineHouse
    from vedette_server.cascade.tallies import StageTally
    from vedette_server.data.channel import StageConfig
    from vedette_server.data.config import EngineRef

MOST_UNDER_WAY = 256


class Cascades:
    """Opens the second stages of channels.

    Args:
        engines: The server's engines.
        waker: Is told of slots and crops: the pipeline.
        clock: Monotonic seconds.
        most_under_way: Looks of all channels that may be under way at once.
    """

    def __init__(
        self,
        engines: EngineHouse,
        waker: Waker,
        clock: Callable[[], float] = time.monotonic,
        *,
        most_under_way: int = MOST_UNDER_WAY,
    ) -> None:
        self._waker = waker
        self._clock = clock
        self._tallies = Tallies(most_under_way)
        self._loader = StageLoader(engines, self._tallies, clock)

    @property
    def under_way(self) -> int:
        """Looks that are under way now."""
        return self._tallies.under_way

    @property
    def tallies(self) -> dict[str, StageTally]:
        """What became of all looks so far, by the engine's name."""
        return self._tallies.by_engine

    def failure(self, engine: EngineRef) -> str:
        """Tell why an engine could not be loaded when that was tried last; empty: it could."""
        return self._loader.failure(engine)

    def open(self, channel: str, stages: Sequence[StageConfig] = ()) -> ChannelCascade:
        """Open the second stage of a channel; never blocks, and may have no stages.

        Args:
            channel: The channel's bare name.
            stages: Checked by `check_stages`.
        """
        return ChannelCascade(channel, stages, self._loader, self._tallies, self._waker, self._clock)

    def close(self) -> None:
        """Load no more; may be called twice. Channels' cascades are closed before."""
        self._loader.close()
