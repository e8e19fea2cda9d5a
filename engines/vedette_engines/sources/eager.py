"""Run a model of PyTorch as it is, and find out by running it what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vedette_engines.errors import ImportInputError, ImportRefusedError
from vedette_engines.sources.explaining import reason
from vedette_engines.sources.outputs import flatten, is_flat, names_of
from vedette_engines.sources.quiet import quiet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vedette_engines.sources.torch_model import TorchModel

# Two runs of one model on one picture differ by rounding only, where its kernels depend on the batch.
_SAME = 1e-3
# Exported with two, a batch is not taken for a constant.
EXAMPLE_BATCH = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model gives.

    Attributes:
        names: Names of its tensors, flattened.
        nested: It gives something that torch's exporters do not flatten the same way.
        lone: It takes one frame at a time only.
    """

    names: tuple[str, ...]
    nested: bool
    lone: bool


def pictures(model: TorchModel, count: int, seed: int = 0) -> Any:
    """Make noise of the model's input size: a tensor `[count, 3, height, width]` in 0..1."""
    shape = (count, 3, model.height, model.width)
    noise = np.random.default_rng(seed).random(shape, np.float32)
    return torch.from_numpy(noise).to(model.dtype)


def run_model(model: TorchModel, images: Any) -> list[Any]:
    """Run a model and flatten its answer; batches that it does not take are cut, or filled up and cut again."""
    least, most = model.batches
    parts = []
    with torch.no_grad(), quiet():
        for start in range(0, len(images), most or len(images)):
            # A model may write into its input.
            part = images[start : start + (most or len(images))].clone()
            missing = max(0, least - len(part))
            if missing:
                part = torch.cat([part, part[-1:].repeat(missing, 1, 1, 1)])
            answer = [tensor for _, tensor in flatten(model.call(part))]
            parts.append([tensor[: len(tensor) - missing] for tensor in answer] if missing else answer)
    return parts[0] if len(parts) == 1 else [torch.cat(tensors) for tensors in zip(*parts, strict=True)]


def examine(model: TorchModel) -> Answer:
    """Run a model on noise: alone, again, and in a batch of two.

    Raises:
        ImportInputError: It fails, gives no tensors, does not start them with the batch, answers one picture in two
            ways, or lets the frames of a batch influence each other.
    """
    images = pictures(model, EXAMPLE_BATCH)
    try:
        with torch.no_grad(), quiet():
            first = images[:1] if model.batches[0] == 1 else images
            answer = model.call(first.clone())
        alone, again = run_model(model, images[:1]), run_model(model, images[:1])
    except Exception as error:  # the user's code
        shape = [1, 3, model.height, model.width]
        raise ImportInputError(f"{model.what}: fails on float32 {shape}: {reason(error)}") from error
    names = names_of(answer)
    if not names:
        raise ImportInputError(f"{model.what}: gives a {type(answer).__name__} without tensors; wanted are raw outputs")
    _check_alone(model, names, alone, again)
    lone = model.batches == (1, 1) or not _check_together(model, names, images, alone)
    return Answer(names, not is_flat(answer), lone)


def _check_alone(model: TorchModel, names: tuple[str, ...], alone: list[Any], again: list[Any]) -> None:
    for name, one, other in zip(names, alone, again, strict=True):
        if one.shape[:1] != (1,):
            raise ImportInputError(
                f"{model.what}: output {name} {list(one.shape)} does not start with the batch; wanted are raw outputs: "
                "leave NMS and post-processing out of forward()"
            )
        if not _same(one, other):
            raise ImportInputError(
                f"{model.what}: gives two answers for one picture (output {name}): dropout with training=True, or a "
                "state that it changes"
            )


def _check_together(model: TorchModel, names: tuple[str, ...], images: Any, alone: list[Any]) -> bool:
    """Tell whether the model takes a batch, and make sure that it treats each frame for itself."""
    try:
        together = run_model(model, images)
    except Exception:  # noqa: BLE001  (the user's code; alone it runs)
        return False
    if any(tensor.shape[:1] != (EXAMPLE_BATCH,) for tensor in together):
        return False
    for name, one, two in zip(names, alone, together, strict=True):
        if one.shape[1:] != two.shape[1:] or not _same(one, two[:1]):
            raise ImportInputError(
                f"{model.what}: the answer for a frame depends on the others of its batch (output {name}): batch norm "
                "in training mode, or a sum over the batch"
            )
    return True


def _same(one: Any, other: Any) -> bool:
    if one.shape != other.shape:
        return False
    if not one.is_floating_point():
        return bool(torch.equal(one, other))
    one, other = one.float(), other.float()
    if not torch.equal(torch.isnan(one), torch.isnan(other)):
        return False
    difference = torch.nan_to_num(one - other).abs().max() if one.numel() else torch.zeros(())
    largest = torch.nan_to_num(one).abs().max() if one.numel() else torch.zeros(())
    return bool(difference <= _SAME * largest + 1e-6)


class TorchReference:
    """A model of PyTorch that gives its outputs for comparison.

    Args:
        model: The model, examined.
        name: What it is called in reports.
    """

    def __init__(self, model: TorchModel, name: str) -> None:
        self._model: TorchModel | None = model
        self.name = name

    def run(self, tensor: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Run on `float32 [N, 3, height, width]`; the outputs in the order of the export.

        Raises:
            ImportRefusedError: The model fails on this input.
        """
        if self._model is None:
            raise ImportRefusedError(f"{self.name}: is closed")
        try:
            images = torch.from_numpy(np.ascontiguousarray(tensor)).to(self._model.dtype)
            return [_array(output) for output in run_model(self._model, images)]
        except Exception as error:  # the user's code
            raise ImportRefusedError(f"{self._model.what}: fails on {list(tensor.shape)}: {reason(error)}") from error

    def close(self) -> None:
        """Let go of the model; may be called twice."""
        self._model = None


def _array(output: Any) -> NDArray[Any]:
    array: NDArray[Any] = output.detach().float().numpy() if output.dtype == torch.bfloat16 else output.detach().numpy()
    return array
