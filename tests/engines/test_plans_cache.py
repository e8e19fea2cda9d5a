from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from support_plans import plan_of
from vedette_engines.errors import BuildError
from vedette_engines.plans.cache import INFO_FILE, PLAN_FILE, PlanCache, plan_info
from vedette_engines.plans.plan import Plan

if TYPE_CHECKING:
    from pathlib import Path

KEY = "ab" * 32
PLAN = Plan(b"bytes of a plan", plan_of(key=KEY), 12.5, '{"Layers": []}', ("a note",))


def never(line: str) -> None:
    pytest.fail(line)


def test_a_plan_that_was_kept_is_found_as_it_was(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path / "plans")
    assert cache.get(KEY, never) is None
    cache.put(PLAN)
    assert PlanCache(tmp_path / "plans").get(KEY, never) == PLAN
    assert [path.name for path in (tmp_path / "plans").iterdir()] == [KEY]


def test_who_comes_second_leaves_the_first_ones_plan(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path)
    cache.put(PLAN)
    cache.put(replace(PLAN, content=b"the same wish, other bytes"))
    assert cache.get(KEY, never) == PLAN
    assert [path.name for path in tmp_path.iterdir()] == [KEY]


@pytest.mark.parametrize("harm", ["bytes", "hash", "json", "missing", "key", "extra"])
def test_a_broken_plan_is_thrown_away_and_said(harm: str, tmp_path: Path) -> None:
    cache = PlanCache(tmp_path)
    folder = cache.put(PLAN)
    told = json.loads((folder / INFO_FILE).read_text())
    if harm == "bytes":
        (folder / PLAN_FILE).write_bytes(b"bytes of a plam")
    elif harm == "missing":
        (folder / PLAN_FILE).unlink()
    elif harm == "json":
        (folder / INFO_FILE).write_text("{")
    else:
        told["info"] |= {"key": {"key": "cd" * 32}, "extra": {"more": 1}}.get(harm, {})
        told["sha256"] = "00" if harm == "hash" else told["sha256"]
        (folder / INFO_FILE).write_text(json.dumps(told))
    said: list[str] = []
    assert cache.get(KEY, said.append) is None
    (line,) = said
    assert line.startswith(f"the plan kept in {folder} is broken and thrown away: ")
    assert not folder.exists()
    cache.put(PLAN)
    assert cache.get(KEY, never) == PLAN


def test_a_folder_that_cannot_be_written_is_an_error_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BuildError, match="cannot be written"):
        PlanCache(tmp_path / "file").put(PLAN)


def test_a_plans_description_survives_json() -> None:
    info = plan_of(version_compatible=True, profiles=((1, 1, 1), (1, 8, 32)), targets=("sm_86", "sm_89"))
    from dataclasses import asdict  # noqa: PLC0415

    assert plan_info(json.loads(json.dumps(asdict(info)))) == info
