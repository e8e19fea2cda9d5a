"""Find the TensorRT that is installed, and say of each that is not usable why.

Importing it takes a while and loads hundreds of megabytes: nothing here is called before a plan is at hand.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vedette_engines.errors import ImportInputError, MissingRuntimeError

if TYPE_CHECKING:
    from collections.abc import Callable

FULL, RTX = "tensorrt", "tensorrt_rtx"
# The modules that each may be imported as: the packages of PyPI that hold the bindings alone bring no other name.
_SPELLINGS = {FULL: ("tensorrt",), RTX: ("tensorrt_rtx", "tensorrt_rtx_bindings")}
_NEEDED = ("Builder", "OnnxParser", "IProgressMonitor")
OLDEST_MAJOR = 10


@dataclass(frozen=True, slots=True)
class TensorRT:
    """A TensorRT that can build.

    Attributes:
        module: The imported module.
        name: `tensorrt` or `tensorrt_rtx`, whatever it was imported as.
        version: Its version, all four parts.
    """

    module: Any
    name: str
    version: str

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT for RTX: builds without a GPU, and has fewer flags."""
        return self.name == RTX

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def find_tensorrt(wanted: str = "", load: Callable[[str], Any] = importlib.import_module) -> TensorRT:
    """Import TensorRT, else TensorRT for RTX.

    Args:
        wanted: `tensorrt` or `tensorrt_rtx`; empty: the first of the two that can be used.
        load: Imports a module by its name.

    Raises:
        ImportInputError: `wanted` is neither.
        MissingRuntimeError: None can be used; the message says why, of each.
    """
    if wanted and wanted not in _SPELLINGS:
        raise ImportInputError(f"TensorRT is to be {wanted!r}; allowed is {' or '.join(_SPELLINGS)}")
    reasons = []
    for name in [wanted] if wanted else _SPELLINGS:
        for spelling in _SPELLINGS[name]:
            try:
                return _usable(load(spelling), name)
            except Exception as error:  # noqa: BLE001  (a stub raises whatever it likes)
                reasons.append(f"{spelling}: {_first_line(error)}")
    raise MissingRuntimeError(
        f"no TensorRT can be used here ({'; '.join(reasons)}): "
        "pip install 'vedette[tensorrt]', or 'vedette[tensorrt-rtx]', which builds without a GPU"
    )


def _usable(module: Any, name: str) -> TensorRT:
    version = str(getattr(module, "__version__", ""))
    missing = [part for part in _NEEDED if not hasattr(module, part)]
    if missing:
        raise ImportError(f"has no {', '.join(missing)}: its libraries are not installed, or it can only run engines")
    major = version.partition(".")[0]
    if name == FULL and (not major.isdigit() or int(major) < OLDEST_MAJOR):
        raise ImportError(f"is version {version or 'unknown'}; wanted is {OLDEST_MAJOR} or later")
    return TensorRT(module, name, version)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
