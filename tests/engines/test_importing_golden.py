"""The imported YOLOX-nano against the detections of a plain loop around the original."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import pytest

from vedette_engines.graft.session import Session
from vedette_engines.importing import ImportRequest, import_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle

ASSETS = Path(__file__).parents[2].parent / "shared" / "assets"
MODEL = ASSETS / "models" / "yolox_nano_416.onnx"
SIDE = 416
FRAMES = 18

pytestmark = pytest.mark.skipif(not MODEL.exists(), reason="../shared/assets is not there")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    labels = tuple((ASSETS / "models" / "coco.names").read_text().strip().splitlines())
    clip = ASSETS / "clips" / "intel_classroom_h264_pingpong4.mp4"
    root = tmp_path_factory.mktemp("engines")
    return import_model(ImportRequest(MODEL, labels, "yolox", "1", root, frames=(clip,)), lambda line: None)


def letterboxed(clip: Path) -> Iterator[tuple[NDArray[np.uint8], float]]:
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            picture = frame.to_ndarray(format="bgr24")
            height, width = picture.shape[:2]
            ratio = min(SIDE / height, SIDE / width)
            size = (int(width * ratio), int(height * ratio))
            slot = np.full((SIDE, SIDE, 3), 114, np.uint8)
            slot[: size[1], : size[0]] = resized(picture, size)
            yield slot, ratio


def resized(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize exactly: the server lets IPP do it on its threads; what ran on this one must not matter, nor what will."""
    before = cv2.ipp.useIPP_NotExact()
    cv2.ipp.setUseIPP_NotExact(False)
    try:
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    finally:
        cv2.ipp.setUseIPP_NotExact(before)


def suppressed(rows: NDArray[np.float32], iou: float = 0.45) -> NDArray[np.float32]:
    """Keep the best of the boxes that overlap, class by class; by falling score."""
    kept: list[NDArray[np.float32]] = []
    for row in rows:
        if all(row[5] != other[5] or overlap(row, other) <= iou for other in kept):
            kept.append(row)
    return np.asarray(kept, np.float32).reshape(-1, 6)


def overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    sides = np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / (float(np.prod(a[2:4] - a[:2]) + np.prod(b[2:4] - b[:2])) - shared)


@pytest.mark.parametrize(
    "clip",
    [
        "intel_classroom_h264_pingpong4.mp4",
        "intel_store-aisle-detection_h264_pingpong4.mp4",
        "intel_worker-zone-detection_h264_pingpong4.mp4",
    ],
)
def test_the_imported_engine_finds_what_the_original_finds_to_the_last_digit(clip: str, engine: Bundle) -> None:
    golden: list[dict[str, Any]] = json.loads((ASSETS / "golden" / f"{clip}.json").read_text())["frames"]
    session = Session(engine.path_of(engine.manifest.files[0]), "engine")
    compared = 0
    for (slot, ratio), expected in zip(letterboxed(ASSETS / "clips" / clip), golden[:FRAMES], strict=False):
        rows = session.run({"frames": slot[None]})[0][0]
        found = suppressed(rows[rows[:, 4] >= 0.3])
        assert [engine.manifest.labels[int(row[5])] for row in found] == [box[5] for box in expected["det"]]
        wanted = np.asarray([box[:5] for box in expected["det"]]).reshape(-1, 5)
        # The golden file has one digit of a pixel and three of a score.
        np.testing.assert_allclose(found[:, 4], wanted[:, 4], atol=0.00055)
        np.testing.assert_allclose(found[:, :4] / ratio, wanted[:, :4], atol=0.055)
        compared += len(wanted)
    assert compared > FRAMES / 2


def test_the_import_makes_a_dynamic_batch_and_compares_real_frames(engine: Bundle) -> None:
    assert engine.manifest.files[0].batch is None
    assert "16 frames (8 real)" in engine.manifest.provenance["parity"]
