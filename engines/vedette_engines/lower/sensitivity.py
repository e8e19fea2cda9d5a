"""Find the layers that suffer most from eight bits, and leave out as few as it takes.

Each layer is quantised alone, everything else staying float32, and what that does to the result is its sensitivity
(the common practice; Wu et al. 2020, "Integer quantization for deep learning inference", section 5.2, calls it
sensitivity analysis and partial quantisation). All candidates share one calibration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.graft.engine import FRAMES
from vedette_engines.graft.session import Session
from vedette_engines.lower.int8 import open_quantiser

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.frames import Sample
    from vedette_engines.lower.int8 import Quantiser
    from vedette_engines.lower.plan import CalibrationPlan, Quantised, Target

    Say = Callable[[str], None]
    Measure = Callable[[bytes], float]

# Up to so many layers each is measured by itself; of more, first as many blocks as half of it.
_SINGLE_LAYERS = 64
# Blocks are opened until those that were cover this share of the loss.
_REFINED_SHARE = 0.9
# Frames and rows that tell what a layer costs; every layer takes one run of them.
_RANKING_FRAMES = 6
_RANKING_ROWS = 50
# Candidates that `auto_exclude` may measure.
BUDGET = 40
# Frames that a candidate was chosen on flatter it: half of the goal is aimed at.
_AIM = 0.5
# And so many more layers are left out than were needed on those frames, as a share: with YOLOX-nano three or four were
# enough on the frames of some clips, while those of others asked for more. A detector's mAP is a mean over classes,
# some of which are seen a handful of times: the fewest layers that reach the aim do so by luck.
_RESERVE = 1.0


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What it costs to quantise one layer and nothing else.

    Attributes:
        node: The layer's name.
        loss: What `measure` said; of a layer in a block that was not opened, the block's loss by its layers.
        block: Layers that were measured together; 1: it was measured alone.
    """

    node: str
    loss: float
    block: int = 1


def sensitivities(
    content: bytes, frames: Sequence[Sample], plan: CalibrationPlan, target: Target, measure: Measure, say: Say
) -> list[Sensitivity]:
    """Tell how much worse an engine gets when only one layer is quantised, the worst layer first.

    Args:
        content: A float32 engine.
        frames: What it is calibrated on.
        plan: How; what it excludes is not measured.
        target: The runtime that it is for.
        measure: Tells the loss of an engine, 0 for one that does what the float32 one does.
        say: Takes a line now and then.

    Raises:
        ImportInputError: See `to_int8`.
        ImportRefusedError: See `to_int8`.
    """
    return rank(open_quantiser(content, frames, plan, target, say), measure, say)


def rank(quantiser: Quantiser, measure: Measure, say: Say) -> list[Sensitivity]:
    """Measure the layers of a calibrated engine; see `sensitivities`."""
    layers = quantiser.candidates
    size = 1 if len(layers) <= _SINGLE_LAYERS else math.ceil(2 * len(layers) / _SINGLE_LAYERS)
    blocks = [layers[first : first + size] for first in range(0, len(layers), size)]
    losses = []
    for number, block in enumerate(blocks):
        if number % max(1, len(blocks) // 4) == 0:
            say(f"sensitivity: {number} of {len(blocks)} {'layers' if size == 1 else f'blocks of {size} layers'}")
        losses.append(measure(quantiser.quantise_only(block).content))
    found: list[Sensitivity] = []
    covered, total = 0.0, sum(losses)
    for number in sorted(range(len(blocks)), key=lambda number: -losses[number]):
        block = blocks[number]
        if len(block) > 1 and covered < _REFINED_SHARE * total:
            found += [Sensitivity(name, measure(quantiser.quantise_only([name]).content)) for name in block]
        else:
            found += [Sensitivity(name, losses[number] / len(block), len(block)) for name in block]
        covered += losses[number]
    return sorted(found, key=lambda entry: -entry.loss)


def auto_exclude(
    content: bytes,
    frames: Sequence[Sample],
    plan: CalibrationPlan,
    target: Target,
    measure: Measure,
    goal: float,
    say: Say,
    budget: int = BUDGET,
) -> tuple[Quantised, tuple[str, ...]]:
    """Leave out the most sensitive layers, as few as it takes until an engine is good enough.

    Layers are ranked by how far the engine's own output moves on a few of the frames, which is cheap and tells small
    differences apart; only engines with the first so many of them left out are given to `measure`. At last, where
    it took several, as many again are left out as a reserve.

    Args:
        content: A float32 engine.
        frames: What it is calibrated on.
        plan: How; what it excludes stays left out.
        target: The runtime that it is for.
        measure: Tells the loss of an engine; not on the frames that it will be judged on.
        goal: The most that `measure` may say.
        say: Takes a line for each candidate.
        budget: Candidates that may be measured.

    Half of the goal is aimed at, since the frames that a choice was made on flatter it.

    Returns:
        The engine, and the names of the layers that were left out besides the plan's. If none reached the aim, the
        best there was: whoever wants the goal measures again, on other frames.

    Raises:
        ImportInputError: See `to_int8`.
        ImportRefusedError: See `to_int8`.
    """
    search = _Search(open_quantiser(content, frames, plan, target, say), measure, _AIM * goal, say, budget)
    if search.try_without(()):
        return search.best()
    ranking = rank(search.quantiser, OutputLoss(content, frames[:: max(1, len(frames) // _RANKING_FRAMES)]), say)
    worst = [entry.node for entry in ranking]
    say(f"most sensitive: {', '.join(f'{entry.node} ({entry.loss:.2g})' for entry in ranking[:5])}")
    search.narrow(worst)
    return search.best()


class OutputLoss:
    """Tells how far an engine's output is from the float32 engine's: the mean difference of its best scores.

    Rows of candidates are compared by rank, as they are sorted by score; an embedding is compared number by number.

    Args:
        content: The float32 engine.
        frames: What both are shown; a few of them.
    """

    def __init__(self, content: bytes, frames: Sequence[Sample]) -> None:
        self._frames = frames[:_RANKING_FRAMES]
        self._expected = self._run(content)

    def __call__(self, content: bytes) -> float:
        """Run an engine and compare."""
        found = self._run(content)
        return float(np.mean([np.abs(a - b).mean() for a, b in zip(found, self._expected, strict=True)]))

    def _run(self, content: bytes) -> list[NDArray[np.float32]]:
        session = Session(content, "the engine that is measured")
        outputs = [session.run({FRAMES: frame.pixels[None]})[0][0] for frame in self._frames]
        return [output[:_RANKING_ROWS, 4] if output.ndim == 2 else output for output in outputs]


class _Search:
    """Tries candidates, keeps the best, and counts what the budget leaves."""

    def __init__(self, quantiser: Quantiser, measure: Measure, goal: float, say: Say, budget: int) -> None:
        self.quantiser = quantiser
        self._measure, self._goal, self._say, self._left = measure, goal, say, budget
        self._tried: dict[tuple[str, ...], tuple[float, Quantised]] = {}
        self._chosen: tuple[str, ...] | None = None

    def try_without(self, excluded: tuple[str, ...]) -> bool:
        """Measure the engine with these layers left out, and tell whether it reaches the goal."""
        quantised = self.quantiser.quantise(excluded)
        loss = self._measure(quantised.content)
        self._left -= 1
        self._tried[excluded] = (loss, quantised)
        self._say(f"{len(excluded)} layers left out: loss {loss:.4f}, aim {self._goal:g}")
        return loss <= self._goal

    def narrow(self, worst: list[str]) -> None:
        """Find the shortest beginning of the list that reaches the goal when left out."""
        failed, count, reached = 0, 1, False
        while self._left > 0 and not reached and failed < len(worst):
            reached = self.try_without(tuple(worst[:count]))
            if not reached:
                failed, count = count, min(2 * count, len(worst))
        while self._left > 0 and reached and count - failed > 1:
            middle = (failed + count) // 2
            if self.try_without(tuple(worst[:middle])):
                count = middle
            else:
                failed = middle
        if reached:
            self._keep_reserve(tuple(worst[:count]), worst)

    def _keep_reserve(self, excluded: tuple[str, ...], worst: list[str]) -> None:
        self._chosen = excluded
        reserve = int(_RESERVE * len(excluded)) if len(excluded) > 1 else 0
        others = [name for name in worst if name not in excluded][:reserve]
        if others and self._left > 0 and self.try_without((*excluded, *others)):
            self._chosen = (*excluded, *others)

    def best(self) -> tuple[Quantised, tuple[str, ...]]:
        """Give the engine that was chosen; where none reached the aim, the one with the least loss."""
        good = [excluded for excluded, (loss, _) in self._tried.items() if loss <= self._goal]
        if self._chosen is not None:
            chosen = self._chosen
        elif good:
            chosen = min(good, key=len)
        else:
            chosen = min(self._tried, key=lambda excluded: self._tried[excluded][0])
            self._say(f"the aim was not reached: the least loss is {self._tried[chosen][0]:.4f}")
        return self._tried[chosen][1], chosen
