"""The seam to what opens engines and drives GPUs; tests and benches pass one of their own.

`GpuOpener` is what serves: engines of every runtime, and for each GPU an executor of its own, so that a GPU that is
lost is known by its number.
"""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from vedette_engines.plans.gpus import find_gpus
from vedette_engines.runners.opening import open_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_engines.bundle import Bundle
    from vedette_engines.cuda.base import CudaError, Device
    from vedette_engines.cuda.opening import Choice
    from vedette_engines.gpu.devices import Devices
    from vedette_engines.gpu.executor import Executor
    from vedette_engines.runners.base import LoadedEngine, RunnerSettings
    from vedette_engines.runners.on_device import DeviceSource

_log = logging.getLogger(__name__)


class Opener(Protocol):
    """Opens engines, and drives the GPUs that they are on."""

    @property
    def gpus(self) -> tuple[int, ...]:
        """Numbers of the GPUs that are there; empty: none, or nobody knows."""
        ...

    def device(self, index: int) -> Device:
        """Open a GPU, for decoders on it; it stays this object's.

        Raises:
            EnginesError: The GPU cannot be opened.
        """
        ...

    def open(self, bundle: Bundle, settings: RunnerSettings) -> LoadedEngine:
        """Load an engine, on the GPU `settings.device_id` where it runs on one.

        Raises:
            EnginesError: It cannot be loaded.
        """
        ...

    def executor(self, gpu: int) -> Executor:
        """Give the executor that drives a GPU; it runs.

        Raises:
            EnginesError: The GPU cannot be opened.
        """
        ...

    def listen(self, on_lost: Callable[[int, str], None]) -> None:
        """Say who is told that a GPU is lost, with the reason; from any thread, at most once for each."""

    def close(self) -> None:
        """Let go of the GPUs, after all engines; may be called twice."""


class GpuOpener:
    """Opens engines with the runtimes that are installed.

    Args:
        library: The Python library of the CUDA driver.
        gpus: Numbers of the GPUs that are there; None: the driver is asked.
        make_devices: Makes what opens one GPU and drives it, given whom to tell when it is lost; None: the CUDA
            library does.
        open_one: Opens an engine, given what has the GPUs open; None: with the runtime that is installed.
    """

    def __init__(
        self,
        library: str = "auto",
        *,
        gpus: tuple[int, ...] | None = None,
        make_devices: Callable[[Callable[[CudaError], None]], Devices] | None = None,
        open_one: Callable[[Bundle, RunnerSettings, DeviceSource], LoadedEngine] | None = None,
    ) -> None:
        self._library: Choice = cast("Choice", library)
        self._gpus = gpus
        self._make_devices = make_devices or self._real_devices
        self._open_one = open_one or _open_real
        self._lock = threading.Lock()
        self._devices: dict[int, Devices] = {}
        self._on_lost: Callable[[int, str], None] = lambda gpu, reason: _log.error("GPU %d is lost: %s", gpu, reason)
        self._told: set[int] = set()

    @property
    def gpus(self) -> tuple[int, ...]:
        """Numbers of the GPUs that are there; empty where there is no driver."""
        with self._lock:
            if self._gpus is None:
                self._gpus = tuple(range(len(find_gpus()[0])))
            return self._gpus

    def open(self, bundle: Bundle, settings: RunnerSettings) -> LoadedEngine:
        """Load an engine.

        Raises:
            EnginesError: It cannot be loaded.
        """
        return self._open_one(bundle, settings, self)

    def device(self, index: int) -> Device:
        """Give a GPU to an engine that is opened on it; it stays this object's.

        Raises:
            EnginesError: The GPU cannot be opened.
        """
        return self._devices_of(index).device(index)

    def executor(self, gpu: int) -> Executor:
        """Give the executor that drives a GPU, started when it is first asked for.

        Raises:
            EnginesError: The GPU cannot be opened.
        """
        return self._devices_of(gpu).executor(gpu)

    def listen(self, on_lost: Callable[[int, str], None]) -> None:
        """Say who is told that a GPU is lost."""
        self._on_lost = on_lost

    def close(self) -> None:
        """Let go of the GPUs; may be called twice."""
        with self._lock:
            devices, self._devices = tuple(self._devices.values()), {}
        for each in devices:
            each.close()

    def _devices_of(self, gpu: int) -> Devices:
        with self._lock:
            found = self._devices.get(gpu)
            if found is None:
                found = self._devices[gpu] = self._make_devices(partial(self._lose, gpu))
            return found

    def _real_devices(self, on_lost: Callable[[CudaError], None]) -> Devices:
        # Engines that run on the CPU need none of it.
        from vedette_engines.gpu.devices import Devices  # noqa: PLC0415
        from vedette_engines.gpu.nvtx import nvtx_range  # noqa: PLC0415

        return Devices(self._library, on_lost=on_lost, annotate=nvtx_range)

    def _lose(self, gpu: int, error: CudaError) -> None:
        with self._lock:
            if gpu in self._told:
                return
            self._told.add(gpu)
        self._on_lost(gpu, str(error))


def _open_real(bundle: Bundle, settings: RunnerSettings, devices: DeviceSource) -> LoadedEngine:
    return open_engine(bundle, settings, devices=devices)
