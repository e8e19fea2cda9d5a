"""Streams whose answers can be foretold, and engines that tell what they were shown: for tests of a whole server."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

import support_video
from vedette.v1 import media_pb2
from vedette_client.sources.base import SourceFormat, SourcePacket
from vedette_engines.bundle import write_bundle
from vedette_engines.making.graph import Graph
from vedette_engines.manifest import Defaults, DetectorOutput, EngineFile, InputSpec, Manifest, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from vedette_client import Verdict

WIDTH, HEIGHT = 64, 48
# An engine that fails does so on pictures that are brighter on average.
BRIGHTEST = 200
_SIDE = 512

Outcome = dict[int, tuple[object, ...]]


def publish_gauge(
    root: Path, name: str = "gauge", *, version: str = "1", matmuls: int = 0, fails: bool = False
) -> None:
    """Publish an engine that finds one box, the whole picture, whose score is the mean brightness / 256.

    Args:
        root: Where bundles lie.
        name: Its name.
        version: Its version.
        matmuls: Products of 512 x 512 matrices for every frame, so that it takes its time.
        fails: It throws on pictures whose mean is above `BRIGHTEST`.
    """
    g = Graph(name)
    flat = g.reshape(g.op("Cast", "frames", to=1), 0, -1)
    mean = g.op("Unsqueeze", g.op("Mul", g.reduce("Sum", flat, 1), g.number(1 / (WIDTH * HEIGHT * 3))), g.ints(2))
    if fails:
        # An index past the end is an error at run time, as a kernel's failure would be.
        table = g.array(np.zeros(BRIGHTEST + 1, np.float32))
        mean = g.op("Add", mean, g.op("Gather", table, g.op("Cast", mean, to=7)))
    if matmuls:
        weights = g.array(np.full((_SIDE, _SIDE), 1 / _SIDE, np.float32))
        product = g.op("Mul", mean, weights)
        for _ in range(matmuls):
            product = g.op("MatMul", product, weights)
        nothing = g.op("Mul", g.reduce("Sum", g.reduce("Sum", product, 2), 1), g.number(0.0))
        mean = g.op("Add", mean, nothing)
    row = g.op("Mul", mean, g.array(np.array([[[0, 0, 0, 0, 1 / 256, 0]]], np.float32)))
    g.op("Add", row, g.array(np.array([[[0, 0, WIDTH, HEIGHT, 0, 0]]], np.float32)), named="candidates")
    manifest = Manifest(
        name=name,
        version=version,
        task=Task.DETECTOR,
        input=InputSpec(WIDTH, HEIGHT),
        output=DetectorOutput(1, score_floor=0.001),
        labels=("grey",),
        defaults=Defaults(min_score=0.001),
        files=(EngineFile("model.onnx"),),
    )
    model = g.model("candidates", (HEIGHT, WIDTH, 3), (1, 6))
    write_bundle(root, manifest, {"model.onnx": model.SerializeToString()})


@dataclass
class Packets:
    """A source that gives what it was given."""

    video: SourceFormat
    given: Iterable[SourcePacket]
    name: str = "packets"
    live: bool = False
    fps: float | None = None
    closed: bool = field(default=False, init=False)

    def open(self) -> SourceFormat:
        return self.video

    def packets(self) -> Iterator[SourcePacket]:
        for index, packet in enumerate(self.given):
            if self.closed:
                return
            if self.fps is not None:
                packet.due_s = index / self.fps
            yield packet

    def close(self) -> None:
        self.closed = True


GREY_FORMAT = SourceFormat(
    codec=media_pb2.CODEC_RAW,
    extradata=b"",
    time_base=Fraction(1, 100),
    width=WIDTH,
    height=HEIGHT,
    pixel_format=media_pb2.PIXEL_FORMAT_GRAY8,
)


def grey(values: Iterable[int], *, fps: float | None = None) -> Packets:
    """Send raw pictures of one brightness each; paced when `fps` is given."""
    step = 1 if fps is None else round(100 / fps)

    def walk() -> Iterator[SourcePacket]:
        for index, value in enumerate(values):
            data = bytes([value]) * (WIDTH * HEIGHT)
            yield SourcePacket(data=data, pts=index * step, dts=index * step, duration=step, keyframe=True)

    return Packets(GREY_FORMAT, walk(), fps=fps)


def encoded(recipe: str) -> Packets:
    """Send one of the small encoded streams of `support_video`."""
    clip = support_video.clip(recipe)
    fmt = clip.fmt
    video = SourceFormat(int(fmt.codec), fmt.extradata, fmt.time_base, 128, 96)
    given = [
        SourcePacket(data=p.data, pts=p.pts, dts=p.dts, duration=p.duration, keyframe=p.keyframe) for p in clip.packets
    ]
    return Packets(video, given)


def outcome(verdicts: list[Verdict]) -> Outcome:
    """What became of each packet; a packet with two verdicts does not pass."""
    found = {v.sequence: (v.pts, v.reason, [(d.label, d.score, d.box) for d in v.detections]) for v in verdicts}
    assert len(found) == len(verdicts)
    return found
