"""EngineService: what engines there are, and which version of them the channels get.

Lives on the event loop. Whoever runs the engines may block: it is called on threads, looks on some and
changes on others, so that a long load holds up nobody who only looks.

Looking needs the permission `watch`, on whatever channels. Changing needs `administer` on all channels: an
engine serves them all. Pictures need `administer` on the channels that they are of.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

from vedette.v1 import engine_pb2, engine_pb2_grpc
from vedette_server.errors import (
    EngineError,
    InvalidError,
    LimitError,
    NotFoundError,
    RefusedError,
    StateError,
    VedetteError,
)
from vedette_server.rpc import convert_engine as convert
from vedette_server.rpc.auth import Permission
from vedette_server.rpc.status import ending
from vedette_server.rpc.steering import Hands, Tray

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from concurrent.futures import Future

    import grpc

    from vedette_server.data.engine import Route, SampledFrame, ShadowSample, ShadowTotals
    from vedette_server.execute.control import EngineControl
    from vedette_server.rpc.auth import Authenticator, Principal

    Context = grpc.aio.ServicerContext[Any, Any]

R = TypeVar("R")

DEFAULT_PAGE = 100
LARGEST_PAGE = 1000
# A page of pictures ends with the one that passes this: below what clients take by default.
PICTURE_PAGE_BYTES = 2 << 20
LOOKERS, LOOKS_WAITING = 2, 64
CHANGERS, CHANGES_WAITING = 4, 16
MOST_SAMPLERS = 8
FRAMES_WAITING = 32

_log = logging.getLogger(__name__)


class EngineService(engine_pb2_grpc.EngineServiceServicer):
    """Shows and steers engines.

    Args:
        control: Runs them.
        authenticator: Knows who may look and who may steer.
    """

    def __init__(self, control: EngineControl, authenticator: Authenticator) -> None:
        self._control = control
        self._authenticator = authenticator
        self._looks = Hands("looking at engines", LOOKERS, LOOKS_WAITING)
        self._changes = Hands("changing engines", CHANGERS, CHANGES_WAITING)
        self._samplers = 0

    def close(self) -> None:
        """Begin nothing more; may be called twice."""
        self._looks.close()
        self._changes.close()

    async def ListEngines(  # noqa: N802 - the contract's name
        self, request: engine_pb2.ListEnginesRequest, context: Context
    ) -> engine_pb2.ListEnginesResponse:
        """List the engines."""
        async with ending(context):
            self._let_look(context)
            size = _page_size(request.page_size)
            token, after = request.page_token, request.page_token.removeprefix("engines/")
            if token and after == token:
                raise InvalidError("INVALID_PAGE_TOKEN", f"page_token {token!r} is not one that was given")
            engines, more = await self._looks.run(self._page, after, size)
            return engine_pb2.ListEnginesResponse(engines=engines, next_page_token=engines[-1].name if more else "")

    async def GetEngine(  # noqa: N802 - the contract's name
        self, request: engine_pb2.GetEngineRequest, context: Context
    ) -> engine_pb2.GetEngineResponse:
        """Get one engine."""
        async with ending(context):
            self._let_look(context)
            name = convert.engine_from_name(request.name)
            return engine_pb2.GetEngineResponse(engine=await self._looks.run(self._engine, name))

    async def LoadEngine(  # noqa: N802 - the contract's name
        self, request: engine_pb2.LoadEngineRequest, context: Context
    ) -> engine_pb2.LoadEngineResponse:
        """Load a version and keep it loaded."""
        async with ending(context):
            name, version = convert.version_from_name(request.name, newest=True)
            loaded = await self._change(context, "load", name, lambda: self._control.load(name, version))
            return engine_pb2.LoadEngineResponse(version=convert.version_to_wire(loaded))

    async def UnloadEngine(  # noqa: N802 - the contract's name
        self, request: engine_pb2.UnloadEngineRequest, context: Context
    ) -> engine_pb2.UnloadEngineResponse:
        """Let go of a version."""
        async with ending(context):
            name, version = convert.version_from_name(request.name)
            gone = await self._change(context, "unload", name, lambda: self._control.unload(name, version))
            return engine_pb2.UnloadEngineResponse(version=convert.version_to_wire(gone))

    async def GetRoute(  # noqa: N802 - the contract's name
        self, request: engine_pb2.GetRouteRequest, context: Context
    ) -> engine_pb2.GetRouteResponse:
        """Get the route of an engine."""
        async with ending(context):
            self._let_look(context)
            name = convert.route_from_name(request.name)
            route = await self._looks.run(self._control.route, name)
            return engine_pb2.GetRouteResponse(route=convert.route_to_wire(route))

    async def UpdateRoute(  # noqa: N802 - the contract's name
        self, request: engine_pb2.UpdateRouteRequest, context: Context
    ) -> engine_pb2.UpdateRouteResponse:
        """Change the route of an engine."""
        async with ending(context):
            name = convert.route_from_name(request.route.name, "route.name")
            change = convert.change_from_wire(request)
            route = await self._change(context, "route", name, lambda: self._control.change_route(name, change))
            return engine_pb2.UpdateRouteResponse(route=convert.route_to_wire(route))

    async def PromoteEngine(  # noqa: N802 - the contract's name
        self, request: engine_pb2.PromoteEngineRequest, context: Context
    ) -> engine_pb2.PromoteEngineResponse:
        """Make the version on trial the stable one."""
        async with ending(context):
            name = convert.engine_from_name(request.name)
            route = await self._change(context, "promote", name, lambda: self._control.promote(name))
            return engine_pb2.PromoteEngineResponse(route=convert.route_to_wire(route))

    async def RollBackEngine(  # noqa: N802 - the contract's name
        self, request: engine_pb2.RollBackEngineRequest, context: Context
    ) -> engine_pb2.RollBackEngineResponse:
        """Go back to an earlier version."""
        async with ending(context):
            name = convert.engine_from_name(request.name)
            to = convert.version_from_wire(request.to_version, "to_version")
            route = await self._change(context, "roll back", name, lambda: self._control.roll_back(name, to))
            return engine_pb2.RollBackEngineResponse(route=convert.route_to_wire(route))

    async def GetShadowReport(  # noqa: N802 - the contract's name
        self, request: engine_pb2.GetShadowReportRequest, context: Context
    ) -> engine_pb2.GetShadowReportResponse:
        """Tell how a shadow compares."""
        async with ending(context):
            self._let_look(context)
            name = convert.shadow_from_name(request.name)
            totals, _ = await self._looks.run(self._shadow, name)
            return engine_pb2.GetShadowReportResponse(report=convert.report_to_wire(name, totals))

    async def ListShadowSamples(  # noqa: N802 - the contract's name
        self, request: engine_pb2.ListShadowSamplesRequest, context: Context
    ) -> engine_pb2.ListShadowSamplesResponse:
        """List frames on which two versions differed."""
        async with ending(context):
            self._let(context, Permission.ADMINISTER)
            name = convert.shadow_from_name(request.parent, "parent")
            size = _page_size(request.page_size)
            totals, samples = await self._looks.run(self._shadow, name)
            return _samples_page(request, name, totals, samples, size)

    async def SampleFrames(  # noqa: N802 - the contract's name
        self, request: engine_pb2.SampleFramesRequest, context: Context
    ) -> AsyncIterator[engine_pb2.SampleFramesResponse]:
        """Send frames as an engine sees them."""
        async with ending(context):
            name = convert.engine_from_name(request.name)
            channels = convert.channels_from_wire(request.channels)
            principals = {
                self._let(context, Permission.ADMINISTER, channel).name for channel in sorted(channels) or [""]
            }
            interval_s = convert.interval_from_wire(request)
            left = convert.max_frames_from_wire(request)
            tray: Tray[SampledFrame] = Tray(deque(maxlen=FRAMES_WAITING))

            def take(frame: SampledFrame) -> None:
                if not channels or frame.channel in channels:
                    tray.put(frame)

            with self._sampling(name, interval_s, take) as begun:
                await asyncio.wrap_future(begun)
                whose, by = ", ".join(sorted(channels)) or "all channels", ", ".join(sorted(principals))
                _log.info("frames are sampled: engine %s, %s, by %s", name, whose, by)
                while left:
                    left -= 1
                    yield convert.frame_to_wire(*await tray.take())

    @contextmanager
    def _sampling(
        self, name: str, interval_s: float, take: Callable[[SampledFrame], None]
    ) -> Iterator[Future[Callable[[], None]]]:
        """Have frames sampled until the block is left, however it is."""
        if self._samplers >= MOST_SAMPLERS:
            raise LimitError("TOO_MANY_SAMPLERS", f"{self._samplers} calls sample frames; allowed: {MOST_SAMPLERS}")
        begun = self._looks.submit(self._control.sample_frames, name, interval_s, take)
        self._samplers += 1
        try:
            yield begun
        finally:
            self._samplers -= 1
            # On a thread of its own: it has to happen, also while the server closes.
            threading.Thread(target=_stop_sampling, args=(begun,), name="sampling ends", daemon=True).start()

    async def _change(self, context: Context, what: str, name: str, call: Callable[[], R]) -> R:
        """Have a change made and wait for it; when the caller does not, it is made all the same."""
        principal = self._let(context, Permission.ADMINISTER)
        facts = {"what": what, "engine": name, "by": principal.name}

        def change() -> R:
            try:
                done = call()
            except (RefusedError, EngineError) as error:
                _log.warning("engine not changed", extra=facts | {"error": str(error)})
                raise
            _log.info("engine changed", extra=facts)
            return done

        try:
            return await self._changes.run(change)
        except EngineError as error:
            raise StateError("ENGINE_NOT_LOADABLE", str(error)) from error

    def _page(self, after: str, size: int) -> tuple[list[engine_pb2.Engine], bool]:
        """Read the engines behind a name; blocks."""
        versions = sorted(self._control.versions(), key=lambda one: one.name)  # within a name their order stays
        groups = [(name, tuple(group)) for name, group in groupby(versions, key=lambda one: one.name)]
        rest = [(name, group) for name, group in groups if name > after]
        page = [convert.engine_to_wire(name, group, self._route_or_none(name)) for name, group in rest[:size]]
        return page, len(rest) > len(page)

    def _engine(self, name: str) -> engine_pb2.Engine:
        versions = self._control.versions(name)
        if not versions:
            raise NotFoundError("ENGINE_NOT_FOUND", f"there is no engine {name!r}")
        return convert.engine_to_wire(name, versions, self._route_or_none(name))

    def _route_or_none(self, name: str) -> Route | None:
        """Get the route; an engine of which every version is bad may have none."""
        try:
            return self._control.route(name)
        except NotFoundError:
            return None

    def _shadow(self, name: str) -> tuple[ShadowTotals, Sequence[ShadowSample]]:
        totals, samples = self._control.shadow(name)
        if totals is None:
            raise NotFoundError("NO_SHADOW", f"no version of engine {name!r} runs as a shadow")
        return totals, samples

    def _let_look(self, context: Context) -> None:
        self._let(context, Permission.WATCH, None)

    def _let(self, context: Context, permission: Permission, channel: str | None = "") -> Principal:
        return self._authenticator.authorize(context.invocation_metadata() or (), permission, channel)


def _page_size(asked: int) -> int:
    if not 0 <= asked <= LARGEST_PAGE:
        raise InvalidError("INVALID_PAGE_SIZE", f"page_size is {asked}; allowed: 0 ({DEFAULT_PAGE}) to {LARGEST_PAGE}")
    return asked or DEFAULT_PAGE


def _samples_page(
    request: engine_pb2.ListShadowSamplesRequest,
    name: str,
    totals: ShadowTotals,
    samples: Sequence[ShadowSample],
    size: int,
) -> engine_pb2.ListShadowSamplesResponse:
    """Put a page together, the newest first; a token says of which comparison it is and what was told last."""
    comparison = f"{totals.version}:{totals.against}:"
    token = request.page_token
    told = token.removeprefix(comparison)
    if token and (told == token or not (told.isascii() and told.isdecimal())):
        raise InvalidError("INVALID_PAGE_TOKEN", f"page_token {token!r} is not one that this comparison gave")
    newest_first = sorted(samples, key=lambda one: one.index, reverse=True)
    rest = [one for one in newest_first if not token or one.index < int(told)]
    page: list[engine_pb2.ShadowSample] = []
    picture_bytes = 0
    for sample in rest[:size]:
        page.append(convert.sample_to_wire(name, sample, picture=request.include_pictures))
        picture_bytes += len(page[-1].jpeg)
        if picture_bytes > PICTURE_PAGE_BYTES:
            break
    more = len(rest) > len(page)
    return engine_pb2.ListShadowSamplesResponse(
        samples=page, next_page_token=f"{comparison}{rest[len(page) - 1].index}" if page and more else ""
    )


def _stop_sampling(begun: Future[Callable[[], None]]) -> None:
    """Stop what was begun, once it has; blocks."""
    with suppress(CancelledError, VedetteError):  # it never began
        begun.result()()
