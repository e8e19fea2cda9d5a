"""Tell boxes from scores among a model's outputs, as several families need it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_engines.graft.signature import Output, Signature

T = TypeVar("T")


def tell_apart(outputs: Sequence[Output]) -> tuple[int, int] | None:
    """Find which output holds the boxes and which the scores; None when it cannot be told.

    Where both could be boxes (`[N, A, 4]` twice: four classes), their names decide.
    """
    if len(outputs) != 2:
        return None
    ways = [
        (boxes, scores)
        for boxes, scores in ((0, 1), (1, 0))
        if _are_boxes(outputs[boxes].shape) and _are_scores(outputs[scores].shape, outputs[boxes].shape)
    ]
    if len(ways) > 1:
        ways = [way for way in ways if calls(outputs[way[0]], "box", "dets", "loc", "offset", "delta", "regression")]
    return ways[0] if len(ways) == 1 else None


def split(things: Sequence[T], signature: Signature) -> tuple[T, T]:
    """Take boxes and scores out of things that stand in the outputs' order.

    Raises:
        ValueError: The outputs are not boxes and scores.
    """
    ways = tell_apart(signature.outputs)
    if ways is None:
        raise ValueError(f"the outputs {signature.shapes} are not boxes and scores")
    return things[ways[0]], things[ways[1]]


def calls(output: Output, *words: str) -> bool:
    """Whether one of the words stands in an output's name."""
    return any(word in output.name.lower() for word in words)


def _are_boxes(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[2] == 4


def _are_scores(shape: tuple[int, ...], boxes: tuple[int, ...]) -> bool:
    return len(shape) in {2, 3} and shape[1] == boxes[1]
