"""Draw a stretch of a trace as a picture, so that it can be looked at without a browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from vedette_server.tracing.reading import Trace, read

if TYPE_CHECKING:
    from vedette_server.tracing.reading import Span, Track

WIDTH, LEFT, ROW, GAP, TOP = 2400, 330, 17, 5, 34
# BGR. Waiting is pale, work is not.
COLOURS = {
    "receive": (225, 225, 225),
    "decode": (200, 130, 60),
    "held": (235, 215, 195),
    "wait": (200, 200, 235),
    "convert": (80, 160, 60),
    "batch": (200, 235, 235),
    "execute": (50, 80, 220),
    "run": (50, 80, 220),
    "answer": (235, 200, 235),
    "post": (170, 60, 170),
    "order": (215, 215, 215),
    "verdict": (40, 160, 230),
    "verdicts": (40, 160, 230),
    "through": (200, 200, 140),
}
OTHER = (150, 150, 150)


def draw(trace: Trace, start_s: float, seconds: float, picture: Path, most_channels: int = 6) -> None:
    """Draw from a moment on, in seconds since the trace began."""
    begin, end = round(start_s * 1e6), round((start_s + seconds) * 1e6)
    tracks = _tracks(trace, begin, end, most_channels)
    height = TOP + len(tracks) * ROW + len({track[0] for track in tracks}) * GAP + 10
    image = np.full((height, WIDTH, 3), 255, np.uint8)
    scale = (WIDTH - LEFT - 10) / (end - begin)
    for tick in range(11):
        x = LEFT + round(tick * (end - begin) / 10 * scale)
        cv2.line(image, (x, TOP - 6), (x, height), (235, 235, 235), 1)
        _write(image, f"{(begin + tick * (end - begin) / 10) / 1e3:.0f} ms", x + 2, TOP - 12)
    y, group = TOP, ""
    for track in tracks:
        if track[0] != group:
            group, y = track[0], y + GAP
        _write(image, f"{track[0]}: {track[1]}", 4, y + ROW - 5)
        for span in trace.spans[track]:
            if span.kind != "frame" and span.start < end and span.end > begin:
                _box(image, span, y, begin, scale)
        for where, name, at, _ in trace.instants:
            if where == track and begin <= at < end:
                x = LEFT + round((at - begin) * scale)
                cv2.circle(image, (x, y + ROW // 2), 4, (0, 0, 200), -1)
                _write(image, name, x + 6, y + ROW - 5, (0, 0, 200))
        y += ROW
    cv2.imwrite(str(picture), image)


def _tracks(trace: Trace, begin: int, end: int, most_channels: int) -> list[Track]:
    on = [track for track, spans in trace.spans.items() if any(span.start < end and span.end > begin for span in spans)]
    channels = sorted({track[0] for track in on if track[0] != "vedette serve" and not track[0].startswith("engine ")})
    shown = set(channels[:most_channels])

    def order(track: Track) -> tuple[int, str, list[str | int]]:
        kind = 0 if track[0] == "vedette serve" else 1 if track[0].startswith("engine ") else 2
        parts: list[str | int] = [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", track[1])]
        return kind, track[0], parts

    return sorted((track for track in on if track[0] in shown or track[0] not in channels), key=order)


def _box(image: np.ndarray, span: Span, y: int, begin: int, scale: float) -> None:
    left = max(LEFT + round((span.start - begin) * scale), LEFT)
    right = min(max(LEFT + round((span.end - begin) * scale), left + 1), WIDTH - 10)
    word = span.name.split()[0]
    if span.kind == "batch":
        word = "execute" if span.name.startswith("batch") else word
    cv2.rectangle(image, (left, y + 1), (right - 1, y + ROW - 2), COLOURS.get(word, OTHER), -1)
    text = span.name + (f" {span.args['channel']}" if "channel" in span.args else "")
    if right - left > 8 * len(text) // 1.2:
        _write(image, text, left + 2, y + ROW - 5)


def _write(image: np.ndarray, text: str, x: int, y: int, colour: tuple[int, int, int] = (0, 0, 0)) -> None:
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.38, colour, 1, cv2.LINE_AA)


def main() -> None:
    """Draw half a second of a file."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--from-s", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--channels", type=int, default=6)
    options = parser.parse_args()
    draw(read(options.trace), options.from_s, options.seconds, options.picture, options.channels)


if __name__ == "__main__":
    main()
