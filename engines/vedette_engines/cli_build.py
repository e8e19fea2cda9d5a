"""The command `vedette engine build`.

It takes every option of `vedette engine import` and those below. Its options are read by hand, so that a wrong value
gets one line; a recipe gives the same options in a file. Imports none of the libraries that it needs before it is
called: the base install has none of them.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vedette_engines.cli_import import import_command

if TYPE_CHECKING:
    from collections.abc import Mapping

_SOURCE = "Source"
_FOOTAGE = "Footage and truth"
_PRECISION = "Precision"
_TENSORRT = "TensorRT"
_RUN = "The build"
_DEFAULT_WORK = "~/.cache/vedette/build"

Paths = list[Path] | None
Words = list[str] | None


def _own_options(
    source: Annotated[
        str,
        typer.Argument(
            metavar="[SOURCE]",
            help="An ONNX file, a torch.export program (.pt2), a TorchScript file, or module:factory.",
        ),
    ] = "",
    *,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="All options in a file, instead of here.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="State dict for module:factory.", rich_help_panel=_SOURCE),
    ] = None,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Allow files that run code when they are loaded.", rich_help_panel=_SOURCE),
    ] = False,
    search_path: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where the module of module:factory is. Default: here, or the recipe's folder.",
            rich_help_panel=_SOURCE,
        ),
    ] = None,
    opset: Annotated[str, typer.Option(metavar="N", help="ONNX opset to export to.", rich_help_panel=_SOURCE)] = "",
    exporter: Annotated[
        str, typer.Option(metavar="auto|dynamo|torchscript", help="PyTorch's exporter.", rich_help_panel=_SOURCE)
    ] = "auto",
    calibration: Annotated[
        Paths,
        typer.Option(metavar="PATH", help="Footage for INT8's ranges; may be repeated.", rich_help_panel=_FOOTAGE),
    ] = None,
    validation: Annotated[
        Paths,
        typer.Option(
            metavar="PATH",
            help="Footage to judge on: clips that calibration does not have; may be repeated.",
            rich_help_panel=_FOOTAGE,
        ),
    ] = None,
    frames: Annotated[
        Paths,
        typer.Option(
            metavar="PATH", help="Footage for both, split by clip; may be repeated.", rich_help_panel=_FOOTAGE
        ),
    ] = None,
    calibration_frames: Annotated[
        str, typer.Option(metavar="N", help="Frames to calibrate on.", rich_help_panel=_FOOTAGE)
    ] = "128",
    validation_frames: Annotated[
        str, typer.Option(metavar="N", help="Frames to judge on.", rich_help_panel=_FOOTAGE)
    ] = "128",
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What is to be seen in the validation footage: COCO JSON, or a table of labels.",
            rich_help_panel=_FOOTAGE,
        ),
    ] = None,
    reference: Annotated[
        str,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Your own inference, picture in, results out; what it sees is the truth.",
            rich_help_panel=_FOOTAGE,
        ),
    ] = "",
    precision: Annotated[
        str,
        typer.Option(metavar="P,...", help="fp16, int8; fp32 is always made.", rich_help_panel=_PRECISION),
    ] = "",
    int8_target: Annotated[
        str,
        typer.Option(
            metavar="T,...", help="Runtimes that get an INT8 file: onnxruntime, tensorrt.", rich_help_panel=_PRECISION
        ),
    ] = "onnxruntime,tensorrt",
    dynamic: Annotated[
        bool,
        typer.Option(
            "--dynamic", help="INT8 with ranges taken at run time: for models of matrices.", rich_help_panel=_PRECISION
        ),
    ] = False,
    calibration_method: Annotated[
        str,
        typer.Option(
            metavar="minmax|entropy|percentile", help="How a range is taken from frames.", rich_help_panel=_PRECISION
        ),
    ] = "",
    percentile: Annotated[
        str, typer.Option(metavar="P", help="Share of the values inside the range, in %.", rich_help_panel=_PRECISION)
    ] = "",
    exclude: Annotated[
        Words,
        typer.Option(metavar="LAYER", help="A layer that stays in float; may be repeated.", rich_help_panel=_PRECISION),
    ] = None,
    auto_exclude: Annotated[
        bool,
        typer.Option(
            "--auto-exclude",
            help="Leave the most sensitive layers in float until the gate is passed.",
            rich_help_panel=_PRECISION,
        ),
    ] = False,
    gate: Annotated[
        Words,
        typer.Option(
            metavar="NAME=VALUE",
            help="A bound instead of the default, like int8.map50=0.93; may be repeated.",
            rich_help_panel=_PRECISION,
        ),
    ] = None,
    per_layer: Annotated[
        bool,
        typer.Option("--per-layer", help="Compare layer by layer, too.", rich_help_panel=_PRECISION),
    ] = False,
    optimise: Annotated[
        str,
        typer.Option(
            metavar="basic|extended",
            help="Let ONNX Runtime rewrite the files it runs, now instead of at each load.",
            rich_help_panel=_PRECISION,
        ),
    ] = "",
    profile: Annotated[
        Words,
        typer.Option(
            metavar="MIN:OPT:MAX",
            help="Build TensorRT plans for these batches; may be repeated.",
            rich_help_panel=_TENSORRT,
        ),
    ] = None,
    plan_precision: Annotated[
        str,
        typer.Option(metavar="P,...", help="Which files become plans. Default: all made.", rich_help_panel=_TENSORRT),
    ] = "",
    target: Annotated[
        Words,
        typer.Option(
            metavar="SM", help="Compute capability, like sm_86. Default: this GPU's.", rich_help_panel=_TENSORRT
        ),
    ] = None,
    workspace: Annotated[
        str, typer.Option(metavar="SIZE", help="Most scratch memory, like 1GiB.", rich_help_panel=_TENSORRT)
    ] = "1GiB",
    version_compatible: Annotated[
        bool,
        typer.Option(
            "--version-compatible", help="Also for later TensorRT of the same major.", rich_help_panel=_TENSORRT
        ),
    ] = False,
    hardware_compatibility: Annotated[
        str,
        typer.Option(metavar="none|same|ampere+", help="Also for other GPUs.", rich_help_panel=_TENSORRT),
    ] = "none",
    refit: Annotated[
        bool, typer.Option("--refit", help="Weights can be changed later.", rich_help_panel=_TENSORRT)
    ] = False,
    strip: Annotated[bool, typer.Option("--strip", help="Leave the weights out.", rich_help_panel=_TENSORRT)] = False,
    timing_cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep kernels' timings here.", rich_help_panel=_TENSORRT)
    ] = None,
    tensorrt: Annotated[
        str,
        typer.Option(
            metavar="tensorrt|tensorrt_rtx", help="Default: whichever is installed.", rich_help_panel=_TENSORRT
        ),
    ] = "",
    bench: Annotated[bool, typer.Option("--bench", help="Measure what was built.", rich_help_panel=_RUN)] = False,
    bench_batch: Annotated[
        str, typer.Option(metavar="N,...", help="Batch sizes to measure.", rich_help_panel=_RUN)
    ] = "1,8",
    bench_seconds: Annotated[
        str, typer.Option(metavar="S", help="Time for the measurement.", rich_help_panel=_RUN)
    ] = "20",
    publish: Annotated[
        bool, typer.Option("--publish/--no-publish", help="Publish when all gates are passed.", rich_help_panel=_RUN)
    ] = True,
    work: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help=f"Keeps what steps made. Default: {_DEFAULT_WORK}.", rich_help_panel=_RUN),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where report.json and report.md go. Default: in --work.", rich_help_panel=_RUN
        ),
    ] = None,
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
    be done as asked for.
    """
    from vedette_engines.cli_build_request import run_build  # noqa: PLC0415  (needs libraries that extras bring)

    run_build(_words(given), defaults())


def _words(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what the command line left out."""
    return {**defaults(), **{name: value for name, value in given.items() if value is not None}}


build_command.__signature__ = inspect.Signature(_parameters())  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
