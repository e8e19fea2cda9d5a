"""Paint walkers for the engine `blobs`, send the pictures through H.264, and let the real engine find them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

import av
import cv2
import numpy as np

from bench.setting import ROOT
from vedette_client.padded import padded_packet
from vedette_client.scene.blobs import Blobs
from vedette_client.scene.encode import VideoEncoder
from vedette_client.scene.spec import SceneSpec
from vedette_engines.repository import EngineRepository, boxed_root
from vedette_engines.runners.opening import open_engine
from vedette_server.picture.letterbox import Letterbox
from vedette_server.post.detections import DetectionFilter

sys.path.insert(0, str(ROOT / "tests"))

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from support_walkers_truth import Stage
    from vedette_server.post.detections import Detections

    Picture = NDArray[np.uint8]

WIDTH, HEIGHT = 640, 360
_COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
_PILLAR = (80, 80, 80)


def paint(stage: Stage, times: Sequence[float]) -> Iterator[Picture]:
    """Paint a stage at times: `uint8 [360, 640, 3]`, RGB; who stands lower is nearer, pillars are nearest."""
    ground = Blobs(SceneSpec("blobs", stage.seed, WIDTH, HEIGHT, count=0)).draw(0)
    boxes = stage.boxes(np.array(times)) * WIDTH
    for index in range(len(times)):
        picture = ground.copy()
        there = [row for row in range(len(boxes)) if not np.isnan(boxes[row, index, 0])]
        for row in sorted(there, key=lambda row: float(boxes[row, index, 3])):
            # On even pixels, as the scene `blobs`: halved chroma keeps the edges sharp.
            left, top, right, bottom = (2 * round(float(edge) / 2) for edge in boxes[row, index])
            picture[max(top, 0) : bottom, max(left, 0) : max(right, 0)] = _COLOURS[stage.walkers[row].label]
        for start, end in stage.pillars:
            picture[:, round(start * WIDTH) : round(end * WIDTH)] = _PILLAR
        yield picture


def through_h264(pictures: Iterable[Picture], fps: float) -> Iterator[Picture]:
    """Encode as the load tester does, decode again: `uint8 [360, 640, 3]`, BGR."""
    encoder = VideoEncoder(SceneSpec("blobs", 0, WIDTH, HEIGHT, fps))
    decoder = cast("av.VideoCodecContext", av.CodecContext.create("h264", "r"))
    decoder.thread_count = 1
    for index, picture in enumerate(pictures):
        for packet in encoder.encode(picture, index):
            for frame in decoder.decode(padded_packet(packet.data)):
                yield frame.to_ndarray(format="bgr24")
    for packet in encoder.finish():
        for frame in decoder.decode(padded_packet(packet.data)):
            yield frame.to_ndarray(format="bgr24")
    for frame in decoder.decode(None):
        yield frame.to_ndarray(format="bgr24")


def detect(pictures: Iterable[Picture]) -> tuple[list[Detections], tuple[str, ...]]:
    """Run `blobs` on pictures with its own defaults; return what it found in each, and its labels."""
    bundle = EngineRepository([boxed_root()]).resolve("blobs")
    manifest = bundle.manifest
    fit = Letterbox(manifest.input.width, manifest.input.height)
    place = fit.place(WIDTH, HEIGHT)
    judged = DetectionFilter(
        manifest.labels, min_score=manifest.defaults.min_score or 0.5, iou=manifest.defaults.iou or 0.45
    )
    found = []
    with open_engine(bundle) as engine:
        lane = engine.open_lane()
        slot = np.full((fit.height, fit.width, 3), fit.pad, np.uint8)
        for picture in pictures:
            slot[: place.fit_height, : place.fit_width] = cv2.resize(
                picture, (place.fit_width, place.fit_height), interpolation=cv2.INTER_LINEAR
            )
            found.append(judged.judge(lane.run([slot])[0], place))
        lane.close()
    return found, manifest.labels
