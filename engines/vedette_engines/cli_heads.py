"""The options that tell a head what shapes cannot: how a model writes its results.

Imports nothing heavier than typer before it is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from vedette_engines import cli_values
from vedette_engines.errors import ImportInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_engines.graft.head import Background, BoxFormat, HeadOptions, Pair, Quad

PANEL = "Output"
_MOST_REG_MAX = 64
_MOST_PRIORS = 1_000_000

Activated = Annotated[
    bool | None,
    typer.Option(
        "--activated/--logits",
        help="Scores have been through their sigmoid or softmax, or not. Default: measured.",
        rich_help_panel=PANEL,
    ),
]
Normalised = Annotated[
    bool | None,
    typer.Option(
        "--normalised/--pixels",
        help="Boxes (of ssd: its priors) are fractions of the input size, or pixels. Default: measured.",
        rich_help_panel=PANEL,
    ),
]
Boxes = Annotated[
    str,
    typer.Option(
        metavar="xyxy|cxcywh",
        help="Boxes (of ssd: its priors) are corners, or centre and size. Default: the head's own.",
        rich_help_panel=PANEL,
    ),
]
BackgroundClass = Annotated[
    str,
    typer.Option(
        metavar="none|first|last",
        help="Which column of the class scores stands for nothing. Default: first for ssd, none for others.",
        rich_help_panel=PANEL,
    ),
]
Priors = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.npy",
        help="Boxes that ssd measures its offsets from, four numbers each. Default: the model's output of that name.",
        rich_help_panel=PANEL,
    ),
]
Variances = Annotated[
    str,
    typer.Option(
        metavar="A,B",
        help="Of ssd: factors on the offsets of centre and size. Default: 0.1,0.2.",
        rich_help_panel=PANEL,
    ),
]
Anchors = Annotated[
    str,
    typer.Option(
        metavar="SET|W,H,...",
        help="Of yolov5-raw: widths and heights in pixels, level by level, or a published set: yolov5, yolov7.",
        rich_help_panel=PANEL,
    ),
]
RegMax = Annotated[
    str,
    typer.Option(
        metavar="R",
        help="Of nanodet: largest distance of a box's side, in cells. Default: 7.",
        rich_help_panel=PANEL,
    ),
]
Keypoints = Annotated[
    str,
    typer.Option(
        metavar="A,B,...",
        help="Of yolov8-pose: names of the keypoints. Default: COCO's for 17, else numbers.",
        rich_help_panel=PANEL,
    ),
]
UnitLength = Annotated[
    bool | None,
    typer.Option(
        "--unit-length/--own-length",
        help="Of embedder: scale each embedding to length 1. Default: no.",
        rich_help_panel=PANEL,
    ),
]


def head_options(given: Mapping[str, Any]) -> HeadOptions:
    """Read the options' words.

    Raises:
        ImportInputError: A value is wrong.
    """
    from vedette_engines.graft.head import HeadOptions  # noqa: PLC0415  (needs libraries that the base install has not)

    boxes, background, reg_max = given["box_format"], given["background"], given["reg_max"]
    variances = _numbers("--variances", given["variances"])
    if variances and (len(variances) != 2 or min(variances) <= 0):
        raise ImportInputError(f"--variances is {given['variances']!r}; allowed is two numbers above 0, like 0.1,0.2")
    return HeadOptions(
        given["activated"],
        given["normalised"],
        cast("BoxFormat", cli_values.choice("--box-format", boxes, ("xyxy", "cxcywh"))) if boxes else None,
        cast("Background", cli_values.choice("--background", background, ("none", "first", "last")))
        if background
        else None,
        _priors(given["priors"]) if given["priors"] else None,
        (variances[0], variances[1]) if variances else None,
        _anchors(given["anchors"]),
        cli_values.whole("--reg-max", reg_max, 1, _MOST_REG_MAX) if reg_max else None,
        _keypoints(given["keypoints"]),
        given["unit_length"],
    )


def _numbers(option: str, value: str) -> tuple[float, ...]:
    return tuple(cli_values.number(option, part) for part in value.split(",")) if value else ()


def _anchors(value: str) -> tuple[Pair, ...] | None:
    from vedette_engines.graft.heads.yolov5_raw import ANCHOR_SETS  # noqa: PLC0415

    if not value or value in ANCHOR_SETS:
        return ANCHOR_SETS[value] if value else None
    if not value.replace(".", "").replace(",", "").replace(" ", "").isdigit():
        raise ImportInputError(f"--anchors is {value!r}; allowed is {', '.join(ANCHOR_SETS)}, or W,H,W,H,... in pixels")
    sides = _numbers("--anchors", value)
    if len(sides) % 2 or min(sides) <= 0:
        raise ImportInputError(f"--anchors has {len(sides)} numbers; allowed is pairs of a width and a height above 0")
    return tuple(zip(sides[::2], sides[1::2], strict=True))


def _keypoints(value: str) -> tuple[str, ...] | None:
    if not value:
        return None
    names = tuple(name.strip() for name in value.split(","))
    if "" in names or any(":" in name for name in names) or len(set(names)) < len(names):
        raise ImportInputError(
            f"--keypoints is {value!r}; allowed is names separated by commas, each once, without ':'"
        )
    return names


def _priors(path: Path) -> tuple[Quad, ...]:
    import numpy as np  # noqa: PLC0415

    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ImportInputError(f"--priors {path}: not an array of NumPy's (.npy): {error}") from error
    boxes = table[0] if isinstance(table, np.ndarray) and table.ndim == 3 and len(table) == 1 else table
    if not isinstance(boxes, np.ndarray) or boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind != "f":
        what = f"{table.dtype} {list(table.shape)}" if isinstance(table, np.ndarray) else "several arrays"
        raise ImportInputError(f"--priors {path}: is {what}; allowed is floating-point [anchors, 4]")
    if len(boxes) > _MOST_PRIORS or not np.isfinite(boxes).all():
        raise ImportInputError(f"--priors {path}: allowed is up to {_MOST_PRIORS} boxes of finite numbers")
    return tuple((a, b, c, d) for a, b, c, d in boxes.tolist())
