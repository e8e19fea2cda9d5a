"""What a bench measured, as plain data."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_engines.benching.race import Ratio

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How far a candidate's answers agree with the FP32 engine's.

    Attributes:
        figures: By name, the most telling first: `map50`, `top1`, `cosine`.
        where: What it was measured on.
    """

    figures: Mapping[str, float]
    where: str


@dataclass(frozen=True, slots=True)
class Row:
    """One runner with one file and one batch size.

    Attributes:
        runner: What ran it: `ONNX Runtime CPU`.
        precision: Of the file: `fp32`.
        batch: Frames per run.
        p50_ms: Median time of a run.
        p99_ms: 99th percentile of the runs' times; of fewer than a hundred runs the longest.
        frames_per_s: Median over the rounds.
        speedup: Against the baseline at the same batch, over the rounds; None: there is no such baseline.
        runs: How many runs were timed.
        rounds: In how many rounds.
        memory_bytes: Growth of the resident memory of a process that loads it and runs up to this batch.
        failed: Why there are no figures; empty: there are.
    """

    runner: str
    precision: str
    batch: int
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    frames_per_s: float = 0.0
    speedup: Ratio | None = None
    runs: int = 0
    rounds: int = 0
    memory_bytes: int | None = None
    failed: str = ""

    @property
    def way(self) -> tuple[str, str]:
        """Runner and precision."""
        return self.runner, self.precision


@dataclass(frozen=True, slots=True)
class WayFacts:
    """What holds for a runner with a file, whatever the batch.

    Attributes:
        runner: What ran it.
        precision: Of the file.
        size_bytes: Of the file.
        backend: What really ran, as the runner says.
        load_s: How long loading took, here and now.
        accuracy: Against the FP32 engine; None: not measured.
        note: What else to know about it.
    """

    runner: str
    precision: str
    size_bytes: int
    backend: str = ""
    load_s: float = 0.0
    accuracy: Accuracy | None = None
    note: str = ""

    @property
    def way(self) -> tuple[str, str]:
        """Runner and precision."""
        return self.runner, self.precision


@dataclass(frozen=True, slots=True)
class BenchReport:
    """All that one bench measured.

    Attributes:
        engine: Name and version.
        task: What it does.
        input: Its input in words.
        when: ISO 8601.
        command: How it was called.
        threads: Threads of one run.
        seconds: Budget of the race.
        baseline: Runner and precision that speed is compared with.
        machine: Processor, cores, memory, system.
        versions: Of the runtimes.
        ways: Each runner with each file.
        rows: Each way with each batch.
        notes: How it was measured.
    """

    engine: str
    task: str
    input: str
    when: str
    command: str
    threads: int
    seconds: float
    baseline: tuple[str, str]
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    ways: tuple[WayFacts, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch sizes, rising."""
        return tuple(sorted({row.batch for row in self.rows}))

    def row(self, way: tuple[str, str], batch: int) -> Row | None:
        """Find a row that has figures."""
        return next((row for row in self.rows if (row.way, row.batch, row.failed) == (way, batch, "")), None)

    def to_json(self) -> str:
        """Write it for programs."""
        document = {"format": FORMAT, **asdict(self)}
        return json.dumps(_plain(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Turn what is not finite into null: JSON has no word for it."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
