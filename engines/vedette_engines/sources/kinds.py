"""Tell what a model file is by its content; its suffix decides nothing.

Reads the first bytes and a zip archive's list of members, runs nothing, and imports the standard library only.
"""

from __future__ import annotations

import re
import zipfile
from enum import StrEnum
from typing import TYPE_CHECKING

from vedette_engines.errors import ImportInputError

if TYPE_CHECKING:
    from pathlib import Path

_HEAD_BYTES = 4096
_ALLOWED = "allowed is an ONNX file, a torch.export program (.pt2), a TorchScript file, or module:factory"
# What begins like this is known, and no source.
_FOREIGN = (
    (b"\x89HDF", "is an HDF5 file (Keras?): export it to ONNX with tf2onnx"),
    (b"ftrt", "is a TensorRT plan: give the model it was built from"),
    (b"version https://git-lfs", "is a Git LFS pointer, not the model: run `git lfs pull`"),
    (b"\x1f\x8b", "is a gzip file: unpack it first"),
    (b"<", "is XML or HTML (a download that failed?), not a model"),
)


class Kind(StrEnum):
    """What a file holds."""

    ONNX = "onnx"
    PROGRAM = "pt2"
    TORCHSCRIPT = "torchscript"
    PICKLE = "pickle"
    SAFETENSORS = "safetensors"


def kind_of(path: Path) -> Kind:
    """Tell what a file holds.

    A pickle is told from a state dict by whoever may unpickle: see `weights.py`.

    Raises:
        ImportInputError: It is missing, empty, cut off, or nothing that a model comes in.
    """
    try:
        if path.is_dir():
            raise ImportInputError(f"{path}: is a folder; {_ALLOWED}")
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise ImportInputError(f"{path}: there is no such file; {_ALLOWED}") from None
    except OSError as error:
        raise ImportInputError(f"{path}: cannot be read: {error}") from error
    if not head:
        raise ImportInputError(f"{path}: is empty; {_ALLOWED}")
    if head.startswith(b"PK"):
        return _archive_kind(path)
    return _plain_kind(path, head)


def _archive_kind(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ImportInputError(f"{path}: is a damaged archive ({error}); was it copied whole?") from error
    # All that torch writes stands in one folder, whose name means nothing.
    inner = {name.partition("/")[2] or name for name in names} | set(names)
    if {"archive_format", "models/model.json"} & inner or "serialized_exported_program.json" in inner:
        return Kind.PROGRAM
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return Kind.TORCHSCRIPT
    if "data.pkl" in inner:
        return Kind.PICKLE
    raise ImportInputError(f"{path}: is a zip archive, but none that PyTorch writes; {_ALLOWED}")


def _plain_kind(path: Path, head: bytes) -> Kind:
    for start, reason in _FOREIGN:
        if head.startswith(start):
            raise ImportInputError(f"{path}: {reason}; {_ALLOWED}")
    if head[4:8] == b"TFL3":
        raise ImportInputError(f"{path}: is a TensorFlow Lite file: export it to ONNX with tf2onnx; {_ALLOWED}")
    if head[0] == 0x80:
        return Kind.PICKLE
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return Kind.SAFETENSORS
    if _is_text(head):
        raise ImportInputError(f"{path}: is a text file; {_ALLOWED}")
    # A protobuf of ONNX begins with a small field: the format's version, or the producer's name.
    if head[0] in {0x08, 0x12, 0x1A, 0x22, 0x3A, 0x42}:
        return Kind.ONNX
    raise ImportInputError(f"{path}: is no model that is known here; {_ALLOWED}")


def _is_text(head: bytes) -> bool:
    """Tell whether a file's beginning is text; the last character may be cut."""
    return re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", head) is None and b"\x7f" not in head
