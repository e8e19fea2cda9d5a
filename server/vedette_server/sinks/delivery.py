"""Delivers events to all sinks: at least once, in order per channel, without making the pipeline wait.

One thread for each sink reads the chain from where the sink stands (`follower.py`), woken by the feed; a sink that is
slow or down delays nobody but itself, and holds nothing in memory. In the folder, each sink has `NAME.position.json`,
`NAME.dead.jsonl` and files of its own.

Threads: any thread may call any method.
"""

from __future__ import annotations

import logging
import random
import time
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Protocol, Self

from vedette_server.data.event import EventState
from vedette_server.data.rules import EvidencePolicy
from vedette_server.errors import NotFoundError, SettingsError, UnavailableError
from vedette_server.sinks.base import SinkContext
from vedette_server.sinks.dead_letters import DeadLetters
from vedette_server.sinks.files import make_private
from vedette_server.sinks.follower import Follower
from vedette_server.sinks.line import Line
from vedette_server.sinks.position import PositionFile
from vedette_server.store.querying import EventFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from vedette_server.data.channel import ChannelRecord
    from vedette_server.data.event import Event
    from vedette_server.sinks.dead_letters import DeadLetter
    from vedette_server.sinks.figures import Replayed, SinkFigures
    from vedette_server.sinks.pauses import Clock
    from vedette_server.sinks.settings import SinkSettings
    from vedette_server.store.feed import EventFeed
    from vedette_server.store.store import EventStore

_log = logging.getLogger(__name__)


class Channels(Protocol):
    """What is needed of the catalogue of channels."""

    def get(self, name: str) -> ChannelRecord | None:
        """Give a channel by its bare name."""
        ...

    def records(self) -> tuple[ChannelRecord, ...]:
        """Give all channels."""
        ...

    def listen(self, callback: Callable[[str, ChannelRecord | None], None]) -> Callable[[], None]:
        """Have a quick function called after each change, on any thread; return what ends that."""
        ...


class _SystemClock:
    """The clock of the machine."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()


class Deliverer:
    """Runs the sinks.

    Args:
        sinks: What is wanted, see `file.load_sinks`.
        store: The chain of events; stays its owner's, and must be open until `close` has returned.
        feed: Wakes it.
        folder: Where positions and dead letters are kept; made when it is not there.
        channels: The catalogue; None: nothing is announced.
        fetch_snapshot: Gives the annotated JPEG of an event; None: there is none. Not called for events without one
            nor for channels whose evidence is NONE; called on the sinks' threads.
        clock: Tells the time; None: the machine's.
        chance: Gives numbers of 0..1, for the pauses.

    Raises:
        SettingsError: A plug-in refuses its settings, the folder cannot be used, or a position in it is not one.
        StoreUnavailableError: The store cannot be read.
    """

    def __init__(
        self,
        sinks: Sequence[SinkSettings],
        store: EventStore,
        feed: EventFeed,
        folder: Path,
        *,
        channels: Channels | None = None,
        fetch_snapshot: Callable[[Event], bytes | None] | None = None,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._feed = feed
        self._channels = channels
        self._fetch = fetch_snapshot
        self._lines: dict[str, Line] = {}
        self._kinds = {one.name: one.kind for one in sinks}
        self._ends: list[Callable[[], None]] = []
        try:
            make_private(folder)
            for one in sinks:
                self._lines[one.name] = self._line(one, folder, clock or _SystemClock(), chance)
        except OSError as error:
            self.close(0)
            raise SettingsError(f"folder of sinks {folder}: cannot be used: {error.strerror or error}") from error
        except BaseException:
            self.close(0)
            raise
        self._ends.append(feed.listen(self._wake))
        if channels is not None:
            self._ends.append(channels.listen(self._channel_changed))
        for line in self._lines.values():
            line.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sinks."""
        return tuple(self._lines)

    @property
    def kinds(self) -> Mapping[str, str]:
        """Of which kind each sink is, by name."""
        return self._kinds

    def figures(self) -> dict[str, SinkFigures]:
        """Say what each sink has done so far, by name."""
        length = self._feed.length
        return {name: line.figures(length) for name, line in self._lines.items()}

    def dead_letters(self, name: str) -> list[DeadLetter]:
        """Give what a sink did not take, the oldest first.

        Raises:
            NotFoundError: There is no such sink.
        """
        return list(self._named(name).dead.letters())

    def replay(self, name: str, timeout_s: float = 60.0) -> Replayed:
        """Put a sink's dead letters through again, in their order, and keep those that fail again.

        They come after what was delivered since: within a channel, `record` tells what is older. Waits for the end.

        Raises:
            NotFoundError: There is no such sink.
            UnavailableError: It has not ended in time and goes on, or the server closes.
        """
        future = self._named(name).replay()
        try:
            return future.result(timeout_s)
        except FutureTimeoutError as error:
            words = f"sink {name!r}: the replay has not ended after {timeout_s:g} s and goes on"
            raise UnavailableError("REPLAY_GOES_ON", words) from error

    def close(self, grace_s: float = 5.0) -> None:
        """Deliver nothing more and end; may be called twice.

        What waits stays in the store for the next start. A sink that does not come back within the grace is left to
        end by itself; what it may still deliver is delivered again.
        """
        while self._ends:
            self._ends.pop()()
        until_s = time.monotonic() + grace_s
        for line in self._lines.values():
            line.ask_to_end()
        for name, line in self._lines.items():
            if not line.join(max(0.0, until_s - time.monotonic())):
                _log.warning("sink_left_behind", extra={"sink": name})

    def _line(self, one: SinkSettings, folder: Path, clock: Clock, chance: Callable[[], float]) -> Line:
        sink = one.make(SinkContext(one.name, folder, self._active))
        try:
            dead = DeadLetters(folder / f"{one.name}.dead.jsonl", one.dead)
            place = PositionFile(folder / f"{one.name}.position.json")
            follower = Follower(one, sink, self._store, place, dead, self._snapshot, clock, chance)
        except BaseException:
            sink.close()
            raise
        return Line(one, sink, follower, dead, clock, chance, self._records)

    def _records(self) -> tuple[ChannelRecord, ...] | None:
        return None if self._channels is None else self._channels.records()

    def _snapshot(self, event: Event) -> bytes | None:
        if self._fetch is None:
            return None
        record = None if self._channels is None else self._channels.get(event.channel)
        if record is not None and record.watch.evidence is EvidencePolicy.NONE:
            return None
        return self._fetch(event)

    def _active(self) -> Iterator[Event]:
        token = ""
        while True:
            page = self._store.query(EventFilter(states=(EventState.ACTIVE,)), size=1000, token=token)
            yield from (one.event for one in page.events if one.event is not None)
            if not page.next_token:
                return
            token = page.next_token

    def _wake(self) -> None:
        for line in self._lines.values():
            line.wake()

    def _channel_changed(self, _name: str, _record: ChannelRecord | None) -> None:
        for line in self._lines.values():
            line.channels_changed()

    def _named(self, name: str) -> Line:
        if name not in self._lines:
            there = ", ".join(self._lines) or "there are none"
            raise NotFoundError("SINK_NOT_FOUND", f"sink {name!r}: there is none; there are: {there}")
        return self._lines[name]
