"""What one camera has done so far, as its row in a table shows it. Pure code, one thread."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_client.verdicts import Verdict

WINDOW_S = 3.0
_MAX_RECENT = 4096
# Buckets of the histogram are this much wider than the one before: a percentile is right to within 2 %.
_GROWTH = 1.04
_SMALLEST_S = 1e-4


class Ages:
    """All ages of a stream in little room: a histogram whose buckets grow by a constant factor."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, age_s: float) -> None:
        """Count one age."""
        self._counts[max(0, round(math.log(max(age_s, _SMALLEST_S) / _SMALLEST_S, _GROWTH)))] += 1

    def percentile(self, percent: float) -> float | None:
        """Tell the age that so many per cent do not exceed; None without any."""
        rank = math.ceil(self._counts.total() * percent / 100)
        for bucket in sorted(self._counts):
            rank -= self._counts[bucket]
            if rank <= 0:
                return _SMALLEST_S * _GROWTH**bucket
        return None


@dataclass(slots=True)
class Tally:
    """Counts of one camera, in all and of late.

    Attributes:
        sent: Packets sent.
        analysed: Verdicts with an analysis.
        skipped: Other verdicts by reason.
        objects: What was found in the last analysed picture, by label.
        ages: Ages of analysed frames.
        position_s: Presentation time of the latest verdict since the first one.
    """

    sent: int = 0
    analysed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    ages: Ages = field(default_factory=Ages)
    position_s: float = 0.0
    _sent_at: deque[float] = field(default_factory=lambda: deque(maxlen=_MAX_RECENT))
    _analysed_at: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_MAX_RECENT))

    def add_sent(self, now_s: float) -> None:
        """Count a packet."""
        self.sent += 1
        self._sent_at.append(now_s)

    def add_verdict(self, verdict: Verdict, age_s: float, now_s: float) -> None:
        """Count a verdict."""
        if verdict.reason is not None:
            self.skipped[verdict.reason.name] += 1
            return
        self.analysed += 1
        self.ages.add(age_s)
        self._analysed_at.append((now_s, age_s))
        self.objects = Counter(detection.label for detection in verdict.detections)
        for result in verdict.results:
            if result.classifications:
                self.objects[result.classifications[0].label] += 1

    def sent_fps(self, now_s: float) -> float:
        """Packets per second of late."""
        return _rate(list(self._sent_at), now_s)

    def analysed_fps(self, now_s: float) -> float:
        """Analysed frames per second of late."""
        return _rate([at for at, _ in self._analysed_at], now_s)

    def recent_ages(self, now_s: float) -> tuple[float, float] | None:
        """Median and 95th percentile of the ages of late; None without any."""
        ages = sorted(age for at, age in self._analysed_at if now_s - at <= WINDOW_S)
        if not ages:
            return None
        return ages[math.ceil(len(ages) * 0.5) - 1], ages[math.ceil(len(ages) * 0.95) - 1]


def _rate(times: Sequence[float], now_s: float) -> float:
    """Events per second within the window, or since the first one when that was later."""
    recent = [at for at in times if now_s - at <= WINDOW_S]
    if not recent:
        return 0.0
    span_s = WINDOW_S if len(recent) < len(times) else max(1.0, now_s - recent[0])
    return len(recent) / span_s


def told(counts: Counter[str], *, nothing: str = "-") -> str:
    """Write counts as words: `2 person 1 car`; names in capitals become small ones."""
    return (
        " ".join(f"{count} {name.lower() if name.isupper() else name}" for name, count in counts.most_common())
        or nothing
    )
