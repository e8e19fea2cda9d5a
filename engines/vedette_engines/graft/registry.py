"""Find the head that a model needs."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from vedette_engines.errors import ImportInputError
from vedette_engines.graft.head import Doubter
from vedette_engines.graft.heads.boxes_scores import BoxesScoresHead
from vedette_engines.graft.heads.cells import CellsHead
from vedette_engines.graft.heads.centernet import CenterNetHead
from vedette_engines.graft.heads.classifier import ClassifierHead
from vedette_engines.graft.heads.detr import DetrHead
from vedette_engines.graft.heads.embedder import EmbedderHead
from vedette_engines.graft.heads.nanodet import NanoDetHead
from vedette_engines.graft.heads.ssd import SsdHead
from vedette_engines.graft.heads.yolov5 import YoloV5Head
from vedette_engines.graft.heads.yolov5_raw import YoloV5RawHead
from vedette_engines.graft.heads.yolov8 import YoloV8Head
from vedette_engines.graft.heads.yolov8_pose import YoloV8PoseHead
from vedette_engines.graft.heads.yolov10 import YoloV10Head
from vedette_engines.graft.heads.yolox import YoloxHead

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from vedette_engines.graft.head import Fit, Head
    from vedette_engines.graft.signature import Signature

    # Runs the model on sample frames, prepared as a head wants them, and returns its raw outputs.
    Evidence = Callable[[Head], Sequence[NDArray[Any]]]

ENTRY_POINTS = "vedette.heads"
AUTO = "auto"


def boxed_heads() -> list[Head]:
    """Make the heads that come with the tool."""
    return [
        YoloxHead(),
        YoloV5Head(),
        YoloV5RawHead(),
        YoloV8Head(),
        YoloV8PoseHead(),
        YoloV10Head(),
        DetrHead(),
        SsdHead(),
        BoxesScoresHead(),
        NanoDetHead(),
        CellsHead(),
        CenterNetHead(),
        ClassifierHead(),
        EmbedderHead(),
    ]


def known_heads() -> dict[str, Head]:
    """Collect the heads in the box and those of installed plug-ins, by name.

    Raises:
        ImportInputError: Two heads have one name, or a plug-in cannot be loaded.
    """
    heads = {head.name: head for head in boxed_heads()}
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        try:
            loaded = entry.load()
            plugin: Head = loaded() if isinstance(loaded, type) else loaded
        except (ImportError, AttributeError) as error:
            raise ImportInputError(f"the head {entry.name!r} of {entry.value} cannot be loaded: {error}") from error
        if plugin.name in heads or plugin.name == AUTO:
            raise ImportInputError(f"the head {plugin.name!r} of {entry.value} has a name that is taken")
        heads[plugin.name] = plugin
    return heads


def choose_head(
    name: str,
    signature: Signature,
    heads: Mapping[str, Head],
    labels: int | None = None,
    evidence: Evidence | None = None,
    say: Callable[[str], None] | None = None,
) -> Head:
    """Take the head that was named, or for `auto` the only one that fits.

    Where the shapes fit several, `auto` asks in this order: the outputs' names, the number of labels, the values of the
    outputs on sample frames. The values may also speak against one that is left alone, unless its names say what it is.

    Args:
        name: As `--head` takes it.
        signature: The model's border.
        heads: The heads to choose from.
        labels: How many labels were given; None: not known.
        evidence: Gives a head the raw outputs on sample frames; None: no values are looked at.
        say: Takes one line for each thing that decided.

    Raises:
        ImportInputError: Unknown name, outputs that do not fit, or more than one head that does.
    """
    check_name(name, heads)
    fits = {known: head.fits(signature) for known, head in heads.items()}
    if name == AUTO:
        return heads[_Search(signature, heads, fits, say).only(labels, evidence)]
    if not fits[name].ok:
        fitting = [known for known, fit in fits.items() if fit.ok]
        others = f"; these fit: {', '.join(fitting)}" if fitting else ""
        raise ImportInputError(
            f"the head {name} does not fit the outputs {signature.shapes}: it {fits[name].reason}{others}"
        )
    return heads[name]


def check_name(name: str, heads: Mapping[str, Head]) -> None:
    """Check that a head of that name exists.

    Raises:
        ImportInputError: None does.
    """
    if name != AUTO and name not in heads:
        raise ImportInputError(f"--head is {name!r}; allowed is {', '.join([*heads, AUTO])}")


class _Search:
    """The search for the one head that fits.

    Args:
        signature: The model's border.
        heads: The heads to choose from.
        fits: What each says about the border.
        say: Takes one line for each thing that decided.
    """

    def __init__(
        self,
        signature: Signature,
        heads: Mapping[str, Head],
        fits: Mapping[str, Fit],
        say: Callable[[str], None] | None,
    ) -> None:
        self._signature = signature
        self._heads = heads
        self._fits = fits
        self._say = say or (lambda _: None)

    def only(self, labels: int | None, evidence: Evidence | None) -> str:
        """Name the one head that is left.

        Raises:
            ImportInputError: None is, or several are.
        """
        fitting = [known for known, fit in self._fits.items() if fit.ok and fit.auto]
        if not fitting:
            wants = "; ".join(f"{known} {fit.reason}" for known, fit in self._fits.items())
            raise ImportInputError(f"no head fits the outputs {self._signature.shapes}: {wants}")
        left = self._narrow(fitting, [known for known in fitting if self._fits[known].named], "the outputs' names")
        by_name = len(left) == 1 and self._fits[left[0]].named
        if len(left) > 1 and labels is not None:
            counting = [known for known in left if self._takes(known, labels)]
            left = self._narrow(left, counting, f"the number of labels, {labels}")
        if evidence is not None and not by_name:
            # Also one that is left alone: shapes say little, and a line too few among the labels misleads.
            left = self._believed(left, evidence)
        if len(left) > 1:
            ways = "; ".join(f"{known} ({self._fits[known].reason})" for known in left)
            raise ImportInputError(
                f"more than one head fits the outputs {self._signature.shapes}: {ways}; say which with --head"
            )
        return left[0]

    def _narrow(self, left: list[str], kept: list[str], why: str) -> list[str]:
        """Keep some of the heads; none to keep tells nothing."""
        if len(left) > 1 and len(kept) == 1:
            others = ", ".join(known for known in left if known not in kept)
            self._say(f"head {kept[0]} rather than {others}, by {why}")
        return kept or left

    def _takes(self, known: str, labels: int) -> bool:
        """Whether a head can do with so many labels."""
        if self._heads[known].task == "embedder":
            return labels == 0
        return labels > 0 and (labels == self._fits[known].classes or not self._fits[known].counted)

    def _believed(self, left: list[str], evidence: Evidence) -> list[str]:
        """Drop the heads that the outputs' values speak against.

        Raises:
            ImportInputError: They speak against all.
        """
        doubts = {}
        for known in left:
            head = self._heads[known]
            doubts[known] = head.doubt(evidence(head), self._signature) if isinstance(head, Doubter) else ""
        against = "; ".join(f"{known}: {doubt}" for known, doubt in doubts.items() if doubt)
        if all(doubts.values()):
            raise ImportInputError(
                f"the outputs {self._signature.shapes} have the shapes of {', '.join(left)}, but not the values "
                f"({against}); say which with --head"
            )
        if against:
            self._say(f"ruled out by the values of the outputs: {against}")
        return [known for known, doubt in doubts.items() if not doubt]
