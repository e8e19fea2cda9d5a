"""Open a GPU with the CUDA library that is installed, or that a setting names.

cuda-bindings comes first: it has graphs and priorities. pycuda alone does without; beside cuda-bindings it is lent
graphs and the registration of memory.
"""

from __future__ import annotations

import contextlib
import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Literal, NamedTuple, cast, get_args

from vedette_engines.cuda.base import CudaError
from vedette_engines.errors import LoadError, MissingRuntimeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vedette_engines.cuda.base import Device

Choice = Literal["auto", "cuda-bindings", "pycuda"]
EXTRA = "pip install 'vedette[pycuda]' brings both"


class Library(NamedTuple):
    """One CUDA library, for a doctor.

    Attributes:
        name: Its name.
        version: Its version; empty: it cannot be used.
        reason: Why it cannot be used; empty: it can.
    """

    name: str
    version: str
    reason: str


def open_bindings(index: int) -> Device:
    """Open a device with cuda-bindings."""
    # Neither library is there on every machine.
    from vedette_engines.cuda.bindings import BindingsDevice  # noqa: PLC0415

    # What it makes takes only what it made itself; a protocol cannot say so.
    return cast("Device", BindingsDevice(index))


def open_pycuda(index: int) -> Device:
    """Open a device with pycuda, lent what it lacks by cuda-bindings where that is installed."""
    from vedette_engines.cuda.pycuda_driver import PycudaDevice, import_pycuda  # noqa: PLC0415

    driver = import_pycuda()
    lender = None
    with contextlib.suppress(ImportError):
        bindings = importlib.import_module("cuda.bindings.driver")
        from vedette_engines.cuda.lender import Lender  # noqa: PLC0415

        lender = Lender(bindings)
    return cast("Device", PycudaDevice(index, driver, lender))


OPENERS: Mapping[str, Callable[[int], Device]] = {"cuda-bindings": open_bindings, "pycuda": open_pycuda}


def open_device(
    index: int = 0, library: Choice = "auto", openers: Mapping[str, Callable[[int], Device]] = OPENERS
) -> Device:
    """Open a device.

    Args:
        index: Its number.
        library: What to open it with; `auto`: the first that works.
        openers: How each library opens one, in the order in which they are tried.

    Raises:
        ValueError: There is no such choice.
        MissingRuntimeError: No library that may be used is installed.
        LoadError: One is, but it cannot open the device; the message tells each that was tried and why it failed.
    """
    if library not in get_args(Choice):
        raise ValueError(f"CUDA library is {library!r}; allowed are {', '.join(get_args(Choice))}")
    failures: list[str] = []
    missing = True
    for name, opener in openers.items():
        if library not in {"auto", name}:
            continue
        try:
            return opener(index)
        except ModuleNotFoundError:
            failures.append(f"{name}: not installed")
        except (ImportError, CudaError) as error:
            missing = False
            failures.append(f"{name}: {error}")
    tried = "; ".join(failures)
    if missing:
        raise MissingRuntimeError(f"GPU {index} cannot be opened: {tried}; {EXTRA}")
    raise LoadError(f"GPU {index} cannot be opened: {tried}")


def libraries() -> list[Library]:
    """Tell which CUDA libraries can be imported here, and why the others cannot."""
    return [_look(name) for name in OPENERS]


def _look(name: str) -> Library:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Library(name, "", "not installed")
    try:
        if name == "pycuda":
            from vedette_engines.cuda.pycuda_driver import import_pycuda  # noqa: PLC0415

            import_pycuda()
        else:
            importlib.import_module("cuda.bindings.driver")
    except ImportError as error:
        return Library(name, "", f"{name} {version} cannot be imported: {error}")
    return Library(name, version, "")
