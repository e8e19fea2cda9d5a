"""Run the stages of a build in order, write the report, and publish what passed its gates."""

from __future__ import annotations

import contextlib
import datetime
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vedette_engines.building import lowering, making, measuring, planning, publishing
from vedette_engines.building.checking import check_request
from vedette_engines.building.lowering import Candidate
from vedette_engines.building.report import JSON_NAME, MARKDOWN_NAME, Outcome, Report
from vedette_engines.building.truth import check_truth
from vedette_engines.building.versions import library_versions, machine
from vedette_engines.building.workbench import MissedGateError, Workbench
from vedette_engines.errors import BuildError, EnginesError, ImportInputError, ImportRefusedError
from vedette_engines.footage.clips import Split, clips_digest, split_clips
from vedette_engines.manifest import Backend, Precision, Task
from vedette_engines.withdrawn import withdrawn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_engines.building.publishing import Package
    from vedette_engines.building.request import BuildRequest
    from vedette_engines.building.step import Say, StepResult
    from vedette_engines.graft.head import Head

ON_FROM_HERE = "interrupted; the same command goes on from here"


class Builder:
    """Carries out one build.

    Args:
        request: What is to be made.
        say: Takes one line for each thing that was assumed or found.
        heads: The heads to choose from; None: all that are installed.

    Raises:
        ImportInputError: The request is wrong in itself.
    """

    def __init__(self, request: BuildRequest, say: Say, heads: Mapping[str, Head] | None = None) -> None:
        check_request(request, heads)
        self._request = request
        self._say = say
        self._heads = heads
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        version = "" if request.engine.version == publishing.NEXT else f" {request.engine.version}"
        self._report = Report(f"{request.engine.name}{version}", started, request.words, library_versions(), machine())
        self._bench = Workbench(request, self._report, say)

    @property
    def report_folder(self) -> Path:
        """Where the report is written."""
        return self._request.report or self._request.work / "reports" / self._request.engine.name

    def run(self) -> Report:
        """Build; the report is written whatever comes of it.

        Returns:
            What was done; its outcome is DONE, REUSED or REFUSED.

        Raises:
            ImportInputError: It cannot be done as it was asked for.
            EnginesError: Something stood in the way.
        """
        report = self._report
        try:
            self._run()
        except ImportRefusedError as error:
            report.outcome = Outcome.REFUSED
            report.reasons = error.reasons if isinstance(error, MissedGateError) else (str(error),)
        except BaseException as error:
            report.outcome = Outcome.FAILED  # what goes into the bundle says done before it is
            report.reasons = (_why(error),)
            # What went wrong first is what is to be told.
            with contextlib.suppress(BuildError):
                self._write()
            raise
        self._write()
        return report

    def _run(self) -> None:
        request = self._request
        split = self._split()
        exported = making.export(self._bench)
        made = making.make(self._bench, exported, (*split.validation, *split.calibration), self._heads)
        manifest = making.manifest_of(made)
        base = manifest.files[0].precision
        if request.truth.given:
            check_truth(self._bench, made, manifest, split.validation)
        elif manifest.task is not Task.EMBEDDER:
            self._note(
                "nobody but the model itself has said what is in the frames: a wrong --order, --scale or --head would "
                "not show; --truth or --reference would"
            )
        candidates = [Candidate(str(base), base, Backend.ONNXRUNTIME, made.folder / making.ENGINE_FILE, made.key, {})]
        if request.lowering.precisions and base is not Precision.FP32:
            raise ImportInputError(f"the source is {base} already; a lower precision is made of an FP32 source")
        candidates += lowering.lower(self._bench, made, manifest, split)
        plans = planning.plan(self._bench, candidates, request.plans) if request.plans else []
        candidates = [
            planning.optimised(self._bench, candidate) if candidate.backend is Backend.ONNXRUNTIME else candidate
            for candidate in candidates
        ]
        package = publishing.package(manifest, candidates, plans, self._provenance(exported, split))
        self._report.files = publishing.rows(candidates, plans)
        if request.bench:
            torch = exported.figures["kind"] != "onnx"
            measured = measuring.measure(self._bench, package, request.bench, torch=torch)
            package = publishing.with_bench(package, measured.folder / measuring.PAGE_NAME)
        self._publish(package)
        self._bench.tidy()

    def _split(self) -> Split:
        footage = self._request.footage
        if not footage.given:
            return Split((), ())
        return split_clips(footage.calibration, footage.validation, footage.frames, self._say)

    def _note(self, note: str) -> None:
        self._report.notes += (note,)
        self._say(note)

    def _publish(self, package: Package) -> None:
        request, report = self._request, self._report
        if not request.publish:
            report.outcome = Outcome.DONE
            return
        before = publishing.published_before(request, package)
        if before is not None:
            report.outcome = Outcome.REUSED
            report.published = f"{before.name} {before.version}"
            if before.version in withdrawn(request.engine.root, before.name):
                self._say(f"{report.published} was withdrawn; vedette engine restore brings it back")
            return
        report.outcome = Outcome.DONE
        contents = {JSON_NAME: report.to_json().encode(), MARKDOWN_NAME: report.to_markdown().encode()}
        bundle = publishing.publish(request, package, contents)
        report.engine = report.published = f"{bundle.name} {bundle.version}"
        self._say(f"published {bundle.name} {bundle.version} in {bundle.path}")

    def _provenance(self, exported: StepResult, split: Split) -> dict[str, str]:
        figures = exported.figures
        facts = {
            "source": Path(self._request.source.source).name,
            "source_kind": figures["kind"],
            "source_sha256": figures["source_sha256"],
            "exporter": figures["exporter"],
            "calibration": clips_digest(split.calibration) if split.calibration else "",
            "validation": clips_digest(split.validation) if split.validation else "",
            "optimised": self._request.optimise or "",
            "libraries": ", ".join(f"{name} {version}" for name, version in self._report.versions.items()),
            **self._report.machine,
        }
        return {name: value for name, value in facts.items() if value}

    def _write(self) -> None:
        """Write the report, each file whole or not at all."""
        folder = self.report_folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in ((JSON_NAME, self._report.to_json()), (MARKDOWN_NAME, self._report.to_markdown())):
                descriptor, draft = tempfile.mkstemp(dir=folder, prefix=f".{name}-")
                try:
                    with open(descriptor, "w", encoding="utf-8") as stream:  # noqa: PTH123 - it is open already
                        stream.write(text)
                    Path(draft).chmod(0o644)
                    Path(draft).replace(folder / name)
                finally:
                    Path(draft).unlink(missing_ok=True)
        except OSError as error:
            raise BuildError(f"{folder}: the report cannot be written: {error}") from error


def _why(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return ON_FROM_HERE
    return str(error) if isinstance(error, EnginesError) else f"{type(error).__name__}: {error}"
