"""Go back to an earlier version of an engine, by withdrawing what is newer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_engines import history
from vedette_engines.errors import EngineNotFoundError
from vedette_engines.repository import EngineRepository
from vedette_engines.withdrawn import withdraw_many, withdrawn

if TYPE_CHECKING:
    from pathlib import Path


def roll_back(root: Path, name: str, to: str = "") -> tuple[str, str]:
    """Withdraw the newest version that is offered, or all that are newer than the one named.

    Args:
        root: The engines' root.
        name: The engine.
        to: The version to go back to; empty: the one before.

    Returns:
        The version that was the newest, and the one that is now.

    Raises:
        EngineNotFoundError: There is nothing to go back to; says what there is.
        BundleError: The marks cannot be read or written.
    """
    marked = withdrawn(root, name)
    listed = EngineRepository([root]).list(name)
    if not listed:
        raise EngineNotFoundError(f"no engine is named {name!r} in {root}")
    offered = [entry.version for entry in listed if entry.version not in marked and entry.bundle is not None]
    target = to or (offered[1] if len(offered) > 1 else "")
    if not target:
        raise EngineNotFoundError(
            f"engine {name!r} has nothing to go back to: {_count(len(offered))} usable and not withdrawn"
            + (f" ({offered[0]})" if offered else "")
        )
    if target not in offered:
        raise EngineNotFoundError(f"engine {name!r} cannot go back to {target!r}: {_why(target, name, root)}")
    # A bad version that is newer than the target is withdrawn, too: mended, it would come back unasked.
    versions = [entry.version for entry in listed]
    newer = tuple(version for version in versions[: versions.index(target)] if version not in marked)
    if not newer:
        raise EngineNotFoundError(f"engine {name!r} is at {target!r} already")
    withdraw_many(root, name, newer, f"rolled back to {target}")
    for version in newer:
        history.record(root, name, history.ROLL_BACK, version, f"rolled back to {target}")
    return offered[0], target


def _count(number: int) -> str:
    return "one version is" if number == 1 else f"{number or 'no'} versions are"


def _why(version: str, name: str, root: Path) -> str:
    if version in withdrawn(root, name):
        return f"it is withdrawn; `vedette engine restore {name}@{version}` offers it again"
    listed = EngineRepository([root]).list(name)
    reason = next((f"it is bad: {entry.reason}" for entry in listed if entry.version == version), "")
    return reason or f"there is none; there are: {', '.join(entry.version for entry in listed)}"
