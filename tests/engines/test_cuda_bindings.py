"""The seam on cuda-bindings: every name that it calls exists, calls are ordered, errors are told in CUDA's terms.

Nothing here reaches a GPU: a driver that counts what is open stands behind the calls.
"""

from __future__ import annotations

import ast
import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vedette_engines.cuda.base import CudaError

driver = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")

from support_cuda_bindings import HostDriver, Result  # noqa: E402 - after the library it needs
from vedette_engines.cuda import bindings  # noqa: E402


@pytest.fixture
def host() -> HostDriver:
    return HostDriver()


def test_every_name_that_is_called_is_there() -> None:
    tree = ast.parse(Path(bindings.__file__).read_text(encoding="utf-8"))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr[:2] in {"cu", "CU"}}
    assert len(names) > 30
    enumerations = (driver.CUevent_flags, driver.CUstream_flags, driver.CUstreamCaptureMode, driver.CUdevice_attribute)
    for name in names:
        known = hasattr(driver, name) or any(hasattr(entry, name) for entry in (*enumerations, driver.CUresult))
        assert known, name


def test_a_machine_without_a_driver_is_told_so() -> None:
    try:
        bindings.BindingsDevice()
    except CudaError as error:
        assert error.name in {"CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_STUB_LIBRARY"}
    else:
        pytest.skip("there is a GPU here")


def test_bytes_go_up_and_come_back_through_offsets(host: HostDriver) -> None:
    device = bindings.BindingsDevice(driver=host)
    stream, given, taken, memory = device.stream(), device.pin(8), device.pin(8), device.allocate(16)
    given.array[:] = range(8)
    stream.upload(memory, given, 4, target_at=8, source_at=2)
    stream.download(taken, memory, 4, target_at=1, source_at=8)
    assert taken.array[1:5].tolist() == [2, 3, 4, 5]
    for thing in (given, taken, memory, stream):
        thing.close()
        thing.close()
    assert host.memory == {}
    assert len(host.named("cuStreamDestroy")) == 1


def test_facts_are_the_drivers(host: HostDriver) -> None:
    facts = bindings.BindingsDevice(driver=host).facts
    assert (facts.name, facts.capability, facts.memory_bytes, facts.library) == (
        "Some GPU",
        (9, 9),
        1 << 30,
        "cuda-bindings",
    )


def test_an_event_that_is_not_ready_is_no_error(host: HostDriver) -> None:
    event = bindings.BindingsDevice(driver=host).event()
    host.fails["cuEventQuery"] = Result.CUDA_ERROR_NOT_READY
    assert not event.done()
    del host.fails["cuEventQuery"]
    assert event.done()


@pytest.mark.parametrize(
    ("call", "result", "sticky"),
    [("cuMemAlloc", Result.CUDA_ERROR_OUT_OF_MEMORY, False), ("cuMemAlloc", Result.CUDA_ERROR_ILLEGAL_ADDRESS, True)],
)
def test_an_error_tells_its_name_what_was_done_and_whether_the_device_is_lost(
    host: HostDriver, call: str, result: Result, sticky: bool
) -> None:
    device = bindings.BindingsDevice(driver=host)
    host.fails[call] = result
    with pytest.raises(CudaError, match=f"{result.name} while allocating 10 bytes") as caught:
        device.allocate(10)
    assert caught.value.sticky == sticky


def test_the_context_is_left_also_when_something_fails(host: HostDriver) -> None:
    device = bindings.BindingsDevice(driver=host)
    with pytest.raises(ValueError, match="ours"), device.attached():
        raise ValueError("ours")
    assert len(host.named("cuCtxPushCurrent")) == len(host.named("cuCtxPopCurrent")) == 1


def test_a_graph_is_captured_for_this_thread_alone_and_its_template_freed(host: HostDriver) -> None:
    stream = bindings.BindingsDevice(driver=host).stream()
    stream.begin_capture()
    graph = stream.end_capture()
    stream.launch_graph(graph)
    assert host.named("cuStreamBeginCapture")[0][1] == driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    assert host.named("cuGraphDestroy") == [([],)]
    assert len(host.named("cuGraphLaunch")) == 1


def test_a_kernel_gets_addresses_and_values_by_their_place(host: HostDriver) -> None:
    device = bindings.BindingsDevice(driver=host)
    kernel, memory, stream = device.load(b"ptx").kernel("add"), device.allocate(4), device.stream()
    seen: list[tuple[int, float]] = []

    def look(*arguments: Any) -> tuple[Any, ...]:
        places = ctypes.cast(arguments[9], ctypes.POINTER(ctypes.c_uint64))
        address = ctypes.cast(places[0], ctypes.POINTER(ctypes.c_uint64))[0]
        seen.append((address, ctypes.cast(places[1], ctypes.POINTER(ctypes.c_float))[0]))
        return (Result.CUDA_SUCCESS,)

    host.cuLaunchKernel = look  # type: ignore[attr-defined]
    stream.launch(kernel, (2,), (32, 4), (memory, np.float32(1.5)))
    assert seen == [(memory.address, 1.5)]


def test_registered_memory_is_unlocked_and_not_freed(host: HostDriver) -> None:
    shared = np.zeros((4, 4), np.uint8)
    pinned = bindings.BindingsDevice(driver=host).register(shared)
    assert pinned.address == shared.ctypes.data
    pinned.close()
    assert host.named("cuMemHostUnregister") == [(shared.ctypes.data,)]
    assert host.named("cuMemFreeHost") == []


def test_what_was_given_back_is_not_used(host: HostDriver) -> None:
    device = bindings.BindingsDevice(driver=host)
    memory, pinned = device.allocate(4), device.pin(4)
    memory.close()
    pinned.close()
    with pytest.raises(CudaError, match="given back"):
        _ = memory.address
    with pytest.raises(CudaError, match="given back"):
        _ = pinned.array
