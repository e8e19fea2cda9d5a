"""The motion gate in front of YOLOX-nano: engine runs saved, and detections missed, on a real clip and a static scene.

The engine runs on every frame; then the gate decides frame by frame, as a channel does, with a tracker that is fed only
with what was found in frames that ran. What is missed is told in three ways: frames with a detection that were not run,
detections in them, and objects (tracks of a tracker that saw every frame) of which no frame was run. Channels held on
two cores are measured on the whole server; `static_clip` makes the static scene for it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np

from bench.setting import ASSETS, ROOT, clip, keep, yolox
from vedette_engines.repository import EngineRepository
from vedette_engines.runners.opening import open_engine
from vedette_server.data.rules import GateConfig, GateMode
from vedette_server.monitor.luma import luma_of_frame
from vedette_server.monitor.motion import MotionGate
from vedette_server.monitor.tracking import ChannelTracker
from vedette_server.picture.convert import video_frame_into
from vedette_server.picture.letterbox import Letterbox
from vedette_server.post.detections import DetectionFilter

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle
    from vedette_server.post.detections import Detections

PERSON = "intel_one-by-one-person-detection.mp4"
# Nobody is to be seen in the clip's first frames.
_EMPTY_FRAMES = 40
_FPS = 10
# Of a sensor in daylight, of 255, before coding.
_NOISE = 2.0


@dataclass(slots=True)
class Film:
    """What the gate and the engine see of each frame, in order."""

    labels: tuple[str, ...]
    floor: float
    aspect: float = 1.0
    times: list[float] = field(default_factory=list)
    greys: list[NDArray[np.uint8]] = field(default_factory=list)
    found: list[Detections] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--static-s", type=float, default=120.0, help="length of the static scene")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    bundle = EngineRepository([yolox()]).resolve("yolox-nano")
    figures: dict[str, Any] = {"engine": "yolox-nano, its default threshold", "gate": "as it is by default"}
    for name, path in (
        (PERSON, clip(PERSON)),
        (f"static scene, {options.static_s:g} s", static_clip(ROOT / "out" / "bench-static.mp4", options.static_s)),
    ):
        film = look(path, bundle)
        figures[name] = gated(film, None)
        persons = film.labels.index("person")
        figures[f"{name}: persons alone"] = gated(film, persons)
        print(f"  {name}: done", flush=True)
    keep("gate", figures)


def static_clip(path: Path, length_s: float, *, seed: int = 0) -> Path:
    """Make a film of a real scene in which nobody is, with a sensor's noise: H.264, 768x432, 10 fps.

    The first frames of the person clip, forwards and backwards, each time with other noise.

    Args:
        path: Where to; written anew.
        length_s: How long it is to be.
        seed: Of the noise.
    """
    with av.open(str(ASSETS / "clips" / PERSON)) as source:
        empty = [
            frame.to_ndarray(format="gray")
            for _, frame in zip(range(_EMPTY_FRAMES), source.decode(video=0), strict=False)
        ]
    rng = np.random.default_rng(seed)
    # Noise that was made before, at another place each time: to make it anew for each frame takes most of the time.
    noise = rng.normal(0.0, _NOISE, (432 + 64, 768 + 64)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=Fraction(_FPS), options={"crf": "23", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 768, 432, "yuv420p"
        stream.codec_context.gop_size = 30
        for index in range(round(length_s * _FPS)):
            turn = index % (2 * _EMPTY_FRAMES - 2)
            picture = empty[min(turn, 2 * _EMPTY_FRAMES - 2 - turn)]
            y, x = rng.integers(0, 64, 2)
            grey = np.clip(picture + noise[y : y + 432, x : x + 768] + 0.5, 0, 255).astype(np.uint8)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(np.repeat(grey[..., None], 3, axis=2), format="rgb24")))
        target.mux(stream.encode(None))
    return path


def look(path: Path, bundle: Bundle) -> Film:
    """Decode a film, and run the engine on every frame."""
    manifest = bundle.manifest
    fit = Letterbox(manifest.input.width, manifest.input.height)
    defaults = manifest.defaults
    judged = DetectionFilter(manifest.labels, min_score=defaults.min_score, iou=defaults.iou)
    film = Film(tuple(manifest.labels), defaults.min_score)
    slot = np.empty((fit.height, fit.width, 3), np.uint8)
    with open_engine(bundle) as engine, av.open(str(path)) as container:
        lane = engine.open_lane()
        for frame in container.decode(video=0):
            video_frame_into(frame, slot, fit)
            film.aspect = frame.width / frame.height
            film.times.append(float(frame.time or 0.0))
            film.greys.append(luma_of_frame(frame).grey)
            film.found.append(judged.judge(lane.run([slot])[0], fit.place(frame.width, frame.height)))
        lane.close()
    return film


def gated(film: Film, class_id: int | None) -> dict[str, Any]:
    """Let the gate decide on each frame of a film.

    Args:
        film: What is to be seen.
        class_id: The only class that is wanted; None: all.
    """
    found = [_of_class(one, class_id) for one in film.found]
    objects = _objects(film, found)
    gate = MotionGate(GateConfig(GateMode.MOTION))
    tracker = _tracker(film)
    reasons: Counter[str] = Counter()
    ran: list[bool] = []
    followed = 0
    for grey, time_s, detections in zip(film.greys, film.times, found, strict=True):
        ran.append(gate.decide(grey, time_s, followed > 0))
        reasons[gate.reason.value] += 1
        if ran[-1]:
            followed = len(tracker.update(detections, film.labels, time_s, film.aspect).tracks)
    missed = [one for one, runs in zip(found, ran, strict=True) if not runs and len(one)]
    late = [_first_run(frames, ran) for frames in objects.values()]
    return {
        "frames": len(ran),
        "engine runs": sum(ran),
        "saved": round(1 - sum(ran) / len(ran), 4),
        "why": dict(reasons),
        "frames with a detection": sum(len(one) > 0 for one in found),
        "of these not run": len(missed),
        "detections": sum(map(len, found)),
        "of these missed": sum(map(len, missed)),
        "of what": dict(Counter(film.labels[number] for one in missed for number in one.class_ids.tolist())),
        "highest score missed": round(max((float(one.scores[0]) for one in missed), default=0.0), 3),
        "objects": len(objects),
        "of these never seen": sum(frames is None for frames in late),
        "frames until an object is seen first, most": max((frames for frames in late if frames is not None), default=0),
    }


def _of_class(found: Detections, class_id: int | None) -> Detections:
    if class_id is None:
        return found
    kept = found.class_ids == class_id
    return type(found)(found.boxes[kept], found.scores[kept], found.class_ids[kept], found.extras[kept])


def _tracker(film: Film) -> ChannelTracker:
    # As `monitor/channel.py` sets it.
    return ChannelTracker(prefix="gate", sure_score=min(0.4, 2 * film.floor))


def _objects(film: Film, found: list[Detections]) -> dict[str, list[int]]:
    """Follow what is in all frames: of each object the frames in which it was detected."""
    tracker = _tracker(film)
    objects: dict[str, list[int]] = {}
    for index, (detections, time_s) in enumerate(zip(found, film.times, strict=True)):
        for track_id in tracker.update(detections, film.labels, time_s, film.aspect).track_ids:
            if track_id:
                objects.setdefault(track_id, []).append(index)
    return objects


def _first_run(frames: list[int], ran: list[bool]) -> int | None:
    """Tell how many frames with an object passed before one was run; None: none was."""
    return next((count for count, index in enumerate(frames) if ran[index]), None)


if __name__ == "__main__":
    main()
