"""Pictures for the tests of conversion and decoding."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest


def photo(width: int, height: int, seed: int = 3) -> np.ndarray:
    """Paint ``uint8 [height, width, 3]``, BGR: smooth colours with edges, as a camera's are."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 236, (9, 16, 3), np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(6):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        shade = tuple(int(value) for value in rng.integers(30, 220, 3))
        cv2.rectangle(picture, (x, y), (x + width // 5, y + height // 4), shade, -1)
    return cv2.GaussianBlur(picture, (3, 3), 0)


def asset(path: str) -> Path:
    """Find test material, or skip the test."""
    found = Path(__file__).parents[2] / "shared" / "assets" / path
    if not found.exists():
        pytest.skip(f"no test material: ../shared/assets/{path}")
    return found
