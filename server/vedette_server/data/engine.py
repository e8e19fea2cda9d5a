"""What is told and asked of engines while the server runs, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class EngineState(StrEnum):
    """Where one version of an engine stands in this server."""

    AVAILABLE = "available"  # in the repository, not loaded
    LOADING = "loading"  # being loaded and warmed up
    READY = "ready"  # frames may be bound to it
    DRAINING = "draining"  # no new frames; those bound to it are finished
    FAILED = "failed"  # loading failed; `reason` says why
    BAD = "bad"  # the repository refuses it; `reason` says why


@dataclass(frozen=True, slots=True)
class EngineVersion:
    """One version of one engine.

    Attributes:
        name: The engine.
        version: The version.
        state: Where it stands.
        reason: Why it is bad or failed; empty otherwise.
        task: detector, classifier or embedder; empty when it is bad.
        width: Input width in pixels; 0 when it is bad.
        height: Input height in pixels; 0 when it is bad.
        labels: Class names.
        backend: What really runs it; empty unless it is loaded.
        precision: Of the file that runs; empty unless it is loaded.
        file: Name of the file that runs; empty unless it is loaded.
        fallback: Why a better file of the bundle was passed over; empty when none was.
        lanes: Runs side by side; 0 unless it is loaded.
        max_batch: Most frames of a batch; 0 unless it is loaded.
        memory_bytes: What loading it took, measured; 0 unless it is loaded.
        channels: Channels whose frames are bound to it now.
        withdrawn: It was rolled back from: it is taken only by those who pin it.
    """

    name: str
    version: str
    state: EngineState
    reason: str = ""
    task: str = ""
    width: int = 0
    height: int = 0
    labels: tuple[str, ...] = ()
    backend: str = ""
    precision: str = ""
    file: str = ""
    fallback: str = ""
    lanes: int = 0
    max_batch: int = 0
    memory_bytes: int = 0
    channels: int = 0
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """Which version of an engine the channels get that pin none.

    Attributes:
        name: The engine.
        stable: The version that most channels run; empty while none was ever asked for.
        follows: A newer version in the repository takes over by itself.
        canary: The version that a share of the channels runs; empty: none.
        canary_share: That share, 0..1; of C channels round(C * share) run the canary, half rounded up.
        shadow: The version that runs on what capacity is left, its results compared and dropped; empty: none.
        previous: What was stable before, the latest first.
        revision: Counts the changes; a change that names another revision is refused.
        persistent: It was written down and survives a restart.
    """

    name: str
    stable: str = ""
    follows: bool = True
    canary: str = ""
    canary_share: float = 0.0
    shadow: str = ""
    previous: tuple[str, ...] = ()
    revision: int = 0
    persistent: bool = False


@dataclass(frozen=True, slots=True)
class RouteChange:
    """What is to change of a route; None: nothing.

    Attributes:
        stable: Take this version; it ends `follows`. Empty: the newest, and follow.
        canary: Try this version; empty: end the trial.
        canary_share: Its share, 0..1.
        shadow: Compare this version; empty: end the comparison.
        revision: The revision that the caller has seen; None: whichever.
    """

    stable: str | None = None
    canary: str | None = None
    canary_share: float | None = None
    shadow: str | None = None
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class ShadowTotals:
    """How stable and shadow differed so far.

    Attributes:
        version: The shadow.
        against: The stable version.
        compared: Frames that both ran.
        skipped: Frames that the shadow did not run, for want of capacity.
        failed: Frames on which the shadow failed.
        differing: Compared frames with at least one difference.
        matched: Detections of both, same class, IoU 0.5 or more (of a classifier: frames with the same best class).
        only_stable: Detections of the stable version alone.
        only_shadow: Detections of the shadow alone.
        score_difference: Mean absolute difference of matched scores.
    """

    version: str
    against: str
    compared: int = 0
    skipped: int = 0
    failed: int = 0
    differing: int = 0
    matched: int = 0
    only_stable: int = 0
    only_shadow: int = 0
    score_difference: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One detection, or a classifier's best class.

    Attributes:
        label: The class.
        score: Its score, 0..1.
        box: x1, y1, x2, y2 as fractions of the letterboxed input; all 0 for a classifier.
    """

    label: str
    score: float
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class ShadowSample:
    """One frame on which stable and shadow differed.

    Attributes:
        index: Counts the samples of one comparison, from 1.
        channel: The channel.
        sequence: The packet's sequence number.
        received_s: When it was received, seconds since the epoch.
        stable: What the stable version saw.
        shadow: What the shadow saw.
        only_stable: Places in `stable` that the shadow has not.
        only_shadow: Places in `shadow` that the stable version has not.
        jpeg: The stable version's letterboxed input as a JPEG.
    """

    index: int
    channel: str
    sequence: int
    received_s: float
    stable: tuple[Seen, ...]
    shadow: tuple[Seen, ...]
    only_stable: tuple[int, ...] = ()
    only_shadow: tuple[int, ...] = ()
    jpeg: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class SampledFrame:
    """One frame as an engine saw it, for calibration.

    Attributes:
        channel: The channel.
        sequence: The packet's sequence number.
        png: The letterboxed input, lossless.
    """

    channel: str
    sequence: int
    png: bytes = field(repr=False)
