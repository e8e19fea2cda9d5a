"""SinkService: where events are delivered to, how that goes, and what was refused, put through again.

Lives on the event loop. A replay is waited for on a thread, one for each sink at most; it is the sink's own thread that
delivers. A call that is cancelled ends nothing: the replay goes on, and until it is over no other is begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any

from vedette.v1 import sink_pb2, sink_pb2_grpc
from vedette_server.errors import NotFoundError, StateError, UnavailableError
from vedette_server.rpc.auth import Permission
from vedette_server.rpc.status import ending
from vedette_server.rpc.steering import Hands

if TYPE_CHECKING:
    import grpc

    from vedette_server.rpc.auth import Authenticator, Principal
    from vedette_server.sinks.delivery import Deliverer
    from vedette_server.sinks.figures import Replayed, SinkFigures

    Context = grpc.aio.ServicerContext[Any, Any]

LOOKERS, LOOKS_WAITING = 1, 64
# A replay of a full file of dead letters to a slow receiver takes long; nobody waits for longer than this.
LONGEST_REPLAY_S = 3600.0
MOST_NAME_CHARS = 64

_log = logging.getLogger(__name__)


class SinkService(sink_pb2_grpc.SinkServiceServicer):
    """Shows the sinks, and puts their dead letters through again.

    Args:
        sinks: The sinks; None: there are none. Stays its owner's.
        authenticator: Knows who may do what.
        longest_replay_s: A call waits so long for a replay, which then goes on by itself.
    """

    def __init__(
        self,
        sinks: Deliverer | None,
        authenticator: Authenticator,
        *,
        longest_replay_s: float = LONGEST_REPLAY_S,
    ) -> None:
        self._sinks = sinks
        self._authenticator = authenticator
        self._longest_replay_s = longest_replay_s
        self._looks = Hands("looking at sinks", LOOKERS, LOOKS_WAITING)
        self._running: set[str] = set()
        self._over = asyncio.Event()

    def drain(self) -> None:
        """Begin nothing more, and let nobody wait any longer; event loop only."""
        self._over.set()

    def close(self) -> None:
        """Begin nothing more; may be called twice."""
        self._over.set()
        self._looks.close()

    async def ListSinks(  # noqa: N802 - the contract's name
        self,
        request: sink_pb2.ListSinksRequest,  # noqa: ARG002 - it is empty
        context: Context,
    ) -> sink_pb2.ListSinksResponse:
        """List the sinks, by name."""
        async with ending(context):
            self._let(context)
            if self._sinks is None:
                return sink_pb2.ListSinksResponse()
            figures, kinds = await self._looks.run(self._sinks.figures), self._sinks.kinds
            sinks = [_to_wire(name, kinds[name], figures[name]) for name in sorted(figures)]
            return sink_pb2.ListSinksResponse(sinks=sinks)

    async def ReplayDeadLetters(  # noqa: N802 - the contract's name
        self, request: sink_pb2.ReplayDeadLettersRequest, context: Context
    ) -> sink_pb2.ReplayDeadLettersResponse:
        """Put a sink's dead letters through again."""
        async with ending(context):
            principal = self._let(context)
            replayed = await self._until_over(self._begin(request.name, principal))
            return sink_pb2.ReplayDeadLettersResponse(
                delivered=replayed.delivered, kept=replayed.kept, reason=_words(replayed.reason)
            )

    @property
    def _names(self) -> tuple[str, ...]:
        return () if self._sinks is None else self._sinks.names

    def _let(self, context: Context) -> Principal:
        return self._authenticator.authorize(context.invocation_metadata() or (), Permission.ADMINISTER, "")

    def _begin(self, name: str, principal: Principal) -> asyncio.Future[Replayed]:
        """Have a sink replay.

        Raises:
            NotFoundError: There is no such sink.
            StateError: It does already.
            UnavailableError: The server is shutting down.
        """
        if self._over.is_set():
            raise _draining()
        if self._sinks is None or name not in self._names:
            there = f"there are: {', '.join(sorted(self._names))}" if self._names else "this server has none"
            raise NotFoundError("SINK_NOT_FOUND", f"sink {name[:MOST_NAME_CHARS]!r}: there is none; {there}")
        if name in self._running:
            words = f"sink {name!r}: its dead letters are being put through already; ask again when that is over"
            raise StateError("REPLAY_RUNNING", words)
        running: asyncio.Future[Replayed] = asyncio.get_running_loop().create_future()
        self._running.add(name)
        # Not one of `Hands`: a sink that hangs may be left behind, and then nothing may keep the process.
        args = (self._sinks, name, running)
        threading.Thread(target=self._wait_for, args=args, name=f"replay-{name}", daemon=True).start()
        _log.info("dead letters are put through again", extra={"sink": name, "by": principal.name})
        return running

    def _wait_for(self, sinks: Deliverer, name: str, running: asyncio.Future[Replayed]) -> None:
        """Have a sink replay, and wait for it on a thread of its own."""
        outcome: Replayed | Exception
        try:
            outcome = sinks.replay(name, self._longest_replay_s)
        except Exception as error:  # noqa: BLE001 - handed to who waits
            outcome = error
        with contextlib.suppress(RuntimeError):  # the event loop has ended, and nobody waits any more
            running.get_loop().call_soon_threadsafe(self._settle, name, running, outcome)

    def _settle(self, name: str, running: asyncio.Future[Replayed], outcome: Replayed | Exception) -> None:
        self._running.discard(name)
        if isinstance(outcome, Exception):
            _log.warning("replay_failed", extra={"sink": name, "error": str(outcome)})
            running.set_exception(outcome)
            running.exception()  # looked at: its caller may have gone
        else:
            about = {"sink": name, "delivered": outcome.delivered, "kept": outcome.kept}
            _log.info("dead letters replayed", extra={**about, "reason": outcome.reason})
            running.set_result(outcome)

    async def _until_over(self, running: asyncio.Future[Replayed]) -> Replayed:
        """Wait for a replay; to give up waiting does not end it.

        Raises:
            UnavailableError: The server is shutting down, or it takes too long.
        """
        draining = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait((running, draining), return_when=asyncio.FIRST_COMPLETED)
        finally:
            draining.cancel()
        if not running.done():
            raise _draining()
        return running.result()


def _draining() -> UnavailableError:
    return UnavailableError("DRAINING", "the server is shutting down; what was not delivered is kept")


def _to_wire(name: str, kind: str, figures: SinkFigures) -> sink_pb2.Sink:
    return sink_pb2.Sink(
        name=name,
        kind=kind,
        delivered=figures.delivered,
        failed=figures.failed,
        dead_letters=figures.dead_letters,
        dead_letters_lost=figures.dead_letters_lost,
        lag=figures.lag,
        failing=_words(figures.failing),
    )


def _words(text: str) -> str:
    """Give a text that the wire can bear: a plug-in may say anything."""
    return text.encode("utf-8", "replace").decode("utf-8")
