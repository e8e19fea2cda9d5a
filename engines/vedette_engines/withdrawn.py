"""Versions that are published and no longer offered: ROOT/NAME/.withdrawn.json.

A withdrawn version is not taken for the newest; who names it still gets it, so that nothing that runs is pulled away.
The mark outlives the bundle, so that a number never comes back with another engine.

Any process may read at any time: the file is replaced whole. A file that somebody spoilt by hand is not guessed at.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vedette_engines import history
from vedette_engines.errors import BundleError, EngineNotFoundError
from vedette_engines.locking import locked
from vedette_engines.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

WITHDRAWN_NAME = ".withdrawn.json"


def withdrawn(root: Path, name: str) -> frozenset[str]:
    """Tell which versions of an engine are withdrawn.

    Raises:
        BundleError: The marks cannot be read.
    """
    return frozenset(withdrawal_reasons(root, name))


def withdrawal_reasons(root: Path, name: str) -> Mapping[str, str]:
    """Tell why each withdrawn version was.

    Raises:
        BundleError: The marks cannot be read.
    """
    path = root / name / WITHDRAWN_NAME
    try:
        marks = json.loads(path.read_text(encoding="utf-8"))["withdrawn"]
        return {version: str(reason) for version, reason in marks.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"{path}: cannot be read: {str(error)[:100]}; mend it, or remove it to offer all versions again"
        ) from error


def withdraw(root: Path, name: str, version: str, reason: str = "") -> None:
    """Withdraw a version; one that is withdrawn keeps its first reason.

    Raises:
        EngineNotFoundError: There is no such version here.
        BundleError: The marks cannot be read or written.
    """
    _existing(root, name, version)
    with locked(root / name):
        marks = dict(withdrawal_reasons(root, name))
        if version in marks:
            return
        _write(root / name, {**marks, version: reason})
    history.record(root, name, history.WITHDRAW, version, reason)


def restore(root: Path, name: str, version: str) -> None:
    """Offer a withdrawn version again; one that is offered stays as it is.

    Raises:
        EngineNotFoundError: There is no such version here.
        BundleError: The marks cannot be read or written.
    """
    _existing(root, name, version)
    with locked(root / name):
        marks = dict(withdrawal_reasons(root, name))
        if marks.pop(version, None) is None:
            return
        _write(root / name, marks)
    history.record(root, name, history.RESTORE, version)


def withdraw_many(root: Path, name: str, versions: tuple[str, ...], reason: str) -> None:
    """Withdraw several versions at once: a reader sees all of them withdrawn, or none.

    Raises:
        BundleError: The marks cannot be read or written.
    """
    with locked(root / name):
        _write(root / name, {**dict.fromkeys(versions, reason), **withdrawal_reasons(root, name)})


def _existing(root: Path, name: str, version: str) -> None:
    folder = root / name
    have = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST_NAME}"))
    if version not in have:
        raise EngineNotFoundError(
            f"engine {name!r} has no version {version!r} in {root}; there are: {', '.join(have) or 'none'}"
        )


def _write(folder: Path, marks: Mapping[str, str]) -> None:
    """Replace the marks; after a crash there are the old ones or the new ones."""
    path = folder / WITHDRAWN_NAME
    text = json.dumps({"withdrawn": dict(sorted(marks.items()))}, indent=1, ensure_ascii=False) + "\n"
    draft = ""
    try:
        descriptor, draft = tempfile.mkstemp(prefix=f"{WITHDRAWN_NAME}-", dir=folder)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
        sync_folder(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(draft).unlink(missing_ok=True)
        raise BundleError(f"{path}: cannot be written: {error}") from error


def sync_folder(path: Path) -> None:
    """Bring a folder's list of names to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
