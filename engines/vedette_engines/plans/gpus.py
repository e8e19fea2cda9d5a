"""The GPUs that this process may use, asked of the driver's own libraries.

NVML answers without starting CUDA. Where it is missing (as on some Jetsons) or does not know CUDA's view (GPUs of
several models, which CUDA numbers by speed; parts of a GPU) the CUDA driver is asked. Both are called by ctypes: they
come with the driver, and need no package.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_TEXT_BYTES = 96
# CUdevice_attribute
_MAJOR, _MINOR = 75, 76


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.

    Attributes:
        name: Its model, as the driver says: `NVIDIA H100 80GB HBM3`.
        capability: Its compute capability, like `sm_90`.
        uuid: The driver's name for this one piece; empty where it does not tell.
    """

    name: str
    capability: str
    uuid: str = ""

    @property
    def compute(self) -> int:
        """The compute capability as a number: 90."""
        return int(self.capability.removeprefix("sm_"))


class Library(Protocol):
    """A C library, as ctypes opens it: functions by their names, each returning 0 when it went well."""

    def __getattr__(self, name: str) -> Callable[..., int]: ...


def find_gpus(
    open_library: Callable[[str], Library] = ctypes.CDLL, variables: Mapping[str, str] = os.environ
) -> tuple[tuple[Gpu, ...], str]:
    """Ask for the GPUs, in CUDA's order, and for the driver's version; nothing and empty where there is no driver.

    Args:
        open_library: Opens a library by its file name; OSError: there is none.
        variables: The environment's; `CUDA_VISIBLE_DEVICES` hides GPUs.
    """
    hide = variables.get("CUDA_VISIBLE_DEVICES")
    seen = _asked(open_library, "libnvidia-ml.so.1", _ask_nvml)
    if seen is not None and len({gpu.name for gpu in seen[0]}) <= 1 and "MIG-" not in (hide or ""):
        return (seen[0] if hide is None else _visible(seen[0], hide)), seen[1]
    # CUDA applies the variable itself.
    used = _asked(open_library, "libcuda.so.1", _ask_cuda)
    if used is None:
        return (), ""
    return used[0], seen[1] if seen is not None else used[1]


def _asked(
    open_library: Callable[[str], Library], name: str, ask: Callable[[Library], tuple[tuple[Gpu, ...], str] | None]
) -> tuple[tuple[Gpu, ...], str] | None:
    try:
        return ask(open_library(name))
    except OSError:
        return None


def _visible(gpus: Sequence[Gpu], words: str) -> tuple[Gpu, ...]:
    """Keep what the variable names, in its order; as CUDA does, the first word that names nothing ends the list."""
    kept: list[Gpu] = []
    for word in (part.strip() for part in words.split(",")):
        if word.isdigit() and int(word) < len(gpus):
            kept.append(gpus[int(word)])
            continue
        named = [gpu for gpu in gpus if word and gpu.uuid.startswith(word)]
        if len(named) != 1:
            break
        kept += named
    return tuple(kept)


def _ask_nvml(nvml: Library) -> tuple[tuple[Gpu, ...], str] | None:
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        count = ctypes.c_uint()
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return None
        gpus = [_nvml_gpu(nvml, index) for index in range(count.value)]
        driver = _text(nvml.nvmlSystemGetDriverVersion)
        return tuple(gpu for gpu in gpus if gpu is not None), driver
    finally:
        nvml.nvmlShutdown()


def _nvml_gpu(nvml: Library, index: int) -> Gpu | None:
    device, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
    if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)) != 0:
        return None
    if nvml.nvmlDeviceGetCudaComputeCapability(device, ctypes.byref(major), ctypes.byref(minor)) != 0:
        return None
    name = _text(lambda text, size: nvml.nvmlDeviceGetName(device, text, size))
    uuid = _text(lambda text, size: nvml.nvmlDeviceGetUUID(device, text, size))
    return Gpu(name, f"sm_{major.value}{minor.value}", uuid)


def _ask_cuda(cuda: Library) -> tuple[tuple[Gpu, ...], str] | None:
    count = ctypes.c_int()
    if cuda.cuInit(ctypes.c_uint(0)) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return None
    gpus = []
    for index in range(count.value):
        device = ctypes.c_int()
        if cuda.cuDeviceGet(ctypes.byref(device), ctypes.c_int(index)) != 0:
            continue
        major, minor = (_cuda_attribute(cuda, device, number) for number in (_MAJOR, _MINOR))
        gpus.append(Gpu(_text(_name_of(cuda, device)), f"sm_{major}{minor}"))
    version = ctypes.c_int()
    known = cuda.cuDriverGetVersion(ctypes.byref(version)) == 0
    return tuple(gpus), f"CUDA {version.value // 1000}.{version.value % 1000 // 10}" if known else ""


def _cuda_attribute(cuda: Library, device: Any, number: int) -> int:
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), ctypes.c_int(number), device)
    return value.value


def _name_of(cuda: Library, device: Any) -> Callable[[Any, Any], int]:
    return lambda text, size: cuda.cuDeviceGetName(text, ctypes.c_int(size.value), device)


def _text(ask: Callable[[Any, Any], int]) -> str:
    text = ctypes.create_string_buffer(_TEXT_BYTES)
    return text.value.decode(errors="replace") if ask(text, ctypes.c_uint(_TEXT_BYTES)) == 0 else ""
