"""Frames to try a model on: noise, drawn pictures, and pictures of the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import av
import numpy as np
from av.error import FFmpegError

from vedette_engines.errors import ImportInputError
from vedette_engines.graft.letterbox import letterbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from vedette_engines.manifest import InputSpec

FRAMES_PER_FILE = 8
MAX_REAL_FRAMES = 32
# A file's frames follow each other closely: taking every tenth shows the model more.
_STEP = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame to try.

    Attributes:
        label: Where it comes from, for messages.
        pixels: `uint8 [height, width, 3]`, BGR, C-contiguous, letterboxed.
        real: It is a picture of the user's own.
    """

    label: str
    pixels: NDArray[np.uint8]
    real: bool = False


def made_samples(spec: InputSpec, count: int = 4, seed: int = 20_261) -> list[Sample]:
    """Make as many frames of noise, and as many drawn pictures."""
    rng = np.random.default_rng(seed)
    shape = (spec.height, spec.width, 3)
    noise = [Sample(f"noise {i}", rng.integers(0, 256, shape, np.uint8)) for i in range(count)]
    return noise + [Sample(f"drawing {i}", _draw(rng, *shape[:2])) for i in range(count)]


def _draw(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Draw rectangles and discs of all sizes before a gradient, with a little grain."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    sky = rng.uniform(40, 200, (2, 3)).astype(np.float32)
    picture = sky[0] + (sky[1] - sky[0]) * (rows / height)[..., None]
    for _ in range(12):
        colour = rng.uniform(0, 255, 3).astype(np.float32)
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        half_width, half_height = rng.uniform(0.02, 0.25, 2) * (width, height)
        across, down = np.abs(columns - x) / half_width, np.abs(rows - y) / half_height
        inside = (across**2 + down**2 < 1) if rng.random() < 0.5 else (np.maximum(across, down) < 1)
        picture[inside] = colour
    picture += rng.normal(0, 3, picture.shape).astype(np.float32)
    pixels: NDArray[np.uint8] = np.clip(picture, 0, 255).astype(np.uint8)
    return pixels


def real_samples(paths: Sequence[Path], spec: InputSpec) -> list[Sample]:
    """Read frames from pictures, videos, and folders of them, at most `MAX_REAL_FRAMES` in all.

    Raises:
        ImportInputError: A path does not exist or shows no picture.
    """
    samples: list[Sample] = []
    for path in paths:
        files = sorted(entry for entry in path.iterdir() if entry.is_file()) if path.is_dir() else [path]
        found = len(samples)
        for file in files[: MAX_REAL_FRAMES - len(samples)]:
            samples.extend(_read(file, spec, strict=not path.is_dir()))
        if len(samples) == found and len(samples) < MAX_REAL_FRAMES:
            raise ImportInputError(f"--frames {path}: no picture in it can be read")
    return samples[:MAX_REAL_FRAMES]


def _read(file: Path, spec: InputSpec, *, strict: bool) -> Iterator[Sample]:
    try:
        with av.open(str(file)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number >= FRAMES_PER_FILE * _STEP:
                    return
                if number % _STEP == 0:
                    yield Sample(f"{file.name} frame {number}", letterbox(frame, spec), real=True)
    except (FFmpegError, OSError, IndexError) as error:
        if strict:
            raise ImportInputError(f"--frames {file}: cannot be read: {error}") from error
