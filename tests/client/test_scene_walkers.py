from __future__ import annotations

from dataclasses import dataclass

import av
import cv2
import numpy as np
import pytest

from vedette_client.padded import padded_packet
from vedette_client.scene.spec import parse_scene
from vedette_client.scene.truth import match
from vedette_client.scene.walkers import Walkers
from vedette_client.sources import open_source

STEP = 1.2


def scene(query=""):
    return Walkers(parse_scene(f"walkers?{query}"))


@dataclass
class Found:
    box: tuple[float, float, float, float]
    score: float
    label: str = "person"


def people(picture):
    """OpenCV's people detector over a pyramid, then NMS; boxes are windows without their margin."""
    hog = cv2.HOGDescriptor()
    hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())
    height, width = picture.shape[:2]
    boxes = []
    for level in range(6):
        scale = STEP**level
        small = cv2.resize(picture, (int(width / scale), int(height / scale)))
        if small.shape[0] < 128:
            break
        corners, scores = hog.detect(small, hitThreshold=0.4, winStride=(8, 8), padding=(0, 0))
        for (x, y), score in zip(corners, np.ravel(scores), strict=True):
            boxes.append([(x + 10.2) * scale, (y + 11.5) * scale, 43.5 * scale, 107.5 * scale, float(score)])
    kept = cv2.dnn.NMSBoxes([box[:4] for box in boxes], [box[4] for box in boxes], 0.0, 0.4)
    chosen = [boxes[index] for index in np.ravel(kept).astype(int)]
    return [Found((x / width, y / height, (x + w) / width, (y + h) / height), s) for x, y, w, h, s in chosen]


def test_a_detector_of_real_people_finds_them_in_the_encoded_pictures():
    counts = np.zeros(3)
    for seed in range(3):
        source = open_source(f"synthetic:walkers?seed={seed}&fps=3", pace=False)
        source.open()
        context = av.CodecContext.create("h264", "r")
        context.thread_count = 1
        for _, packet in zip(range(30), source.packets(), strict=False):
            for frame in context.decode(padded_packet(packet.data)):
                result = match(packet.truth, people(frame.to_ndarray(format="bgr24")), iou=0.45)
                counts += (result.hits, result.misses, result.false_positives)
    hits, misses, false_positives = counts
    assert hits + misses > 100
    assert hits / (hits + misses) >= 0.6
    assert hits / (hits + false_positives) >= 0.8


def test_the_empty_street_holds_nobody():
    found = [box for seed in range(4) for box in people(scene(f"seed={seed}&count=0").draw(0))]
    assert found == []


def test_everybody_stands_where_the_truth_says():
    walkers, empty = scene("seed=4"), scene("seed=4&count=0")
    for index in (0, 40, 90):
        changed = np.abs(walkers.draw(index).astype(int) - empty.draw(index)).max(-1) > 80
        covered = np.zeros_like(changed)
        for one in walkers.truth(index).objects:
            part = (slice(round(one.y1 * 360), round(one.y2 * 360)), slice(round(one.x1 * 640), round(one.x2 * 640)))
            covered[part] = True
            assert changed[part].mean() > 0.2 * one.visible
        # What changed outside the boxes is their shadow, which is soft.
        assert (changed & ~covered).mean() < 0.001


def test_who_leaves_the_picture_or_is_behind_another_is_less_visible():
    walkers = scene("seed=0&count=4")
    seen = [one for index in range(150) for one in walkers.truth(index).objects]
    assert {one.id for one in seen} == {0, 1, 2, 3}
    assert all(0 < one.visible <= 1 for one in seen)
    assert all(0 <= one.x1 < one.x2 <= 1 and 0 <= one.y1 < one.y2 <= 1 for one in seen)
    assert sum(one.visible > 0.95 for one in seen) > 0.5 * len(seen)
    at_the_edge = [one for one in seen if one.x1 == 0]
    assert min(one.visible for one in at_the_edge) < 0.3


def test_the_scene_follows_from_its_seed_and_repeats():
    assert np.array_equal(scene("seed=3").draw(7), scene("seed=3").draw(157))
    assert scene("seed=3").truth(7) == scene("seed=3").truth(157)
    assert not np.array_equal(scene("seed=3").draw(7), scene("seed=4").draw(7))


def test_nobody_jumps_from_frame_to_frame():
    walkers = scene("seed=1")
    for index in range(160):
        before = {one.id: one for one in walkers.truth(index).objects if one.visible > 0.95}
        after = {one.id: one for one in walkers.truth(index + 1).objects if one.visible > 0.95}
        for number in before.keys() & after.keys():
            assert abs(before[number].x1 + before[number].x2 - after[number].x1 - after[number].x2) < 0.08


@pytest.mark.parametrize("size", [(320, 240), (1280, 720), (360, 640), (64, 64)])
def test_a_street_fits_any_size(size):
    width, height = size
    assert scene(f"width={width}&height={height}").draw(20).shape == (height, width, 3)
    assert scene(f"width={width}&height={height}").truth(20) is not None
