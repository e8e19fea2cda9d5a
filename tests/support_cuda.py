"""The devices that the same tests of the seam run on; none of them is there."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from support_cuda_kernels import KERNELS
from support_cuda_pycuda import fake_pycuda
from vedette_engines.cuda.pycuda_driver import PycudaDevice
from vedette_engines.cuda.simulated import SimulatedDevice

if TYPE_CHECKING:
    from collections.abc import Iterator

REASON = "cuda-bindings is not installed"


@contextlib.contextmanager
def on_simulated() -> Iterator[Any]:
    device = SimulatedDevice(kernels=KERNELS)
    yield device
    device.close()


@contextlib.contextmanager
def on_bindings() -> Iterator[Any]:
    pytest.importorskip("cuda.bindings.driver", reason=REASON)
    from support_cuda_bindings import HostDriver  # noqa: PLC0415
    from vedette_engines.cuda.bindings import BindingsDevice  # noqa: PLC0415

    driver = HostDriver()
    device = BindingsDevice(driver=driver)
    with device.attached():
        yield device
    device.close()
    assert driver.memory == {}
    assert len(driver.named("cuDevicePrimaryCtxRelease")) == 1


@contextlib.contextmanager
def on_pycuda(*, lent: bool = False) -> Iterator[Any]:
    lender = None
    captures = {}
    if lent:
        pytest.importorskip("cuda.bindings.driver", reason=REASON)
        from support_cuda_bindings import HostDriver  # noqa: PLC0415
        from vedette_engines.cuda.lender import Lender  # noqa: PLC0415

        host = HostDriver()
        captures = host.captures
        lender = Lender(host)
    driver = fake_pycuda(captures)
    device = PycudaDevice(0, driver, lender)
    with device.attached():
        yield device
    device.close()
    assert driver.memory == {}
    assert (driver.entered, driver.stale, driver.retained) == (0, 0, 0)


DEVICES = {
    "cuda-bindings": on_bindings,
    "pycuda": on_pycuda,
    "pycuda+cuda-bindings": lambda: on_pycuda(lent=True),
    "simulated": on_simulated,
}
