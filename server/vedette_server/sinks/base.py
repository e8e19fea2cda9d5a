"""What a sink is, and what it is given.

A sink of one's own is installed as an entry point of the group `vedette.sinks`; its name is the `kind` in the file of
sinks. The entry point is a `SinkFactory`. Whoever follows the chain (`follower.py`) decides when a message is delivered
again and when it is given up; a sink only tries once and says what came of it.

Threads: a sink is called from one thread at a time, always the same; it may have threads of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from vedette_server.errors import VedetteError
from vedette_server.sinks.document import body, document, identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from vedette_server.data.channel import ChannelRecord
    from vedette_server.data.event import Event

ENTRY_POINTS = "vedette.sinks"


class SinkError(VedetteError):
    """A delivery failed.

    Args:
        message: Why, for people; without secrets.
        permanent: These messages will never be taken: it is of no use to try them again.
        of_sink: Others would not be taken now either: nothing is tried for a while. Not told of permanent ones.
        retry_after_s: The other side asks not to be called for so long; None: it does not say.
    """

    def __init__(
        self, message: str, *, permanent: bool = False, of_sink: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.permanent = permanent
        self.of_sink = of_sink and not permanent
        self.retry_after_s = retry_after_s


def _no_snapshot() -> None:
    return None


@dataclass(frozen=True, slots=True)
class EventMessage:
    """One record of the chain, on its way to a sink: an event as it was after one of its changes.

    Attributes:
        number: The record's number in the chain; within a channel, it rises from message to message.
        event: The event.
        snapshot: Fetches the annotated JPEG; None: there is none, or it may not be shown.
    """

    number: int
    event: Event
    snapshot: Callable[[], bytes | None] = field(default=_no_snapshot, compare=False)

    @property
    def identity(self) -> str:
        """The same for every try, and for no other message: by it, doubles can be dropped."""
        return identity(self.number, self.event)

    def document(self) -> dict[str, Any]:
        """Give it as plain data for JSON; see `document.py`."""
        return document(self.number, self.event)

    def body(self) -> bytes:
        """Give it as JSON: UTF-8, one line, no line's end."""
        return body(self.number, self.event)


class Sink(Protocol):
    """Where messages go to.

    Attributes:
        most: So many messages are given at once at most, 1 or more.
    """

    @property
    def most(self) -> int:
        """So many messages are given at once at most, 1 or more."""
        ...

    def deliver(self, messages: Sequence[EventMessage]) -> None:
        """Try once to deliver messages, in this order; when it returns, all of them are on the other side.

        Must end by itself, within half a minute or so. What was delivered before a failure is delivered again.

        Raises:
            SinkError: They, or some of them, were not delivered.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds; may be called twice. Nothing is delivered afterwards."""
        ...


@runtime_checkable
class Announcing(Protocol):
    """A sink that tells the other side which channels and rules there are."""

    def announce(self, records: Sequence[ChannelRecord]) -> None:
        """Tell all channels as they are now; called at the start and after changes, again after a failure.

        Raises:
            SinkError: They were not told.
        """
        ...


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What a sink is given when it is made.

    Attributes:
        name: The sink's name in the file of sinks.
        folder: Where it may keep files; their names begin with its name.
        active: Gives the events that go on now.
    """

    name: str
    folder: Path
    active: Callable[[], Iterable[Event]]


class SinkFactory(Protocol):
    """Makes a sink of its table of settings."""

    def __call__(self, table: Mapping[str, Any], context: SinkContext) -> Sink:
        """Make it.

        Args:
            table: The keys of its own; `secret`, `password` and `token` are `Secret`, wherever they were read from.
            context: Its name and its place.

        Raises:
            SettingsError: A key is unknown, or its value is not allowed.
        """
        ...
