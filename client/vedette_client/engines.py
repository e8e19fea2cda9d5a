"""Ask a server for its engines, and steer them.

```python
async with Client("localhost:50051") as client:
    await client.engines.update_route("person", canary="2", canary_share=0.1)
    print(await client.engines.shadow("person"))
    await client.engines.promote("person")
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf import duration_pb2, field_mask_pb2

from vedette.v1 import engine_pb2, engine_pb2_grpc
from vedette_client.engine_info import (
    engine_from_wire,
    frame_from_wire,
    report_from_wire,
    route_from_wire,
    sample_from_wire,
    version_from_wire,
)
from vedette_client.errors import ConnectionLostError, OptionsError
from vedette_client.options import channel_name
from vedette_client.status import error_from_rpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from vedette_client.connection import ChannelPool
    from vedette_client.engine_info import Engine, EngineVersion, Route, SampledFrame, ShadowReport, ShadowSample
    from vedette_client.errors import ClientError

LOAD_TIMEOUT_S = 600.0
MOST_FRAMES = 100_000
_PAGE = 1000
_TIMEOUT_S = 10.0


class Engines:
    """The engines of one server; `Client.engines` gives it.

    What changes anything waits until the server has done it, `timeout_s` at most; when that is over the server
    goes on all the same. All calls raise RefusedError, with the server's reason, and ConnectionLostError.
    """

    def __init__(self, pool: ChannelPool, address: str) -> None:
        self._pool = pool
        self._address = address

    async def list(self) -> list[Engine]:
        """List the engines with their versions and routes, by name."""
        found: list[Engine] = []
        request = engine_pb2.ListEnginesRequest(page_size=_PAGE)
        while True:
            answer = await self._ask("ListEngines", request, _TIMEOUT_S)
            found += [engine_from_wire(one) for one in answer.engines]
            request.page_token = answer.next_page_token
            if not request.page_token:
                return found

    async def get(self, name: str) -> Engine:
        """Get one engine."""
        answer = await self._ask("GetEngine", engine_pb2.GetEngineRequest(name=f"engines/{name}"), _TIMEOUT_S)
        return engine_from_wire(answer.engine)

    async def load(self, name: str, version: str = "", *, timeout_s: float = LOAD_TIMEOUT_S) -> EngineVersion:
        """Load a version and keep it loaded; without one, the newest that is not withdrawn."""
        resource = f"engines/{name}/versions/{version}" if version else f"engines/{name}"
        answer = await self._ask("LoadEngine", engine_pb2.LoadEngineRequest(name=resource), timeout_s)
        return version_from_wire(answer.version)

    async def unload(self, name: str, version: str, *, timeout_s: float = LOAD_TIMEOUT_S) -> EngineVersion:
        """Let go of a version that no channel and no route needs."""
        request = engine_pb2.UnloadEngineRequest(name=f"engines/{name}/versions/{version}")
        return version_from_wire((await self._ask("UnloadEngine", request, timeout_s)).version)

    async def route(self, name: str) -> Route:
        """Get an engine's route."""
        answer = await self._ask("GetRoute", engine_pb2.GetRouteRequest(name=f"engines/{name}/route"), _TIMEOUT_S)
        return route_from_wire(answer.route)

    async def update_route(
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
        """Change an engine's route; what is None stays.

        Args:
            name: The engine.
            stable: The version for most channels; empty: the newest, and those to come.
            canary: The version for a share of the channels; empty ends the trial.
            canary_share: That share, 0..1.
            shadow: The version that runs beside and is compared; empty ends that.
            revision: Refuse when the route has changed since this revision; None: whatever it is.
            timeout_s: How long to wait.

        Raises:
            OptionsError: Nothing is to change.
            RefusedError: ABORTED: it has another revision; FAILED_PRECONDITION: a version cannot take over.
        """
        values = {"stable": stable, "canary": canary, "canary_share": canary_share, "shadow": shadow}
        given: dict[str, Any] = {field: value for field, value in values.items() if value is not None}
        if not given:
            raise OptionsError(f"nothing of the route is to change; allowed: one or more of {', '.join(values)}")
        route = engine_pb2.Route(name=f"engines/{name}/route", **given)
        request = engine_pb2.UpdateRouteRequest(route=route, update_mask=field_mask_pb2.FieldMask(paths=list(given)))
        if revision is not None:
            request.revision = revision
        return route_from_wire((await self._ask("UpdateRoute", request, timeout_s)).route)

    async def promote(self, name: str, *, timeout_s: float = LOAD_TIMEOUT_S) -> Route:
        """Make the canary, or where there is none the shadow, the stable version."""
        request = engine_pb2.PromoteEngineRequest(name=f"engines/{name}")
        return route_from_wire((await self._ask("PromoteEngine", request, timeout_s)).route)

    async def roll_back(self, name: str, to: str = "", *, timeout_s: float = LOAD_TIMEOUT_S) -> Route:
        """End canary and shadow, withdraw the stable version and take the one before it, or the one named."""
        request = engine_pb2.RollBackEngineRequest(name=f"engines/{name}", to_version=to)
        return route_from_wire((await self._ask("RollBackEngine", request, timeout_s)).route)

    async def shadow(self, name: str) -> ShadowReport:
        """Tell how an engine's shadow compares; NOT_FOUND when there is none."""
        request = engine_pb2.GetShadowReportRequest(name=f"engines/{name}/shadow")
        return report_from_wire((await self._ask("GetShadowReport", request, _TIMEOUT_S)).report)

    async def shadow_samples(self, name: str, *, limit: int = 100, pictures: bool = False) -> Sequence[ShadowSample]:
        """List the latest frames on which shadow and stable version differed, the newest first.

        Args:
            name: The engine.
            limit: At most so many.
            pictures: Get the pictures, too.
        """
        found: list[ShadowSample] = []
        request = engine_pb2.ListShadowSamplesRequest(parent=f"engines/{name}/shadow", include_pictures=pictures)
        while len(found) < limit:
            request.page_size = min(_PAGE, limit - len(found))
            answer = await self._ask("ListShadowSamples", request, _TIMEOUT_S)
            found += [sample_from_wire(one) for one in answer.samples]
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
        return found

    async def frames(
        self, name: str, *, count: int = 1000, interval_s: float = 1.0, channels: Sequence[str] = ()
    ) -> AsyncGenerator[SampledFrame, None]:
        """Iterate over frames of the live channels as the engine sees them, for calibration.

        Args:
            name: The engine; a version of it must be loaded.
            count: End after so many, 1..100000.
            interval_s: Seconds between two frames of one channel.
            channels: Only of these; empty: of all.

        Raises:
            OptionsError: A channel's name or the count is not allowed.
        """
        if not 1 <= count <= MOST_FRAMES:
            raise OptionsError(f"count is {count}; allowed: 1 to {MOST_FRAMES}")
        interval = duration_pb2.Duration()
        interval.FromNanoseconds(round(interval_s * 1e9))
        request = engine_pb2.SampleFramesRequest(
            name=f"engines/{name}",
            interval=interval,
            max_frames=count,
            channels=[channel_name(channel) for channel in channels],
        )
        lease = self._pool.acquire(self._address)
        call = engine_pb2_grpc.EngineServiceStub(lease.channel).SampleFrames(request, metadata=self._pool.metadata)
        try:
            async for answer in call:
                yield frame_from_wire(answer)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        finally:
            call.cancel()
            await self._pool.release(lease)

    async def _ask(self, method: str, request: Any, timeout_s: float) -> Any:
        lease = self._pool.acquire(self._address)
        try:
            call = getattr(engine_pb2_grpc.EngineServiceStub(lease.channel), method)
            return await call(request, timeout=timeout_s, metadata=self._pool.metadata)
        except grpc.aio.AioRpcError as error:
            raise _error(error, timeout_s) from error
        finally:
            await self._pool.release(lease)


def _error(error: grpc.aio.AioRpcError, timeout_s: float) -> ClientError:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ConnectionLostError(f"no answer within {timeout_s:g} s; what the server has begun it finishes")
    return error_from_rpc(error)
