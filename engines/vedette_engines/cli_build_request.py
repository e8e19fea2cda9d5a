"""From the words of `vedette engine build` to its request, and the run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from vedette_engines import cli_values
from vedette_engines.building.build import ON_FROM_HERE, Builder
from vedette_engines.building.recipe import read_recipe
from vedette_engines.building.report import Outcome
from vedette_engines.building.request import BenchWish, BuildRequest, Footage, Lowering, PlanWish, Truth
from vedette_engines.cli_import import import_request
from vedette_engines.compare.gates import parse_gates
from vedette_engines.errors import EnginesError, ImportInputError, MissingRuntimeError
from vedette_engines.manifest import Precision
from vedette_engines.sources.spec import SourceSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vedette_engines.building.report import Report
    from vedette_engines.building.request import CalibrationMethod, Int8Target

DEFAULT_WORK = "~/.cache/vedette/build"
# May stand beside --recipe.
BESIDE_RECIPE = {"version", "engines_dir", "work", "report", "publish"}
# Mean nothing where no plan is built.
OF_PLANS = ("plan_precision", "target", "version_compatible", "refit", "strip", "tf32", "timing_cache", "tensorrt")
OLDEST_OPSET, NEWEST_OPSET = 18, 20
REFUSED, HINDERED, INTERRUPTED = 1, 3, 130


def run_build(words: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Build as the words say, and end with the exit code that tells what came of it.

    Raises:
        EnginesError: It cannot be done as asked for; the report is written.
    """
    request = build_request(with_recipe(words, defaults))
    builder = Builder(request, typer.echo)
    try:
        report = builder.run()
    except (EnginesError, KeyboardInterrupt) as error:
        typer.echo(f"report: {builder.report_folder}", err=True)
        if isinstance(error, ImportInputError | MissingRuntimeError):
            raise
        interrupted = isinstance(error, KeyboardInterrupt)
        typer.echo(f"vedette engine: {ON_FROM_HERE if interrupted else error}", err=True)
        raise typer.Exit(INTERRUPTED if interrupted else HINDERED) from error
    typer.echo(f"report: {builder.report_folder}")
    if report.outcome is Outcome.REFUSED:
        _tell_refusal(report)
        raise typer.Exit(REFUSED)
    if report.outcome is Outcome.REUSED:
        typer.echo(f"nothing changed: {report.published} is published already")
    elif not report.published:
        typer.echo("all gates are passed; not published, as asked for")


def _tell_refusal(report: Report) -> None:
    for reason in report.reasons:
        typer.echo(f"vedette engine: refused: {reason}", err=True)
    typer.echo("vedette engine: nothing was published", err=True)


def with_recipe(words: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Take the recipe's words where one is given; a few options may stand beside it.

    Raises:
        ImportInputError: Something else does.
    """
    own = {name: value for name, value in words.items() if name != "recipe"}
    if words.get("recipe") is None:
        return own
    beside = {name: value for name, value in own.items() if value != defaults[name]}
    foreign = sorted(set(beside) - BESIDE_RECIPE)
    if foreign:
        allowed = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(BESIDE_RECIPE))
        raise ImportInputError(f"{_flag(foreign[0])} stands beside --recipe; only {allowed} may")
    return {**read_recipe(words["recipe"], defaults), **beside}


def build_request(words: Mapping[str, Any]) -> BuildRequest:
    """Put the request together.

    Raises:
        ImportInputError: A value is wrong, or something is missing.
    """
    for option in ("source", "name"):
        if not words[option]:
            raise ImportInputError(f"{'SOURCE' if option == 'source' else '--name'} is missing")
    # `import` wants its version now; a build gives the next one when it publishes.
    engine = import_request({**words, "model": Path(), "frames": (), "version": words["version"] or "next"})
    return BuildRequest(
        source=_source(words),
        engine=engine,
        work=(words["work"] or Path(DEFAULT_WORK)).expanduser(),
        footage=_footage(words),
        truth=Truth(words["truth"], words["reference"]),
        lowering=_lowering(words),
        gates=parse_gates(words["gate"]),
        per_layer=words["per_layer"],
        optimise=cast("Any", _one_of("optimise", words, ("basic", "extended")) or None),
        plans=_plans(words),
        bench=_bench(words) if words["bench"] else None,
        publish=words["publish"],
        report=words["report"],
        words={name: _shown(value) for name, value in words.items() if value not in (None, "", [], (), False)},
    )


def _source(words: Mapping[str, Any]) -> SourceSpec:
    opset = cli_values.whole("--opset", words["opset"], OLDEST_OPSET, NEWEST_OPSET) if words["opset"] else None
    exporter = cli_values.choice("--exporter", words["exporter"], ("auto", "dynamo", "torchscript"))
    size = cli_values.size("--input-size", words["input_size"]) if words["input_size"] else None
    spec = SourceSpec(
        words["source"],
        words["weights"],
        words["trust"],
        size,
        exporter=cast("Any", exporter),
        search_path=words["search_path"],
    )
    return spec if opset is None else dataclasses.replace(spec, opset=opset)


def _footage(words: Mapping[str, Any]) -> Footage:
    footage = Footage(
        tuple(words["calibration"]),
        tuple(words["validation"]),
        tuple(words["frames"]),
        cli_values.whole("--calibration-frames", words["calibration_frames"], 1, 100_000),
        cli_values.whole("--validation-frames", words["validation_frames"], 1, 100_000),
    )
    if footage.frames and (footage.calibration or footage.validation):
        raise ImportInputError("--frames stands beside --calibration or --validation; allowed is the one or the two")
    return footage


def _lowering(words: Mapping[str, Any]) -> Lowering:
    precisions = _several("precision", words, [*Precision])
    targets = _several("int8_target", words, ("onnxruntime", "tensorrt"))
    percentile = cli_values.number("--percentile", words["percentile"]) if words["percentile"] else None
    if percentile is not None and not 50 < percentile <= 100:
        raise ImportInputError(f"--percentile is {words['percentile']!r}; allowed is above 50, up to 100")
    return Lowering(
        precisions=tuple(Precision(word) for word in precisions if word != Precision.FP32),
        int8_targets=cast("tuple[Int8Target, ...]", targets),
        dynamic=words["dynamic"],
        method=cast(
            "CalibrationMethod | None",
            _one_of("calibration_method", words, ("minmax", "entropy", "percentile")) or None,
        ),
        percentile=percentile,
        exclude=tuple(words["exclude"]),
        auto_exclude=words["auto_exclude"],
    )


def _plans(words: Mapping[str, Any]) -> PlanWish | None:
    if not words["profile"]:
        vain = next((option for option in OF_PLANS if words[option]), "")
        if vain:
            raise ImportInputError(f"{_flag(vain)} is about TensorRT plans: give --profile MIN:OPT:MAX, like 1:8:32")
        return None
    return PlanWish(
        profiles=tuple(cli_values.batches("--profile", word) for word in words["profile"]),
        precisions=tuple(Precision(word) for word in _several("plan_precision", words, [*Precision])),
        targets=tuple(words["target"]),
        workspace_bytes=cli_values.memory("--workspace", words["workspace"]),
        version_compatible=words["version_compatible"],
        hardware_compatibility=_one_of("hardware_compatibility", words, ("none", "same", "ampere+")),
        refit=words["refit"],
        strip=words["strip"],
        tf32=words["tf32"],
        timing_cache=words["timing_cache"],
        module=_one_of("tensorrt", words, ("tensorrt", "tensorrt_rtx")),
    )


def _bench(words: Mapping[str, Any]) -> BenchWish:
    batches = tuple(cli_values.whole("--bench-batch", word, 1, 4096) for word in words["bench_batch"].split(","))
    seconds = cli_values.number("--bench-seconds", words["bench_seconds"])
    if not 0 < seconds <= 36_000:
        raise ImportInputError(f"--bench-seconds is {words['bench_seconds']!r}; allowed is above 0, up to 36000")
    return BenchWish(batches, seconds)


def _several(option: str, words: Mapping[str, Any], allowed: Sequence[str]) -> tuple[str, ...]:
    found = [word.strip() for word in words[option].split(",") if word.strip()]
    for word in found:
        cli_values.choice(_flag(option), word, allowed)
    return tuple(dict.fromkeys(found))


def _one_of(option: str, words: Mapping[str, Any], allowed: Sequence[str]) -> str:
    return cli_values.choice(_flag(option), words[option], allowed) if words[option] else ""


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _shown(value: object) -> object:
    return [str(item) for item in value] if isinstance(value, list | tuple) else str(value)
