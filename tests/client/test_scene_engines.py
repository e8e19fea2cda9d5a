"""The engines in the box find the scenes that were made for them, as a plain loop sees them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from vedette_client.padded import padded_packet
from vedette_client.scene.truth import match
from vedette_client.sources import open_source

onnxruntime = pytest.importorskip("onnxruntime")
BOXED = Path(__file__).parents[2] / "engines" / "vedette_engines" / "boxed"
SIZES = {"blobs": (160, 96), "person": (512, 288)}
LABELS = {"blobs": ("red", "green", "blue"), "person": ("person",)}


@dataclass
class Found:
    label: str
    score: float
    box: tuple[float, float, float, float]


@pytest.fixture(scope="module")
def engines():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    paths = {name: BOXED / name / "1" / "model.onnx" for name in SIZES}
    return {
        name: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for name, path in paths.items()
    }


def detect(engines, name, picture):
    """Letterbox top-left, run, drop boxes that overlap; corners normalised to the picture."""
    width, height = SIZES[name]
    scale = min(width / picture.shape[1], height / picture.shape[0])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    slot = np.full((1, height, width, 3), 114, np.uint8)
    slot[0, : small.shape[0], : small.shape[1]] = small
    candidates = engines[name].run(None, {"frames": slot})[0][0]
    sizes = np.array([small.shape[1], small.shape[0]] * 2)
    sure = [row for row in candidates if row[4] >= 0.5]
    boxes = [[*row[:2], row[2] - row[0], row[3] - row[1]] for row in sure]
    kept = cv2.dnn.NMSBoxesBatched(boxes, [float(row[4]) for row in sure], [int(row[5]) for row in sure], 0.5, 0.4)
    chosen = [sure[index] for index in np.ravel(kept).astype(int)]
    return [Found(LABELS[name][int(row[5])], float(row[4]), tuple(row[:4] / sizes)) for row in chosen]


def tally(engines, name, spec, iou):
    source = open_source(spec, pace=False)
    source.open()
    context = av.CodecContext.create("h264", "r")
    context.thread_count = 1
    total = np.zeros(3, int)
    packets = list(source.packets())
    truths = {packet.pts: packet.truth for packet in packets}
    frames = []
    for packet in packets:
        data = padded_packet(packet.data)
        data.pts, data.dts = packet.pts, packet.dts
        frames += context.decode(data)
    for frame in frames + context.decode(None):
        found = detect(engines, name, frame.to_ndarray(format="bgr24"))
        result = match(truths[frame.pts], found, iou=iou)
        total += (result.hits, result.misses, result.false_positives)
    return total


@pytest.mark.parametrize(
    "query",
    ["", "seed=1&bframes=2", "seed=2&count=12", "seed=3&width=320&height=240&count=3", "seed=4&width=1280&height=720"],
)
def test_blobs_finds_every_square_and_nothing_else(engines, query):
    hits, misses, false_positives = tally(engines, "blobs", f"synthetic:blobs?{query}&fps=4&seconds=8", iou=0.5)
    assert hits > 0
    assert misses == false_positives == 0


def test_person_finds_most_walkers_and_hardly_anything_else(engines):
    counts = sum(tally(engines, "person", f"synthetic:walkers?seed={seed}&fps=3&seconds=10", 0.45) for seed in range(3))
    hits, misses, false_positives = counts
    print(counts)
    assert hits / (hits + misses) >= 0.6
    assert hits / (hits + false_positives) >= 0.8
