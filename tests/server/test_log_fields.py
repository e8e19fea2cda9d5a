"""No log line's field overwrites what the line itself is made of."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from support_serving import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# structlog's own keys: a field of that name would replace the phrase, its level, its time or who says it.
TAKEN = {"event", "level", "timestamp", "logger"}


def keys_of(node: ast.AST) -> Iterator[str]:
    for found in ast.walk(node):
        if isinstance(found, ast.Dict):
            yield from (key.value for key in found.keys if isinstance(key, ast.Constant) and isinstance(key.value, str))
        elif isinstance(found, ast.Call) and isinstance(found.func, ast.Name) and found.func.id == "dict":
            yield from (keyword.arg for keyword in found.keywords if keyword.arg)


def overwritten(source: str) -> list[tuple[int, str]]:
    """Find keys that are given as `extra`, there or through a variable that is set in the same file."""
    tree = ast.parse(source)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    extras = [word.value for call in calls for word in call.keywords if word.arg == "extra"]
    named = {node.id for extra in extras for node in ast.walk(extra) if isinstance(node, ast.Name)}
    set_here = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    extras += [one.value for one in set_here if any(isinstance(to, ast.Name) and to.id in named for to in one.targets)]
    return [(extra.lineno, key) for extra in extras for key in keys_of(extra) if key in TAKEN]


def test_the_look_for_taken_keys_finds_them() -> None:
    source = "log.info('a', extra={'event': 1})\nfacts = {'x': 1, 'level': 2}\nlog.info('b', extra=facts | {'y': 3})\n"
    assert sorted(overwritten(source)) == [(1, "event"), (2, "level")]
    assert overwritten("log.info('a', extra={'event_name': 1})\nother = {'event': 1}\n") == []


def test_no_field_of_the_servers_log_lines_takes_a_key_of_the_line_itself() -> None:
    files: list[Path] = sorted((ROOT / "server").rglob("*.py"))
    assert len(files) > 100
    found = {str(file.relative_to(ROOT)): overwritten(file.read_text(encoding="utf-8")) for file in files}
    assert {file: keys for file, keys in found.items() if keys} == {}
