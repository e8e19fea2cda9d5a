"""What a failed call of a library on the device means: one batch, one engine, or the whole device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_engines.cuda.base import STICKY_ERRORS, CudaError
from vedette_engines.cuda.error_texts import NAMES

if TYPE_CHECKING:
    from vedette_engines.cuda.base import Device
    from vedette_engines.errors import EnginesError

# Too common a text to end a process for; where the device really is lost, the driver says so when it is asked.
_VAGUE = "CUDA_ERROR_UNKNOWN"
_STICKY_TEXTS = {text: name for text, name in NAMES.items() if name in STICKY_ERRORS and name != _VAGUE}


def failure(device: Device, doing: str, said: str, kind: type[EnginesError]) -> EnginesError:
    """Make the error to raise where a library failed.

    Args:
        device: Where; the caller is attached to it. It is asked whether it is still there.
        doing: What was being done, in words.
        said: What the library said about it.
        kind: The error's class where only this call failed.

    Returns:
        A sticky `CudaError` where the device is lost, by the driver's word or by what the library said.
    """
    try:
        device.free_bytes()
    except CudaError as error:
        if error.sticky:
            return error
    name = next((name for text, name in _STICKY_TEXTS.items() if text in said), None)
    if name is not None:
        return CudaError(name, f"{doing} ({said})", sticky=True)
    return kind(f"{doing}: {said or 'the library does not say why'}")
