"""Plans that were built before, found by their key: the same key needs no second build.

A plan is a folder ROOT/KEY with `model.plan` and `plan.json`. It appears whole or not at all; one whose bytes changed
since is thrown away and built again. Several processes may use one cache: who comes second keeps the first one's plan.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette_engines.errors import BuildError
from vedette_engines.manifest import PlanInfo
from vedette_engines.plans.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PLAN_FILE = "model.plan"
INFO_FILE = "plan.json"


class PlanCache:
    """A folder of plans.

    Args:
        root: The folder; made when the first plan is kept.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, key: str, say: Callable[[str], None]) -> Plan | None:
        """Find a plan; None: there is none, or it was broken and is thrown away, which is said."""
        folder = self._root / key
        if not folder.exists():
            return None
        try:
            return _read(folder, key)
        except (OSError, ValueError, KeyError, TypeError) as error:
            say(f"the plan kept in {folder} is broken and thrown away: {error}")
            shutil.rmtree(folder, ignore_errors=True)
            return None

    def put(self, plan: Plan) -> Path:
        """Keep a plan under its key, and tell where.

        Raises:
            BuildError: It cannot be written.
        """
        folder = self._root / plan.info.key
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self._root))
        except OSError as error:
            raise BuildError(f"{self._root}: cannot be written: {error}") from error
        try:
            _write(draft, plan)
            draft.rename(folder)
        except OSError as error:
            if not (folder / INFO_FILE).exists():
                raise BuildError(f"{folder}: cannot be written: {error}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return folder


def _write(draft: Path, plan: Plan) -> None:
    (draft / PLAN_FILE).write_bytes(plan.content)
    told = {
        "sha256": hashlib.sha256(plan.content).hexdigest(),
        "info": asdict(plan.info),
        "seconds": plan.seconds,
        "layers": plan.layers,
        "notes": plan.notes,
    }
    (draft / INFO_FILE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _read(folder: Path, key: str) -> Plan:
    told = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
    content = (folder / PLAN_FILE).read_bytes()
    if hashlib.sha256(content).hexdigest() != told["sha256"]:
        raise ValueError(f"the sha256 of {PLAN_FILE} is not the one that was written down")
    info = plan_info(told["info"])
    if info.key != key:
        raise ValueError(f"it is the plan of {info.key}")
    return Plan(content, info, float(told["seconds"]), told["layers"], tuple(told["notes"]))


def plan_info(words: Mapping[str, Any]) -> PlanInfo:
    """Make it of what `asdict` and JSON have made of it.

    Raises:
        KeyError: A part is missing.
        TypeError: A part is too much, or of another type.
    """
    targets, profiles = tuple(words["targets"]), tuple(tuple(profile) for profile in words["profiles"])
    return PlanInfo(**{**words, "targets": targets, "profiles": profiles})
