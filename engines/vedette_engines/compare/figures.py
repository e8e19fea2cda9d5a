"""What is measured when engines are compared: each figure's name, its meaning, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass

from vedette_engines.manifest import Task


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes:
        words: What it is, for reports and refusals.
        tasks: Which engines have it.
        high: More is better.
        share: It lies within 0..1.
    """

    words: str
    tasks: frozenset[Task]
    high: bool = True
    share: bool = True


_DETECTOR, _CLASSIFIER, _EMBEDDER = (frozenset({task}) for task in (Task.DETECTOR, Task.CLASSIFIER, Task.EMBEDDER))

FIGURES = {
    "map50": Figure("mAP50", _DETECTOR),
    "map50_95": Figure("mAP50-95", _DETECTOR),
    "precision": Figure("precision", _DETECTOR),
    "recall": Figure("recall", _DETECTOR),
    "iou": Figure("mean overlap of boxes that match", _DETECTOR),
    "score_difference": Figure("mean difference of their scores", _DETECTOR, high=False),
    "wanted": Figure("detections to find", _DETECTOR, share=False),
    "found": Figure("detections found", _DETECTOR, share=False),
    "top1": Figure("top-1 agreement", _CLASSIFIER),
    "top5": Figure("top-5 agreement", _CLASSIFIER),
    "kl_mean": Figure("mean KL divergence in nats", _CLASSIFIER, high=False, share=False),
    "kl_max": Figure("largest KL divergence in nats", _CLASSIFIER, high=False, share=False),
    "difference_mean": Figure("mean difference of two scores", _CLASSIFIER, high=False),
    "difference_max": Figure("largest difference of two scores", _CLASSIFIER, high=False),
    "cosine_mean": Figure("mean cosine", _EMBEDDER),
    "cosine_lowest": Figure("lowest cosine", _EMBEDDER),
    "confusion": Figure(
        "distance of a frame's two embeddings as a part of that between frames", _EMBEDDER, high=False, share=False
    ),
    "retrieval": Figure("share of frames with the same nearest neighbour", _EMBEDDER),
    "swap_gain": Figure(
        "gain in mAP50-95 or top-1 by swapping red and blue", _DETECTOR | _CLASSIFIER, high=False, share=False
    ),
    "broken": Figure("rows with NaN, an infinity or a class without a label", frozenset(Task), high=False, share=False),
}

# The figure that shows best whether red and blue are swapped: a detector finds most things in false colours, too, but
# puts its boxes less well.
SWAP_FIGURE = {Task.DETECTOR: "map50_95", Task.CLASSIFIER: "top1"}

# The one figure by which engines of a task are ranked.
MAIN_FIGURE = {Task.DETECTOR: "map50", Task.CLASSIFIER: "top1", Task.EMBEDDER: "cosine_mean"}


def text_of(value: float) -> str:
    """Write a figure: whole numbers whole, others with four digits."""
    return f"{value:.0f}" if abs(value) >= 1 and value == round(value) else f"{value:.4g}"
