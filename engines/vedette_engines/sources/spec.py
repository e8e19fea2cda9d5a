"""What model to take, as plain data, and a hash over everything that decides what comes out.

Imports neither torch nor onnx: a recipe is read, and a cache asked, without either.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vedette_engines.bundle import sha256_of
from vedette_engines.errors import ImportInputError
from vedette_engines.sources.kinds import Kind, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

# What torch's current exporter is written in: a later one goes through a converter, an earlier one is not kept.
# ONNX Runtime, OpenVINO and TensorRT 10, 11 and RTX take it; the quantiser raises it where it needs a later one.
DEFAULT_OPSET = 18
# The last that both of torch's exporters write.
LATEST_OPSET = 20

FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_EXPORTING = ("torch", "onnxscript", "onnx")

Exporter = Literal["auto", "dynamo", "torchscript"]


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A model as its trainer left it.

    Attributes:
        source: An ONNX file, a `torch.export` program (.pt2), a TorchScript file, or `module:factory`.
        weights: State dict for `module:factory`, in PyTorch's or the safetensors format; None: as the factory made it.
        trust: Allow what runs code while it is unpickled.
        input_size: Width and height; needed where the source does not tell.
        opset: ONNX operator set to export with, 18 to 20; an ONNX file keeps its own.
        exporter: `auto` takes torch's current exporter and falls back to the TorchScript one.
        search_path: Folder in which `module` is looked for first; None: the current one.
    """

    source: str
    weights: Path | None = None
    trust: bool = False
    input_size: tuple[int, int] | None = None
    opset: int = DEFAULT_OPSET
    exporter: Exporter = "auto"
    search_path: Path | None = None

    @property
    def is_factory(self) -> bool:
        """Whether the source is `module:factory` and no file of that name exists."""
        return FACTORY.fullmatch(self.source) is not None and not Path(self.source).exists()

    @property
    def root(self) -> Path:
        """The folder in which the module is looked for."""
        return (self.search_path or Path()).absolute()


def check_spec(spec: SourceSpec) -> Kind | None:
    """Check what needs no library: that the parts fit each other; tell the file's kind, None for a factory.

    Raises:
        ImportInputError: They do not, or the file is no model.
    """
    if not DEFAULT_OPSET <= spec.opset <= LATEST_OPSET:
        raise ImportInputError(f"--opset is {spec.opset}; allowed is {DEFAULT_OPSET} to {LATEST_OPSET}")
    if spec.input_size is not None and min(spec.input_size) < 1:
        raise ImportInputError(f"--input-size is {spec.input_size}; allowed are a width and a height above 0")
    if ".py:" in spec.source and not Path(spec.source).exists():
        path, _, name = spec.source.rpartition(":")
        raise ImportInputError(
            f"{spec.source}: give the module, not its file: {Path(path).stem}:{name} with --search-path "
            f"{Path(path).parent}"
        )
    if spec.is_factory:
        if spec.weights is not None:
            _readable(spec.weights, "--weights")
        return None
    if spec.weights is not None:
        raise ImportInputError(f"--weights goes with module:factory only; {spec.source} brings its own")
    return kind_of(Path(spec.source))


def _readable(path: Path, what: str) -> None:
    if not path.is_file():
        raise ImportInputError(f"{what} {path}: {'is a folder' if path.is_dir() else 'there is no such file'}")


def content_digest(spec: SourceSpec) -> str:
    """Hash what the source consists of: 64 hexadecimal digits; of a lone file the file's own SHA-256.

    Of a factory it covers the module's file, those of the modules next to it that it imports, and the weights.

    Raises:
        ImportInputError: There is nothing of that name.
    """
    kind = check_spec(spec)
    if kind is None:
        files = {**_module_files(spec)}
        if spec.weights is not None:
            files["--weights"] = spec.weights
    else:
        files = dict(_model_files(Path(spec.source), kind))
    if len(files) == 1:
        return sha256_of(next(iter(files.values())))
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"{name}\0{sha256_of(path)}\0".encode())
    return digest.hexdigest()


def source_digest(spec: SourceSpec) -> str:
    """Hash everything that decides the export: contents, options and the versions of what exports.

    Raises:
        ImportInputError: There is nothing of that name.
    """
    content = content_digest(spec)
    options: dict[str, object] = {"content": content, "source": "" if not spec.is_factory else spec.source}
    if spec.is_factory or kind_of(Path(spec.source)) is not Kind.ONNX:
        options |= {"input_size": spec.input_size, "opset": spec.opset, "exporter": spec.exporter}
        options |= {name: _version(name) for name in _EXPORTING}
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _model_files(path: Path, kind: Kind) -> Iterator[tuple[str, Path]]:
    """Name a model's files: itself, and the external data of an ONNX file."""
    yield path.name, path
    if kind is Kind.ONNX:
        from vedette_engines.sources.onnx_file import external_files  # noqa: PLC0415  (needs onnx)

        yield from ((name, path.parent / name) for name in external_files(path))


def _module_files(spec: SourceSpec) -> dict[str, Path]:
    """Find the module's file and those beside it that it imports, without running any of them."""
    module = spec.source.partition(":")[0]
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file_of(spec.root, name)
        if path is None or name in found:
            continue
        found[name] = path
        waiting.extend(_imports(path, name))
    if module not in found:
        installed = _installed_file(module)
        if installed is None:
            raise ImportInputError(f"{spec.source}: there is no module {module} in {spec.root}, nor is it installed")
        found[module] = installed
    return found


def _file_of(root: Path, module: str) -> Path | None:
    place = root.joinpath(*module.split("."))
    return next((path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()), None)


def _installed_file(module: str) -> Path | None:
    """Find an installed module's file; of a package that is not imported yet its parents are."""
    from importlib.util import find_spec  # noqa: PLC0415  (a submodule that others patch)

    try:
        found = find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(found.origin) if found is not None and found.origin and Path(found.origin).is_file() else None


def _imports(path: Path, module: str) -> Iterator[str]:
    """Name the modules that a file imports, and the packages they are in, as far as its text tells."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: count + 1]) for count in range(len(parts)))
