"""A GPU is opened with the library that works, and where none does each says why."""

from __future__ import annotations

from typing import Any

import pytest

from vedette_engines.cuda.base import CudaError
from vedette_engines.cuda.opening import OPENERS, libraries, open_device
from vedette_engines.errors import LoadError, MissingRuntimeError


def missing(index: int) -> Any:
    raise ModuleNotFoundError("No module named 'it'")


def broken(index: int) -> Any:
    raise CudaError("CUDA_ERROR_NO_DEVICE", f"opening device {index}", sticky=False)


def unloadable(index: int) -> Any:
    raise ImportError("libcuda.so.1: cannot open shared object file")


def working(index: int) -> Any:
    return f"device {index}"


def test_the_first_that_works_opens_the_device() -> None:
    assert open_device(2, openers={"cuda-bindings": missing, "pycuda": working}) == "device 2"


def test_a_library_that_is_named_is_the_only_one_that_is_tried() -> None:
    with pytest.raises(LoadError, match="GPU 0 cannot be opened: cuda-bindings: CUDA_ERROR_NO_DEVICE while") as caught:
        open_device(library="cuda-bindings", openers={"cuda-bindings": broken, "pycuda": working})
    assert "pycuda" not in str(caught.value)
    assert open_device(library="pycuda", openers={"cuda-bindings": broken, "pycuda": working}) == "device 0"


def test_each_that_was_tried_says_why_it_failed() -> None:
    with pytest.raises(LoadError) as caught:
        open_device(1, openers={"cuda-bindings": broken, "pycuda": unloadable})
    assert not isinstance(caught.value, MissingRuntimeError)
    assert "cuda-bindings: CUDA_ERROR_NO_DEVICE while opening device 1" in str(caught.value)
    assert "pycuda: libcuda.so.1: cannot open shared object file" in str(caught.value)


def test_where_none_is_installed_the_extra_is_named() -> None:
    with pytest.raises(MissingRuntimeError, match=r"vedette\[pycuda\]"):
        open_device(openers={"cuda-bindings": missing, "pycuda": missing})


def test_another_library_is_refused() -> None:
    with pytest.raises(ValueError, match="CUDA library is 'cupy'; allowed are auto, cuda-bindings, pycuda"):
        open_device(library="cupy")  # type: ignore[arg-type]


def test_a_doctor_is_told_of_every_library_its_version_or_why_not() -> None:
    found = libraries()
    assert [library.name for library in found] == list(OPENERS)
    for library in found:
        assert bool(library.version) != bool(library.reason)


def test_opening_here_gives_a_device_or_tells_of_each_library() -> None:
    try:
        device = open_device()
    except LoadError as error:
        assert all(name in str(error) for name in OPENERS)
    else:
        device.close()
