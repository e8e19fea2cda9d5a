"""The bare stages of a frame: decode, letterbox, run, NMS, in a plain loop without a server.

Run in a process of its own: `measure` starts one thread per core, each with its own decoder, as the server
has them, and reads each stage's CPU time from its thread's clock.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from av.packet import Packet

STAGES = ("decode", "letterbox", "run", "nms")


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds per frame of each stage, and wall seconds per frame with all threads busy."""

    decode: float
    letterbox: float
    run: float
    nms: float
    frames_per_second: float

    @property
    def total(self) -> float:
        """CPU seconds per frame of all stages together."""
        return self.decode + self.letterbox + self.run + self.nms


def measure(clip: Path, engines: Path, engine: str, batch: int, threads: int, seconds: float) -> Costs:
    """Measure the stages with all threads busy."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measure, (clip, engines, engine, batch, threads, seconds))


def _measure(clip: Path, engines: Path, engine: str, batch: int, threads: int, seconds: float) -> Costs:
    import cv2

    from vedette_engines.repository import EngineRepository, boxed_root
    from vedette_engines.runners.base import RunnerSettings
    from vedette_engines.runners.opening import open_engine

    cv2.setNumThreads(1)
    loaded = open_engine(EngineRepository([engines, boxed_root()]).resolve(engine), RunnerSettings(intra_op_threads=1))
    start = threading.Barrier(threads)
    totals = [dict.fromkeys(STAGES, 0.0) | {"frames": 0.0} for _ in range(threads)]
    workers = [
        threading.Thread(target=_loop, args=(clip, loaded, batch, seconds, start, totals[index]))
        for index in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    frames = sum(total["frames"] for total in totals)
    sums = {stage: sum(total[stage] for total in totals) / frames for stage in STAGES}
    wall = max(total["wall"] for total in totals)
    return Costs(**sums, frames_per_second=frames / wall)


def _loop(clip: Path, loaded: object, batch: int, seconds: float, start: threading.Barrier, total: dict) -> None:  # type: ignore[type-arg]
    import av
    import cv2
    import numpy as np

    from vedette_server.data.format import ColorRange, ColorSpace
    from vedette_server.picture.convert import video_frame_into
    from vedette_server.picture.letterbox import Letterbox

    manifest = loaded.bundle.manifest  # type: ignore[attr-defined]
    fit = Letterbox(manifest.input.width, manifest.input.height, manifest.input.letterbox, manifest.input.pad)
    lane = loaded.open_lane()  # type: ignore[attr-defined]
    slots = [np.empty((fit.height, fit.width, 3), np.uint8) for _ in range(batch)]
    packets, name, extradata = _demuxed(clip)
    lane.run(slots)
    start.wait()
    clock = time.thread_time
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        decoder = av.CodecContext.create(name, "r")
        decoder.extradata = extradata
        decoder.thread_count = 1
        held = []
        for packet in packets:
            t0 = clock()
            held += decoder.decode(packet)
            t1 = clock()
            total["decode"] += t1 - t0
            if len(held) < batch:
                continue
            frames, held = held[:batch], held[batch:]
            t1 = clock()
            for frame, slot in zip(frames, slots, strict=True):
                video_frame_into(frame, slot, fit, 0, ColorSpace.UNSPECIFIED, ColorRange.UNSPECIFIED)
            t2 = clock()
            rows = lane.run(slots)
            t3 = clock()
            for row in rows:
                _nms(cv2, np, row)
            total["letterbox"] += t2 - t1
            total["run"] += t3 - t2
            total["nms"] += clock() - t3
            total["frames"] += batch
            if time.monotonic() - began >= seconds:
                break
    total["wall"] = time.monotonic() - began


def _demuxed(clip: Path) -> tuple[list[Packet[Any]], str, bytes | None]:
    """Read a clip's packets, padded as FFmpeg wants to read them, its codec's name and its decoder's configuration."""
    import av

    from vedette_server.decode.padded import padded_packet

    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        packets = [padded_packet(bytes(packet)) for packet in container.demux(stream) if packet.size]
        return packets, stream.codec_context.name, stream.codec_context.extradata


def _nms(cv2: object, np: object, row: object) -> None:
    """Make the library call that any loop over detections makes."""
    kept = row[row[:, 4] >= 0.3]  # type: ignore[index]
    if len(kept):
        boxes = kept[:, :4].copy()
        boxes[:, 2:] -= boxes[:, :2]
        classes = kept[:, 5].astype(np.int32)  # type: ignore[attr-defined]
        cv2.dnn.NMSBoxesBatched(boxes, kept[:, 4], classes, 0.3, 0.45)  # type: ignore[attr-defined]
