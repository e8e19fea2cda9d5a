"""What is really in the frames, as somebody else than the engine says, and how an engine compares with it.

A comparison of two engines made from one import says nothing about the import itself: wrong channel order, scale or
head are in both. Only what comes from outside shows them: labels that people drew, or the results of a program that is
known to run the model as it should.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.compare.agreement import found_in, least_score
from vedette_engines.compare.classifying import ranks
from vedette_engines.compare.detecting import compare_boxes
from vedette_engines.compare.figures import FIGURES, SWAP_FIGURE
from vedette_engines.compare.finding import find_frames
from vedette_engines.compare.result import WORST_FRAMES, Agreement
from vedette_engines.compare.running import run_frames
from vedette_engines.errors import ImportInputError
from vedette_engines.graft.frames import Sample
from vedette_engines.manifest import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from vedette_engines.compare.detections import Boxes
    from vedette_engines.compare.running import Infer
    from vedette_engines.footage.clips import Clip
    from vedette_engines.footage.frames import FootageFrame
    from vedette_engines.manifest import Manifest

FRAMES = 128
# Less than this may be chance.
NOTED_GAIN = 0.01


@dataclass(frozen=True, slots=True)
class TruthFrame:
    """What is in one frame.

    Attributes:
        file: Video or picture, as the truth names it: a name, or a path whose end is looked at.
        index: Number of the frame in a video, from 0; 0 for a picture.
        boxes: What there is to detect, in pixels of the picture; None: the truth is a classifier's.
        class_id: What a classifier should say; None: the truth is a detector's.
        size: Width and height of the picture that the boxes were drawn in; None: that of the footage.
    """

    file: str
    index: int
    boxes: Boxes | None = None
    class_id: int | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """What is in a set of frames.

    Attributes:
        name: How messages call it.
        task: Of the engines that it is about.
        frames: Each frame once, those in which nothing is among them.
        classes: The class ids that it speaks of; what an engine sees of others is neither right nor wrong.
        by_program: It comes from a program with the same model, not from people: an engine must agree closely.
        least_score: The score from which up it holds detections; 0: all there are.
        notes: What a reader should know: labels that the engine does not have.
    """

    name: str
    task: Task
    frames: tuple[TruthFrame, ...]
    classes: frozenset[int]
    by_program: bool = False
    least_score: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def scope(self) -> str:
        """Name of the gate that it is judged by: `reference` or `truth`."""
        return "reference" if self.by_program else "truth"

    @property
    def digest(self) -> str:
        """Hash of all that it says: equal ones judge alike."""
        said = hashlib.sha256(repr((self.task.value, sorted(self.classes), self.scope, self.least_score)).encode())
        for frame in self.frames:
            said.update(repr((frame.file, frame.index, frame.class_id, frame.size)).encode())
            if frame.boxes is not None:
                parts = (frame.boxes.corners, frame.boxes.scores, frame.boxes.class_ids, frame.boxes.crowd)
                said.update(repr([part.tolist() for part in parts]).encode())
        return said.hexdigest()


def compare_with_truth(
    manifest: Manifest,
    infer: Infer,
    truth: Truth,
    clips: Sequence[Clip],
    *,
    count: int = FRAMES,
    batch: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> Agreement:
    """Run an engine on frames of which the truth is known, as they are and with red and blue swapped.

    Args:
        manifest: The engine's.
        infer: The engine.
        truth: What there is to see.
        clips: The footage that the truth is about.
        count: Frames to take, evenly from all of which the truth is known.
        batch: Frames per run.
        say: Takes what is being done.

    Raises:
        ImportInputError: The truth is about another task, or about no frame of the footage.
        ImportRefusedError: The engine fails.
        MissingRuntimeError: pycocotools is not installed.
    """
    if truth.task is not manifest.task:
        raise ImportInputError(f"{truth.name} is a {truth.task}'s truth, the engine is a {manifest.task}")
    pairs = find_frames(truth.name, truth.frames, clips, manifest.input, count, say)
    samples = [frame.sample for _, frame in pairs]
    say(f"{len(pairs)} frames through the engine, as they are and with red and blue swapped")
    straight, swapped = (
        _compare(manifest, truth, pairs, list(run_frames(infer, shown, batch, manifest, "the engine")))
        for shown in (samples, [_swapped(sample) for sample in samples])
    )
    notes = (*truth.notes, *straight.notes)
    if straight.inconclusive:
        return replace(straight, notes=notes)
    name = SWAP_FIGURE[manifest.task]
    gain = swapped.figures[name] - straight.figures[name]
    if gain > NOTED_GAIN:
        shown = f"{FIGURES[name].words} would be {swapped.figures[name]:.4f}"
        notes = (*notes, f"with red and blue swapped {shown}: is --order right?")
    return replace(straight, figures={**straight.figures, "swap_gain": gain}, notes=notes)


def _swapped(sample: Sample) -> Sample:
    return Sample(sample.label, np.ascontiguousarray(sample.pixels[..., ::-1]), sample.real)


def _compare(
    manifest: Manifest,
    truth: Truth,
    pairs: Sequence[tuple[TruthFrame, FootageFrame]],
    outputs: Sequence[NDArray[np.float32]],
) -> Agreement:
    names = [frame.sample.label for _, frame in pairs]
    if manifest.task is Task.CLASSIFIER:
        return _compare_classes(truth, [wanted.class_id or 0 for wanted, _ in pairs], np.stack(outputs), names)
    known = np.asarray(sorted(truth.classes), np.int64)
    wanted = [_wanted(one, frame) for one, frame in pairs]
    found = [
        _in_picture(found_in(rows, manifest).moved_by(frame.place.to_source), frame)
        for rows, (_, frame) in zip(outputs, pairs, strict=True)
    ]
    return compare_boxes(
        wanted,
        [boxes.chosen(np.isin(boxes.class_ids, known)) for boxes in found],
        names,
        manifest.labels,
        max(least_score(manifest), truth.least_score),
        truth.name,
    )


def _wanted(truth: TruthFrame, frame: FootageFrame) -> Boxes:
    """Bring boxes that were drawn in a picture of another size to the size of the footage."""
    assert truth.boxes is not None, "the truth of a detector has boxes"  # noqa: S101
    if truth.size is None:
        return _in_picture(truth.boxes, frame)
    factor = np.asarray((frame.source_width / truth.size[0], frame.source_height / truth.size[1]) * 2)
    return _in_picture(truth.boxes.moved_by(lambda corners: corners * factor), frame)


def _in_picture(boxes: Boxes, frame: FootageFrame) -> Boxes:
    """Cut off what is outside of the picture, as the server does."""
    limits = np.asarray((frame.source_width, frame.source_height) * 2, np.float64)
    return boxes.moved_by(lambda corners: np.clip(corners, 0.0, limits))


def _compare_classes(
    truth: Truth, wanted: Sequence[int], scores: NDArray[np.float32], names: Sequence[str]
) -> Agreement:
    """Measure how often a classifier's best class is the true one, or among its five best."""
    broken = ~np.isfinite(scores).all(axis=1)
    figures = {"broken": float(broken.sum())}
    if len(set(wanted)) < 2:
        why = "all frames are of one class, so that an engine which always says it would pass: give footage of others"
        return Agreement(Task.CLASSIFIER, truth.name, len(names), figures, inconclusive=why)
    true = np.zeros(scores.shape)
    true[np.arange(len(wanted)), list(wanted)] = 1.0
    got = np.where(np.isfinite(scores), scores, 0.0).astype(np.float64)
    first, ahead = ranks(true, got)
    ahead = np.where(broken, scores.shape[1], ahead)
    figures = {
        "top1": float((first & ~broken).mean()),
        **({"top5": float((ahead < 5).mean())} if scores.shape[1] > 5 else {}),
        **figures,
    }
    order = np.argsort(-ahead, kind="stable")[:WORST_FRAMES]
    worst = tuple(
        (names[int(number)], f"the true class is number {ahead[number] + 1}") for number in order if ahead[number]
    )
    return Agreement(Task.CLASSIFIER, truth.name, len(names), figures, worst_frames=worst)
