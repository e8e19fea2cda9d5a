"""The seam on pycuda: its rules are kept, its errors get CUDA's names, what it lacks is said.

A stand-in for pycuda works on the host's memory: pycuda itself cannot be imported without a driver.
"""

from __future__ import annotations

import threading

import pytest

from support_cuda_pycuda import (
    FakePycuda,
    PycudaError,
    PycudaLaunchError,
    PycudaLogicError,
    PycudaMemoryError,
    fake_pycuda,
)
from vedette_engines.cuda import pycuda_driver
from vedette_engines.cuda.base import STICKY_ERRORS, CudaError, Features
from vedette_engines.cuda.error_texts import NAMES, name_of
from vedette_engines.cuda.pycuda_driver import PycudaDevice

ILLEGAL = "an illegal memory access was encountered"


@pytest.fixture
def driver() -> FakePycuda:
    return fake_pycuda()


@pytest.mark.parametrize(
    ("raised", "name", "sticky"),
    [
        (PycudaMemoryError("cuMemAlloc failed: out of memory"), "CUDA_ERROR_OUT_OF_MEMORY", False),
        (
            PycudaLogicError("cuMemAlloc failed: an illegal memory access was encountered"),
            "CUDA_ERROR_ILLEGAL_ADDRESS",
            True,
        ),
        (PycudaLaunchError("cuMemAlloc failed: unspecified launch failure"), "CUDA_ERROR_LAUNCH_FAILED", True),
        (
            PycudaLogicError("f failed: invalid device context - no currently active context?"),
            "CUDA_ERROR_INVALID_CONTEXT",
            False,
        ),
        (PycudaMemoryError("in words nobody knows"), "CUDA_ERROR_OUT_OF_MEMORY", False),
        (PycudaLaunchError("in words nobody knows"), "CUDA_ERROR_LAUNCH_FAILED", True),
        (PycudaError("in words nobody knows"), "CUDA_ERROR_UNKNOWN", True),
    ],
)
def test_an_error_gets_cudas_name(driver: FakePycuda, raised: PycudaError, name: str, sticky: bool) -> None:
    device = PycudaDevice(0, driver)
    driver.fails["mem_alloc"] = raised
    with device.attached(), pytest.raises(CudaError, match=f"{name} while allocating 10 bytes") as caught:
        device.allocate(10)
    assert (caught.value.name, caught.value.sticky) == (name, sticky)
    assert caught.value.__cause__ is raised


def test_words_that_no_table_has_are_handed_on(driver: FakePycuda) -> None:
    device = PycudaDevice(0, driver)
    driver.fails["mem_alloc"] = PycudaLogicError("in words nobody knows")
    with device.attached(), pytest.raises(CudaError, match="in words nobody knows"):
        device.allocate(10)


def test_every_error_that_loses_the_device_is_known_by_its_text() -> None:
    assert set(NAMES.values()) >= STICKY_ERRORS
    for text, name in NAMES.items():
        assert name_of(f"cuCall failed: {text}") == name
        assert name_of(f"cuCall failed: {text} - a remark") == name


def test_without_cuda_bindings_there_are_neither_graphs_nor_priorities_nor_registration(driver: FakePycuda) -> None:
    facts = PycudaDevice(0, driver).facts
    assert facts.library == "pycuda"
    assert facts.features == Features(graphs=False, priorities=False, registration=False)


def test_a_device_that_is_not_there_is_told(driver: FakePycuda) -> None:
    with pytest.raises(CudaError, match="CUDA_ERROR_INVALID_DEVICE while opening device 3"):
        PycudaDevice(3, driver)


def test_what_is_used_outside_the_context_is_told(driver: FakePycuda) -> None:
    device = PycudaDevice(0, driver)
    with pytest.raises(CudaError, match="CUDA_ERROR_INVALID_CONTEXT while creating a stream"):
        device.stream()


def test_a_thread_that_attached_leaves_nothing_current(driver: FakePycuda) -> None:
    device = PycudaDevice(0, driver)
    left: list[int] = []

    def work() -> None:
        with device.attached():
            pass
        left.append(driver.entered)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert left == [0]


def test_the_context_is_let_go_of_once_and_is_current_nowhere_after(driver: FakePycuda) -> None:
    device = PycudaDevice(0, driver)
    device.close()
    device.close()
    assert (driver.retained, driver.entered, driver.stale) == (0, 0, 0)


def test_what_was_given_back_is_not_used(driver: FakePycuda) -> None:
    device = PycudaDevice(0, driver)
    with device.attached():
        memory, pinned = device.allocate(4), device.pin(4)
        memory.close()
        pinned.close()
    with pytest.raises(CudaError, match="given back"):
        _ = memory.address
    with pytest.raises(CudaError, match="given back"):
        _ = pinned.array
    assert driver.memory == {}


def test_a_machine_without_a_driver_cannot_import_pycuda() -> None:
    try:
        pycuda_driver.import_pycuda()
    except ImportError:
        return
    pytest.skip("there is a driver here")
