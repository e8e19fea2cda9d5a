"""Compare the scores of a classifier with those that it should have given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.compare.result import WORST_FRAMES, Agreement
from vedette_engines.manifest import Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Below this a reference says the same about every frame.
_SAME = 1e-6
# A probability of nothing would make any divergence infinite.
_LEAST = 1e-9
# A sum of one within it: scores of a softmax.
_ABOUT = 1e-2


def compare_scores(
    want: NDArray[np.float32], have: NDArray[np.float32], names: Sequence[str], against: str
) -> Agreement:
    """Measure how far two engines' scores agree, `float32 [n, C]` each.

    Top-1: the candidate's best class is the reference's. Top-5: the reference's best class is among the candidate's
    five best; left out where there are no more than five. Classes of equal score count against the candidate unless
    they are equal for the reference, too: an engine that says the same of all classes agrees with nobody.

    Divergence is Kullback and Leibler's ("On information and sufficiency", 1951) of the candidate's distribution from
    the reference's: scores as they are where they sum to one, renormalised where they do not (those of several
    sigmoids), after a softmax where they are no probabilities.
    """
    broken = ~np.isfinite(have).all(axis=1)
    figures = {"broken": float(broken.sum())}
    why = _inconclusive(want, against)
    if why:
        return Agreement(Task.CLASSIFIER, against, len(names), figures, inconclusive=why)
    expected, got = want.astype(np.float64), np.where(np.isfinite(have), have, 0.0).astype(np.float64)
    raw = bool((expected < -_SAME).any() or (expected > 1.0 + _ABOUT).any())
    p, q = (_distribution(scores, raw=raw) for scores in (expected, got))
    divergence = np.maximum((p * np.log(p / q)).sum(axis=1), 0.0)
    first, ahead = ranks(expected, got)
    first, ahead = first & ~broken, np.where(broken, want.shape[1], ahead)
    shown = (p, q) if raw else (expected, got)
    difference = np.abs(shown[0] - shown[1])
    figures = {
        "top1": float(first.mean()),
        **({"top5": float((ahead < 5).mean())} if want.shape[1] > 5 else {}),
        "kl_mean": float(divergence.mean()),
        "kl_max": float(divergence.max()),
        "difference_mean": float(difference.mean()),
        "difference_max": float(difference.max()),
        **figures,
    }
    order = np.argsort(-divergence, kind="stable")[:WORST_FRAMES]
    worst = tuple(
        (names[int(number)], f"KL {divergence[number]:.3g}") for number in order if divergence[number] > _SAME
    )
    return Agreement(Task.CLASSIFIER, against, len(names), figures, worst_frames=worst, notes=_notes(expected, raw=raw))


def ranks(expected: NDArray[np.float64], got: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Tell whether the best class is the same, and how many classes the candidate puts before or beside it.

    Args:
        expected: `[n, C]`, the reference's scores.
        got: `[n, C]`, the candidate's.

    Returns:
        `bool [n]`, and `int64 [n]`: 0 when the reference's best class is the candidate's.
    """
    best = expected == expected.max(axis=1, keepdims=True)
    ahead = ((got >= np.where(best, got, -np.inf).max(axis=1, keepdims=True)) & ~best).sum(axis=1)
    return ahead == 0, ahead


def _distribution(scores: NDArray[np.float64], *, raw: bool) -> NDArray[np.float64]:
    if raw:
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    clipped = np.maximum(scores, _LEAST)
    distribution: NDArray[np.float64] = clipped / clipped.sum(axis=1, keepdims=True)
    return distribution


def _inconclusive(want: NDArray[np.float32], against: str) -> str:
    if not np.isfinite(want).all():
        return f"{against} itself gives NaN or an infinity"
    if len(want) > 1 and float(np.ptp(want, axis=0).max()) <= _SAME:
        return f"{against} says the same of every frame: give footage that differs"
    if float(np.ptp(want, axis=1).max()) <= _SAME:
        return f"{against} scores all classes alike: give footage in which it sees something"
    return ""


def _notes(expected: NDArray[np.float64], *, raw: bool) -> tuple[str, ...]:
    notes = []
    if raw:
        notes.append("the scores are no probabilities: they were compared after a softmax")
    elif bool((np.abs(expected.sum(axis=1) - 1.0) > _ABOUT).any()):
        notes.append("the scores do not sum to one (several sigmoids?): divergence is that of their shares")
    seen = len(set(expected.argmax(axis=1).tolist()))
    if seen == 1 and len(expected) > 1:
        notes.append("the best class is the same on all frames: top-1 says little, footage with others would say more")
    return tuple(notes)
