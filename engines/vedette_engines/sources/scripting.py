"""Turn a model of PyTorch into frozen TorchScript."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from vedette_engines.errors import ImportInputError
from vedette_engines.sources.eager import EXAMPLE_BATCH, pictures, run_model
from vedette_engines.sources.explaining import Failure, explain
from vedette_engines.sources.kinds import Kind
from vedette_engines.sources.outputs import Flat
from vedette_engines.sources.quiet import quiet

if TYPE_CHECKING:
    from vedette_engines.sources.torch_model import TorchModel

_SAME = 1e-3


def scripted(model: TorchModel) -> TorchModel:
    """Trace a model, or compile it where a trace gives other answers, and freeze it.

    Raises:
        ImportInputError: Neither works.
    """
    failures = []
    ways = ("loaded",) if model.kind == Kind.TORCHSCRIPT else ("traced", "scripted")
    for way in ways:
        try:
            with torch.no_grad(), quiet():
                frozen = _frozen(model, way)
            candidate = replace(model, call=frozen)
            _check(model, candidate)
        except Exception as error:  # noqa: BLE001  (torch and the user's code raise whatever they do)
            failures.append(Failure(f"TorchScript, {way}", error))
            continue
        return candidate
    raise ImportInputError(f"{model.what}: has no TorchScript. {explain(failures)}")


def _frozen(model: TorchModel, way: str) -> Any:
    if way == "loaded":
        # Frozen as well, so that the figures compare; what was frozen before saving stays as it is.
        return torch.jit.freeze(model.model) if hasattr(model.model, "training") else model.model
    if way == "scripted":
        return torch.jit.freeze(torch.jit.script(model.model).eval())
    batch = 1 if model.batches == (1, 1) else EXAMPLE_BATCH
    flat = Flat(model.model)
    flat.training = False  # eval() would go down to a program's module, which knows no modes
    traced: Any = torch.jit.trace(flat, (pictures(model, batch),), check_trace=False, strict=False)
    return torch.jit.freeze(traced.eval())


def _check(model: TorchModel, candidate: TorchModel) -> None:
    """Compare with the model on another picture and another batch: a trace may hold for its example only."""
    images = pictures(model, 1 if model.batches == (1, 1) else EXAMPLE_BATCH + 1, seed=5)
    for wanted, got in zip(run_model(model, images), run_model(candidate, images), strict=True):
        if wanted.shape != got.shape:
            raise RuntimeError(f"gives {list(got.shape)} where the model gives {list(wanted.shape)}")
        if float((wanted.float() - got.float()).abs().max()) > _SAME * float(wanted.float().abs().max()) + 1e-6:
            raise RuntimeError("gives other answers than the model")
