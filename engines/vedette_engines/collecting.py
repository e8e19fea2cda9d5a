"""Clear a root of engines: old versions, and what writers that died left behind.

What is removed is first renamed out of sight, so that no reader finds half of it. A version that somebody has loaded
goes on running: its files are gone only when they are closed.
"""

from __future__ import annotations

import shutil
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vedette_engines import history
from vedette_engines.errors import BundleError, ImportInputError
from vedette_engines.locking import locked
from vedette_engines.manifest import NAME_PATTERN
from vedette_engines.repository import EngineRepository
from vedette_engines.withdrawn import WITHDRAWN_NAME

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from vedette_engines.repository import Listed

TRASH_PREFIX = ".gc-"
DRAFT_PREFIX = ".publish-"
# A writer that has touched nothing for so long is dead.
DRAFT_AGE_S = 3600.0
_DRAFTS = {DRAFT_PREFIX: "a publication that was not finished", TRASH_PREFIX: "a removal that was not finished"}


@dataclass(frozen=True, slots=True)
class Removed:
    """One thing that was, or would be, removed.

    Attributes:
        path: Where it was.
        reason: Why.
        size_bytes: What that gives back.
    """

    path: Path
    reason: str
    size_bytes: int


def collect_garbage(
    root: Path,
    keep: int = 3,
    *,
    dry_run: bool = False,
    bad: bool = False,
    withdrawn: bool = False,
    needed: Collection[tuple[str, str]] = (),
    now_s: float | None = None,
) -> tuple[Removed, ...]:
    """Remove drafts that were left behind and all but the newest versions of each engine.

    Args:
        root: The engines' root.
        keep: How many versions of each engine stay, counted among those that are good and not withdrawn.
        dry_run: Remove nothing, only tell.
        bad: Remove bad bundles, too.
        withdrawn: Remove withdrawn versions, too; their marks stay, so that their numbers are not used again.
        needed: Names and versions that stay whatever else holds.
        now_s: Time since the epoch, for the drafts' age; None: now.

    Returns:
        What was removed, in the order of the engines' names.

    Raises:
        ImportInputError: `keep` is below 1.
        BundleError: Something cannot be removed.
    """
    if keep < 1:
        raise ImportInputError(f"--keep is {keep}; allowed is 1 and more")
    found = list(_left_behind(root, time.time() if now_s is None else now_s))
    versions = [
        (name, entry, reason)
        for name in _names(root)
        for entry, reason in _superfluous(EngineRepository([root]).list(name), keep, bad=bad, withdrawn=withdrawn)
        if (name, entry.version) not in needed and not entry.path.is_symlink()
    ]
    removed = [Removed(path, reason, _size(path)) for path, reason in found]
    removed += [Removed(entry.path, reason, _size(entry.path)) for _, entry, reason in versions]
    if not dry_run:
        for path, _ in found:
            _delete(path)
        for name, entry, reason in versions:
            _remove(root, name, entry, reason)
    return tuple(removed)


def _superfluous(listed: Collection[Listed], keep: int, *, bad: bool, withdrawn: bool) -> Iterator[tuple[Listed, str]]:
    """Choose among one engine's versions, which come the newest first."""
    kept = 0
    for entry in listed:
        if entry.bundle is None:
            if bad:
                yield entry, f"bad: {entry.reason}"
        elif entry.withdrawn:
            if withdrawn:
                yield entry, "withdrawn"
        elif kept < keep:
            kept += 1
        else:
            yield entry, f"older than the newest {keep}"


def _left_behind(root: Path, now_s: float) -> Iterator[tuple[Path, str]]:
    """Find what dead writers left: that which nobody has touched for long."""
    found = [(path, reason) for prefix, reason in _DRAFTS.items() for path in sorted(root.glob(f"{prefix}*"))]
    for name in _names(root):
        found += [(path, "a mark that was not finished") for path in sorted((root / name).glob(f"{WITHDRAWN_NAME}-*"))]
    yield from (entry for entry in found if now_s - _touched(entry[0]) > DRAFT_AGE_S)


def _names(root: Path) -> list[str]:
    return [path.name for path in sorted(root.glob("*")) if path.is_dir() and NAME_PATTERN.fullmatch(path.name)]


def _touched(path: Path) -> float:
    """Tell when anything in a folder was written last; what vanishes meanwhile belongs to a living writer."""
    try:
        return max(part.lstat().st_mtime for part in (path, *path.rglob("*")))
    except OSError:
        return float("inf")


def _size(path: Path) -> int:
    """Add up the files in a folder; one that another collector is removing counts for nothing."""
    try:
        states = [part.lstat() for part in (path, *path.rglob("*"))]
    except OSError:
        return 0
    return sum(state.st_size for state in states if stat.S_ISREG(state.st_mode))


def _remove(root: Path, name: str, entry: Listed, reason: str) -> None:
    """Take a version out of sight in one step, then delete it."""
    with locked(root / name):
        if not entry.path.exists():
            return  # another collector was faster
        try:
            trash = Path(tempfile.mkdtemp(prefix=TRASH_PREFIX, dir=root))
            entry.path.rename(trash / entry.version)
        except OSError as error:
            raise BundleError(f"{entry.path}: cannot be removed: {error}") from error
    history.record(root, name, history.REMOVE, entry.version, reason)
    _delete(trash)


def _delete(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise BundleError(f"{path}: cannot be removed: {error}") from error
