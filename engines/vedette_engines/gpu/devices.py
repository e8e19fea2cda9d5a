"""The GPUs of this process, each opened once, with an executor each."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from vedette_engines.cuda.opening import open_device
from vedette_engines.errors import LoadError
from vedette_engines.gpu.executor import Executor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vedette_engines.cuda.base import Device
    from vedette_engines.cuda.opening import Choice


class Devices:
    """Opens GPUs when they are first asked for. Any thread.

    All that uses a GPU in this process shares its primary context, so it is opened once.

    Args:
        library: The CUDA library to open them with.
        opener: Opens one, given its number and the library.
        executor: Arguments of each `Executor`.
    """

    def __init__(
        self,
        library: Choice = "auto",
        opener: Callable[[int, Choice], Device] = open_device,
        **executor: Any,
    ) -> None:
        self._library: Choice = library
        self._opener = opener
        self._arguments = executor
        self._lock = threading.Lock()
        self._devices: dict[int, Device] = {}
        self._executors: dict[int, Executor] = {}
        self._closed = False

    @property
    def executors(self) -> Mapping[int, Executor]:
        """The executors that were started, by the number of their GPU."""
        with self._lock:
            return dict(self._executors)

    def device(self, index: int = 0) -> Device:
        """Give a GPU; it stays this object's.

        Raises:
            MissingRuntimeError: No CUDA library is installed.
            LoadError: It cannot be opened, or this is closed.
        """
        with self._lock:
            return self._device(index)

    def executor(self, index: int = 0) -> Executor:
        """Give the executor of a GPU, started; it stays this object's.

        Raises:
            MissingRuntimeError: No CUDA library is installed.
            LoadError: The GPU cannot be opened, or this is closed.
        """
        with self._lock:
            executor = self._executors.get(index)
            if executor is None:
                executor = self._executors[index] = Executor(self._device(index), **self._arguments)
                executor.start()
            return executor

    def close(self, timeout_s: float = 30.0) -> bool:
        """Close all executors, then all GPUs; may be called twice. Engines on them are closed before.

        Returns:
            Whether all that was under way ended in time; a GPU on which something hangs is left open.
        """
        with self._lock:
            self._closed = True
            ended = True
            for index, executor in self._executors.items():
                if not executor.close(timeout_s):
                    ended = False
                    self._devices.pop(index)
            self._executors.clear()
            while self._devices:
                self._devices.popitem()[1].close()
            return ended

    def _device(self, index: int) -> Device:
        if self._closed:
            raise LoadError(f"GPU {index} is asked for after the devices were closed")
        if index not in self._devices:
            self._devices[index] = self._opener(index, self._library)
        return self._devices[index]
