"""The command `vedette engine import`.

Its options are read here by hand, so that a wrong value gets one line. Imports neither onnx nor onnxruntime
before it is called: the base install has neither.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from vedette_engines import cli_values
from vedette_engines.cli_heads import (
    PANEL,
    Activated,
    Anchors,
    BackgroundClass,
    Boxes,
    Keypoints,
    Normalised,
    Priors,
    RegMax,
    UnitLength,
    Variances,
    head_options,
)
from vedette_engines.cli_roots import DEFAULT_ROOT, VARIABLE, user_roots
from vedette_engines.errors import MissingRuntimeError
from vedette_engines.history import versions_used
from vedette_engines.manifest import Defaults, Placement
from vedette_engines.withdrawn import withdrawn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vedette_engines.graft.preprocess import ChannelOrder
    from vedette_engines.importing import ImportRequest

T = TypeVar("T")

_MODEL = "Preprocessing (default: the head's own)"
_NEEDED = ("onnx", "onnxruntime")
_WHOLE = re.compile(r"\d{1,9}")

Model = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The model, as its trainer exported it.")]
Name = Annotated[str, typer.Option(metavar="NAME", help="Name of the engine: a-z 0-9 . _ -")]
Labels = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Class names, one a line, the first for class 0. An embedder has none."),
]
Head = Annotated[
    str,
    typer.Option(
        metavar="HEAD",
        help="How the model writes its results: yolox, yolov5, yolov5-raw, yolov8, yolov8-pose, yolov10, detr, ssd, "
        "boxes-scores, nanodet, cells, centernet, classifier, embedder, a plug-in's, or auto: whichever alone fits the "
        "outputs.",
    ),
]
Version = Annotated[str, typer.Option(metavar="V", help="Version of the engine. Default: the next whole number.")]
EnginesDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help=f"Where to publish. Default: ${VARIABLE}, else {DEFAULT_ROOT}."),
]
InputSize = Annotated[
    str,
    typer.Option(metavar="WxH", help="Input size in pixels, for a model that leaves it open. Default: the model's."),
]
Order = Annotated[
    str, typer.Option(metavar="bgr|rgb", help="Channel order of the model's input.", rich_help_panel=_MODEL)
]
Scale = Annotated[
    str,
    typer.Option(metavar="S", help="Factor on the pixels' 0..255, like 1/255.", rich_help_panel=_MODEL),
]
Mean = Annotated[
    str,
    typer.Option(metavar="A,B,C", help="Subtracted after scaling, in the model's order.", rich_help_panel=_MODEL),
]
Std = Annotated[
    str,
    typer.Option(metavar="A,B,C", help="Divides what is left, in the model's order.", rich_help_panel=_MODEL),
]
Letterbox = Annotated[
    str,
    typer.Option(metavar="top-left|centre", help="Where the picture stands in the input."),
]
Pad = Annotated[str, typer.Option(metavar="GREY", help="Grey value beside it, 0..255.")]
MaxCandidates = Annotated[
    str,
    typer.Option(metavar="K", help="Most rows of a detector, 1..3840.", rich_help_panel=PANEL),
]
ScoreFloor = Annotated[
    str,
    typer.Option(metavar="P", help="A row scored below this is void, 0..1, above 0.", rich_help_panel=PANEL),
]
MinScore = Annotated[
    str,
    typer.Option(
        metavar="P",
        help="Lowest score reported to a channel that says nothing, 0..1.",
        rich_help_panel=PANEL,
    ),
]
Iou = Annotated[
    str,
    typer.Option(
        metavar="P",
        help="Overlap above which two boxes of a class are one, 0..1.",
        rich_help_panel=PANEL,
    ),
]
Frames = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PATH",
        help="Pictures, videos or folders to compare engine and original on, besides made ones; may be repeated. "
        "Default: none.",
    ),
]
Simplify = Annotated[
    bool,
    typer.Option(help="Let onnxslim simplify the model, where that changes no result."),
]


def import_command(
    model: Model,
    *,
    name: Name,
    labels: Labels = None,
    head: Head = "auto",
    version: Version = "",
    engines_dir: EnginesDir = None,
    input_size: InputSize = "",
    order: Order = "",
    scale: Scale = "",
    mean: Mean = "",
    std: Std = "",
    letterbox: Letterbox = "top-left",
    pad: Pad = "114",
    activated: Activated = None,
    normalised: Normalised = None,
    box_format: Boxes = "",
    background: BackgroundClass = "",
    priors: Priors = None,
    variances: Variances = "",
    anchors: Anchors = "",
    reg_max: RegMax = "",
    keypoints: Keypoints = "",
    unit_length: UnitLength = None,
    max_candidates: MaxCandidates = "300",
    score_floor: ScoreFloor = "0.01",
    min_score: MinScore = "0.25",
    iou: Iou = "0.45",
    frames: Frames = None,
    simplify: Simplify = False,
) -> None:
    """Make an engine of an ONNX model and publish it, if it agrees with the original.

    Preprocessing and the decoding of the outputs become part of the model, its batch is made dynamic, and the
    result is compared with a plain reading of the original, on noise, on drawn pictures, and on --frames.
    Exit code 2: it cannot be done as asked for. 1: engine and original disagree; nothing was published.
    """
    given = locals()
    _check_installed()
    from vedette_engines.importing import import_model  # noqa: PLC0415  (needs the libraries just looked for)

    bundle = import_model(import_request(given), lambda line: typer.echo(f"  {line}"))
    typer.echo(f"published {bundle.name} {bundle.version} in {bundle.path}")


def _check_installed() -> None:
    missing = [library for library in _NEEDED if importlib.util.find_spec(library) is None]
    if missing:
        raise MissingRuntimeError(f"{' and '.join(missing)} not installed; importing needs: pip install 'vedette[cpu]'")


def import_request(given: Mapping[str, Any]) -> ImportRequest:
    """Read the options' words and put the request together.

    Raises:
        ImportInputError: A value is wrong.
    """
    from vedette_engines.importing import MAX_CANDIDATES, ImportRequest  # noqa: PLC0415

    def optional(option: str, read: Callable[[str, str], T]) -> T | None:
        value = given[option]
        return read(f"--{option.replace('_', '-')}", value) if value else None

    order = optional("order", lambda option, value: cli_values.choice(option, value, ("bgr", "rgb")))
    root = user_roots([given["engines_dir"]] if given["engines_dir"] else None)[0]
    return ImportRequest(
        model=given["model"],
        labels=cli_values.labels(given["labels"]) if given["labels"] else (),
        name=given["name"],
        version=given["version"] or next_version(root, given["name"]),
        root=root,
        head=given["head"],
        input_size=optional("input_size", cli_values.size),
        order=cast("ChannelOrder | None", order),
        scale=optional("scale", cli_values.number),
        mean=optional("mean", cli_values.triple),
        std=optional("std", cli_values.triple),
        letterbox=Placement(cli_values.choice("--letterbox", given["letterbox"], [*Placement])),
        pad=cli_values.whole("--pad", given["pad"], 0, 255),
        max_candidates=cli_values.whole("--max-candidates", given["max_candidates"], 1, MAX_CANDIDATES),
        score_floor=cli_values.share("--score-floor", given["score_floor"]),
        options=head_options(given),
        frames=tuple(given["frames"] or ()),
        simplify=given["simplify"],
        defaults=Defaults(cli_values.share("--min-score", given["min_score"]), cli_values.share("--iou", given["iou"])),
    )


def next_version(root: Path, name: str) -> str:
    """Tell the whole number after the highest that is there, or ever was."""
    folder = root / name
    there = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set[str]()
    used = there | versions_used(root, name) | withdrawn(root, name)
    return str(max((int(version) for version in used if _WHOLE.fullmatch(version)), default=0) + 1)
