"""Find the head that a model needs."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from vedette_engines.errors import ImportInputError
from vedette_engines.graft.heads.boxes_scores import BoxesScoresHead
from vedette_engines.graft.heads.classifier import ClassifierHead
from vedette_engines.graft.heads.yolov8 import YoloV8Head
from vedette_engines.graft.heads.yolox import YoloxHead

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_engines.graft.head import Head
    from vedette_engines.graft.signature import Signature

ENTRY_POINTS = "vedette.heads"
AUTO = "auto"


def known_heads() -> dict[str, Head]:
    """Collect the heads in the box and those of installed plug-ins, by name.

    Raises:
        ImportInputError: Two heads have one name, or a plug-in cannot be loaded.
    """
    heads: dict[str, Head] = {}
    for head in (YoloxHead(), YoloV8Head(), BoxesScoresHead(), ClassifierHead()):
        heads[head.name] = head
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        try:
            plugin: Head = entry.load()
        except (ImportError, AttributeError) as error:
            raise ImportInputError(f"the head {entry.name!r} of {entry.value} cannot be loaded: {error}") from error
        if plugin.name in heads or plugin.name == AUTO:
            raise ImportInputError(f"the head {plugin.name!r} of {entry.value} has a name that is taken")
        heads[plugin.name] = plugin
    return heads


def choose_head(name: str, signature: Signature, heads: Mapping[str, Head]) -> Head:
    """Take the head that was named, or for `auto` the only one that fits.

    Raises:
        ImportInputError: Unknown name, outputs that do not fit, or more than one head that does.
    """
    fits = {known: head.fits(signature) for known, head in heads.items()}
    fitting = [known for known, fit in fits.items() if fit.ok]
    if name == AUTO:
        if len(fitting) == 1:
            return heads[fitting[0]]
        if not fitting:
            wants = "; ".join(f"{known} {fit.reason}" for known, fit in fits.items())
            raise ImportInputError(f"no head fits the outputs {signature.shapes}: {wants}")
        ways = "; ".join(f"{known} ({fits[known].reason})" for known in fitting)
        raise ImportInputError(f"more than one head fits the outputs {signature.shapes}: {ways}; say which with --head")
    if name not in heads:
        raise ImportInputError(f"--head is {name!r}; allowed is {', '.join([*heads, AUTO])}")
    if not fits[name].ok:
        others = f"; these fit: {', '.join(fitting)}" if fitting else ""
        raise ImportInputError(
            f"the head {name} does not fit the outputs {signature.shapes}: it {fits[name].reason}{others}"
        )
    return heads[name]
