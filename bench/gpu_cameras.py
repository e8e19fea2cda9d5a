"""The whole server, fed by simulated cameras: 1080p H.264, 30 pictures a second, as many as it holds."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.cameras import Cameras, Plan
from bench.serving import Server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SIZE, FPS, SECONDS = (1920, 1080), 30, 4
# A camera is held when so much of what it sends is analysed so soon.
P95_S, MOST_SKIPPED = 0.1, 0.001
_BIT_RATE = 4_000_000


def film(path: Path) -> Path:
    """Write a clip as a camera would send it: squares that move over a grainy ground; H.264 without B pictures."""
    import av

    rng = np.random.default_rng(3)
    ground = rng.integers(40, 110, (SIZE[1], SIZE[0], 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height = SIZE
        stream.pix_fmt, stream.bit_rate, stream.time_base = "yuv420p", _BIT_RATE, Fraction(1, FPS)
        stream.options = {"preset": "veryfast", "tune": "zerolatency", "g": str(FPS)}
        for number in range(FPS * SECONDS):
            picture = np.roll(ground, number, axis=1)
            for square in range(6):
                x, y = (square * 300 + number * 4) % (SIZE[0] - 120), 100 + square * 140
                picture[y : y + 100, x : x + 100] = np.roll((0, 0, 255), square)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, "bgr24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def held(flags: Sequence[str], clip: Path, engine: str, cameras: int, seconds: float) -> dict[str, Any]:
    """Let so many cameras send to a server, and tell how it held them."""
    with Server(*flags) as server:
        running = Cameras(Plan(server.address, clip, engine, cameras, float(FPS), seconds))
        running.wait_ready()
        before = server.cpu_s
        outcome = running.wait()
        cpu_s = server.cpu_s - before
    tallies = outcome.tallies
    sent = sum(tally.sent for tally in tallies)
    analysed = sum(tally.analysed for tally in tallies)
    skipped: Counter[str] = sum((tally.skipped for tally in tallies), Counter())
    ages = sorted(age for tally in tallies for _, age in tally.ages)
    lost = 1 - analysed / sent
    p95 = ages[int(0.95 * len(ages))] if ages else float("nan")
    return {
        "cameras": cameras,
        "held": bool(p95 < P95_S and lost < MOST_SKIPPED),
        "age_p50_s": ages[len(ages) // 2] if ages else float("nan"),
        "age_p95_s": p95,
        "skipped_share": lost,
        "skipped": dict(skipped),
        "analysed_per_s": analysed / outcome.wall_s,
        "mean_batch": _mean(sum((tally.batches for tally in tallies), Counter())),
        "server_cores": cpu_s / outcome.wall_s,
        "cameras_cores": outcome.cpu_s / outcome.wall_s,
        "cameras_late_s": max(tally.late_s for tally in tallies),
    }


def _mean(sizes: Counter[int]) -> float:
    frames = sum(sizes.values())
    # Each frame tells the size of its batch.
    return frames / sum(count / size for size, count in sizes.items()) if frames else 0.0


def hold(flags: Sequence[str], folder: Path, engine: str, counts: Sequence[int], seconds: float) -> dict[str, Any]:
    """Let more and more cameras send, until the server does not hold them."""
    clip = film(folder / "camera.mp4")
    rows = []
    for cameras in sorted(counts):
        row = held(flags, clip, engine, cameras, seconds)
        rows.append(row)
        print(
            f"  {cameras:4} cameras: p95 {row['age_p95_s'] * 1e3:6.1f} ms, {row['skipped_share']:.3%} skipped, "
            f"{row['analysed_per_s']:7.1f} frames/s, server {row['server_cores']:.1f} cores",
            flush=True,
        )
        if not row["held"]:
            break
    most = max((row["cameras"] for row in rows if row["held"]), default=0)
    chart = {
        "title": "Age at the verdict, p95, seconds",
        "label": [("cameras", " cameras")],
        "value": "age_p95_s",
        "hue": "held",
    }
    return {
        "chart": chart,
        "rows": rows,
        "cameras held": most,
        "held means": f"p95 under {P95_S * 1e3:g} ms and less than {MOST_SKIPPED:.1%} skipped",
        "sent": f"{SIZE[0]}x{SIZE[1]} H.264, {FPS} pictures a second, {_BIT_RATE / 1e6:g} Mbit/s each",
    }
