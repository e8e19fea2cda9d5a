"""Hold the engine `person` against OpenCV's own detector: `python bench/person.py [CLIP...]`.

Prints the largest difference of a window's SVM score, and what a frame costs compared with
`cv2.HOGDescriptor.detectMultiScale`, one thread each, interleaved (so that only the ratio is to be believed).
Without clips it looks at those of `../shared/assets/clips`, and where these are absent, at noise only.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np

from vedette_engines.making import person
from vedette_engines.making.reference import OpenCvPeople, OpenedPerson, largest_difference
from vedette_engines.repository import EngineRepository, boxed_root
from vedette_engines.runners.opening import open_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

CLIPS = Path(__file__).parents[2] / "shared" / "assets" / "clips"
EVERY = 60
ROUNDS = 20


def frames_of(clip: Path) -> Iterator[NDArray[np.uint8]]:
    with av.open(str(clip)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % EVERY == 0:
                yield cv2.resize(frame.to_ndarray(format="bgr24"), (person.WIDTH, person.HEIGHT))


def main() -> None:
    cv2.setNumThreads(1)
    clips = [Path(name) for name in sys.argv[1:]] or sorted(CLIPS.glob("*.mp4"))
    bundle = EngineRepository([boxed_root()]).resolve("person")
    opencv, opened = OpenCvPeople(), OpenedPerson(bundle.path_of(bundle.manifest.files[0]))
    noise = np.random.default_rng(0).integers(0, 256, (person.HEIGHT, person.WIDTH, 3), np.uint8)
    frames = [noise]
    print(f"largest SVM score difference, noise: {largest_difference(opened, opencv, noise):.4f}")
    for clip in clips:
        of_clip = list(frames_of(clip))
        worst = max(largest_difference(opened, opencv, frame) for frame in of_clip)
        print(f"largest SVM score difference, {clip.name}, {len(of_clip)} frames: {worst:.4f}")
        frames += of_clip[:1]
    ratios = []
    with open_engine(bundle) as engine:
        lane = engine.open_lane()
        lane.run([noise])
        for index in range(ROUNDS):
            frame = frames[index % len(frames)]
            began = time.perf_counter()
            lane.run([frame])
            between = time.perf_counter()
            opencv.detect(frame)
            ratios.append((between - began) / (time.perf_counter() - between))
        lane.close()
    print(f"time of a frame, engine / OpenCV: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
