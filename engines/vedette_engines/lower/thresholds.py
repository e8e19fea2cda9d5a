"""Settle which range of a distribution eight bits are to cover.

A histogram is `int64 [B]`, evenly from the smallest to the largest value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Range = tuple[float, float]
    Counts = NDArray[np.int64]

LEVELS = 256
# Candidates for the range that `entropy` compares.
_CANDIDATES = 96
# Share of the values that `entropy` keeps at least: where many of them crowd at one place, as behind a SiLU, it would
# give up the large ones, which a network cannot do without.
_LEAST_KEPT = 0.999
# Candidates for the lower end in front of a SiLU.
_LOWER_ENDS = 24
# What an empty bin counts as, so that the divergence stays finite.
_SMOOTHING = 1e-4


def percentile_range(counts: Counts, extremes: Range, percentile: float, *, symmetric: bool) -> Range:
    """Cut off the rarest values: of magnitude for a symmetric range, half of them at each end for another."""
    if symmetric:
        folded, bound = fold(counts, extremes)
        kept = _quantile(folded, percentile / 100) * bound
        return -kept, kept
    outside = (1 - percentile / 100) / 2
    low, high = extremes
    width = high - low
    lower = low + (1 - _quantile(counts[::-1], 1 - outside)) * width
    upper = low + _quantile(counts, 1 - outside) * width
    return lower, upper


def silu_range(counts: Counts, extremes: Range, ends: Range) -> Range:
    """Raise the lower end of a range in front of `x * sigmoid(x)` to where the least error is left behind it.

    What is far below 0 becomes nearly 0 there: to hold it would take levels from what is not. In the first layers of
    YOLOX-nano half of the range and more.

    Args:
        counts: Histogram of what goes into the SiLU.
        extremes: Its ends.
        ends: The range that is to be narrowed.
    """
    low, high = ends
    if low >= 0 or high <= low:
        return ends
    centres = extremes[0] + (np.arange(len(counts)) + 0.5) * ((extremes[1] - extremes[0]) / len(counts))
    seen = counts > 0
    values: NDArray[np.float64] = centres[seen].astype(np.float64)
    weights = counts[seen].astype(np.float64)
    wanted = _silu(values)
    # A rounded value is off by a twelfth of the squared step on average, times the squared slope at its place.
    slopes = np.gradient(wanted, values) if len(values) > 1 else np.ones_like(values)

    def error(least: float) -> float:
        step = (max(high, 0.0) - least) / (LEVELS - 1)
        kept = (values >= least) & (values <= high)
        off = np.where(kept, slopes * step / np.sqrt(12), _silu(values.clip(least, high)) - wanted)
        return float((weights * off * off).sum())

    return min((float(low * share) for share in np.linspace(1, 0.02, _LOWER_ENDS)), key=error), high


def _silu(values: NDArray[np.float64]) -> NDArray[np.float64]:
    given: NDArray[np.float64] = values / (1 + np.exp(-np.clip(values, -80, 80)))
    return given


def entropy_range(counts: Counts, extremes: Range, *, symmetric: bool) -> Range:
    """Take the range whose eight-bit picture diverges least from the distribution (Kullback-Leibler).

    S. Migacz, "8-bit inference with TensorRT", GTC 2017; there for magnitudes, here for ranges with a zero point as
    well: the same bound is tried at both ends.
    """
    counts = _without_zeros(counts, extremes)
    if symmetric:
        folded, bound = fold(counts, extremes)
        bins = len(folded)
        least = int(np.ceil(_quantile(folded, _LEAST_KEPT) * bins))
        ends = _candidates(max(least, LEVELS // 2), bins)
        best = min(ends, key=lambda end: divergence(folded, 0, end, LEVELS // 2))
        kept = best / bins * bound
        return -kept, kept
    low, high = extremes
    step = (high - low) / len(counts)
    windows = [_window(share * max(-low, high), extremes, len(counts)) for share in np.linspace(1, 1 / 16, _CANDIDATES)]
    kept = _LEAST_KEPT * counts.sum()
    windows = [(start, end) for start, end in windows if counts[start:end].sum() >= kept]
    start, end = min(dict.fromkeys(windows), key=lambda window: divergence(counts, window[0], window[1], LEVELS))
    return low + start * step, low + end * step


def _without_zeros(counts: Counts, extremes: Range) -> Counts:
    """Level the bin that holds 0: eight bits hold it exactly, and behind a ReLU its mass would hide all others."""
    low, high = extremes
    if not low <= 0 <= high:
        return counts
    place = min(int(-low / (high - low) * len(counts)), len(counts) - 1)
    levelled = counts.copy()
    beside = [counts[i] for i in (place - 1, place + 1) if 0 <= i < len(counts)]
    levelled[place] = min(counts[place], max(beside))
    return levelled


def fold(counts: Counts, extremes: Range) -> tuple[Counts, float]:
    """Turn a histogram of values into one of magnitudes, from 0 to the largest one."""
    low, high = extremes
    bound = max(abs(low), abs(high))
    centres = np.abs(low + (np.arange(len(counts)) + 0.5) * ((high - low) / len(counts)))
    places = np.minimum((centres / bound * len(counts)).astype(np.int64), len(counts) - 1)
    folded = np.zeros_like(counts)
    np.add.at(folded, places, counts)
    return folded, bound


def divergence(counts: Counts, start: int, end: int, levels: int) -> float:
    """Tell how much of a distribution is lost when its bins `start:end` become so many levels and the rest is cut."""
    inside = counts[start:end].astype(np.float64)
    clipped = inside.copy()
    clipped[0] += counts[:start].sum()
    clipped[-1] += counts[end:].sum()
    filled = clipped > 0
    places = np.arange(len(inside)) * levels // len(inside)
    sums = np.bincount(places, inside, levels)
    shares = np.bincount(places, filled, levels)
    spread = np.where(filled, sums[places] / np.maximum(shares[places], 1), 0.0)
    reference, candidate = _smoothed(clipped), _smoothed(spread)
    return float((reference * np.log(reference / candidate)).sum())


def _smoothed(distribution: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled = distribution / max(distribution.sum(), 1.0) + _SMOOTHING / len(distribution)
    smoothed: NDArray[np.float64] = scaled / scaled.sum()
    return smoothed


def _quantile(counts: Counts, share: float) -> float:
    """Tell at which part of the histogram's width this share of the values is below."""
    total = np.cumsum(counts)
    place = int(np.searchsorted(total, share * total[-1]))
    return min(place + 1, len(counts)) / len(counts)


def _candidates(first: int, last: int) -> list[int]:
    return sorted({int(end) for end in np.linspace(first, last, _CANDIDATES)}, reverse=True)


def _window(bound: float, extremes: Range, bins: int) -> tuple[int, int]:
    low, high = extremes
    step = (high - low) / bins
    start = max(0, int((max(low, -bound) - low) / step))
    end = min(bins, int(np.ceil((min(high, bound) - low) / step)))
    return (start, end) if end - start >= LEVELS // 8 else (0, bins)
