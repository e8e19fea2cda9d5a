"""What the tests of evidence share: rings filled from encoded streams, jobs stepped by hand, disks that fail."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import simplejpeg

from support_video import clip, digest
from vedette_server.data.format import Codec, PixelFormat, VideoFormat
from vedette_server.data.packet import Packet
from vedette_server.data.rules import EvidencePolicy
from vedette_server.decode.limits import PictureLimits
from vedette_server.evidence.clip import Clip, ClipLimits, ClipWriter
from vedette_server.evidence.disk import Disk
from vedette_server.evidence.ring import PacketRing
from vedette_server.evidence.store import EvidenceStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from support_video import Clip as Source
    from vedette_server.data.rules import Points
    from vedette_server.evidence.workers import Job

EPOCH_S = 1_800_000_000.0
LIMITS = PictureLimits(4096, 2160)


def timed(packets: Iterable[Packet], fps: float = 25.0, start_s: float = EPOCH_S, first: int = 0) -> list[Packet]:
    """Give packets the times of a camera: captured by their PTS, received one after another."""
    found = []
    for number, packet in enumerate(packets):
        shown = packet.pts if packet.pts is not None else number
        found.append(
            replace(
                packet,
                sequence=first + number,
                received_s=100.0 + start_s - EPOCH_S + number / fps,
                received_wall_ns=int((start_s + number / fps) * 1e9),
                capture_wall_ns=int((start_s + shown / fps) * 1e9) if packet.pts is not None else None,
            )
        )
    return found


def source(name: str) -> tuple[VideoFormat, list[Packet]]:
    """Encode a stream; its PTS count frames of 1/25 s whatever its time base was."""
    found: Source = clip(name)
    ticks = found.fmt.time_base / Fraction(1, 25)
    packets = [
        replace(
            packet,
            pts=None if packet.pts is None else round(packet.pts * ticks),
            dts=None if packet.dts is None else round(packet.dts * ticks),
            duration=1,
        )
        for packet in found.packets
    ]
    return replace(found.fmt, time_base=Fraction(1, 25)), timed(packets)


def slowly(fmt: VideoFormat, packets: list[Packet]) -> tuple[VideoFormat, list[Packet]]:
    """Show a stream's pictures at ten a second: its keyframes, of which each twelfth is one, are 1.2 s apart."""
    return replace(fmt, time_base=Fraction(1, 10)), timed(packets, 10.0)


def ring_of(fmt: VideoFormat, packets: Iterable[Packet], max_s: float = 3600, max_bytes: int = 1 << 30) -> PacketRing:
    ring = PacketRing(max_s, max_bytes)
    ring.begin(fmt)
    for packet in packets:
        ring.feed(packet)
    return ring


def sent_once(packets: Iterable[Packet]) -> list[Packet]:
    """Leave the parameter sets out of all keyframes of an H.264 stream but the first, as some cameras do."""
    found = list(packets)
    for number, packet in enumerate(found):
        if packet.keyframe and number:
            found[number] = replace(packet, data=b"\0\0\0\1" + packet.data[packet.data.rindex(b"\0\0\1") + 3 :])
    return found


def stills(count: int = 20, size: tuple[int, int] = (64, 48)) -> list[bytes]:
    """Draw pictures, none alike, and code them as JPEG."""
    pictures = []
    for number in range(count):
        pixels = np.full((size[1], size[0], 3), 40, np.uint8)
        pixels[:, number * 2 : number * 2 + 8] = (200, 30 + number, 90)
        pictures.append(bytes(simplejpeg.encode_jpeg(pixels, 90, "BGR")))
    return pictures


def motion_jpeg() -> tuple[VideoFormat, list[Packet]]:
    packets = [Packet(n, data, pts=n, keyframe=True) for n, data in enumerate(stills())]
    return VideoFormat(Codec.JPEG, time_base=Fraction(1, 25)), timed(packets)


def raw_pictures(count: int = 10) -> tuple[VideoFormat, list[Packet]]:
    pictures = [np.full((48, 64, 3), 20 * n, np.uint8).tobytes() for n in range(count)]
    fmt = VideoFormat(Codec.RAW, time_base=Fraction(1, 25), width=64, height=48, pixel_format=PixelFormat.BGR24)
    return fmt, timed(Packet(n, data, pts=n) for n, data in enumerate(pictures))


@dataclass
class Steps:
    """A clock that stands until it is moved, and the runner of one job."""

    now_s: float = 0.0
    done: list[Clip] = field(default_factory=list)

    def clock(self) -> float:
        return self.now_s

    def run(self, job: Job, most: int = 2000) -> None:
        for _ in range(most):
            wait_s = job.step()
            if wait_s is None:
                return
            self.now_s += wait_s
        raise AssertionError(f"the job was not done after {most} steps")


def writer(
    ring: PacketRing,
    store: EvidenceStore,
    steps: Steps,
    at_s: float,
    policy: EvidencePolicy = EvidencePolicy.ORIGINAL,
    hidden: Sequence[Points] = (),
    limits: ClipLimits | None = None,
    event_id: str = "event-1",
) -> ClipWriter:
    limits = limits or ClipLimits()
    return ClipWriter(
        ring, store, "gate", event_id, at_s, policy, hidden, LIMITS, limits, steps.done.append, clock=steps.clock
    )


def whole_clip(
    store: EvidenceStore,
    fmt: VideoFormat,
    packets: Iterable[Packet],
    policy: EvidencePolicy = EvidencePolicy.ORIGINAL,
    hidden: Sequence[Points] = (),
) -> Clip:
    """Write all packets into one clip."""
    steps = Steps()
    ring = ring_of(fmt, packets)
    ring.close()
    steps.run(writer(ring, store, steps, EPOCH_S, policy, hidden))
    (found,) = steps.done
    return found


@dataclass
class Shown:
    """What a file shows."""

    digests: list[str]
    times_s: list[float]
    keyframe_first: bool
    codec: str
    rotation: int
    duration_s: float
    frames: list[av.VideoFrame]


def read_file(path: Path) -> Shown:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        first = next(p for p in container.demux(stream) if p.size)
        duration_s = float(stream.duration * stream.time_base)
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        name = container.streams.video[0].codec_context.codec.canonical_name
    times_s = [float(frame.time) for frame in frames]
    rotation = frames[0].rotation
    return Shown([digest(f) for f in frames], times_s, first.is_keyframe, name, rotation, duration_s, frames)


class FailingDisk(Disk):
    """Fails at one call of one kind, from the given one on, as a full disk does."""

    def __init__(self, step: str, code: int = errno.ENOSPC) -> None:
        self.step, self.code = step, code
        self.failing = True

    def _may_fail(self, step: str, path: Path) -> None:
        if self.failing and step == self.step:
            raise OSError(self.code, "injected", str(path))

    def begin(self, path: Path) -> None:
        self._may_fail("begin", path)
        if self.failing and self.step == "mux":
            path.symlink_to("/dev/full")
            return
        super().begin(path)

    def write(self, path: Path, data: bytes) -> None:
        if self.failing and self.step == "write":
            path.write_bytes(data[: len(data) // 2])
        self._may_fail("write", path)
        super().write(path, data)

    def append(self, path: Path, data: bytes) -> None:
        self._may_fail("append", path)
        super().append(path, data)

    def sync(self, path: Path) -> None:
        self._may_fail("sync-folder" if path.is_dir() else "sync-file", path)
        super().sync(path)

    def rename(self, source: Path, target: Path) -> None:
        self._may_fail("rename", source)
        super().rename(source, target)

    def free_bytes(self, path: Path) -> int:
        return 0 if self.failing and self.step == "free" else 1 << 40


def store_in(folder: Path, disk: Disk | None = None) -> EvidenceStore:
    return EvidenceStore(folder / "evidence", min_free_bytes=1, disk=disk)
