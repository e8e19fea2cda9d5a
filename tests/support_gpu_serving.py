"""A whole server in this process on simulated GPUs, whose engines are run by ONNX Runtime: their verdicts are real."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.cuda.letterbox_twin import simulated_letterbox
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.cuda.simulated_clock import WallClock
from vedette_engines.errors import LoadError, RunError
from vedette_engines.gpu.devices import Devices
from vedette_engines.gpu.simulated_engine import SimulatedEngine
from vedette_engines.gpu.sync_lane import SyncLane
from vedette_engines.runners.opening import open_engine
from vedette_server.app import App
from vedette_server.execute.opener import GpuOpener
from vedette_server.settings import (
    ChannelSettings,
    DecodeSettings,
    EngineSettings,
    MetricsSettings,
    ServerSettings,
    Settings,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle
    from vedette_engines.cuda.base import CudaError
    from vedette_engines.runners.base import LoadedEngine, RunnerSettings


class Refusing:
    """A program that refuses while it is told to."""

    def __init__(self, program: Any, gpus: Gpus) -> None:
        self._program = program
        self._gpus = gpus
        self.size = program.size
        self.capturable = False

    def enqueue(self, stream: Any) -> None:
        if self._gpus.refuses > 0:
            self._gpus.refuses -= 1
            raise RunError("no kernel image is available")
        self._program.enqueue(stream)

    def close(self) -> None:
        self._program.close()


class RefusingEngine(SimulatedEngine):
    """An engine on a simulated device some of whose batches fail."""

    gpus: Gpus

    def open_programs(self, stream: Any, batch: Any, rows: Any, sizes: Any) -> Any:
        return [Refusing(program, self.gpus) for program in super().open_programs(stream, batch, rows, sizes)]


class SimulatedLoaded:
    """An engine that ONNX Runtime runs in place of a GPU.

    Args:
        opened: It, as ONNX Runtime has it.
        device: Where it pretends to be.
        duration_s: What a batch of a size takes.
        max_batch: Most frames of a batch.
        gpus: Says when batches fail.
    """

    def __init__(
        self,
        opened: LoadedEngine,
        device: SimulatedDevice,
        duration_s: Callable[[int], float],
        max_batch: int,
        gpus: Gpus,
    ) -> None:
        self._opened = opened
        self._lane = opened.open_lane()
        manifest = opened.bundle.manifest
        probe = np.zeros((1, *manifest.slot_shape), np.uint8)
        row = self._lane.run(list(probe))[0]
        self.bundle, self.file, self.fallback = opened.bundle, opened.file, "the plan is for another GPU"
        self.backend = "simulated"
        self.max_batch = max_batch
        self.device = device
        height, width, depth = manifest.slot_shape
        sizes = [size for size in (1, 2, 4, 8, 16) if size <= max_batch]
        engine = RefusingEngine(device, (height, width, depth), row.shape, self._compute, duration_s, max_batch, sizes)
        engine.gpus = gpus
        self.on_device: Any = engine
        self.closed = False

    def _compute(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._lane.run(list(frames)).copy()

    def open_lane(self) -> SyncLane:
        return SyncLane(self.on_device)

    def close(self) -> None:
        self.closed = True
        self.on_device.close()
        self._lane.close()
        self._opened.close()

    def __enter__(self) -> SimulatedLoaded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Gpus:
    """GPUs that are not there, and the opener that runs engines on them.

    Args:
        count: How many.
        duration_s: What a batch of a size takes.
        max_batch: Most frames of a batch.

    Attributes:
        devices: Those that were opened.
        refuses: So many of the next batches fail.
        without: GPUs on which engines cannot be loaded.
        loaded: Engines that were loaded, in that order.
    """

    def __init__(
        self, count: int = 1, *, duration_s: Callable[[int], float] = lambda _: 0.0, max_batch: int = 4
    ) -> None:
        self.devices: dict[int, SimulatedDevice] = {}
        self.refuses = 0
        self.without: set[int] = set()
        self.loaded: list[SimulatedLoaded] = []
        self._duration_s = duration_s
        self._max_batch = max_batch
        self.made: list[Devices] = []
        self.opener = GpuOpener(gpus=tuple(range(count)), make_devices=self._make_devices, open_one=self._open)

    def _make_devices(self, on_lost: Callable[[CudaError], None]) -> Devices:
        self.made.append(Devices(opener=self._device, on_lost=on_lost))
        return self.made[-1]

    def _device(self, index: int, _library: str) -> Any:
        kernels = {"letterbox": simulated_letterbox()}
        self.devices[index] = SimulatedDevice(WallClock(), index=index, kernels=kernels)
        return self.devices[index]

    def _open(self, bundle: Bundle, settings: RunnerSettings, devices: Any) -> Any:
        device = devices.device(settings.device_id)
        device.check_alive(f"loading {bundle.name}")
        if settings.device_id in self.without:
            raise LoadError("the plan is for another GPU")
        opened = open_engine(bundle, replace(settings, device_id=0, max_batch=None))
        self.loaded.append(SimulatedLoaded(opened, device, self._duration_s, self._max_batch, self))
        return self.loaded[-1]


class Serving:
    """A server that runs in this loop.

    Attributes:
        address: Where.
        code: Its exit code, once it has ended.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.task = asyncio.create_task(app.serve())
        self.address = ""
        self.code: int | None = None

    async def ready(self, printed: Callable[[], str]) -> None:
        text = ""
        while "serving on " not in text:
            if self.task.done():
                self.task.result()
                return
            await asyncio.sleep(0.01)
            text += printed()
        self.address = text.partition("serving on ")[2].split()[0]
        self.metrics_url = f"http://{text.partition('metrics on ')[2].split()[0]}/metrics"

    async def metrics(self) -> dict[str, float]:
        def fetch() -> list[str]:
            with urllib.request.urlopen(self.metrics_url, timeout=20) as answer:
                return answer.read().decode().splitlines()

        lines = await asyncio.to_thread(fetch)
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    async def end(self) -> int:
        self.app._stop.set()
        return await asyncio.wait_for(self.task, 30)


@contextlib.asynccontextmanager
async def serving(root: Path, gpus: Gpus | None, printed: Callable[[], str], **engines: Any) -> AsyncIterator[Serving]:
    """Serve the engines of a folder on simulated GPUs; None: on the CPU."""
    chosen: dict[str, Any] = {"dirs": (root,), "tune_budget_s": 0.0, "watch_interval_s": 0.0} | engines
    settings = Settings(
        server=ServerSettings(port=0, drain_grace_s=5.0),
        engines=EngineSettings(**chosen),
        decode=DecodeSettings(workers=2),
        channels=ChannelSettings(max_age_s=30.0),
        metrics=MetricsSettings(port=0),
    )
    server = Serving(App(settings, opener=None if gpus is None else gpus.opener))
    try:
        await server.ready(printed)
        yield server
    finally:
        server.code = await server.end()
