"""The stage that measures what was built, on every runner that is here."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING, Any

from vedette_engines.benching.bench import BenchRequest, run_bench
from vedette_engines.benching.page import figures_of, page
from vedette_engines.benching.ways import preprocessing_of
from vedette_engines.building.making import NO_VERSION
from vedette_engines.bundle import write_bundle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vedette_engines.benching.report import BenchReport
    from vedette_engines.building.publishing import Package
    from vedette_engines.building.request import BenchWish
    from vedette_engines.building.step import Say, StepResult
    from vedette_engines.building.workbench import Workbench

JSON_NAME = "bench.json"
PAGE_NAME = "bench.html"
COLUMNS = ("runner", "precision", "batch", "frames/s", "factor", "p50 ms", "p99 ms")


def measure(bench: Workbench, package: Package, wish: BenchWish, *, torch: bool) -> StepResult:
    """Measure a package before it is published.

    Args:
        bench: Runs the stage.
        package: What was built.
        wish: How.
        torch: The source can run in PyTorch beside the engine.
    """

    def produce(folder: Path, say: Say) -> Mapping[str, Any]:
        draft = dataclasses.replace(package.manifest, version=NO_VERSION, attachments=())
        names = {file.path for file in draft.files}
        contents = {name: path for name, path in package.contents.items() if name in names}
        bundle = write_bundle(folder / "draft", draft, contents)
        report = run_bench(
            BenchRequest(
                bundle,
                batches=wish.batches,
                seconds=wish.seconds,
                source=bench.request.source if torch else None,
                preprocessing=preprocessing_of(draft) if torch else None,
                command="vedette engine build",
            ),
            say,
        )
        shutil.rmtree(folder / "draft")
        (folder / JSON_NAME).write_text(report.to_json(), encoding="utf-8")
        (folder / PAGE_NAME).write_text(page(report), encoding="utf-8")
        rows = _rows(report)
        for row in rows:
            say(", ".join(f"{name} {cell}" for name, cell in zip(COLUMNS, row, strict=True)))
        return {"tables": [{"title": "Measured", "columns": list(COLUMNS), "rows": rows}]}

    # Figures of another machine, which a folder that moves about may hold, are not this one's.
    inputs = {"package": package.key, "wish": wish, "torch": torch, "machine": dict(bench.report.machine)}
    return bench.stage("bench", inputs, produce)


def _rows(report: BenchReport) -> list[list[str]]:
    return [
        [row.runner, str(row.precision), str(row.batch), *figures_of(row)[:4]] for row in report.rows if not row.failed
    ]
