"""The border of a `torch.export` program: what it takes, and whether it was exported for inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from vedette_engines.errors import ImportInputError

# Operators that ask whether they train, and at which place.
_TRAINING_ARGUMENT = {
    "aten.batch_norm.default": 5,
    "aten.dropout.default": 2,
    "aten.dropout_.default": 2,
    "aten.feature_dropout.default": 2,
    "aten.alpha_dropout.default": 2,
}
_DECOMPOSED = ("aten._native_batch_norm_legit", "aten.native_dropout", "aten.bernoulli", "aten._batch_norm_with_update")
_FLOATS = (torch.float32, torch.float16)


@dataclass(frozen=True, slots=True)
class Border:
    """What a program takes.

    Attributes:
        width: Input width in pixels.
        height: Input height in pixels.
        dtype: Element type of its input.
        batches: Smallest and largest batch; None: no limit.
    """

    width: int
    height: int
    dtype: Any
    batches: tuple[int, int | None]


def program_border(program: Any, what: str) -> Border:
    """Read a program's one input.

    Raises:
        ImportInputError: It takes something else than one picture of fixed size.
    """
    names = program.graph_signature.user_inputs
    given = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    values = [node.meta.get("val") for node in given]
    if len(names) != 1 or len(given) != 1 or not isinstance(values[0], torch.Tensor):
        raise ImportInputError(
            f"{what}: takes {len(names)} inputs ({', '.join(map(str, names))}); allowed is one picture"
        )
    shape, dtype = values[0].shape, values[0].dtype
    if len(shape) != 4 or shape[1] != 3:
        raise ImportInputError(f"{what}: takes {list(shape)}; allowed is [N, 3, height, width]")
    if not all(isinstance(side, int) for side in shape[2:]):
        raise ImportInputError(f"{what}: leaves its height or width open; export it with a dynamic batch only")
    if dtype not in _FLOATS:
        raise ImportInputError(f"{what}: takes {dtype}; allowed is {' or '.join(map(str, _FLOATS))}")
    return Border(int(shape[3]), int(shape[2]), dtype, _batches(program, shape[0], what))


def _batches(program: Any, batch: Any, what: str) -> tuple[int, int | None]:
    if isinstance(batch, int):
        if batch != 1:
            raise ImportInputError(
                f"{what}: its batch is fixed at {batch}; allowed is 1 or dynamic: export it with dynamic_shapes"
            )
        return 1, 1
    limits = program.range_constraints.get(batch.node.expr)
    if limits is None:
        return 1, None
    most = limits.upper  # sympy's: a number, or an infinity, of which torch has its own
    return max(1, int(limits.lower)), int(most) if most.is_Integer else None


def evaluation_mode(program: Any, what: str, notes: list[str]) -> None:
    """Switch what trains in a program to evaluation; it is changed in place.

    Raises:
        ImportInputError: It was taken apart in training mode, so that nothing is left to switch.
    """
    switched: dict[str, int] = {}
    for node in program.graph.nodes:
        name = str(node.target)
        if name.startswith(_DECOMPOSED) and not name.startswith("aten._native_batch_norm_legit_no_training"):
            raise ImportInputError(
                f"{what}: was exported in training mode (it has {name}); call model.eval() before torch.export.export()"
            )
        place = _TRAINING_ARGUMENT.get(name)
        if place is not None and len(node.args) > place and node.args[place] is True:
            node.update_arg(place, False)
            switched[name] = switched.get(name, 0) + 1
    if switched:
        program.graph_module.recompile()
        told = ", ".join(f"{count} {name}" for name, count in switched.items())
        notes.append(f"the program was exported in training mode; switched to evaluation: {told}")
