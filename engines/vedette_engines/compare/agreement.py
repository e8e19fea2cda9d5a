"""Compare two engines end to end, on validation frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.compare.classifying import compare_scores
from vedette_engines.compare.detecting import compare_boxes
from vedette_engines.compare.detections import read_rows
from vedette_engines.compare.embedding import compare_embeddings
from vedette_engines.compare.running import run_frames
from vedette_engines.errors import ImportInputError
from vedette_engines.manifest import DetectorOutput, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from vedette_engines.compare.detections import Boxes
    from vedette_engines.compare.result import Agreement
    from vedette_engines.compare.running import Infer
    from vedette_engines.graft.frames import Sample
    from vedette_engines.manifest import Manifest


def compare_engines(
    manifest: Manifest,
    reference: Infer,
    candidate: Infer,
    frames: Sequence[Sample],
    *,
    batch: int = 1,
    say: Callable[[str], None] = lambda _: None,
    against: str = "the FP32 engine",
) -> Agreement:
    """Run both engines on the same frames and measure how far they agree.

    A detector's detections of the reference, NMS and all, are what the candidate must find. A classifier's scores
    and an embedder's vectors are compared frame by frame.

    Args:
        manifest: Describes both; its thresholds are those that count.
        reference: The engine that is believed.
        candidate: The engine that is judged.
        frames: Validation frames, letterboxed; none of those that the candidate was calibrated on.
        batch: Frames per run.
        say: Takes what is being done.
        against: How messages call the reference.

    Raises:
        ImportInputError: There is no frame.
        ImportRefusedError: An engine fails, or its output has another shape than the manifest says.
        MissingRuntimeError: pycocotools is not installed.
    """
    if not frames:
        raise ImportInputError("engines cannot be compared without frames: give footage to validate on")
    names = [frame.label for frame in frames]
    say(f"{len(frames)} frames through {against} and the candidate, {batch} at a time")
    want = list(run_frames(reference, frames, batch, manifest, "the reference engine"))
    have = list(run_frames(candidate, frames, batch, manifest, "the engine"))
    match manifest.task:
        case Task.DETECTOR:
            least = least_score(manifest)
            result = compare_boxes(
                [found_in(rows, manifest, least) for rows in want],
                [found_in(rows, manifest) for rows in have],
                names,
                manifest.labels,
                least,
                against,
            )
        case Task.CLASSIFIER:
            result = compare_scores(np.stack(want), np.stack(have), names, against)
        case Task.EMBEDDER:
            result = compare_embeddings(np.stack(want), np.stack(have), names, against)
    return result


def least_score(manifest: Manifest) -> float:
    """Tell from which score up a detection is reported; below the engine's floor nothing is."""
    floor = manifest.output.score_floor if isinstance(manifest.output, DetectorOutput) else 0.0
    return max(manifest.defaults.min_score, floor)


def found_in(rows: NDArray[np.float32], manifest: Manifest, least: float | None = None) -> Boxes:
    """Read one frame's rows as the server does.

    Args:
        rows: `float32 [K, 6 + E]`.
        manifest: The engine's.
        least: Lowest score; None: the engine's floor.
    """
    floor = manifest.output.score_floor if isinstance(manifest.output, DetectorOutput) else 0.0
    return read_rows(rows, len(manifest.labels), floor if least is None else least, manifest.defaults.iou)
