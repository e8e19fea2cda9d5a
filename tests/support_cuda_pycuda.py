"""pycuda on the host's memory: what we call of `pycuda.driver` 2026.1, with its rules.

A context has to be current in the thread; streams are its own; what was freed is not freed again; messages are its.
"""

from __future__ import annotations

import ctypes
import enum
import struct
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from support_cuda_kernels import KERNELS

if TYPE_CHECKING:
    from collections.abc import Callable


class PycudaError(Exception):
    pass


class PycudaMemoryError(PycudaError):
    pass


class PycudaLogicError(PycudaError):
    pass


class PycudaLaunchError(PycudaError):
    pass


class EventFlags(enum.IntFlag):
    DEFAULT = 0
    DISABLE_TIMING = 2


class Allocation:
    def __init__(self, driver: FakePycuda, size: int) -> None:
        self._driver = driver
        self.block = (ctypes.c_uint8 * size)()
        driver.memory[int(self)] = self.block

    def __int__(self) -> int:
        return ctypes.addressof(self.block)

    def free(self) -> None:
        self._driver.check("free")
        if self._driver.memory.pop(int(self), None) is None:
            raise PycudaLogicError("device_allocation::free failed: invalid resource handle")


class Based:
    """An array with a `base`, which NumPy lets nobody set."""

    def __init__(self, array: Any, base: Allocation) -> None:
        self._array, self.base = array, base

    def __getitem__(self, key: Any) -> Any:
        return self._array[key]


class Event:
    def __init__(self, driver: FakePycuda, flags: int) -> None:
        driver.check("Event")
        self._driver = driver
        self.timing = not flags & EventFlags.DISABLE_TIMING

    def record(self, stream: Any) -> Event:
        self._driver.check("record", stream)
        return self

    def query(self) -> bool:
        self._driver.check("query")
        return True

    def synchronize(self) -> Event:
        self._driver.check("synchronize")
        return self

    def time_since(self, other: Event) -> float:
        if not (self.timing and other.timing):
            raise PycudaLogicError("cuEventElapsedTime failed: invalid resource handle")
        return 0.0


class Stream:
    def __init__(self, driver: FakePycuda, flags: int = 0) -> None:
        driver.check("Stream")
        assert flags == 1, "streams do not block the default stream"
        self._driver = driver
        self.handle = id(self)

    def wait_for_event(self, event: Event) -> None:
        self._driver.check("wait", self)
        assert isinstance(event, Event)

    def synchronize(self) -> None:
        self._driver.check("synchronize", self)


class Module:
    def __init__(self, driver: FakePycuda) -> None:
        self._driver = driver

    def get_function(self, name: str) -> Any:
        if name not in KERNELS:
            raise PycudaLogicError("cuModuleGetFunction failed: named symbol not found")

        def launch(*arguments: Any, block: tuple[int, ...], grid: tuple[int, ...], stream: Any) -> None:
            assert len(block) == len(grid) == 3
            # pycuda packs them as C does, by the letter of each.
            assert all(isinstance(entry, np.number) for entry in arguments)
            struct.pack("".join(entry.dtype.char for entry in arguments), *arguments)
            values = [self._driver.near(int(a)) if a.dtype == np.uint64 else a for a in arguments]
            self._driver.do("launch", stream, lambda: KERNELS[name].function(*values))

        return launch


class Context:
    def __init__(self, driver: FakePycuda) -> None:
        self._driver = driver
        self.pop = driver.pop

    def push(self) -> None:
        self._driver.entered += 1

    def detach(self) -> None:
        # pycuda forgets that it is current, but leaves it so.
        self._driver.pop()
        self._driver.stale += 1
        self._driver.retained -= 1


class Device:
    def __init__(self, driver: FakePycuda, index: int) -> None:
        if index:
            raise PycudaLogicError("cuDeviceGet failed: invalid device ordinal")
        self._driver = driver

    def name(self) -> str:
        return "Some GPU"

    def compute_capability(self) -> tuple[int, int]:
        return 9, 0

    def total_memory(self) -> int:
        return 1 << 30

    def retain_primary_context(self) -> Context:
        self._driver.retained += 1
        return Context(self._driver)


class FakePycuda(threading.local):
    """The module; a context is current per thread, all else is shared."""

    Error, MemoryError, LogicError, LaunchError = PycudaError, PycudaMemoryError, PycudaLogicError, PycudaLaunchError
    event_flags = EventFlags
    entered = 0
    stale = 0

    def __init__(self, state: dict[str, Any]) -> None:
        # Called anew in each thread; what is shared comes from outside.
        self._state = state
        self.memory: dict[int, Any] = state["memory"]
        self.fails: dict[str, PycudaError] = state["fails"]
        # What stream is captured, and where to; cuda-bindings lends it.
        self.captures: dict[int, list[Callable[[], None]]] = state["captures"]

    @property
    def retained(self) -> int:
        return int(self._state["retained"])

    @retained.setter
    def retained(self, count: int) -> None:
        self._state["retained"] = count

    def check(self, call: str, stream: Any = None) -> None:
        if not self.entered:
            message = "explicit_context_dependent failed: invalid device context - no currently active context?"
            raise PycudaLogicError(message)
        assert stream is None or isinstance(stream, Stream)
        if call in self.fails:
            raise self.fails[call]

    def do(self, call: str, stream: Any, action: Callable[[], None]) -> None:
        self.check(call, stream)
        if stream.handle in self.captures:
            self.captures[stream.handle].append(action)
        else:
            action()

    def near(self, address: int) -> Any:
        return np.frombuffer(self.memory[address], np.uint8)

    def pop(self) -> None:
        if not self.entered:
            raise PycudaLogicError("context::pop failed: invalid device context - cannot pop non-current context")
        self.entered -= 1

    def init(self) -> None:
        pass

    def Device(self, index: int) -> Device:  # noqa: N802
        return Device(self, index)

    def Event(self, flags: int) -> Event:  # noqa: N802
        return Event(self, flags)

    def Stream(self, flags: int) -> Stream:  # noqa: N802
        return Stream(self, flags)

    @property
    def Context(self) -> Any:  # noqa: N802
        return self

    def mem_get_info(self) -> tuple[int, int]:
        self.check("mem_get_info")
        return 1 << 29, 1 << 30

    def mem_alloc(self, size: int) -> Allocation:
        self.check("mem_alloc")
        if size > 1 << 30:
            raise PycudaMemoryError("cuMemAlloc failed: out of memory")
        return Allocation(self, size)

    def pagelocked_empty(self, size: int, dtype: Any) -> Any:
        self.check("pagelocked_empty")
        allocation = Allocation(self, size)
        return Based(np.frombuffer(allocation.block, dtype), allocation)

    def memcpy_htod_async(self, target: int, source: Any, stream: Any) -> None:
        self._copy(target, source.ctypes.data, source.nbytes, stream)

    def memcpy_dtoh_async(self, target: Any, source: int, stream: Any) -> None:
        self._copy(target.ctypes.data, source, target.nbytes, stream)

    def memcpy_dtod_async(self, target: int, source: int, size: int, stream: Any) -> None:
        self._copy(target, source, size, stream)

    def _copy(self, target: int, source: int, size: int, stream: Any) -> None:
        self.do("memcpy", stream, lambda: ctypes.memmove(target, source, size))

    def module_from_buffer(self, code: bytes) -> Any:
        self.check("module_from_buffer")
        assert code.endswith(b"\0"), "the driver reads up to a zero byte"
        return Module(self)


def fake_pycuda(captures: dict[int, list[Callable[[], None]]] | None = None) -> FakePycuda:
    return FakePycuda({"memory": {}, "fails": {}, "retained": 0, "captures": {} if captures is None else captures})
