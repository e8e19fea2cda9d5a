"""Whether a camera still looks where it looked, sees anything, and sees it sharp.

The picture is compared with a slowly learned reference by its edges: their direction (without sign) and strength, in
8 by 6 tiles. Light changes the strength of edges and turns some around, but leaves them where they are and as they run;
a passing object takes away some tiles only; a turned camera takes away nearly all and shows others; a covered one shows
none. Sharpness is the strength of the strongest edges at full resolution over that of the small picture's: light scales
both. Cost per picture: below 1 ms; two pictures a second are enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from vedette_server.data.event import EventKind
from vedette_server.monitor.health.finding import Finding, Level
from vedette_server.monitor.luma import HEIGHT, WIDTH

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vedette_server.monitor.luma import Luma

_TILES = (8, 6)
# A tile has structure when its edges are at least so strong on average, of 255 per pixel.
_STRUCTURE, _LEAST_TILES = 4.0, 6
_LEARN_S, _LEAST_PICTURES = 60.0, 20
_MATCH, _LOST = 0.5, 0.35
# Enter and leave: shares of the tiles with structure.
_COVERED = (0.6, 0.4)
# A covered camera shows less than this share of what it showed, anywhere; one that was turned shows as much.
_SHOWN = 0.65
_MOVED = (0.3, 0.5)
_DEFOCUSED = (0.5, 0.65)
_DARK_MEAN, _DARK_MOST = (18.0, 24.0), (40.0, 50.0)
_WHITE, _BRIGHT = 245, (0.6, 0.45)
_SHIFT_PX, _SHIFT_GAIN = 1.8, 0.25
# After so long a new view is how the camera stands.
_ACCEPT_S = {
    EventKind.CAMERA_MOVED: 60.0,
    EventKind.CAMERA_COVERED: 3600.0,
    EventKind.CAMERA_DEFOCUSED: 3600.0,
}
VIEW_KINDS = frozenset(_ACCEPT_S)


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges of a small picture.

    Attributes:
        strength: ``float32 [54, 96]``.
        along: Twice ``float32 [54, 96]``: strength times cosine and sine of twice their angle, so that an edge and its
            negative are the same.
    """

    strength: NDArray[np.float32]
    along: tuple[NDArray[np.float32], NDArray[np.float32]]

    @classmethod
    def of(cls, grey: NDArray[Any]) -> Edges:
        """Find the edges of ``[54, 96]``."""
        x: Any = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=3, scale=0.25)
        y: Any = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=3, scale=0.25)
        strength: Any = cv2.magnitude(x, y)
        safe = np.maximum(strength, np.float32(1e-3))
        return cls(strength, ((x * x - y * y) / safe, 2 * x * y / safe))


@dataclass(frozen=True, slots=True)
class Sight:
    """A picture held against the reference.

    Attributes:
        tiles: How many tiles of the reference have structure.
        matched: Share of these whose edges are where they were, 0..1.
        lost: Share of these that have neither their edges nor others.
        shown: How much is seen, wherever, for all that the reference shows: sums of what tiles have of edges, where
            none counts for more than the reference's well-filled ones.
    """

    tiles: int
    matched: float
    lost: float
    shown: float


class View:
    """Watches what one camera sees."""

    def __init__(self) -> None:
        self._ill: dict[EventKind, float] = {}
        self._forget()

    def _forget(self) -> None:
        self._mean: NDArray[np.float32] | None = None
        self._reference: Edges | None = None
        self._pictures, self._time_s = 0, -math.inf
        self._sharpness = Level(600, _LEAST_PICTURES)
        self._matched = Level(600, _LEAST_PICTURES)
        self._lines_width = 0

    def take(self, luma: Luma, time_s: float) -> tuple[list[Finding], bool]:
        """Take a picture with lines; return what is found, and whether edges could be judged."""
        light = self._light(luma.grey)
        if light is not None:
            return [light], False
        edges = Edges.of(luma.grey)
        if luma.lines is not None and luma.lines.shape[1] != self._lines_width:
            self._sharpness.forget()
            self._lines_width = luma.lines.shape[1]
        sharp = sharpness(luma.lines, edges) if luma.lines is not None else None
        finding = self._compare(edges, sharp)
        self._note(finding, time_s)
        if finding is None:
            self._learn(luma.grey, edges, sharp, time_s)
        elif time_s - self._ill[finding.kind] > _ACCEPT_S[finding.kind]:
            self._forget()
            self._ill.clear()
            return [], True
        return [] if finding is None else [finding], True

    def _light(self, grey: NDArray[np.uint8]) -> Finding | None:
        mean = float(cv2.mean(grey)[0])
        order = np.partition(grey, (grey.size * 98) // 100, axis=None)
        most = float(order[(grey.size * 98) // 100])
        white = float(np.count_nonzero(grey >= _WHITE)) / grey.size
        dark = self._ill_index(EventKind.CAMERA_DARK)
        if mean < _DARK_MEAN[dark] and most < _DARK_MOST[dark]:
            self._ill[EventKind.CAMERA_DARK] = 0.0
            return Finding(EventKind.CAMERA_DARK, "the picture is black", {"mean": mean, "brightest": most})
        self._ill.pop(EventKind.CAMERA_DARK, None)
        if white > _BRIGHT[self._ill_index(EventKind.CAMERA_BRIGHT)]:
            self._ill[EventKind.CAMERA_BRIGHT] = 0.0
            return Finding(EventKind.CAMERA_BRIGHT, f"{white:.0%} of the picture is white", {"white": white})
        self._ill.pop(EventKind.CAMERA_BRIGHT, None)
        return None

    def _ill_index(self, kind: EventKind) -> int:
        """Choose among enter and leave."""
        return 1 if kind in self._ill else 0

    def _compare(self, edges: Edges, sharp: float | None) -> Finding | None:
        if self._reference is None or self._pictures < _LEAST_PICTURES:
            return None
        sight = look(edges, self._reference)
        if sight.tiles < _LEAST_TILES:
            return None
        if sight.shown < _SHOWN and sight.lost >= _COVERED[self._ill_index(EventKind.CAMERA_COVERED)]:
            return Finding(
                EventKind.CAMERA_COVERED, f"{sight.lost:.0%} of what could be seen is covered", {"covered": sight.lost}
            )
        blurred = self._blurred(sight, sharp)
        return blurred if blurred is not None else self._moved(sight, edges)

    def _blurred(self, sight: Sight, sharp: float | None) -> Finding | None:
        usual = self._sharpness.known
        if sharp is None or usual is None or sight.matched < _MOVED[1]:
            return None
        if sharp >= usual * _DEFOCUSED[self._ill_index(EventKind.CAMERA_DEFOCUSED)]:
            return None
        share = sharp / usual
        return Finding(EventKind.CAMERA_DEFOCUSED, f"edges have {share:.0%} of their sharpness", {"sharpness": share})

    def _moved(self, sight: Sight, edges: Edges) -> Finding | None:
        usual = self._matched.known
        if usual is None or usual < _MOVED[1] or self._reference is None:
            return None  # what it sees never keeps still: nothing can be told
        shift = None if sight.matched > 0.9 * usual else shift_of(edges, self._reference)
        far = sight.matched < usual * _MOVED[self._ill_index(EventKind.CAMERA_MOVED)]
        if not far and shift is None:
            return None
        measures = {"matched": sight.matched}
        if shift is None:
            return Finding(EventKind.CAMERA_MOVED, "it looks somewhere else", measures)
        measures |= {"shift_x": shift[0], "shift_y": shift[1]}
        where = f"by {abs(shift[0]):.0%} across and {abs(shift[1]):.0%} down or up"
        return Finding(EventKind.CAMERA_MOVED, f"the picture is shifted {where}", measures)

    def _note(self, finding: Finding | None, time_s: float) -> None:
        for kind in VIEW_KINDS & self._ill.keys():
            if finding is None or finding.kind is not kind:
                del self._ill[kind]
        if finding is not None:
            self._ill.setdefault(finding.kind, time_s)

    def _learn(self, grey: NDArray[np.uint8], edges: Edges, sharp: float | None, time_s: float) -> None:
        if sharp is not None:
            self._sharpness.learn(sharp)
        if self._reference is not None and self._pictures >= _LEAST_PICTURES // 2:
            self._matched.learn(look(edges, self._reference).matched)
        passed, self._time_s = time_s - self._time_s, time_s
        self._pictures += 1
        if self._mean is None:
            self._mean = grey.astype(np.float32)
        else:
            rate = max(1 - math.exp(-max(passed, 0.0) / _LEARN_S), 1 / self._pictures)
            cv2.accumulateWeighted(grey, self._mean, min(rate, 1.0))
        if self._pictures < _LEAST_PICTURES or self._pictures % 8 == 0:
            self._reference = Edges.of(self._mean)


def look(edges: Edges, reference: Edges) -> Sight:
    """Hold edges against a reference, tile by tile."""
    usual = _tiled(reference.strength)
    structured = usual > _STRUCTURE
    tiles = int(np.count_nonzero(structured))
    if not tiles:
        return Sight(0, 1.0, 0.0, 1.0)
    own = _tiled(edges.strength * edges.strength)
    theirs = _tiled(reference.strength * reference.strength)
    filled = np.quantile(theirs, 0.7)
    (a, b), (c, d) = edges.along, reference.along
    agreement = _tiled(np.asarray(a * c + b * d, np.float32)) / np.sqrt(np.maximum(own * theirs, 1e-6))
    matched = agreement > _MATCH
    lost = ~matched & (own < _LOST * _LOST * theirs)
    return Sight(
        tiles,
        matched=float(np.count_nonzero(matched & structured)) / tiles,
        lost=float(np.count_nonzero(lost & structured)) / tiles,
        shown=float(np.minimum(own, filled).sum() / np.minimum(theirs, filled).sum()),
    )


def shift_of(edges: Edges, reference: Edges) -> tuple[float, float] | None:
    """Find by phase correlation of edges how a picture is shifted, normalised x and y.

    Returns:
        None where no shift makes the edges agree much better than they do as they are.
    """
    # Copies: OpenCV 4.14 writes the windowed pictures back into what it was given.
    (x, y), _ = cv2.phaseCorrelate(reference.strength.copy(), edges.strength.copy(), _window())
    columns, rows = round(x), round(y)
    if math.hypot(x, y) < _SHIFT_PX or abs(columns) > WIDTH // 2 or abs(rows) > HEIGHT // 2:
        return None
    gain = _agreement(edges, reference, columns, rows) - _agreement(edges, reference, 0, 0)
    return (x / WIDTH, y / HEIGHT) if gain > _SHIFT_GAIN else None


def sharpness(lines: NDArray[np.uint8], edges: Edges) -> float | None:
    """Tell how sharp the strongest edges are: at full resolution, over those of the small picture; None without any."""
    steps: Any = cv2.absdiff(lines[:, 2:], lines[:, :-2])
    counts: Any = cv2.calcHist([steps], [0], None, [256], [0, 256])
    fine = _top_mean(counts.ravel(), 0.02)
    coarse_counts: Any = cv2.calcHist([edges.strength], [0], None, [256], [0, 256])
    coarse = _top_mean(coarse_counts.ravel(), 0.05)
    return fine / coarse if coarse > _STRUCTURE else None


def _top_mean(counts: NDArray[np.float32], share: float) -> float:
    """Return the mean of the upper share of values, of which ``float32 [256]`` says how often each is there."""
    above = np.cumsum(counts[::-1])
    wanted = share * float(above[-1])
    taken = np.diff(np.minimum(above, wanted), prepend=0.0)
    return float((taken * np.arange(255, -1, -1)).sum() / max(wanted, 1.0))


def _tiled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    tiles: Any = cv2.resize(values, _TILES, interpolation=cv2.INTER_AREA)
    return tiles  # type: ignore[no-any-return]


def _agreement(edges: Edges, reference: Edges, columns: int, rows: int) -> float:
    """Correlate edges with a reference that is shifted, where both have pixels."""
    here = (slice(max(rows, 0), HEIGHT + min(rows, 0)), slice(max(columns, 0), WIDTH + min(columns, 0)))
    there = (slice(max(-rows, 0), HEIGHT - max(rows, 0)), slice(max(-columns, 0), WIDTH - max(columns, 0)))
    total = sum(
        float((own[here] * other[there]).sum()) for own, other in zip(edges.along, reference.along, strict=True)
    )
    own, other = edges.strength[here], reference.strength[there]
    return total / max(math.sqrt(float((own * own).sum()) * float((other * other).sum())), 1e-6)


def _window() -> NDArray[np.float32]:
    window: Any = cv2.createHanningWindow((WIDTH, HEIGHT), cv2.CV_32F)
    return window  # type: ignore[no-any-return]
