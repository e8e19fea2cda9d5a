"""How far an engine agrees with another one, or with the truth, as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vedette_engines.compare.figures import FIGURES, MAIN_FIGURE, text_of
from vedette_engines.errors import ImportInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_engines.compare.scoring import ClassScore
    from vedette_engines.manifest import Task

WORST_FRAMES = 5


@dataclass(frozen=True, slots=True)
class Agreement:
    """What came of one comparison.

    Attributes:
        task: What the engines do.
        against: What the engine was compared with, for messages: `the FP32 engine`.
        frames: How many frames were compared.
        figures: By the names of `figures.FIGURES`.
        classes: A detector's classes that there were to find or that were found.
        labels: Names of those classes, in the same order.
        worst_frames: Where the two are furthest apart: the frame, and in what.
        inconclusive: Why nothing follows from the figures; empty: something does.
        notes: What else a reader should know.
    """

    task: Task
    against: str
    frames: int
    figures: Mapping[str, float] = field(default_factory=dict)
    classes: tuple[ClassScore, ...] = ()
    labels: tuple[str, ...] = ()
    worst_frames: tuple[tuple[str, str], ...] = ()
    inconclusive: str = ""
    notes: tuple[str, ...] = ()

    @property
    def loss(self) -> float:
        """What is lost of the task's main figure, 0..1: of mAP50, of top-1, of the mean cosine.

        Raises:
            ImportInputError: The comparison is inconclusive.
        """
        if self.inconclusive:
            raise ImportInputError(self.inconclusive)
        return 1.0 - self.figures[MAIN_FIGURE[self.task]]

    def to_json(self) -> dict[str, Any]:
        """Give it as plain data; a figure that is not finite becomes None."""
        return {
            "task": self.task.value,
            "against": self.against,
            "frames": self.frames,
            "figures": {name: _finite(value) for name, value in self.figures.items()},
            "classes": [
                {
                    "label": label,
                    "wanted": one.wanted,
                    "map50": one.map50,
                    "map50_95": one.map50_95,
                    "hits": one.hits,
                    "false": one.false,
                }
                for label, one in zip(self.labels, self.classes, strict=True)
            ],
            "worst_frames": [{"frame": frame, "why": why} for frame, why in self.worst_frames],
            "inconclusive": self.inconclusive,
            "notes": list(self.notes),
        }

    def lines(self) -> tuple[str, ...]:
        """Tell it in words, a few lines."""
        if self.inconclusive:
            return (f"against {self.against} on {self.frames} frames: inconclusive: {self.inconclusive}", *self.notes)
        parts = [f"{FIGURES[name].words} {text_of(value)}" for name, value in self.figures.items()]
        worst = [f"worst frames: {'; '.join(f'{frame}: {why}' for frame, why in self.worst_frames)}"]
        return (
            f"against {self.against} on {self.frames} frames: {', '.join(parts)}",
            *self.notes,
            *(worst if self.worst_frames else []),
        )

    def tables(self, bounds: Mapping[str, str]) -> list[dict[str, Any]]:
        """Give the figures, and a detector's classes, as tables: `title`, `columns`, `rows` of text.

        Args:
            bounds: What the figures had to be, by their names.
        """
        tables = [
            {
                "title": f"Against {self.against}, {self.frames} frames",
                "columns": ["figure", "value", "wanted"],
                "rows": [
                    [FIGURES[name].words, text_of(value), bounds.get(name, "")] for name, value in self.figures.items()
                ],
            }
        ]
        rows = [
            [label, str(one.wanted), _cell(one.map50), _cell(one.map50_95), str(one.hits), str(one.false)]
            for label, one in zip(self.labels, self.classes, strict=True)
            if one.wanted or one.hits or one.false
        ]
        if rows:
            columns = ["class", "to find", "mAP50", "mAP50-95", "found", "false"]
            tables.append({"title": "By class", "columns": columns, "rows": rows})
        return tables


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
