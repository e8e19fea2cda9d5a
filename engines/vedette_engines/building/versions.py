"""What carries out a build: code, libraries, machine."""

from __future__ import annotations

import functools
import hashlib
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import vedette_engines
from vedette_engines.errors import ImportInputError
from vedette_engines.plans.gpus import find_gpus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vedette_engines.graft.head import Head

LIBRARIES = (
    "vedette",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxslim",
    "onnxconverter-common",
    "onnxscript",
    "torch",
    "openvino",
    "tensorrt",
    "tensorrt_rtx_cu13_libs",
    "av",
    "pycocotools",
)


def library_versions() -> dict[str, str]:
    """Tell the version of each library that is installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version(), **found}


@functools.cache
def code_digest() -> str:
    """Hash the sources of this package: a step that other code would carry out is another step."""
    digest = hashlib.sha256()
    folder = Path(vedette_engines.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def plugins_digest(heads: Iterable[Head]) -> dict[str, str]:
    """Hash the sources of heads from outside this package, by the heads' names: changed, they make other engines."""
    own = vedette_engines.__name__
    found = {}
    for head in heads:
        modules = {kind.__module__ for kind in type(head).__mro__} - {"builtins", "typing", "abc"}
        foreign = sorted(module for module in modules if module.partition(".")[0] != own)
        if foreign:
            found[head.name] = hashlib.sha256(b"".join(_sources(module) for module in foreign)).hexdigest()
    return found


def _sources(module: str) -> bytes:
    """Read a module, and those beside it where it is part of a package."""
    origin = getattr(sys.modules.get(module), "__file__", None)
    if origin is None:
        return b""
    file = Path(origin)
    files = sorted(file.parent.glob("*.py")) if "." in module or file.name == "__init__.py" else [file]
    try:
        return b"".join(path.name.encode() + b"\0" + path.read_bytes() + b"\0" for path in files)
    except OSError as error:
        raise ImportInputError(f"{module}: cannot be read: {error}") from error


def machine() -> dict[str, str]:
    """Tell the processor and the system, and the GPU and its driver where there is one."""
    gpus, driver = find_gpus()
    found = {"gpu": ", ".join(gpu.name for gpu in gpus), "driver": driver}
    return {
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: value for name, value in found.items() if value},
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
