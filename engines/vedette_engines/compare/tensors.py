"""Compare the raw outputs of two frameworks that run the same model, number by number."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

RTOL = 1e-4
ATOL = 1e-5


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """How far apart two outputs are.

    Attributes:
        name: The output's.
        shape: The reference's shape.
        largest: Largest difference of two finite values.
        largest_reference: Largest finite value of the reference, its sign left off.
        share_beyond: Share of the elements that differ by more than `atol + rtol * |reference|`, 0..1; those that
            are finite on one side only among them.
        mismatched: Elements that are NaN or infinite on one side and not the same on the other.
        where: Index of the worst element: of the first mismatched one, else of the largest difference.
        reason: Why the two cannot be compared number by number; empty: they can.
    """

    name: str
    shape: tuple[int, ...]
    largest: float = 0.0
    largest_reference: float = 0.0
    share_beyond: float = 0.0
    mismatched: int = 0
    where: tuple[int, ...] = ()
    reason: str = ""

    @property
    def largest_relative(self) -> float:
        """Largest difference as a part of the largest reference value; of zeros only nothing may differ."""
        if self.largest == 0.0:
            return 0.0
        return self.largest / self.largest_reference if self.largest_reference else float("inf")

    def to_json(self) -> dict[str, Any]:
        """Give it as plain data; a part of nothing is None."""
        relative = self.largest_relative
        return {
            "name": self.name,
            "shape": list(self.shape),
            "largest": self.largest,
            "largest_reference": self.largest_reference,
            "largest_relative": relative if np.isfinite(relative) else None,
            "share_beyond": self.share_beyond,
            "mismatched": self.mismatched,
            "where": list(self.where),
            "reason": self.reason,
        }

    def __str__(self) -> str:
        if self.reason:
            return f"{self.name}: {self.reason}"
        odd = f", {self.mismatched} NaN or infinite on one side only" if self.mismatched else ""
        return (
            f"{self.name} {list(self.shape)}: largest difference {self.largest:.3g} at {list(self.where)}, "
            f"{self.largest_relative:.2g} of the largest value {self.largest_reference:.4g}; "
            f"{self.share_beyond:.3%} of the elements beyond rtol {RTOL:g} / atol {ATOL:g}{odd}"
        )


def compare_tensors(
    reference: Sequence[NDArray[Any]],
    candidate: Sequence[NDArray[Any]],
    names: Sequence[str],
    rtol: float = RTOL,
    atol: float = ATOL,
) -> tuple[OutputDifference, ...]:
    """Compare output by output. What cannot be compared is a finding, too: another count, shape or kind of number.

    Args:
        reference: What the source framework gave.
        candidate: What is to be judged.
        names: The outputs' names, in the same order.
        rtol: Part of the reference value that an element may be off.
        atol: What it may be off besides.
    """
    found = []
    pairs: Iterable[tuple[Any, Any]] = zip_longest(reference, candidate)
    for number, (want, have) in enumerate(pairs):
        name = names[number] if number < len(names) else f"output {number}"
        if want is None:
            found.append(OutputDifference(name, np.shape(have), reason=f"the reference has no output number {number}"))
        elif have is None:
            found.append(OutputDifference(name, np.shape(want), reason=f"the candidate has no output number {number}"))
        else:
            found.append(_compare(name, np.asarray(want), np.asarray(have), rtol, atol))
    return tuple(found)


def _compare(name: str, want: NDArray[Any], have: NDArray[Any], rtol: float, atol: float) -> OutputDifference:
    if want.shape != have.shape:
        return OutputDifference(name, want.shape, reason=f"is {list(have.shape)}, the reference {list(want.shape)}")
    if _kind(want) != _kind(have):
        return OutputDifference(name, want.shape, reason=f"is {have.dtype}, the reference {want.dtype}")
    if not want.size:
        return OutputDifference(name, want.shape, reason="has no element: nothing can be compared")
    expected, got = want.astype(np.float64), have.astype(np.float64)
    if not np.isfinite(expected).any():
        return OutputDifference(name, want.shape, reason="the reference has no finite value: nothing can be compared")
    finite = np.isfinite(expected) & np.isfinite(got)
    odd = ~finite & ~(expected == got) & ~(np.isnan(expected) & np.isnan(got))
    difference = np.zeros(expected.shape)
    difference[finite] = np.abs(expected[finite] - got[finite])
    with np.errstate(invalid="ignore"):
        beyond = odd | (finite & (difference > atol + rtol * np.abs(expected)))
    worst = int(odd.argmax()) if odd.any() else int(difference.argmax())
    known = np.abs(expected[np.isfinite(expected)])
    return OutputDifference(
        name,
        want.shape,
        largest=float(difference.max()),
        largest_reference=float(known.max(initial=0.0)),
        share_beyond=float(beyond.mean()),
        mismatched=int(odd.sum()),
        where=tuple(int(index) for index in np.unravel_index(worst, expected.shape)),
    )


def _kind(values: NDArray[Any]) -> str:
    """Sort element types: float16 and float32 can be compared, a float and an index cannot."""
    return "integer" if values.dtype.kind in "iub" else values.dtype.kind
