"""Bring a model into the form that is grafted on: new enough, of any batch, simplified when asked.

Every rewriting is compared with the original's raw outputs before the next one is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from vedette_engines.errors import ImportInputError, ImportRefusedError
from vedette_engines.graft.batch import has_dynamic_batch, open_batch
from vedette_engines.graft.session import Session
from vedette_engines.graft.source import opset_of, upgrade

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import ModelProto

    from vedette_engines.graft.probe import Probe

# The size of a batch that tells whether the frames of one batch keep out of each other's way.
TRIED_BATCH = 3


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model to graft on.

    Attributes:
        model: The model.
        fixed_batch: It takes one frame per run and no more.
    """

    model: ModelProto
    fixed_batch: bool


def prepare(model: ModelProto, probe: Probe, say: Callable[[str], None], *, simplify: bool = False) -> Prepared:
    """Upgrade a model, open its batch where that can be done, and simplify it when asked.

    Raises:
        ImportInputError: Its opset is too old for ONNX's converter.
        ImportRefusedError: ONNX's converter changed what it computes.
    """
    upgraded = upgrade(model)
    if upgraded is not model:
        reason = _disagreement(upgraded, probe, 1)
        if reason:
            raise ImportRefusedError(f"converted to opset {opset_of(upgraded)} the model is another one: {reason}")
        say(f"opset {opset_of(model)} converted to {opset_of(upgraded)}")
    prepared = _open(upgraded, probe, say)
    return _simplify(prepared, probe, say) if simplify else prepared


def _open(model: ModelProto, probe: Probe, say: Callable[[str], None]) -> Prepared:
    """Take the model as it is if it keeps its promise of a dynamic batch, else rewrite what holds it to one frame."""
    if has_dynamic_batch(model) and not _disagreement(model, probe, TRIED_BATCH):
        return Prepared(model, fixed_batch=False)
    opened = open_batch(model)
    reason = _disagreement(opened, probe, TRIED_BATCH)
    if reason:
        say(f"the batch stays fixed at 1: {reason}")
        return Prepared(model, fixed_batch=True)
    say("batch made dynamic")
    return Prepared(opened, fixed_batch=False)


def _simplify(prepared: Prepared, probe: Probe, say: Callable[[str], None]) -> Prepared:
    try:
        import onnxslim  # noqa: PLC0415  (part of the server's extras only)
    except ImportError as error:
        raise ImportInputError("--simplify needs onnxslim: pip install 'vedette[cpu]'") from error
    before = len(prepared.model.graph.node)
    try:
        slimmed = cast("ModelProto", onnxslim.slim(prepared.model))
    except Exception as error:  # noqa: BLE001  what onnxslim raises has no common root but this
        say(f"not simplified: onnxslim failed: {error!r}")
        return prepared
    reason = _disagreement(slimmed, probe, 1 if prepared.fixed_batch else TRIED_BATCH)
    if reason:
        say(f"not simplified: {reason}")
        return prepared
    say(f"simplified from {before} to {len(slimmed.graph.node)} nodes")
    return Prepared(slimmed, prepared.fixed_batch)


def _disagreement(model: ModelProto, probe: Probe, batch: int) -> str:
    try:
        session = Session(model.SerializeToString(), "the rewritten model")
    except ImportInputError as error:
        return str(error)
    return probe.disagreement(session, batch)
