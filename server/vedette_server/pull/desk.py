"""Where pulled cameras get their sessions: the registry's calls, made on the event loop for other threads.

A session is begun, or taken up again, and attached in one turn of the loop: a camera whose thread has given up
meanwhile leaves no session behind that nobody would ever end.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol, TypeVar

from vedette_server.errors import UnavailableError
from vedette_server.pull.line import Line

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from vedette_server.data.config import ChannelConfig
    from vedette_server.execute.client import InferenceClient
    from vedette_server.session.registry import Registry
    from vedette_server.session.seams import SessionParts

T = TypeVar("T")

_LOOP_S = 30.0


class Factory(Protocol):
    """What is needed of the `SessionFactory`."""

    def prepare(self, config: ChannelConfig) -> None:
        """Load a channel's engines; blocks."""
        ...

    def engines(self, config: ChannelConfig) -> tuple[InferenceClient, ...]:
        """Choose the versions that a channel gets."""
        ...

    def check(self, config: ChannelConfig, inferences: tuple[InferenceClient, ...]) -> None:
        """Refuse what the engines cannot do."""
        ...

    def parts(self, config: ChannelConfig, inferences: tuple[InferenceClient, ...]) -> SessionParts:
        """Build the parts of one session."""
        ...


class Desk:
    """Begins sessions and takes them up again.

    Args:
        registry: The sessions.
        factory: Builds what they are made of.
        loop: The event loop, on which alone the registry is called.
    """

    def __init__(self, registry: Registry, factory: Factory, loop: asyncio.AbstractEventLoop) -> None:
        self._registry = registry
        self._factory = factory
        self._loop = loop

    def prepare(self, config: ChannelConfig) -> None:
        """Load a channel's engines; blocks, never on the event loop.

        Raises:
            RefusedError: There is no such engine.
            EngineError: One cannot be loaded.
        """
        self._factory.prepare(config)

    def begin(self, config: ChannelConfig) -> Line:
        """Load the engines, begin a session and attach to it; blocks, never on the event loop.

        Raises:
            RefusedError: The channel is taken, an engine does not exist, or cannot do what is wanted.
            EngineError: An engine cannot be loaded.
        """
        self.prepare(config)
        return self._on_loop(lambda: self._begin(config))

    def resume(self, line: Line) -> Line | None:
        """Attach to a line's session again; None: it is lost. Blocks, never on the event loop.

        Raises:
            RefusedError: Another session took the channel meanwhile.
        """
        return self._on_loop(lambda: self._resume(line))

    def _begin(self, config: ChannelConfig) -> Line:
        inferences = self._factory.engines(config)
        self._factory.check(config, inferences)
        self._registry.check_free(config.channel, takeover=False)
        session = self._registry.create(config, self._factory.parts(config, inferences), None)
        line = Line(session)
        line.attached(session.attach(line, None, None))
        return line

    def _resume(self, line: Line) -> Line | None:
        old = line.session
        session = self._registry.resumable(old.identity.token, old.config)
        if session is None or session.over or line.over:
            return None
        next_sequence = line.next_sequence
        if not session.needs_channel(next_sequence):
            return None
        self._registry.check_holder(session, next_sequence)
        resumed = Line(session)
        # Verdicts that no line has taken yet go to this one with the next news: none was lost on the way.
        resumed.attached(session.attach(resumed, None, next_sequence))
        self._registry.hold_again(session)
        return resumed

    def _on_loop(self, act: Callable[[], T]) -> T:
        """Have something done on the event loop and return what came of it.

        Raises:
            UnavailableError: The loop has ended, or does not come to it.
        """
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(act())
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                future.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(run)
            return future.result(_LOOP_S)
        except TimeoutError:
            if not future.cancel():
                return future.result(_LOOP_S)
            raise UnavailableError("SERVER_BUSY", f"the event loop did not answer within {_LOOP_S:g} s") from None
        except RuntimeError:
            if not self._loop.is_closed():
                raise
            raise UnavailableError("DRAINING", "the server is shutting down") from None
