"""What a build did and what came of it, for people (Markdown) and programs (JSON)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON_NAME = "report.json"
MARKDOWN_NAME = "report.md"
FILE_COLUMNS = ("file", "for", "precision", "size", "of FP32", "against FP32")


class Outcome(StrEnum):
    """What came of a stage, or of the whole build."""

    DONE = "done"  # of a build: published, or ready where publishing was not wanted
    REUSED = "reused"  # of a build: published before, with nothing changed since
    REFUSED = "refused"  # a gate was missed
    FAILED = "failed"  # it could not be done


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a build.

    Attributes:
        name: Which.
        outcome: What came of it.
        seconds: How long it took, when it was done.
        lines: What it told.
        figures: What it measured.
        reasons: Which gates were missed, or why it failed.
    """

    name: str
    outcome: Outcome
    seconds: float = 0.0
    lines: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """The report of one build.

    Attributes:
        engine: Name and version.
        started: When, ISO 8601.
        request: The options as they were given.
        versions: Of tools and libraries.
        machine: Processor, GPU, driver.
        stages: In order.
        outcome: What came of it all.
        reasons: Why it was refused or failed.
        notes: What a reader should know before believing in it.
        files: What was made, one row of cells each, with `FILE_COLUMNS`.
        published: Name and version of what was published; empty: nothing was.
    """

    engine: str
    started: str
    request: Mapping[str, object]
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    stages: list[Stage] = field(default_factory=list)
    outcome: Outcome = Outcome.FAILED
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    files: tuple[tuple[str, ...], ...] = ()
    published: str = ""

    def to_json(self) -> str:
        """Write it for programs."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n"

    def to_markdown(self) -> str:
        """Write it for people."""
        total = sum(stage.seconds for stage in self.stages if stage.outcome is not Outcome.REUSED)
        lines = [
            f"# Build of {self.engine}",
            "",
            f"**{self.outcome}**" + (f": published {self.published}" if self.published else ""),
            "",
            *(f"- {line}" for line in (*self.reasons, *self.notes)),
            *([""] if self.reasons or self.notes else []),
            *([*_table({"columns": FILE_COLUMNS, "rows": self.files}), ""] if self.files else []),
            f"Started {self.started}; {total:.1f} s of work.",
            "",
            "| stage | outcome | seconds |",
            "|---|---|---|",
            *(f"| {stage.name} | {stage.outcome} | {stage.seconds:.1f} |" for stage in self.stages),
        ]
        for stage in self.stages:
            lines += ["", f"## {stage.name}", ""]
            lines += [f"- **refused**: {reason}" for reason in stage.reasons]
            lines += [f"- {line}" for line in stage.lines] or ["- nothing to tell"]
            tables = stage.figures.get("tables", [])
            for table in tables:
                lines += ["", *_table(table)]
        lines += ["", "## Machine and versions", ""]
        lines += [f"- {name}: {value}" for name, value in {**self.machine, **self.versions}.items()]
        lines += ["", "## Options", ""]
        lines += [f"- `{name}`: {value}" for name, value in self.request.items()]
        return "\n".join(lines) + "\n"


def _table(table: Mapping[str, Any]) -> list[str]:
    """Write one table of a stage's figures: `columns`, and `rows` of as many cells."""
    rows = [[str(cell) for cell in row] for row in table["rows"]]
    head = [str(column) for column in table["columns"]]
    title = [f"{table['title']}:", ""] if table.get("title") else []
    return [*title, *(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])]
