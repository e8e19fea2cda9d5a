"""Write engines as text for a terminal: one a line, or one a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_engines.manifest import (
    Attachment,
    ClassifierOutput,
    DetectorOutput,
    EmbedderOutput,
    EngineFile,
    Manifest,
    PlanInfo,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_engines.bundle import Bundle
    from vedette_engines.repository import Listed
    from vedette_engines.runners.verdicts import FileVerdict, Forecaster

_HEADINGS = ("NAME", "VERSION", "TASK", "INPUT", "BACKENDS", "SIZE", "HERE", "STATE")


def listing(entries: Sequence[Listed], forecaster: Forecaster) -> str:
    """Write a table with a line for each engine; plain columns, so that it can be piped."""
    rows = [_HEADINGS, *(_row(entry, forecaster) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _row(entry: Listed, forecaster: Forecaster) -> tuple[str, ...]:
    if entry.bundle is None:
        return (entry.name, entry.version, "-", "-", "-", "-", "-", f"bad: {entry.reason}")
    manifest = entry.bundle.manifest
    backends = ",".join(f"{file.backend}/{file.precision}" for file in manifest.files)
    total = sum(file.size_bytes for file in manifest.files)
    size = f"{manifest.input.width}x{manifest.input.height}"
    state = "withdrawn" if entry.withdrawn else "ok"
    here = forecaster.summary(entry.bundle)
    return (entry.name, entry.version, str(manifest.task), size, backends, readable_bytes(total), here, state)


def page(bundle: Bundle, forecaster: Forecaster, withdrawn: str | None = None) -> str:
    """Write all that a manifest says, and what would run each file here.

    Args:
        bundle: The engine.
        forecaster: Tells what would run here.
        withdrawn: Why it is withdrawn, as far as that was told; None: it is offered.
    """
    manifest = bundle.manifest
    lines = [
        f"{manifest.name} {manifest.version}",
        _field("folder", str(bundle.path)),
        *([] if withdrawn is None else [_field("withdrawn", withdrawn or "no reason was given")]),
        _field("task", str(manifest.task)),
        _field("contract", f"version {manifest.contract_version}"),
        _field("input", _input(manifest)),
        _field("output", _output(manifest)),
        _field("defaults", f"min score {manifest.defaults.min_score:g}, IoU {manifest.defaults.iou:g}"),
        *(line for verdict in forecaster.verdicts(bundle) for line in _file_lines(verdict)),
        *(_field("report", _attachment(bundle, entry)) for entry in manifest.attachments),
    ]
    if manifest.bench is not None:
        bench = manifest.bench
        lines.append(
            _field("bench", f"{bench.lanes} lanes, batch {bench.best_batch} on {bench.backend}")
            + (f", {bench.seconds_per_frame * 1000:.3g} ms a frame" if bench.seconds_per_frame else "")
        )
    labels = ", ".join(f"{number} {label}" for number, label in enumerate(manifest.labels))
    lines.append(_field("labels", f"{len(manifest.labels)}: {labels}" if labels else "none"))
    lines.extend(_field(key, value) for key, value in manifest.provenance.items())
    return "\n".join(lines)


def _field(name: str, value: str) -> str:
    return f"  {name:<18}{value}"


def _input(manifest: Manifest) -> str:
    spec = manifest.input
    return f"frames uint8 [N, {spec.height}, {spec.width}, 3] BGR, letterbox {spec.letterbox}, pad {spec.pad}"


def _output(manifest: Manifest) -> str:
    shape = ", ".join(["N", *map(str, manifest.output_shape)])
    border = f"{manifest.output_name} float32 [{shape}]"
    match manifest.output:
        case DetectorOutput(score_floor=floor, extras=extras):
            columns = ", ".join(["x1", "y1", "x2", "y2", "score", "class", *extras])
            return f"{border}: {columns}; score floor {floor:g}"
        case ClassifierOutput() | EmbedderOutput():
            return border


def _attachment(bundle: Bundle, entry: Attachment) -> str:
    return f"{bundle.path / entry.path}, {readable_bytes(entry.size_bytes)}"


def _file_lines(verdict: FileVerdict) -> list[str]:
    """Write a file's lines: itself, what a plan was built with, and what would run it here."""
    file = verdict.file
    lines = [_field("file", _file(file))]
    if file.plan is not None:
        lines.append(_field("plan", _plan(file.plan)))
    default = ", unless another is asked for" if verdict.default else ""
    lines.append(_field("runs here", f"{verdict.backend}{default}" if verdict.backend else f"no: {verdict.reason}"))
    return lines


def _plan(plan: PlanInfo) -> str:
    profiles = ", ".join(":".join(map(str, profile)) for profile in plan.profiles)
    where = f"built on {plan.gpu}" if plan.gpu else "built without a GPU"
    driver = f", driver {plan.driver}" if plan.driver else ""
    later = ", later versions too" if plan.version_compatible else ""
    return (
        f"{plan.module} {plan.version}{later}, for {', '.join(plan.targets)} on {plan.platform}, "
        f"batches {profiles or 'as the file says'}, {where}{driver}"
    )


def _file(file: EngineFile) -> str:
    batch = "any batch" if file.batch is None else f"batch {file.batch}"
    limit = f" up to {file.max_batch}" if file.max_batch is not None else ""
    size = readable_bytes(file.size_bytes)
    return f"{file.path}: {file.backend} {file.precision}, {batch}{limit}, {size}, sha256 {file.sha256}"


def readable_bytes(count: int) -> str:
    """Write a number of bytes in a unit that keeps it short."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
