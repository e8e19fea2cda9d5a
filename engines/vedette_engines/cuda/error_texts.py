"""CUDA's names of errors by their text, for a library that hands on the text alone.

The texts are those of `cuGetErrorString`, which are the same in all versions that were looked at (toolkit 13.0).
"""

from __future__ import annotations

import re

NAMES = {
    "invalid argument": "CUDA_ERROR_INVALID_VALUE",
    "out of memory": "CUDA_ERROR_OUT_OF_MEMORY",
    "initialization error": "CUDA_ERROR_NOT_INITIALIZED",
    "driver shutting down": "CUDA_ERROR_DEINITIALIZED",
    "CUDA driver is a stub library": "CUDA_ERROR_STUB_LIBRARY",
    "API call is not supported in the installed CUDA driver": "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER",
    "CUDA-capable device(s) is/are busy or unavailable": "CUDA_ERROR_DEVICE_UNAVAILABLE",
    "no CUDA-capable device is detected": "CUDA_ERROR_NO_DEVICE",
    "invalid device ordinal": "CUDA_ERROR_INVALID_DEVICE",
    "device doesn't have valid Grid license": "CUDA_ERROR_DEVICE_NOT_LICENSED",
    "device kernel image is invalid": "CUDA_ERROR_INVALID_IMAGE",
    "invalid device context": "CUDA_ERROR_INVALID_CONTEXT",
    "mapping of buffer object failed": "CUDA_ERROR_MAP_FAILED",
    "unmapping of buffer object failed": "CUDA_ERROR_UNMAP_FAILED",
    "array is mapped": "CUDA_ERROR_ARRAY_IS_MAPPED",
    "resource already mapped": "CUDA_ERROR_ALREADY_MAPPED",
    "no kernel image is available for execution on the device": "CUDA_ERROR_NO_BINARY_FOR_GPU",
    "resource already acquired": "CUDA_ERROR_ALREADY_ACQUIRED",
    "resource not mapped": "CUDA_ERROR_NOT_MAPPED",
    "uncorrectable ECC error encountered": "CUDA_ERROR_ECC_UNCORRECTABLE",
    "limit is not supported on this architecture": "CUDA_ERROR_UNSUPPORTED_LIMIT",
    "exclusive-thread device already in use by a different thread": "CUDA_ERROR_CONTEXT_ALREADY_IN_USE",
    "peer access is not supported between these two devices": "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED",
    "a PTX JIT compilation failed": "CUDA_ERROR_INVALID_PTX",
    "uncorrectable NVLink error detected during the execution": "CUDA_ERROR_NVLINK_UNCORRECTABLE",
    "PTX JIT compiler library not found": "CUDA_ERROR_JIT_COMPILER_NOT_FOUND",
    "the provided PTX was compiled with an unsupported toolchain.": "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
    "PTX JIT compilation was disabled": "CUDA_ERROR_JIT_COMPILATION_DISABLED",
    "Invalid access of peer GPU memory over nvlink or a hardware error": "CUDA_ERROR_CONTAINED",
    "file not found": "CUDA_ERROR_FILE_NOT_FOUND",
    "shared object symbol not found": "CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND",
    "shared object initialization failed": "CUDA_ERROR_SHARED_OBJECT_INIT_FAILED",
    "OS call failed or operation not supported on this OS": "CUDA_ERROR_OPERATING_SYSTEM",
    "invalid resource handle": "CUDA_ERROR_INVALID_HANDLE",
    "the operation cannot be performed in the present state": "CUDA_ERROR_ILLEGAL_STATE",
    "named symbol not found": "CUDA_ERROR_NOT_FOUND",
    "device not ready": "CUDA_ERROR_NOT_READY",
    "an illegal memory access was encountered": "CUDA_ERROR_ILLEGAL_ADDRESS",
    "too many resources requested for launch": "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
    "the launch timed out and was terminated": "CUDA_ERROR_LAUNCH_TIMEOUT",
    "peer access is already enabled": "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED",
    "peer access has not been enabled": "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED",
    "cannot set while device is active in this process": "CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE",
    "context is destroyed": "CUDA_ERROR_CONTEXT_IS_DESTROYED",
    "device-side assert triggered": "CUDA_ERROR_ASSERT",
    "peer mapping resources exhausted": "CUDA_ERROR_TOO_MANY_PEERS",
    "part or all of the requested memory range is already mapped": "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
    "pointer does not correspond to a registered memory region": "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
    "hardware stack error": "CUDA_ERROR_HARDWARE_STACK_ERROR",
    "an illegal instruction was encountered": "CUDA_ERROR_ILLEGAL_INSTRUCTION",
    "misaligned address": "CUDA_ERROR_MISALIGNED_ADDRESS",
    "operation not supported on global/shared address space": "CUDA_ERROR_INVALID_ADDRESS_SPACE",
    "invalid program counter": "CUDA_ERROR_INVALID_PC",
    "unspecified launch failure": "CUDA_ERROR_LAUNCH_FAILED",
    "tensor memory not completely freed": "CUDA_ERROR_TENSOR_MEMORY_LEAK",
    "operation not permitted": "CUDA_ERROR_NOT_PERMITTED",
    "operation not supported": "CUDA_ERROR_NOT_SUPPORTED",
    "system not yet initialized": "CUDA_ERROR_SYSTEM_NOT_READY",
    "system has unsupported display driver / cuda driver combination": "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    "forward compatibility was attempted on non supported HW": "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
    "the MPS client has been terminated by the server": "CUDA_ERROR_MPS_CLIENT_TERMINATED",
    "operation not permitted when stream is capturing": "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
    "operation failed due to a previous error during capture": "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
    "operation would result in a merge of separate capture sequences": "CUDA_ERROR_STREAM_CAPTURE_MERGE",
    "capture was not ended in the same stream as it began": "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED",
    "capturing stream has unjoined work": "CUDA_ERROR_STREAM_CAPTURE_UNJOINED",
    "dependency created on uncaptured work in another stream": "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
    "operation not permitted on an event last recorded in a capturing stream": "CUDA_ERROR_CAPTURED_EVENT",
    "wait operation timed out": "CUDA_ERROR_TIMEOUT",
    "an async error has occured in external entity outside of CUDA": "CUDA_ERROR_EXTERNAL_DEVICE",
    "a kernel launch error has occurred due to cluster misconfiguration": "CUDA_ERROR_INVALID_CLUSTER_SIZE",
    "unknown error": "CUDA_ERROR_UNKNOWN",
}
# What pycuda makes of an error: "cuMemAlloc failed: out of memory", and a remark of its own behind a dash.
_MESSAGE = re.compile(r"^\S+ failed: (?P<text>.*?)(?: - .*)?$", re.DOTALL)


def name_of(message: str) -> str | None:
    """Find the name of the error that a message of pycuda tells of; None: its text is not known."""
    found = _MESSAGE.match(message)
    return NAMES.get(found["text"].strip()) if found else None
