"""The driver and its GPUs, asked by ctypes: NVML for what is known of them, CUDA for what this process may use.

NVML tells more and starts nothing; CUDA's view is the one that counts: its numbers, parts of a GPU, and whether it
starts at all. https://docs.nvidia.com/deploy/nvml-api/ and the CUDA driver API.
"""

from __future__ import annotations

import ctypes
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vedette_engines.plans.gpus import Library

NVML, CUDA = "libnvidia-ml.so.1", "libcuda.so.1"
_TEXT_BYTES = 96
# CUdevice_attribute
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18
_MIG_ENABLED = 1
# CUresult: what people meet. NO_DEVICE is no fault of the driver's.
NO_DEVICE = "CUDA_ERROR_NO_DEVICE"
_INIT_ERRORS = {
    3: "CUDA_ERROR_NOT_INITIALIZED",
    34: "CUDA_ERROR_STUB_LIBRARY",
    46: "CUDA_ERROR_DEVICE_UNAVAILABLE",
    100: NO_DEVICE,
    101: "CUDA_ERROR_INVALID_DEVICE",
    802: "CUDA_ERROR_SYSTEM_NOT_READY",
    803: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    804: "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
    999: "CUDA_ERROR_UNKNOWN",
}


class _Memory(ctypes.Structure):
    """`nvmlMemory_t`."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def look(open_library: Callable[[str], Library] = ctypes.CDLL) -> dict[str, Any]:
    """Tell the driver and the GPUs.

    Returns:
        `nvml` and `cuda`: `found` (the library can be opened), `failure` (why it does not start; empty: it does);
        NVML's `driver` and `cuda` (versions); CUDA's `version`; `gpus`, with the fields of `GpuFacts`: those that CUDA
        sees, then those that NVML alone does.
    """
    nvml, known = _ask_nvml(open_library)
    cuda, gpus = _ask_cuda(open_library, known)
    # A part of a GPU bears a name of its own; the GPU itself is not listed a second time for that.
    seen = {gpu["uuid"] for gpu in gpus} | {gpu.pop("parent", "") for gpu in gpus}
    return {"nvml": nvml, "cuda": cuda, "gpus": [*gpus, *(gpu for gpu in known if gpu["uuid"] not in seen)]}


def _ask_nvml(open_library: Callable[[str], Library]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    try:
        nvml = open_library(NVML)
    except OSError as error:
        return {"found": False, "failure": str(error), "driver": "", "cuda": ""}, []
    code = nvml.nvmlInit_v2()
    if code != 0:
        return {"found": True, "failure": f"NVML error {code}", "driver": "", "cuda": ""}, []
    try:
        version = ctypes.c_int()
        known = _went_well(nvml, "nvmlSystemGetCudaDriverVersion_v2", ctypes.byref(version))
        facts = {
            "found": True,
            "failure": "",
            "driver": _text(nvml.nvmlSystemGetDriverVersion),
            "cuda": _cuda_version(version.value) if known else "",
        }
        return facts, list(_nvml_gpus(nvml))
    finally:
        nvml.nvmlShutdown()


def _nvml_gpus(nvml: Library) -> Iterator[dict[str, Any]]:
    count = ctypes.c_uint()
    if not _went_well(nvml, "nvmlDeviceGetCount_v2", ctypes.byref(count)):
        return
    for index in range(count.value):
        device = ctypes.c_void_p()
        if _went_well(nvml, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device)):
            yield _nvml_gpu(nvml, device)


def _nvml_gpu(nvml: Library, device: ctypes.c_void_p) -> dict[str, Any]:
    major, minor, memory = ctypes.c_int(), ctypes.c_int(), _Memory()
    known = _went_well(nvml, "nvmlDeviceGetCudaComputeCapability", device, ctypes.byref(major), ctypes.byref(minor))
    told = _went_well(nvml, "nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
    mode, pending = ctypes.c_uint(), ctypes.c_uint()
    mig = _went_well(nvml, "nvmlDeviceGetMigMode", device, ctypes.byref(mode), ctypes.byref(pending))
    return {
        "index": -1,
        "name": _text(lambda text, size: nvml.nvmlDeviceGetName(device, text, size)),
        "capability": f"sm_{major.value}{minor.value}" if known else "",
        "uuid": _text(lambda text, size: nvml.nvmlDeviceGetUUID(device, text, size)),
        "memory_bytes": memory.total if told else 0,
        "free_bytes": memory.free if told else None,
        "mig": ("on" if mode.value == _MIG_ENABLED else "off") if mig else "off",
        "integrated": False,
    }


def _ask_cuda(
    open_library: Callable[[str], Library], known: list[dict[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    try:
        cuda = open_library(CUDA)
    except OSError as error:
        return {"found": False, "failure": str(error), "version": ""}, []
    version = ctypes.c_int()
    told = _went_well(cuda, "cuDriverGetVersion", ctypes.byref(version))
    facts = {"found": True, "failure": "", "version": _cuda_version(version.value) if told else ""}
    code = cuda.cuInit(ctypes.c_uint(0))
    if code != 0:
        return facts | {"failure": _INIT_ERRORS.get(code, f"CUDA error {code}")}, []
    count = ctypes.c_int()
    code = cuda.cuDeviceGetCount(ctypes.byref(count))
    if code != 0:
        return facts | {"failure": _INIT_ERRORS.get(code, f"CUDA error {code}")}, []
    return facts, [_cuda_gpu(cuda, index, known) for index in range(count.value)]


def _cuda_gpu(cuda: Library, index: int, known: list[dict[str, Any]]) -> dict[str, Any]:
    device, total = ctypes.c_int(), ctypes.c_size_t()
    cuda.cuDeviceGet(ctypes.byref(device), ctypes.c_int(index))
    cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device)
    name = _text(lambda text, size: cuda.cuDeviceGetName(text, ctypes.c_int(size.value), device))
    major, minor, integrated = (_attribute(cuda, device, number) for number in (_MAJOR, _MINOR, _INTEGRATED))
    own = _uuid(cuda, device)
    whole = next((gpu for gpu in known if own and gpu["uuid"] == f"GPU-{own}"), None)
    # CUDA shows a part of a GPU under a name that NVML's list of GPUs has not got.
    parent = next((gpu for gpu in known if whole is None and gpu["mig"] == "on"), None)
    return {
        "index": index,
        "name": name,
        "capability": f"sm_{major}{minor}",
        "uuid": whole["uuid"] if whole else (f"{'MIG' if parent else 'GPU'}-{own}" if own else ""),
        "memory_bytes": total.value,
        "free_bytes": whole["free_bytes"] if whole else None,
        "mig": whole["mig"] if whole else ("instance" if parent else ""),
        "integrated": integrated == 1,
        "parent": parent["uuid"] if parent else "",
    }


def _attribute(cuda: Library, device: ctypes.c_int, number: int) -> int:
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), ctypes.c_int(number), device)
    return value.value


def _uuid(cuda: Library, device: ctypes.c_int) -> str:
    """Tell a device's name for ever, as NVML writes it but for what stands before; empty: an old driver."""
    place = (ctypes.c_ubyte * 16)()
    told = _went_well(cuda, "cuDeviceGetUuid_v2", ctypes.byref(place), device)
    return str(uuid.UUID(bytes=bytes(place))) if told else ""


def _went_well(library: Library, name: str, *arguments: Any) -> bool:
    """Call a function that an old or a small driver may not have."""
    function = getattr(library, name, None)
    return function is not None and function(*arguments) == 0


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _text(ask: Callable[[Any, Any], int]) -> str:
    text = ctypes.create_string_buffer(_TEXT_BYTES)
    return text.value.decode(errors="replace") if ask(text, ctypes.c_uint(_TEXT_BYTES)) == 0 else ""
