"""Make an ONNX file of whatever a trainer left.

The one door into this folder: an ONNX file is copied, all else goes through PyTorch's exporters.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from vedette_engines.errors import BuildError, ImportInputError, MissingRuntimeError
from vedette_engines.sources.kinds import Kind
from vedette_engines.sources.spec import check_spec, content_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vedette_engines.sources.spec import SourceSpec

EXPORTED_NAME = "source.onnx"
NO_EXPORTER = "none"
_EXTRA = "taking a model out of PyTorch needs: pip install 'vedette[export]'"


@dataclass(frozen=True, slots=True)
class Exported:
    """An ONNX file with raw outputs, and how it came about.

    Attributes:
        onnx: The file, weights included.
        sha256: Of the source, with its weights.
        kind: `onnx`, `pt2`, `torchscript` or `module`.
        exporter: `dynamo`, `torchscript`, or `none` for an ONNX file.
        opset: Version of the operator set it was written with.
        versions: Of the libraries that took part, by name.
        notes: What was assumed or changed.
    """

    onnx: Path
    sha256: str
    kind: str
    exporter: str
    opset: int
    versions: Mapping[str, str]
    notes: tuple[str, ...]


def export_source(spec: SourceSpec, folder: Path, say: Callable[[str], None]) -> Exported:
    """Write a source as `source.onnx`: batch dynamic where the model allows it, height and width fixed.

    Args:
        spec: What to take.
        folder: Where to write; made when it is missing.
        say: Takes a line for each thing that was assumed or found.

    Raises:
        ImportInputError: It is no source, needs something that only the user can tell, or cannot be exported.
        BuildError: The file cannot be written.
        MissingRuntimeError: PyTorch is not installed.
    """
    kind = check_spec(spec)
    target = folder / EXPORTED_NAME
    digest = content_digest(spec)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if kind is Kind.ONNX:
            return _copied(Path(spec.source), target, digest, say)
        return _from_torch(spec, target, digest, say)
    except OSError as error:
        raise BuildError(f"{target}: cannot be written: {error}") from error


def _copied(path: Path, target: Path, digest: str, say: Callable[[str], None]) -> Exported:
    from vedette_engines.graft.source import opset_of  # noqa: PLC0415  (needs onnx)
    from vedette_engines.sources.onnx_file import copy_whole  # noqa: PLC0415

    if target.exists() and target.samefile(path):
        raise ImportInputError(f"{path}: is where its own copy would be written; choose another folder")
    model = copy_whole(path, target)
    notes = []
    if model.producer_name:
        notes.append(f"written by {model.producer_name} {model.producer_version}".rstrip())
    for note in notes:
        say(note)
    versions = {"onnx": metadata.version("onnx")}
    return Exported(target, digest, str(Kind.ONNX), NO_EXPORTER, opset_of(model), versions, tuple(notes))


def _from_torch(spec: SourceSpec, target: Path, digest: str, say: Callable[[str], None]) -> Exported:
    need_torch()
    from vedette_engines.graft.source import opset_of  # noqa: PLC0415  (needs onnx)
    from vedette_engines.sources.exporting import export_model  # noqa: PLC0415  (needs torch)
    from vedette_engines.sources.onnx_file import read_bare  # noqa: PLC0415
    from vedette_engines.sources.torch_model import open_model  # noqa: PLC0415

    model = open_model(spec)
    for note in model.notes:
        say(note)
    known = len(model.notes)
    exporter = export_model(spec, model, target, say)
    for note in model.notes[known:]:
        say(note)
    opset = opset_of(read_bare(target))
    say(f"exported with {exporter}, opset {opset}")
    versions = {name: metadata.version(name) for name in ("torch", "onnxscript", "onnx")}
    return Exported(target, digest, model.kind, exporter, opset, versions, tuple(model.notes))


def need_torch() -> None:
    """Make sure that PyTorch and what exports with it are there.

    Raises:
        MissingRuntimeError: They are not; says what brings them.
    """
    try:
        import onnxscript  # noqa: F401, PLC0415  (an extra)
        import torch  # noqa: F401, PLC0415
    except ImportError as error:
        if error.name not in {"torch", "onnxscript"}:
            raise ImportInputError(f"PyTorch is installed, but cannot be imported: {error}") from error
        raise MissingRuntimeError(f"{error.name} is not installed; {_EXTRA}") from error
