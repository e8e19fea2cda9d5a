"""The documentation does what it says: commands run, tables are those of the code, links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from support_docs import MARKS, PAGES, ROOT, blocks, run_page

if TYPE_CHECKING:
    from pathlib import Path

RUNNABLE = [page for page in PAGES if any(block.mark.endswith("run") for block in blocks(page))]


def names(pages: list[Path]) -> list[str]:
    return [page.name for page in pages]


def test_the_pages_that_are_promised_are_there() -> None:
    pages = {"README.md", "architecture.md", "protocol.md", "operating.md", "writing-a-client.md"}
    assert pages | {"bringing-an-engine.md", "building-an-engine.md"} <= set(names(PAGES))


@pytest.mark.pages
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", RUNNABLE, ids=names(RUNNABLE))
def test_every_command_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    outputs = run_page(page, tmp_path)
    assert outputs


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_no_block_escapes_being_run_without_saying_why(page: Path) -> None:
    assert {block.mark for block in blocks(page)} <= MARKS


def test_a_page_whose_command_fails_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh run\nfalse | cat\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="ended with 1"):
        run_page(page, tmp_path)


def test_a_page_whose_server_does_not_start_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh serve\nvedette serve --no-such-flag\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="no-such-flag"):
        run_page(page, tmp_path)


def test_make_has_every_target_that_is_named() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE))
    assert {"demo", "test"} <= named
    assert named <= targets


def test_every_extra_that_is_named_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for page in PAGES:
        for named in re.findall(r"'\.\[([a-z,]+)\]'", page.read_text(encoding="utf-8")):
            assert set(named.split(",")) <= extras.keys(), page.name


def test_every_docker_target_that_is_named_exists() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {target for page in PAGES for target in re.findall(r"--target (\S+)", page.read_text(encoding="utf-8"))}
    assert named == {"cpu", "gpu"}
    assert named <= stages


def test_the_tables_say_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/tables.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(str(ROOT / folder) for folder in ("proto", "server", "engines", "client"))},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_table_that_lags_behind_the_code_is_noticed() -> None:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    text = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
    assert tables.renewed(text.replace("| `STALE` |", "| `OLD` |")) == text
    assert ("CHANNEL_TAKEN", "ALREADY_EXISTS") in {
        (reason, tables.canonical_code(kind("", "")).name) for kind, reason in tables.refusals()
    }
    assert not [reason for _, reason in tables.refusals() if re.search(r"\d", reason)]


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith(("http://", "https://"))]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_file_and_folder_that_the_architecture_names_exists() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    roots = (ROOT, ROOT / "server/vedette_server", ROOT / "engines/vedette_engines")
    named = re.findall(r"`([a-z_]+(?:/[a-z_0-9]+)*(?:/|\.py))`", text)
    assert len(named) > 20
    assert [name for name in named if not any((root / name).exists() for root in roots)] == []
