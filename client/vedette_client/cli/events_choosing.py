"""The options that choose events, for `vedette watch` and `vedette events`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vedette_client.errors import OptionsError
from vedette_client.events_data import EventFilter, EventKind, EventState

if TYPE_CHECKING:
    from collections.abc import Sequence

Rules = Annotated[
    list[str] | None,
    typer.Option("--rule", metavar="NAME", help="Only events of this rule; may be repeated. Default: of all."),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="Only events of this kind: enter, cross, dwell, ... or camera for all camera faults; may be repeated. "
        "Default: all.",
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="LABEL", help="Only events of such objects; may be repeated. Default: of all."),
]
Unseen = Annotated[bool, typer.Option("--unseen", help="Only events that nobody has acknowledged.")]
State = Annotated[
    str | None, typer.Option("--state", metavar="active|ended", help="Only events that stand so. Default: all.")
]


def chosen(
    rules: Sequence[str] | None,
    kinds: Sequence[str] | None,
    labels: Sequence[str] | None,
    *,
    unseen: bool = False,
    state: str | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
) -> EventFilter | None:
    """Read the options; None: all events are wanted.

    Raises:
        OptionsError: A kind or a state is none.
    """
    wanted = EventFilter(
        start_time_ns=since_ns,
        end_time_ns=until_ns,
        rules=tuple(rules or ()),
        kinds=tuple(kind for text in kinds or () for kind in _kinds(text)),
        states=(_state(state),) if state is not None else (),
        unacknowledged=unseen,
        labels=tuple(labels or ()),
    )
    return None if wanted == EventFilter(rules=(), kinds=(), states=(), labels=()) else wanted


def _kinds(text: str) -> tuple[EventKind, ...]:
    word = text.strip().upper().replace("-", "_").replace(" ", "_")
    if word == "CAMERA":
        return tuple(kind for kind in EventKind if kind.is_camera)
    if word not in EventKind.__members__:
        raise OptionsError(f"--kind is {text!r}; allowed: camera, {', '.join(kind.word for kind in EventKind)}")
    return (EventKind[word],)


def _state(text: str) -> EventState:
    if text.upper() not in EventState.__members__:
        raise OptionsError(f"--state is {text!r}; allowed: {', '.join(state.word for state in EventState)}")
    return EventState[text.upper()]
