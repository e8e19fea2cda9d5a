"""Tell in what two bundles differ: in words, and as data.

Compared are the descriptions, and the figures of the reports that are attached; the models themselves only by hash
and size.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from vedette_engines.cli_page import readable_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vedette_engines.bundle import Bundle
    from vedette_engines.manifest import EngineFile, Manifest

_REPORT = "report.json"
_SHOWN = 5
_MAX_REPORT_BYTES = 1 << 24
# Of a report's stages these are no figures of the engine: they differ from run to run.
_PASSING = ("seconds", "started", "line", "key")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which two bundles differ.

    Attributes:
        topic: Where: `input`, `output`, `labels`, `file`, `plan`, `defaults`, `bench`, `provenance`, `attachment`,
            `figure`, or `engine`.
        what: What of it: a key, a path, a label.
        before: Its value in the first; empty: it is not there.
        after: Its value in the second; empty: it is not there.
    """

    topic: str
    what: str
    before: str
    after: str

    def __str__(self) -> str:
        name = f"{self.topic} {self.what}".rstrip()
        if not self.before:
            return f"{name}: added, {self.after}"
        if not self.after:
            return f"{name}: removed, was {self.before}"
        return f"{name}: {self.before} -> {self.after}"


def diff_bundles(one: Bundle, other: Bundle) -> list[Difference]:
    """Compare two bundles, the earlier first; no difference is an empty list."""
    a, b = one.manifest, other.manifest
    return [
        *_values("engine", _basics(a), _basics(b)),
        *_values("input", _flat(a.input), _flat(b.input)),
        *_values("output", _flat(a.output), _flat(b.output)),
        *_labels(a.labels, b.labels),
        *_values("defaults", _flat(a.defaults), _flat(b.defaults)),
        *_files(a, b),
        *_values("bench", _flat(a.bench), _flat(b.bench)),
        *_attachments(a, b),
        *_values("figure", _figures(one), _figures(other)),
        *_values("provenance", a.provenance, b.provenance),
    ]


def _basics(manifest: Manifest) -> dict[str, str]:
    return {
        "name": manifest.name,
        "version": manifest.version,
        "task": str(manifest.task),
        "contract version": str(manifest.contract_version),
    }


def _flat(value: Any) -> dict[str, str]:
    """Write a record's fields; of one that is not there none."""
    if not is_dataclass(value):
        return {}
    return {entry.name: _written(getattr(value, entry.name)) for entry in fields(value)}


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return ", ".join(":".join(map(str, part)) if isinstance(part, tuple) else str(part) for part in value) or "none"
    return "none" if value is None or value == "" else str(value)


def _values(topic: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Difference]:
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key, ""), after.get(key, "")
        if old != new:
            yield Difference(topic, key, old, new)


def _labels(before: Sequence[str], after: Sequence[str]) -> Iterator[Difference]:
    """Tell of labels by name: one that moved has another class number, which matters as much as one that is new."""
    old = {label: str(number) for number, label in enumerate(before)}
    new = {label: str(number) for number, label in enumerate(after)}
    changes = [Difference("label", repr(change.what), *_classes(change)) for change in _values("", old, new)]
    yield from changes[:_SHOWN]
    if len(changes) > _SHOWN:
        yield Difference("labels", f"and {len(changes) - _SHOWN} more", f"{len(before)} in all", f"{len(after)} in all")


def _classes(change: Difference) -> tuple[str, str]:
    return tuple(f"class {number}" if number else "" for number in (change.before, change.after))  # type: ignore[return-value]


def _files(before: Manifest, after: Manifest) -> Iterator[Difference]:
    """Compare files that are for the same use: backend, precision and, of plans, targets."""
    old = {_use(file): file for file in before.files}
    new = {_use(file): file for file in after.files}
    for use in dict.fromkeys((*old, *new)):
        a, b = old.get(use), new.get(use)
        if a is None or b is None:
            yield Difference("file", use, _told(a), _told(b))
            continue
        yield from _values(f"file {use}", _facts(a), _facts(b))
        yield from _values(f"plan {use}", _flat(a.plan), _flat(b.plan))


def _use(file: EngineFile) -> str:
    targets = f" for {'+'.join(file.plan.targets)}" if file.plan else ""
    return f"{file.backend}/{file.precision}{targets}"


def _told(file: EngineFile | None) -> str:
    return f"{file.path}, {readable_bytes(file.size_bytes)}" if file else ""


def _facts(file: EngineFile) -> dict[str, str]:
    return {
        "path": file.path,
        "size": f"{file.size_bytes} bytes",
        "sha256": file.sha256,
        "batch": "dynamic" if file.batch is None else str(file.batch),
        "largest batch": _written(file.max_batch),
    }


def _attachments(before: Manifest, after: Manifest) -> Iterator[Difference]:
    """Tell which are new or gone; that a report of the same name differs goes without saying."""
    old = {entry.path: readable_bytes(entry.size_bytes) for entry in before.attachments}
    new = {entry.path: readable_bytes(entry.size_bytes) for entry in after.attachments}
    for path in dict.fromkeys((*old, *new)):
        if path not in old or path not in new:
            yield Difference("attachment", path, old.get(path, ""), new.get(path, ""))


def _figures(bundle: Bundle) -> dict[str, str]:
    """Read what a bundle's report measured: numbers by the way to them; of a report of another form none."""
    path = bundle.path / _REPORT
    if _REPORT not in {entry.path for entry in bundle.manifest.attachments} or not path.is_file():
        return {}
    if path.stat().st_size > _MAX_REPORT_BYTES:
        return {}
    try:
        stages = json.loads(path.read_text(encoding="utf-8"))["stages"]
        return {
            f"{stage['name']}: {way}": value
            for stage in stages
            for way, value in _numbers(stage.get("figures", {}), ())
            if not any(part in _PASSING for part in way.split("."))
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _numbers(value: Any, way: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, bool | int | float):
        yield ".".join(way), _written(value)
    elif isinstance(value, dict) and {"columns", "rows"} <= value.keys():
        yield from _cells(value, way)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _numbers(part, (*way, str(key)))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            key = str(part.get("name", number)) if isinstance(part, dict) else str(number)
            yield from _numbers(part, (*way, key))


def _cells(table: Mapping[str, Any], way: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Read a report's table: rows are named by their first cell."""
    title = str(table.get("title") or ".".join(way))
    for row in table["rows"]:
        for column, cell in zip(table["columns"][1:], row[1:], strict=False):
            yield f"{title}, {row[0]}, {column}", _written(cell)
