"""One channel's evidence between fakes: packets and events go in, jobs are stepped by hand, what became is noted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import simplejpeg

from support_evidence import EPOCH_S, LIMITS, store_in, timed
from vedette_server.data.channel import ChannelRecord, RecordingConfig
from vedette_server.data.event import Event, EventKind, EventState, EvidenceState
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.packet import Packet
from vedette_server.data.rules import EvidencePolicy, Mask, MaskKind, WatchConfig
from vedette_server.errors import EvidenceError
from vedette_server.evidence.clip import ClipLimits
from vedette_server.evidence.collecting import Collector, EvidenceParts

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from vedette_server.data.event import Evidence
    from vedette_server.evidence.store import EvidenceStore
    from vedette_server.evidence.workers import Job
    from vedette_server.store.changes import EvidenceChange

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
MASK = (Mask(MaskKind.PRIVACY, LEFT),)
FORMAT = VideoFormat(Codec.JPEG)
FPS = 10.0


class HandWorkers:
    """Takes jobs, and steps them when it is told to."""

    def __init__(self, max_jobs: int = 512) -> None:
        self.max_jobs = max_jobs
        self.waiting: list[Job] = []
        self.lasting: list[Job] = []

    def submit(self, job: Job, *, lasting: bool = False) -> None:
        if lasting:
            self.lasting.append(job)
        elif sum(other not in self.lasting for other in self.waiting) >= self.max_jobs:
            raise EvidenceError(f"{len(self.waiting)} pieces of evidence are being written")
        self.waiting.append(job)

    def step(self) -> None:
        """Step every job once."""
        for job in tuple(self.waiting):
            if job.step() is None:
                self.waiting.remove(job)

    def run(self, most: int = 200) -> None:
        """Step until nothing is left but what waits for packets."""
        for _ in range(most):
            if not self.waiting:
                return
            self.step()

    def abort(self) -> None:
        for job in self.waiting:
            job.abort()
        self.waiting.clear()


def white(shade: int = 255) -> bytes:
    pixels = np.full((48, 64, 3), shade, np.uint8)
    return bytes(simplejpeg.encode_jpeg(pixels, 95, "BGR"))


@dataclass
class Yard:
    """One channel."""

    folder: Path
    policy: EvidencePolicy = EvidencePolicy.ORIGINAL
    masks: tuple[Mask, ...] = ()
    recording: RecordingConfig = field(default_factory=RecordingConfig)
    max_jobs: int = 512
    limits: ClipLimits = field(default_factory=lambda: ClipLimits(1.0, 1.0, 60.0))
    told: list[tuple[EvidenceChange, tuple[str, ...]]] = field(default_factory=list)
    disk: Any = None

    def __post_init__(self) -> None:
        self.store: EvidenceStore = store_in(self.folder, self.disk)
        self.workers = HandWorkers(self.max_jobs)
        workers: Any = self.workers
        parts = EvidenceParts(self.store, workers, self.limits, LIMITS, 8 << 20, self.tell)
        self.collector = Collector(self.record(), parts)
        self.collector.begin(FORMAT, "s1")
        self.sequence = 0
        self.at_s = EPOCH_S

    def record(self, **changes: Any) -> ChannelRecord:
        watch = WatchConfig(masks=self.masks, evidence=self.policy)
        return ChannelRecord("yard", watch=watch, recording=changes.get("recording", self.recording))

    def change(self, policy: EvidencePolicy, masks: tuple[Mask, ...] = ()) -> None:
        self.policy, self.masks = policy, masks
        self.collector.change(self.record())

    def tell(self, change: EvidenceChange, instead_of: tuple[str, ...]) -> None:
        self.told.append((change, instead_of))

    def stream(self, seconds: float, shade: int = 255) -> None:
        """Send pictures, each as large as the one before."""
        data = white(shade)
        for _ in range(round(seconds * FPS)):
            packet = Packet(self.sequence, data, pts=self.sequence, keyframe=True)
            (packet,) = timed([packet], FPS, first=self.sequence)
            packet = replace(packet, received_s=self.at_s, received_wall_ns=round(self.at_s * 1e9), time_s=self.at_s)
            self.collector.feed(packet)
            self.sequence += 1
            self.at_s += 1 / FPS

    def event(self, name: str = "e1", **changes: Any) -> Event:
        fields: dict[str, Any] = {
            "event_id": name,
            "channel": "yard",
            "kind": EventKind.INSIDE,
            "rule": "r",
            "state": EventState.ACTIVE,
            "start_s": self.at_s,
            "update_s": self.at_s,
            "label": "person",
            "peak_score": 0.5,
            "peak_s": self.at_s,
            "peak_sequence": self.sequence - 1,
            "box": (0.6, 0.2, 0.9, 0.8),
            "session": "s1",
            "sequence": self.sequence - 1,
        }
        return Event(**(fields | changes))

    def take(self, event: Event, *, wanted: bool = True) -> Event:
        ready, errands = self.collector.prepare(event, wanted=wanted)
        self.collector.start(errands)
        return ready

    def over(self, event: Event, **changes: Any) -> Event:
        return self.take(replace(event, state=EventState.ENDED, update_s=self.at_s, end_s=self.at_s, **changes))

    @property
    def files(self) -> list[str]:
        """What lies on the disk, drafts included."""
        root = self.store.root
        return sorted(
            path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and path.suffix != ".jsonl"
        )

    def pieces(self, name: str = "e1") -> dict[str, Evidence]:
        """What an event tells of its evidence at the end, by what was told."""
        found: dict[str, Evidence] = {}
        for change, _ in self.told:
            if change.event_id == name:
                named = {"snapshot": change.snapshot, "annotated": change.annotated, "clip": change.clip}
                found |= {key: one for key, one in named.items() if one is not None}
        return found

    def states(self, name: str = "e1") -> dict[str, EvidenceState]:
        return {key: one.state for key, one in self.pieces(name).items()}

    def pixels(self, path: str) -> NDArray[np.uint8]:
        return np.asarray(simplejpeg.decode_jpeg(self.store.find(path).read_bytes(), "BGR"))

    def unmasked(self) -> list[str]:
        """The files that show what the mask hides."""
        return [path for path in self.files if self._shows(path)]

    def _shows(self, path: str) -> bool:
        place = self.store.root / path
        if path.endswith(".jpg"):
            shown = simplejpeg.decode_jpeg(place.read_bytes(), "BGR")[:, :28]
            # What is drawn in may stand there, at times.
            return bool(shown.mean() > 130 if ".boxes" in path else shown.max() > 40)
        if not place.stat().st_size:
            return False
        with av.open(str(place)) as container:
            return any(frame.to_ndarray(format="gray")[:, :28].max() > 40 for frame in container.decode(video=0))
