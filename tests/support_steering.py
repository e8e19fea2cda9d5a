"""An EngineControl that keeps its word without any engine, and the real EngineService in front of it."""

from __future__ import annotations

import io
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from PIL import Image

from vedette.v1 import engine_pb2_grpc
from vedette_server.data.engine import (
    EngineState,
    EngineVersion,
    Route,
    RouteChange,
    SampledFrame,
    Seen,
    ShadowSample,
    ShadowTotals,
)
from vedette_server.errors import EngineError, NotFoundError, OutdatedError, StateError
from vedette_server.rpc.auth import Authenticator
from vedette_server.rpc.engine_service import EngineService
from vedette_server.settings import AuthSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

WAIT_S = 20.0


def picture(kind: str, size: tuple[int, int] = (96, 64), shade: int = 90) -> bytes:
    """One grey picture as a file's bytes."""
    out = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(out, kind)
    return out.getvalue()


@dataclass
class FakeControl:
    """Engines `person` 3, 2, 1, `scene` 1 (a classifier) and `torn`, which is bad.

    Attributes:
        hold: A load waits until this is set.
        loading: Set while a load waits.
        fault: What loading ends with, None: it works.
        samplers: Whoever takes frames now.
    """

    hold: threading.Event = field(default_factory=threading.Event)
    loading: threading.Event = field(default_factory=threading.Event)
    fault: str | None = None
    channels: tuple[str, ...] = ("gate", "yard")
    samples: list[ShadowSample] = field(default_factory=list)
    samplers: list[tuple[float, Callable[[SampledFrame], None]]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hold.set()
        base = EngineVersion("person", "1", EngineState.AVAILABLE, "", "detector", 96, 64, ("person", "car"))
        self.all: dict[tuple[str, str], EngineVersion] = {
            ("person", version): replace(base, version=version) for version in ("3", "2", "1")
        }
        self.all["person", "1"] = self._ready(self.all["person", "1"])
        self.all["scene", "1"] = replace(base, name="scene", version="1", task="classifier")
        self.all["torn", "1"] = EngineVersion("torn", "1", EngineState.BAD, "model.onnx: its sha256 differs")
        self.routes = {"person": Route("person", stable="1", persistent=True), "scene": Route("scene")}

    def versions(self, name: str = "") -> Sequence[EngineVersion]:
        return [one for (engine, _), one in self.all.items() if name in {"", engine}]

    def load(self, name: str, version: str = "") -> EngineVersion:
        self.asked.append(("load", name, version))
        version = version or next((v for n, v in self.all if n == name), "")
        if (name, version) not in self.all:
            raise NotFoundError("ENGINE_NOT_FOUND", f"no engine {name!r} {version!r}")
        self.loading.set()
        assert self.hold.wait(WAIT_S)
        if self.fault is not None:
            raise EngineError(self.fault)
        self.all[name, version] = self._ready(self.all[name, version])
        return self.all[name, version]

    def unload(self, name: str, version: str) -> EngineVersion:
        self.asked.append(("unload", name, version))
        found = self.all.get((name, version))
        if found is None or found.state != EngineState.READY:
            raise NotFoundError("ENGINE_NOT_LOADED", f"engine {name} {version} is not loaded")
        if self.routes[name].stable == version:
            raise StateError("ENGINE_IN_USE", f"engine {name} {version} is the stable version")
        gone = replace(found, state=EngineState.AVAILABLE, backend="", precision="", file="", lanes=0, max_batch=0)
        self.all[name, version] = replace(gone, memory_bytes=0)
        return self.all[name, version]

    def route(self, name: str) -> Route:
        if name not in self.routes:
            raise NotFoundError("ENGINE_NOT_FOUND", f"there is no engine {name!r}")
        return self.routes[name]

    def change_route(self, name: str, change: RouteChange) -> Route:
        self.asked.append(("route", name, change))
        now = self.route(name)
        if change.revision is not None and change.revision != now.revision:
            raise OutdatedError("ROUTE_CHANGED", f"the revision is {now.revision}, not {change.revision}")
        for version in (change.stable, change.canary, change.shadow):
            if version:
                self.load(name, version)
        given = {
            key: value
            for key in ("stable", "canary", "canary_share", "shadow")
            if (value := getattr(change, key)) is not None
        }
        if change.stable is not None:
            given["follows"] = not change.stable
            given["stable"] = change.stable or "3"
            given["previous"] = (now.stable, *now.previous)
        return self._take(name, **given)

    def promote(self, name: str) -> Route:
        now = self.route(name)
        on_trial = now.canary or now.shadow
        if not on_trial:
            raise StateError("NOTHING_TO_PROMOTE", f"engine {name} has neither a canary nor a shadow")
        return self._take(name, stable=on_trial, canary="", canary_share=0.0, shadow="", previous=(now.stable,))

    def roll_back(self, name: str, to: str = "") -> Route:
        now = self.route(name)
        back = to or next(iter(now.previous), "")
        if not back:
            raise StateError("NOTHING_BEFORE", f"engine {name} has no version to go back to")
        self.all[name, now.stable] = replace(self.all[name, now.stable], withdrawn=True)
        return self._take(name, stable=back, canary="", canary_share=0.0, shadow="", previous=now.previous[1:])

    def shadow(self, name: str) -> tuple[ShadowTotals | None, Sequence[ShadowSample]]:
        now = self.route(name)
        if not now.shadow:
            return None, ()
        totals = ShadowTotals(now.shadow, now.stable, 200, 30, 1, 12, 340, 9, 4, 0.0125)
        return totals, self.samples

    def sample_frames(self, name: str, interval_s: float, take: Callable[[SampledFrame], None]) -> Callable[[], None]:
        if not any(one.state == EngineState.READY for one in self.versions(name)):
            raise NotFoundError("ENGINE_NOT_LOADED", f"no version of engine {name!r} is loaded")
        over = threading.Event()

        def send() -> None:
            number = 0
            while not over.wait(0.005):
                for channel in self.channels:
                    take(SampledFrame(channel, number, picture("PNG", shade=number % 256)))
                number += 1

        worker = threading.Thread(target=send, daemon=True)
        self.samplers.append((interval_s, take))
        worker.start()

        def stop() -> None:
            over.set()
            worker.join()
            self.stopped.set()

        return stop

    def _take(self, name: str, **fields: Any) -> Route:
        self.routes[name] = replace(self.routes[name], revision=self.routes[name].revision + 1, **fields)
        return self.routes[name]

    @staticmethod
    def _ready(one: EngineVersion) -> EngineVersion:
        return replace(
            one,
            state=EngineState.READY,
            backend="CPUExecutionProvider",
            precision="fp32",
            file="model.onnx",
            lanes=2,
            max_batch=8,
            memory_bytes=12_300_000,
        )


def sample(index: int, *, jpeg: bytes = b"jpeg") -> ShadowSample:
    """One frame on which the stable version saw a person more than the shadow, and another score of the car."""
    stable = (Seen("car", 0.9, (0.1, 0.2, 0.4, 0.6)), Seen("person", 0.5, (0.5, 0.5, 0.75, 0.75)))
    shadow = (Seen("car", 0.875, (0.1, 0.2, 0.4, 0.6)),)
    return ShadowSample(index, "gate", 100 + index, 1_700_000_000.5, stable, shadow, (1,), (), jpeg)


@asynccontextmanager
async def steering_server(control: FakeControl, tokens: Path | None = None) -> AsyncIterator[str]:
    """Serve the real EngineService in front of a control, and give `host:port`."""
    server = grpc.aio.server()
    service = EngineService(control, Authenticator(AuthSettings(tokens_file=tokens)))
    engine_pb2_grpc.add_EngineServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        control.hold.set()
        await server.stop(0)
        service.close()
