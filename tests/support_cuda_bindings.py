"""The driver of cuda-bindings on the host's memory; importing it needs cuda-bindings."""

from __future__ import annotations

import ctypes
import enum
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from cuda.bindings import driver

from support_cuda_kernels import KERNELS, SIGNATURES

if TYPE_CHECKING:
    from collections.abc import Callable


class Result(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NOT_FOUND = 500
    CUDA_ERROR_NOT_READY = 600
    CUDA_ERROR_ILLEGAL_ADDRESS = 700


class HostDriver:
    """The driver's calls on the host's memory: copies happen at once, what is opened is counted."""

    CUresult = Result
    CUevent_flags = driver.CUevent_flags
    CUstream_flags = driver.CUstream_flags
    CUstreamCaptureMode = driver.CUstreamCaptureMode
    CUdevice_attribute = driver.CUdevice_attribute

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.fails: dict[str, Result] = {}
        self.memory: dict[int, Any] = {}
        self.captures: dict[int, list[Callable[[], None]]] = {}
        self.values: dict[str, tuple[Any, ...]] = {
            "cuDeviceGet": (0,),
            "cuDevicePrimaryCtxRetain": ("context",),
            "cuDeviceGetName": (b"Some GPU\0\0\0",),
            "cuDeviceGetAttribute": (9,),
            "cuDeviceTotalMem": (1 << 30,),
            "cuMemGetInfo": (1 << 29, 1 << 30),
            "cuStreamCreateWithPriority": (77,),
            "cuEventCreate": (5,),
            "cuEventElapsedTime": (1.5,),
            "cuModuleLoadData": ("module",),
            "cuCtxPopCurrent": ("context",),
        }

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, arguments))
            if name in self.fails:
                return (self.fails[name],)
            result = getattr(self, f"_{name}", lambda *_: self.values.get(name, ()))(*arguments)
            return (result,) if isinstance(result, Result) else (Result.CUDA_SUCCESS, *(result or ()))

        return call

    def _allocate(self, size: int, *_: Any) -> Any:
        if size > 1 << 30:
            return Result.CUDA_ERROR_OUT_OF_MEMORY
        block = (ctypes.c_uint8 * size)()
        self.memory[ctypes.addressof(block)] = block
        return (ctypes.addressof(block),)

    _cuMemAlloc = _cuMemHostAlloc = _allocate  # noqa: N815

    def _free(self, address: int) -> None:
        del self.memory[address]

    _cuMemFree = _cuMemFreeHost = _free  # noqa: N815

    def _copy(self, target: int, source: int, size: int, stream: Any) -> None:
        self._do(stream, lambda: ctypes.memmove(target, source, size))

    _cuMemcpyHtoDAsync = _cuMemcpyDtoHAsync = _cuMemcpyDtoDAsync = _copy  # noqa: N815

    def _do(self, stream: Any, action: Callable[[], None]) -> None:
        if stream in self.captures:
            self.captures[stream].append(action)
        else:
            action()

    def _cuModuleGetFunction(self, module: Any, name: bytes) -> Any:  # noqa: N802
        return (name.decode(),) if name.decode() in KERNELS else Result.CUDA_ERROR_NOT_FOUND

    def _cuLaunchKernel(self, kernel: str, *rest: Any) -> None:  # noqa: N802
        *_, stream, places, _ = rest
        signature = SIGNATURES[kernel]
        addresses = (ctypes.c_uint64 * len(signature)).from_address(places)
        values = [self._value(letter, address) for letter, address in zip(signature, addresses, strict=True)]
        self._do(stream, lambda: KERNELS[kernel].function(*values))

    def _value(self, letter: str, address: int) -> Any:
        value = struct.unpack(letter, ctypes.string_at(address, struct.calcsize(letter)))[0]
        return np.frombuffer(self.memory[value], np.uint8) if letter == "P" else value

    def _cuStreamBeginCapture(self, stream: Any, mode: Any) -> None:  # noqa: N802
        self.captures[stream] = []

    def _cuStreamEndCapture(self, stream: Any) -> Any:  # noqa: N802
        return (self.captures.pop(stream),)

    def _cuGraphInstantiate(self, captured: Any, flags: int) -> Any:  # noqa: N802
        return (captured,)

    def _cuGraphLaunch(self, graph: Any, stream: Any) -> None:  # noqa: N802
        for action in graph:
            action()

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for called, arguments in self.calls if called == name]
