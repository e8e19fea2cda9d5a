"""The command `vedette engine build`.

It takes every option of `vedette engine import` and those below. Its options are read by hand, so that a wrong value
gets one line; a recipe gives the same options in a file. Imports none of the libraries that it needs before it is
called: the base install has none of them.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from vedette_engines import cli_build_options as options  # noqa: TC001 - the annotations are read at run time
from vedette_engines.cli_import import import_command

if TYPE_CHECKING:
    from collections.abc import Mapping


def _own_options(
    source: options.Source = "",
    *,
    recipe: options.Recipe = None,
    weights: options.Weights = None,
    trust: options.Trust = False,
    search_path: options.SearchPath = None,
    opset: options.Opset = "",
    exporter: options.Exporter = "auto",
    calibration: options.Calibration = None,
    validation: options.Validation = None,
    frames: options.Frames = None,
    calibration_frames: options.CalibrationFrames = "128",
    validation_frames: options.ValidationFrames = "128",
    truth: options.Truth = None,
    reference: options.Reference = "",
    precision: options.Precision = "",
    int8_target: options.Int8Target = "onnxruntime,tensorrt",
    dynamic: options.Dynamic = False,
    calibration_method: options.CalibrationMethod = "",
    percentile: options.Percentile = "",
    exclude: options.Exclude = None,
    auto_exclude: options.AutoExclude = False,
    gate: options.Gate = None,
    per_layer: options.PerLayer = False,
    optimise: options.Optimise = "",
    profile: options.Profile = None,
    plan_precision: options.PlanPrecision = "",
    target: options.Target = None,
    workspace: options.Workspace = "1GiB",
    version_compatible: options.VersionCompatible = False,
    hardware_compatibility: options.HardwareCompatibility = "none",
    refit: options.Refit = False,
    strip: options.Strip = False,
    tf32: options.Tf32 = False,
    timing_cache: options.TimingCache = None,
    tensorrt: options.Tensorrt = "",
    bench: options.Bench = False,
    bench_batch: options.BenchBatch = "1,8",
    bench_seconds: options.BenchSeconds = "20",
    publish: options.Publish = True,
    work: options.Work = None,
    report: options.Report = None,
) -> None:
    """Declare the options that only `build` has."""


def _parameters() -> list[inspect.Parameter]:
    """Join the options of `import` with this command's own; nothing is required, since a recipe may say it."""
    own = inspect.signature(_own_options, eval_str=True).parameters
    shared = inspect.signature(import_command, eval_str=True).parameters
    source, recipe, *rest = own.values()
    optional = {"name": "", "labels": None}
    taken = [
        parameter.replace(default=optional.get(name, parameter.default), annotation=_optional(parameter.annotation))
        if name in optional
        else parameter
        for name, parameter in shared.items()
        if name not in {"model", *own}
    ]
    return [source, recipe, *taken, *rest]


def _optional(annotation: Any) -> Any:
    """Let a path that was required be left out."""
    kind, *marks = annotation.__metadata__ and (annotation.__origin__, *annotation.__metadata__)
    return Annotated[(kind | None if kind is Path else kind, *marks)]


def defaults() -> dict[str, Any]:
    """Tell every option with its default; an option that may be repeated has an empty list."""
    many = {"calibration", "validation", "frames", "exclude", "gate", "profile", "target"}
    return {
        parameter.name: [] if parameter.name in many else parameter.default
        for parameter in _parameters()
        if parameter.name != "recipe"
    }


def build_command(**given: Any) -> None:
    """Take a model the whole way to a published engine: export, graft, check, lower, compare, build, measure, publish.

    Every step is kept: a second run with nothing changed does nothing, one that was cut short goes on. Exit code 0:
    published, or published before. 1: a gate was missed, nothing was published; the report says why. 2: it cannot
    be done as asked for. 3: something stood in the way, a full disk say: the same command can be tried again.
    """
    from vedette_engines.cli_build_request import run_build  # noqa: PLC0415  (needs libraries that extras bring)

    run_build(_words(given), defaults())


def _words(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what the command line left out."""
    return {**defaults(), **{name: value for name, value in given.items() if value is not None}}


build_command.__signature__ = inspect.Signature(_parameters())  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
