"""What is wanted of the analysis: the options of `stream`, as `AnalyzeOptions`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from vedette_client import Policy


class PolicyName(StrEnum):
    """A delivery policy as the command line has it."""

    LIVE = "live"
    EVERY_FRAME = "every-frame"

    @property
    def policy(self) -> Policy:
        """As the client has it."""
        return Policy.LIVE if self is PolicyName.LIVE else Policy.EVERY_FRAME


Engine = Annotated[
    list[str],
    typer.Option("--engine", metavar="NAME[@VERSION]", help="Engine to run on every frame; repeatable, up to 8."),
]
PolicyOption = Annotated[
    PolicyName,
    typer.Option(
        "--policy",
        help="What happens when the server is busy: live skips old frames, every-frame slows the sender.",
    ),
]
MaxFps = Annotated[
    float | None,
    typer.Option(
        "--max-fps", metavar="FPS", help="Most frames per second that are analysed, above 0. Default: no limit."
    ),
]
MinScore = Annotated[
    float | None,
    typer.Option("--min-score", metavar="SCORE", help="Lowest score of a detection, 0 to 1. Default: the engine's."),
]
Iou = Annotated[
    float | None,
    typer.Option(
        "--iou",
        metavar="IOU",
        help="Boxes of one class that overlap by more are one, 0 to 1. Default: the engine's.",
    ),
]
Classes = Annotated[
    str | None,
    typer.Option("--classes", metavar="LABEL,...", help="Report only these labels, separated by commas. Default: all."),
]
Priority = Annotated[
    int | None,
    typer.Option("--priority", metavar="WEIGHT", help="Weight among the channels that wait, 1 to 100. Default: 10."),
]
MaxAge = Annotated[
    float | None,
    typer.Option(
        "--max-age-ms",
        metavar="MS",
        help="A live frame older than this is skipped, in milliseconds. Default: the server's.",
    ),
]


def labels(classes: str | None) -> tuple[str, ...]:
    """Read a list of labels."""
    return tuple(label.strip() for label in (classes or "").split(",") if label.strip())
