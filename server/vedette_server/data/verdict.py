"""What became of one packet, before it is put on the wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vedette_server.data.times import StageTimes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vedette_server.data.outcome import SkipReason
    from vedette_server.data.packet import Packet
    from vedette_server.decode.base import Picture
    from vedette_server.post.detections import Detections
    from vedette_server.tracing.events import Way


@dataclass(frozen=True, slots=True)
class EngineLabel:
    """The facts about an engine that every result of it repeats.

    Attributes:
        name: The engine's name.
        version: Its version.
        backend: What runs it, for example `onnxruntime:CPUExecutionProvider`.
        task: `detector`, `classifier` or `embedder`.
        labels: Class names by class id.
        extras: Names of the columns after the class, see the manifest.
        min_score: Lowest score that is reported where its channel does not say otherwise.
    """

    name: str
    version: str
    backend: str
    task: str
    labels: tuple[str, ...]
    extras: tuple[str, ...] = ()
    min_score: float = 0.25


@dataclass(slots=True)
class EngineOutcome:
    """What one engine found in one frame.

    Attributes:
        engine: Which engine.
        batch_size: Frames in the same batch, this one included.
        detections: A detector's finds; None for other tasks.
        vector: ``float32 [C]`` scores of a classifier or ``float32 [D]`` embedding; None for detectors.
    """

    engine: EngineLabel
    batch_size: int
    detections: Detections | None = None
    vector: NDArray[np.float32] | None = None


@dataclass(slots=True)
class Verdict:
    """The one verdict of one packet.

    Attributes:
        packet: The packet, its bytes let go.
        pts: Presentation time of its picture in ticks; None when it has none.
        reason: Why it was skipped; None when it was analysed.
        detail: In words, for a person.
        width: Upright width of the picture in pixels; 0 when nothing was decoded.
        height: Upright height of the picture in pixels.
        rotation_degrees: The clockwise turn that made it upright.
        results: One outcome per engine, in the order of the configuration.
        times: Where its time went.
        offered_s: When its picture began to wait for its turn, monotonic seconds; 0: it did not.
        way: When it passed its engine, where a trace is written; None otherwise.
        picture: Its picture, still open, where whoever monitors wants to look closer; None otherwise.
    """

    packet: Packet
    pts: int | None = None
    reason: SkipReason | None = None
    detail: str = ""
    width: int = 0
    height: int = 0
    rotation_degrees: int = 0
    results: tuple[EngineOutcome, ...] = ()
    times: StageTimes = field(default_factory=StageTimes)
    offered_s: float = 0.0
    way: Way | None = None
    picture: Picture | None = None
