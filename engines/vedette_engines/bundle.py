"""A bundle: the folder ROOT/NAME/VERSION with `engine.toml` and the engine's files.

Loading trusts nothing: hashes, sizes, names and the shapes that each ONNX file declares are compared with what
the manifest says. Publishing is atomic: a reader sees the whole bundle or none.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette_engines import history
from vedette_engines.contract import check_onnx
from vedette_engines.errors import BundleError
from vedette_engines.manifest import MANIFEST_NAME, Attachment, Backend, EngineFile, Manifest, Precision
from vedette_engines.manifest_file import read_manifest, write_manifest
from vedette_engines.withdrawn import sync_folder, withdrawn

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHUNK_BYTES = 1 << 20
_MAX_MANIFEST_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Bundle:
    """One published engine whose files were checked.

    Attributes:
        path: The folder, absolute.
        manifest: What its `engine.toml` says.
    """

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The engine's name."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """The engine's version."""
        return self.manifest.version

    def file_for(self, backend: Backend, precision: Precision | None = None) -> EngineFile:
        """Choose the file for a backend; without a precision the most exact one.

        Raises:
            BundleError: The bundle has none; says which it has.
        """
        of_backend = [file for file in self.manifest.files if file.backend is backend]
        by_exactness = sorted(of_backend, key=lambda file: list(Precision).index(file.precision))
        for file in by_exactness:
            if precision is None or file.precision is precision:
                return file
        have = ", ".join(f"{file.backend}/{file.precision}" for file in self.manifest.files)
        wanted = f"{backend}/{precision}" if precision else backend
        raise BundleError(f"engine {self.name} {self.version} has no file for {wanted}; it has {have}")

    def path_of(self, file: EngineFile) -> Path:
        """Tell where one of its files is."""
        return self.path / file.path


def load_bundle(path: Path) -> Bundle:
    """Read a bundle and check all that it claims.

    Raises:
        BundleError: It is no usable engine; the message tells the folder and the reason.
    """
    path = path.absolute()
    try:
        manifest = read_manifest(_read_manifest_text(path))
        _check_folder(path, manifest)
        for file in manifest.files:
            _check_file(path / file.path, file)
            if file.path.endswith(".onnx"):
                check_onnx(path / file.path, file, manifest)
        for attachment in manifest.attachments:
            _check_file(path / attachment.path, attachment)
    except BundleError as error:
        raise type(error)(f"{path}: {error}") from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error}") from error
    return Bundle(path, manifest)


def _read_manifest_text(path: Path) -> str:
    file = path / MANIFEST_NAME
    if not file.is_file():
        raise BundleError(f"there is no {MANIFEST_NAME}")
    if file.stat().st_size > _MAX_MANIFEST_BYTES:
        raise BundleError(f"{MANIFEST_NAME} has {file.stat().st_size} bytes; allowed: {_MAX_MANIFEST_BYTES}")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{MANIFEST_NAME} is not UTF-8: {error}") from error


def _check_folder(path: Path, manifest: Manifest) -> None:
    if (path.parent.name, path.name) != (manifest.name, manifest.version):
        raise BundleError(
            f"{MANIFEST_NAME} says {manifest.name}/{manifest.version}, but the folder is {path.parent.name}/{path.name}"
        )


def _check_file(path: Path, file: EngineFile | Attachment) -> None:
    if not path.is_file():
        raise BundleError(f"{file.path} is missing")
    size = path.stat().st_size
    if size != file.size_bytes:
        raise BundleError(f"{file.path} has {size} bytes, but {MANIFEST_NAME} says {file.size_bytes}")
    digest = sha256_of(path)
    if digest != file.sha256:
        raise BundleError(f"{file.path} has the sha256 {digest}, but {MANIFEST_NAME} says {file.sha256}")


def sha256_of(path: Path) -> str:
    """Hash a file in pieces: 64 lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def write_bundle(
    root: Path, manifest: Manifest, contents: Mapping[str, Path | bytes], *, recorded: bool = True
) -> Bundle:
    """Publish an engine as ROOT/NAME/VERSION, whole or not at all.

    The bundle is written beside its place, checked as a reader would check it, and renamed. Hashes and sizes in
    the manifest are filled in here; what stood there is ignored.

    Args:
        root: The engines' root; made when it is missing.
        manifest: What to publish.
        contents: The bytes of every file and attachment of the manifest, or where to copy them from, by path.
        recorded: Tell the engine's history of it; a history that cannot be written fails nothing.

    Raises:
        BundleError: The version exists or was withdrawn, contents and manifest differ, the files do not obey the
            contract, or the place cannot be written.
    """
    named = {file.path for file in manifest.files} | {attachment.path for attachment in manifest.attachments}
    if sorted(contents) != sorted(named):
        raise BundleError(f"files are {sorted(contents)}, but the manifest has {sorted(named)}")
    target = root.absolute() / manifest.name / manifest.version
    try:
        _refuse_existing(target, manifest)
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".publish-", dir=root))
    except OSError as error:
        raise BundleError(f"{target}: cannot be written: {error}") from error
    try:
        draft = staging / manifest.name / manifest.version
        _write_draft(draft, manifest, contents)
        load_bundle(draft)
        _publish(draft, target, manifest)
    except OSError as error:
        raise BundleError(f"{target}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if recorded:
        history.record(root, manifest.name, history.PUBLISH, manifest.version)
    return load_bundle(target)


def _refuse_existing(target: Path, manifest: Manifest) -> None:
    if target.exists():
        raise BundleError(f"engine {manifest.name} {manifest.version} exists already in {target}; choose a new version")
    if manifest.version in withdrawn(target.parent.parent, manifest.name):
        raise BundleError(f"engine {manifest.name} {manifest.version} was withdrawn and removed; choose a new version")


def _write_draft(draft: Path, manifest: Manifest, contents: Mapping[str, Path | bytes]) -> None:
    draft.mkdir(parents=True)
    for name, content in contents.items():
        _write_file(draft / name, content)
    files = tuple(replace(file, **_measured(draft / file.path)) for file in manifest.files)
    attachments = tuple(replace(entry, **_measured(draft / entry.path)) for entry in manifest.attachments)
    text = write_manifest(replace(manifest, files=files, attachments=attachments))
    _write_file(draft / MANIFEST_NAME, text.encode())
    sync_folder(draft)


def _measured(place: Path) -> dict[str, Any]:
    return {"sha256": sha256_of(place), "size_bytes": place.stat().st_size}


def _write_file(place: Path, content: Path | bytes) -> None:
    with place.open("xb") as target:
        if isinstance(content, bytes):
            target.write(content)
        else:
            with content.open("rb") as source:
                shutil.copyfileobj(source, target, _CHUNK_BYTES)
        target.flush()
        os.fsync(target.fileno())


def _publish(draft: Path, target: Path, manifest: Manifest) -> None:
    """Rename the draft into its place; a writer who was faster keeps it."""
    try:
        draft.rename(target)
    except OSError:
        _refuse_existing(target, manifest)
        raise
    sync_folder(target.parent)
