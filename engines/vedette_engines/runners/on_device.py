"""An engine on a GPU as a loaded engine: for an executor that pipelines, and with lanes that wait for each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from vedette_engines.cuda.opening import open_device
from vedette_engines.errors import LoadError
from vedette_engines.gpu.lane import LaneSettings
from vedette_engines.gpu.sync_lane import SyncLane
from vedette_engines.runners.base import BatchMode

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from vedette_engines.bundle import Bundle
    from vedette_engines.cuda.base import Device
    from vedette_engines.gpu.base import DeviceEngine
    from vedette_engines.manifest import EngineFile
    from vedette_engines.runners.base import Lane, RunnerSettings
    from vedette_engines.runners.choosing import Choice


class DeviceSource(Protocol):
    """Who has the GPUs of this process open; see `vedette_engines.gpu.devices.Devices`."""

    def device(self, index: int) -> Device:
        """Open a device, or give the one that is open; it stays the source's."""
        ...


class OnDeviceEngine:
    """A loaded engine whose runtime works on a GPU.

    Args:
        bundle: The engine.
        settings: How to run it.
        choice: The file that was chosen.
        devices: Has the GPUs open; None: one is opened here, and closed by `close`.
        load: Loads it on a device; the caller is attached to it.

    Raises:
        LoadError: The runtime refuses the file, or the GPU cannot be opened.
        MissingRuntimeError: No CUDA library is installed.
        CudaError: The device is lost.
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: RunnerSettings,
        choice: Choice,
        devices: DeviceSource | None,
        load: Callable[[Device], DeviceEngine],
    ) -> None:
        self._bundle = bundle
        self._settings = settings
        self._file = choice.file
        self._fallback = "; ".join(choice.passed_over)
        self._own = open_device(settings.device_id) if devices is None else None
        self._device: Device = self._own or devices.device(settings.device_id)  # type: ignore[union-attr]
        try:
            with self._device.attached():
                self._engine: DeviceEngine | None = load(self._device)
        except BaseException:
            self._close_own()
            raise
        self._backend = self._engine.backend
        self._max_batch = self._engine.max_batch

    @property
    def bundle(self) -> Bundle:
        """What was loaded."""
        return self._bundle

    @property
    def file(self) -> EngineFile:
        """Which of the bundle's files."""
        return self._file

    @property
    def fallback(self) -> str:
        """Why those that were to come before it are not run."""
        return self._fallback

    @property
    def backend(self) -> str:
        """What really runs it."""
        return self._backend

    @property
    def max_batch(self) -> int | None:
        """Most frames per run."""
        return self._max_batch

    @property
    def on_device(self) -> DeviceEngine | None:
        """The engine on its GPU; None: it was closed."""
        return self._engine

    def open_lane(self) -> Lane:
        """Make one more executor, which waits for each batch."""
        if self._engine is None:
            raise LoadError(f"engine {self._bundle.name} {self._bundle.version} is closed")
        mode = self._settings.batch_mode or BatchMode.BUCKET
        return SyncLane(self._engine, LaneSettings(lanes=1, max_batch=self._max_batch, mode=mode))

    def close(self) -> None:
        """Let go of the engine, and of the device where it was opened here; may be called twice."""
        engine, self._engine = self._engine, None
        if engine is None:
            return
        with self._device.attached():
            engine.close()
        self._close_own()

    def _close_own(self) -> None:
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
