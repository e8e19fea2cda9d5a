"""Code for the device: CUDA sources, and beside each the PTX that is loaded.

PTX is written for the oldest architecture that is supported (compute capability 7.5); the driver compiles it for the
GPU at hand, and keeps what it compiled. `make.py` writes it anew; a test compares it with its source.
"""

from __future__ import annotations

import hashlib
from importlib import resources

OLDEST_ARCHITECTURE = "compute_75"
# The version of PTX that brought that architecture: every driver that knows such a GPU takes it.
OLDEST_PTX = "6.3"
_HASH_LINE = "// source sha256: "


def source(name: str) -> str:
    """Read the CUDA source of a kernel."""
    return resources.files(__name__).joinpath(f"{name}.cu").read_text(encoding="utf-8")


def ptx(name: str) -> bytes:
    """Read what is loaded for a kernel."""
    return resources.files(__name__).joinpath(f"{name}.ptx").read_bytes()


def source_hash(text: str) -> str:
    """Tell what PTX notes of the source that it was made from."""
    return hashlib.sha256(text.encode()).hexdigest()


def signed(code: str, text: str) -> str:
    """Put the hash of the source `text` on top of the PTX `code`."""
    return f"{_HASH_LINE}{source_hash(text)}\n{code}"


def belongs(name: str) -> bool:
    """Tell whether the PTX of a kernel was made from its source as it is now."""
    first = ptx(name).partition(b"\n")[0].decode()
    return first == _HASH_LINE + source_hash(source(name))
