"""The raw records of a load test: one row per frame, one per camera. Nothing is summed up here."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_client.verdicts import Verdict

STAGES = ("receive", "decode", "wait", "convert", "batch", "execute", "post")
ANALYSED = 0
_NO_TIMES = (0,) * (len(STAGES) + 1)


@dataclass(slots=True)
class TruthCount:
    """How detections compare with the truth of synthetic scenes.

    Attributes:
        frames: Analysed pictures whose truth is known.
        hits: Objects that were found.
        misses: Objects, visible enough, that were not.
        false_positives: Detections of nothing that is there.
        wrong_labels: Detections of an object under another's name.
    """

    frames: int = 0
    hits: int = 0
    misses: int = 0
    false_positives: int = 0
    wrong_labels: int = 0

    def add(self, other: TruthCount) -> None:
        """Add another's counts."""
        self.frames += other.frames
        self.hits += other.hits
        self.misses += other.misses
        self.false_positives += other.false_positives
        self.wrong_labels += other.wrong_labels


@dataclass(slots=True)
class CameraRecord:
    """What became of one camera.

    Attributes:
        index: Its number.
        channel: Name of its channel.
        source: What it showed.
        scheduled: Frames that were due.
        sent: Packets that were numbered and sent.
        dropped: Packets dropped before they were sent, because the connection was too slow.
        unsent: Frames that the server's credits had not let through when the test ended.
        analysed: Verdicts with an analysis.
        skipped: Other verdicts by reason.
        connections: How many connections it took.
        agreed: The server's closing account was the same.
        error: What ended it; empty when it ended well.
        server_version: What the server said of itself; empty when it never answered.
        truth: How its detections compare with the truth.
    """

    index: int
    channel: str
    source: str
    scheduled: int = 0
    sent: int = 0
    dropped: int = 0
    analysed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    agreed: bool = False
    error: str = ""
    server_version: str = ""
    truth: TruthCount = field(default_factory=TruthCount)
    unsent: int = 0


class FrameLog:
    """Collects a row per verdict while cameras run; one thread."""

    def __init__(self) -> None:
        self._camera = array("I")
        self._due_s = array("d")
        self._done_s = array("d")
        self._reason = array("H")
        self._batch = array("H")
        self._stages = array("I")
        self._late_s = array("f")

    def add_sent(self, late_s: float) -> None:
        """Record by how much a frame was sent later than it was due."""
        self._late_s.append(late_s)

    def add_verdict(self, camera: int, due_s: float, done_s: float, verdict: Verdict) -> None:
        """Record a verdict; times are seconds after the start."""
        self._camera.append(camera)
        self._due_s.append(due_s)
        self._done_s.append(done_s)
        self._reason.append(ANALYSED if verdict.reason is None else int(verdict.reason))
        self._batch.append(verdict.results[0].batch_size if verdict.results else 0)
        times = verdict.times
        if times is None:
            self._stages.extend(_NO_TIMES)
        else:
            self._stages.extend(
                (
                    times.receive_us,
                    times.decode_us,
                    times.wait_us,
                    times.convert_us,
                    times.batch_us,
                    times.execute_us,
                    times.post_us,
                    times.total_us,
                )
            )

    def finish(self) -> Frames:
        """Make columns of the rows."""
        return Frames(
            camera=np.array(self._camera, np.uint32),
            due_s=np.array(self._due_s, np.float64),
            done_s=np.array(self._done_s, np.float64),
            reason=np.array(self._reason, np.uint16),
            batch=np.array(self._batch, np.uint16),
            stages_us=np.array(self._stages, np.uint32).reshape(-1, len(STAGES) + 1),
            late_s=np.array(self._late_s, np.float32),
        )


@dataclass(frozen=True, slots=True)
class Frames:
    """A row per verdict, N in all, in the order in which they came, and one per frame that was sent, S in all.

    Attributes:
        camera: `uint32 [N]`, number of the camera.
        due_s: `float64 [N]`, when the frame was due, seconds after the start.
        done_s: `float64 [N]`, when its verdict came.
        reason: `uint16 [N]`, why it was skipped as the contract numbers it; 0: it was analysed.
        batch: `uint16 [N]`, how many frames ran together; 0 for skipped ones.
        stages_us: `uint32 [N, 8]`, microseconds in each of `STAGES` and in all, as the server tells.
        late_s: `float32 [S]`, by how much the tester sent a frame later than it was due.
    """

    camera: NDArray[np.uint32]
    due_s: NDArray[np.float64]
    done_s: NDArray[np.float64]
    reason: NDArray[np.uint16]
    batch: NDArray[np.uint16]
    stages_us: NDArray[np.uint32]
    late_s: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.camera)


def join(parts: Sequence[Frames]) -> Frames:
    """Put the records of several processes together."""
    return Frames(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Frames.__slots__)  # in field order
    )


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """What one sending process brings home.

    Attributes:
        frames: Its rows.
        cameras: Its cameras.
        cpu_s: CPU time that it used from the start to its last verdict.
        wall_s: How long that took.
    """

    frames: Frames
    cameras: list[CameraRecord]
    cpu_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class Sample:
    """A look at the server and the machine.

    Attributes:
        at_s: When, seconds after the start.
        server_cpu_s: CPU time of the server so far; None when it is not on this machine.
        server_rss_bytes: Its resident memory; None likewise.
        busy_share: Share of all cores that was busy since the look before.
    """

    at_s: float
    server_cpu_s: float | None
    server_rss_bytes: int | None
    busy_share: float


@dataclass(frozen=True, slots=True)
class Records:
    """All that a load test wrote down.

    Attributes:
        frames: A row per verdict.
        cameras: A row per camera.
        workers: CPU time and duration of each sending process, seconds.
        samples: Looks at the server and the machine.
        storms: How often all connections were cut.
        cores: Cores of the tester's machine.
    """

    frames: Frames
    cameras: list[CameraRecord]
    workers: list[tuple[float, float]]
    samples: list[Sample]
    storms: int = 0
    cores: int = 1
