"""StreamService: take a configuration, find or build its session, and run the call.

Lives on the event loop. Engines are loaded on a thread, so that a slow load holds up nobody else.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from vedette.v1 import stream_pb2_grpc
from vedette_server.errors import InvalidError, RefusedError, UnavailableError
from vedette_server.rpc.answers import config_in_effect
from vedette_server.rpc.auth import Permission
from vedette_server.rpc.convert import ConfigDefaults, apply_update, config_from_wire
from vedette_server.rpc.status import ending
from vedette_server.rpc.stream_call import StreamCall, check_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.v1 import stream_pb2
    from vedette_server.data.config import ChannelConfig, EngineRef
    from vedette_server.metrics import Metrics
    from vedette_server.rpc.auth import Authenticator
    from vedette_server.rpc.bell import Bell
    from vedette_server.session.factory import SessionFactory
    from vedette_server.session.registry import Registry
    from vedette_server.session.session import Session
    from vedette_server.settings import Settings
    from vedette_server.trace import Tracer

CHANNEL_KEY = "x-vedette-channel"
FIRST_MESSAGE_S = 15.0
MAX_TOKEN_CHARS = 256
HIGHEST_RESUMED = 1 << 62


class StreamService(stream_pb2_grpc.StreamServiceServicer):
    """Analyses streams.

    Args:
        settings: All settings.
        registry: The sessions.
        factory: Builds what sessions are made of.
        authenticator: Knows who may publish.
        metrics: Counts refusals.
        bell: Wakes writers.
        version: Version of the server.
        tracer: Records what is told and acknowledged; None: nobody does.
        admit: Refuses channels that nobody may stream to, by their bare names.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        factory: SessionFactory,
        authenticator: Authenticator,
        metrics: Metrics,
        bell: Bell,
        version: str,
        tracer: Tracer | None = None,
        *,
        admit: Callable[[str], None] = lambda _channel: None,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._factory = factory
        self._authenticator = authenticator
        self._metrics = metrics
        self._bell = bell
        self._version = version
        self._tracer = tracer
        self._admit = admit
        self._calls: set[StreamCall] = set()
        self._draining = False
        self._loads: dict[tuple[EngineRef, ...], asyncio.Task[None]] = {}
        self._defaults = ConfigDefaults(
            max_age_s=settings.channels.max_age_s,
            max_width=settings.decode.max_width,
            max_height=settings.decode.max_height,
        )

    # grpc.aio also takes a coroutine that reads and writes through the context; the stubs know generators only.
    async def AnalyzeStream(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # noqa: N802
        self,
        request_iterator: Any,  # noqa: ARG002 - read through the context
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        """Analyse one camera's stream."""
        async with ending(context):
            try:
                await self._analyze(context)
            except RefusedError as error:
                self._metrics.refused(error.reason)
                raise

    def update_config(self, session: Session, update: stream_pb2.UpdateConfig) -> tuple[ChannelConfig, int]:
        """Change a session's configuration; return it and the first sequence that it holds for."""
        config = apply_update(session.config, update, self._defaults)
        from_sequence = session.update(config)
        return config_in_effect(session), from_sequence

    def drain(self, grace_s: float) -> None:
        """Take no new streams, and tell the clients of those there are."""
        self._draining = True
        for call in self._calls:
            call.drain(grace_s)

    @property
    def busy(self) -> bool:
        """Whether a call is on, be it only to tell its last verdicts."""
        return not all(call.is_over for call in self._calls)

    def tick(self) -> None:
        """Look after heartbeats; called several times per heartbeat interval."""
        now = time.monotonic()
        for call in self._calls:
            call.tick(now)

    async def _analyze(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._check_draining()
        config, wire = await self._configure(context)
        self._check_draining()
        resumed = await self._session(config, wire)
        trace = None if self._tracer is None else self._tracer.channel(config.channel)
        call = StreamCall(context, resumed, self, self._settings, self._bell, self._version, trace)
        returning = wire.HasField("resume") and resumed.epoch > 0
        if returning:
            self._registry.check_holder(resumed, wire.resume.next_sequence)
        try:
            attachment = resumed.attach(
                call,
                wire.resume.next_verdict_index if returning else None,
                wire.resume.next_sequence if returning else None,
            )
            self._registry.hold_again(resumed)
            self._calls.add(call)
            await call.run(attachment)
        finally:
            resumed.detach(call)
            self._calls.discard(call)

    async def _configure(
        self, context: grpc.aio.ServicerContext[Any, Any]
    ) -> tuple[ChannelConfig, stream_pb2.StreamConfig]:
        """Read and check the first message."""
        metadata = context.invocation_metadata() or ()
        try:
            first = await asyncio.wait_for(context.read(), FIRST_MESSAGE_S)
        except TimeoutError:
            raise InvalidError("CONFIG_MISSING", f"no config came within {FIRST_MESSAGE_S:g} s") from None
        if first is not grpc.aio.EOF:
            check_size(first, self._settings.server.max_message_bytes)
        if first is grpc.aio.EOF or first.WhichOneof("control") != "config":
            raise InvalidError("CONFIG_MISSING", "the first message must be config")
        if first.packets:
            raise InvalidError("CONFIG_MISSING", "the first message must hold config, and no packets")
        config = config_from_wire(first.config, self._defaults)
        named = [value for key, value in metadata if key == CHANNEL_KEY]
        if named != [first.config.channel]:
            shown = repr(named[0]) if named else "missing"
            raise InvalidError(
                "CHANNEL_METADATA_MISMATCH",
                f"metadata {CHANNEL_KEY} is {shown}; it must be the config's channel {first.config.channel!r}",
            )
        self._authenticator.authorize(metadata, Permission.PUBLISH, config.channel)
        self._admit(config.channel)
        return config, first.config

    async def _session(self, config: ChannelConfig, wire: stream_pb2.StreamConfig) -> Session:
        """Find the session that is resumed, or build a new one."""
        resume = wire.resume if wire.HasField("resume") else None
        if resume is not None:
            _check_resume(resume)
            session = self._registry.resumable(resume.session_token, config)
            if session is not None:
                if session.over:
                    # What it ran may have been closed meanwhile, and it may have more to run.
                    await self._load(session.config)
                return session
        await self._load(config)
        self._check_draining()
        inferences = self._factory.engines(config)
        self._factory.check(config, inferences)
        self._registry.check_free(config.channel, takeover=wire.takeover)
        lost = None if resume is None else (resume.next_verdict_index, resume.next_sequence)
        return self._registry.create(config, self._factory.parts(config, inferences), lost)

    async def _load(self, config: ChannelConfig) -> None:
        """Load engines on a thread, one for all who wait for the same: a slow load must not use up the threads."""
        load = self._loads.get(config.engines)
        if load is None:
            load = asyncio.create_task(asyncio.to_thread(self._factory.prepare, config))
            self._loads[config.engines] = load
            load.add_done_callback(partial(self._loaded, config.engines))
        await asyncio.shield(load)

    def _loaded(self, engines: tuple[EngineRef, ...], load: asyncio.Task[None]) -> None:
        del self._loads[engines]
        if not load.cancelled():
            load.exception()  # it is told to those who wait, of whom there may be none left

    def _check_draining(self) -> None:
        if self._draining:
            raise UnavailableError("DRAINING", "the server is shutting down")


def _check_resume(resume: stream_pb2.Resume) -> None:
    if len(resume.session_token) > MAX_TOKEN_CHARS:
        size = f"{len(resume.session_token)} characters"
        raise InvalidError("INVALID_RESUME", f"resume.session_token has {size}; allowed: at most {MAX_TOKEN_CHARS}")
    for field in ("next_verdict_index", "next_sequence"):
        # What is counted on from there must fit into the contract's 64 bits.
        if getattr(resume, field) >= HIGHEST_RESUMED:
            raise InvalidError("INVALID_RESUME", f"resume.{field} is {getattr(resume, field)}; allowed: below 2^62")
