"""The options of `vedette engine build` that `import` does not have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_SOURCE = "Source"
_FOOTAGE = "Footage and truth"
_PRECISION = "Precision"
_TENSORRT = "TensorRT"
_RUN = "The build"
_DEFAULT_WORK = "~/.cache/vedette/build"

Paths = list[Path] | None
Words = list[str] | None

Source = Annotated[
    str,
    typer.Argument(
        metavar="[SOURCE]",
        help="An ONNX file, a torch.export program (.pt2), a TorchScript file, or module:factory.",
    ),
]
Recipe = Annotated[Path | None, typer.Option(metavar="FILE.toml", help="All options in a file, instead of here.")]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="State dict for module:factory.", rich_help_panel=_SOURCE),
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Allow files that run code when they are loaded.", rich_help_panel=_SOURCE),
]
SearchPath = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where the module of module:factory is. Default: here, or the recipe's folder.",
        rich_help_panel=_SOURCE,
    ),
]
Opset = Annotated[str, typer.Option(metavar="N", help="ONNX opset to export to.", rich_help_panel=_SOURCE)]
Exporter = Annotated[
    str, typer.Option(metavar="auto|dynamo|torchscript", help="PyTorch's exporter.", rich_help_panel=_SOURCE)
]
Calibration = Annotated[
    Paths,
    typer.Option(metavar="PATH", help="Footage for INT8's ranges; may be repeated.", rich_help_panel=_FOOTAGE),
]
Validation = Annotated[
    Paths,
    typer.Option(
        metavar="PATH",
        help="Footage to judge on: clips that calibration does not have; may be repeated.",
        rich_help_panel=_FOOTAGE,
    ),
]
Frames = Annotated[
    Paths,
    typer.Option(metavar="PATH", help="Footage for both, split by clip; may be repeated.", rich_help_panel=_FOOTAGE),
]
CalibrationFrames = Annotated[str, typer.Option(metavar="N", help="Frames to calibrate on.", rich_help_panel=_FOOTAGE)]
ValidationFrames = Annotated[str, typer.Option(metavar="N", help="Frames to judge on.", rich_help_panel=_FOOTAGE)]
Truth = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="What is to be seen in the validation footage: COCO JSON, or a table of labels.",
        rich_help_panel=_FOOTAGE,
    ),
]
Reference = Annotated[
    str,
    typer.Option(
        metavar="MODULE:FUNCTION",
        help="Your own inference, picture in, results out; what it sees is the truth.",
        rich_help_panel=_FOOTAGE,
    ),
]
Precision = Annotated[
    str,
    typer.Option(metavar="P,...", help="fp16, int8; fp32 is always made.", rich_help_panel=_PRECISION),
]
Int8Target = Annotated[
    str,
    typer.Option(
        metavar="T,...", help="Runtimes that get an INT8 file: onnxruntime, tensorrt.", rich_help_panel=_PRECISION
    ),
]
Dynamic = Annotated[
    bool,
    typer.Option(
        "--dynamic", help="INT8 with ranges taken at run time: for models of matrices.", rich_help_panel=_PRECISION
    ),
]
CalibrationMethod = Annotated[
    str,
    typer.Option(
        metavar="minmax|entropy|percentile", help="How a range is taken from frames.", rich_help_panel=_PRECISION
    ),
]
Percentile = Annotated[
    str, typer.Option(metavar="P", help="Share of the values inside the range, in %.", rich_help_panel=_PRECISION)
]
Exclude = Annotated[
    Words,
    typer.Option(metavar="LAYER", help="A layer that stays in float; may be repeated.", rich_help_panel=_PRECISION),
]
AutoExclude = Annotated[
    bool,
    typer.Option(
        "--auto-exclude",
        help="Leave the most sensitive layers in float until the gate is passed.",
        rich_help_panel=_PRECISION,
    ),
]
Gate = Annotated[
    Words,
    typer.Option(
        metavar="NAME=VALUE",
        help="A bound instead of the default, like int8.map50=0.93; may be repeated.",
        rich_help_panel=_PRECISION,
    ),
]
PerLayer = Annotated[
    bool,
    typer.Option("--per-layer", help="Compare layer by layer, too.", rich_help_panel=_PRECISION),
]
Optimise = Annotated[
    str,
    typer.Option(
        metavar="basic|extended",
        help="Let ONNX Runtime rewrite the files it runs, now instead of at each load.",
        rich_help_panel=_PRECISION,
    ),
]
Profile = Annotated[
    Words,
    typer.Option(
        metavar="MIN:OPT:MAX",
        help="Build TensorRT plans for these batches; may be repeated.",
        rich_help_panel=_TENSORRT,
    ),
]
PlanPrecision = Annotated[
    str,
    typer.Option(metavar="P,...", help="Which files become plans. Default: all made.", rich_help_panel=_TENSORRT),
]
Target = Annotated[
    Words,
    typer.Option(metavar="SM", help="Compute capability, like sm_86. Default: this GPU's.", rich_help_panel=_TENSORRT),
]
Workspace = Annotated[
    str, typer.Option(metavar="SIZE", help="Most scratch memory, like 1GiB.", rich_help_panel=_TENSORRT)
]
VersionCompatible = Annotated[
    bool,
    typer.Option("--version-compatible", help="Also for later TensorRT of the same major.", rich_help_panel=_TENSORRT),
]
HardwareCompatibility = Annotated[
    str,
    typer.Option(metavar="none|same|ampere+", help="Also for other GPUs.", rich_help_panel=_TENSORRT),
]
Refit = Annotated[bool, typer.Option("--refit", help="Weights can be changed later.", rich_help_panel=_TENSORRT)]
Strip = Annotated[
    bool, typer.Option("--strip", help="Leave the weights out; with --no-publish only.", rich_help_panel=_TENSORRT)
]
Tf32 = Annotated[
    bool, typer.Option("--tf32", help="Round float32 factors to ten bits: faster.", rich_help_panel=_TENSORRT)
]
TimingCache = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Keep kernels' timings here.", rich_help_panel=_TENSORRT)
]
Tensorrt = Annotated[
    str,
    typer.Option(metavar="tensorrt|tensorrt_rtx", help="Default: whichever is installed.", rich_help_panel=_TENSORRT),
]
Bench = Annotated[bool, typer.Option("--bench", help="Measure what was built.", rich_help_panel=_RUN)]
BenchBatch = Annotated[str, typer.Option(metavar="N,...", help="Batch sizes to measure.", rich_help_panel=_RUN)]
BenchSeconds = Annotated[str, typer.Option(metavar="S", help="Time for the measurement.", rich_help_panel=_RUN)]
Publish = Annotated[
    bool, typer.Option("--publish/--no-publish", help="Publish when all gates are passed.", rich_help_panel=_RUN)
]
Work = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help=f"Keeps what steps made. Default: {_DEFAULT_WORK}.", rich_help_panel=_RUN),
]
Report = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where report.json and report.md go. Default: in --work.", rich_help_panel=_RUN),
]
