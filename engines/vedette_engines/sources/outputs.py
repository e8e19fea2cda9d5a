"""Flatten what a model returns into a list of tensors, in an order that can be told.

A mapping goes by its own order, a dataclass by its fields, a list or tuple by position; None and what is no tensor is
left out. A tensor's name is the way to it: `logits`, `aux.0.boxes`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONE = "output"


def flatten(value: Any, way: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Give every tensor of a model's answer with its name."""
    if isinstance(value, torch.Tensor):
        yield _name(way), value
        return
    for key, part in _parts(value):
        yield from flatten(part, (*way, key))


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), part) for key, part in value.items())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((entry.name, getattr(value, entry.name)) for entry in dataclasses.fields(value))
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        keys = getattr(value, "_fields", None) or [str(index) for index in range(len(value))]
        yield from zip(keys, value, strict=True)


def _name(way: tuple[str, ...]) -> str:
    if not way:
        return _LONE
    joined = re.sub(r"[^\w.]", "_", ".".join(way))
    return f"{_LONE}{joined}" if joined[0].isdigit() else joined


def names_of(value: Any) -> tuple[str, ...]:
    """Name the tensors of an answer; a name that stands more than once is numbered."""
    names: list[str] = []
    for name, _ in flatten(value):
        taken = name
        while taken in names:
            taken = f"{name}_{sum(other == name or other.startswith(f'{name}_') for other in names)}"
        names.append(taken)
    return tuple(names)


def is_flat(value: Any) -> bool:
    """Tell whether torch's exporters flatten an answer as this module does: a tensor, or a plain row of tensors."""
    if isinstance(value, torch.Tensor):
        return True
    return type(value) in {list, tuple} and bool(value) and all(isinstance(part, torch.Tensor) for part in value)


class Flat(torch.nn.Module):  # type: ignore[misc]  # torch's types are skipped
    """A model whose answer is a plain tuple of tensors.

    Args:
        model: What answers with something nested.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Any) -> tuple[Any, ...]:
        """Run the model and flatten its answer."""
        return tuple(tensor for _, tensor in flatten(self.model(images)))
