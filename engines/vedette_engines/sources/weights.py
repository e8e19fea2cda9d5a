"""Read weights without running what may be pickled among them, and put them into a model."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from vedette_engines.errors import ImportInputError, MissingRuntimeError
from vedette_engines.sources.kinds import Kind, kind_of
from vedette_engines.sources.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_WRAPPERS = ("ema_state_dict", "model_ema", "ema", "state_dict", "model_state_dict", "model", "module")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_SHOWN = 3


def unsafe_names(path: Path) -> tuple[str, ...]:
    """Name the classes and functions that unpickling a file would call, without calling them."""
    try:
        with quiet():
            names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # noqa: BLE001  (a file that is no checkpoint of today's format fails in many ways)
        return ()
    return tuple(sorted(names))


def read_pickle(path: Path, trust: bool) -> Any:
    """Read a file that `torch.save` wrote; without trust nothing in it is run.

    Raises:
        ImportInputError: It holds more than tensors and plain values, or is damaged.
    """
    try:
        with quiet():
            return torch.load(str(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not trust:
            names = unsafe_names(path)
            what = f"a pickle that would run {', '.join(names[:_SHOWN])}" if names else "a pickle with code in it"
            raise ImportInputError(
                f"{path}: is {what}: refused without --trust; save the model's state_dict() instead"
            ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise ImportInputError(f"{path}: is damaged: {_line(error)}") from error
    try:
        with quiet():
            return torch.load(str(path), map_location="cpu", weights_only=False)
    except Exception as error:  # unpickling runs foreign code
        raise ImportInputError(f"{path}: cannot be unpickled: {type(error).__name__}: {_line(error)}") from error


def is_state_dict(value: Any) -> bool:
    """Tell whether a value maps names to tensors, wrapped or not."""
    return _tensors(value) or (isinstance(value, Mapping) and any(_tensors(value.get(key)) for key in _WRAPPERS))


def _tensors(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) for name in value)
        and all(isinstance(tensor, torch.Tensor) for tensor in value.values())
    )


def read_weights(path: Path, trust: bool, notes: list[str]) -> Mapping[str, Any]:
    """Read a state dict, taking it out of what trainers wrap it in.

    Args:
        path: A file of `torch.save`, or of safetensors.
        trust: Allow what runs code while it is unpickled.
        notes: Takes a line for each thing that was assumed.

    Raises:
        ImportInputError: It is no state dict.
        MissingRuntimeError: It is in the safetensors format and the library is not installed.
    """
    kind = kind_of(path)
    if kind is Kind.SAFETENSORS:
        return _read_safetensors(path)
    if kind is not Kind.PICKLE:
        raise ImportInputError(f"--weights {path}: is a whole model ({kind}): give it as SOURCE, without --weights")
    return _unwrap(path, read_pickle(path, trust), notes)


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        load_file = importlib.import_module("safetensors.torch").load_file
    except ImportError as error:
        raise MissingRuntimeError(
            f"--weights {path}: is in the safetensors format, which needs: pip install safetensors"
        ) from error
    try:
        tensors: Mapping[str, Any] = load_file(str(path), device="cpu")
    except Exception as error:  # the library's own errors share no base
        raise ImportInputError(f"--weights {path}: is damaged: {_line(error)}") from error
    return tensors


def _unwrap(path: Path, value: Any, notes: list[str]) -> Mapping[str, Any]:
    if isinstance(value, torch.nn.Module):
        notes.append(f"the weights of the pickled {type(value).__name__} were taken")
        return dict(value.state_dict())
    if _tensors(value):
        return dict(value)
    found = [key for key in _WRAPPERS if isinstance(value, Mapping) and _tensors(_plain(value.get(key)))]
    if not found:
        raise ImportInputError(f"--weights {path}: is no state dict: it holds {_described(value)}")
    notes.append(f"the weights were taken from {found[0]!r} of the checkpoint")
    return dict(_plain(value[found[0]]))


def _plain(value: Any) -> Any:
    return value.state_dict() if isinstance(value, torch.nn.Module) else value


def _described(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dictionary of {_some(value)}" if value else "an empty dictionary"
    return f"a {type(value).__name__}"


def put_weights(model: Any, weights: Mapping[str, Any], path: Path, notes: list[str]) -> None:
    """Put a state dict into a model; every parameter must be there, with its shape.

    A prefix that all names share is taken off where the rest fits the model exactly.

    Raises:
        ImportInputError: Names or shapes differ; the first few are told.
    """
    wanted = model.state_dict()
    weights = _without_prefix(weights, set(wanted), notes)
    missing = [name for name in wanted if name not in weights and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in wanted]
    shapes = [
        f"{name} is {list(tensor.shape)}, the model's {list(wanted[name].shape)}"
        for name, tensor in weights.items()
        if name in wanted and tensor.shape != wanted[name].shape
    ]
    wrong = [
        f"{len(names)} {what}: {_some(names)}"
        for names, what in ((missing, "missing"), (unexpected, "unexpected"), (shapes, "of another shape"))
        if names
    ]
    if wrong:
        raise ImportInputError(f"--weights {path}: do not fit {type(model).__name__}: {'; '.join(wrong)}")
    model.load_state_dict(weights, strict=False)


def _without_prefix(weights: Mapping[str, Any], wanted: set[str], notes: list[str]) -> Mapping[str, Any]:
    if weights.keys() <= wanted:
        return weights
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in weights):
            bare = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
            if bare.keys() & wanted:
                notes.append(f"the prefix {prefix!r} was taken off the weights' names")
                return _without_prefix(bare, wanted, notes)
    return weights


def _some(names: Iterable[Any]) -> str:
    listed = [str(name) for name in names]
    rest = len(listed) - _SHOWN
    return ", ".join(listed[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
