"""Make sure that a model is in evaluation mode: what was switched is noted, what cannot be is refused."""

from __future__ import annotations

import re
from typing import Any

from vedette_engines.errors import ImportInputError

_SHOWN = 3
# Of these calls the input that says whether they train stands at this place.
_TRAINING_INPUT = {"aten::batch_norm": 5, "aten::dropout": 2, "aten::feature_dropout": 2, "aten::alpha_dropout": 2}


def quiet_modes(model: Any, notes: list[str]) -> None:
    """Switch a module and all its parts to evaluation; parts that will not go are switched one by one."""
    trained = bool(getattr(model, "training", False))
    model.eval()
    stubborn = [(name, part) for name, part in model.named_modules() if getattr(part, "training", False)]
    for _, part in stubborn:
        part.training = False
    if stubborn:
        names = ", ".join(name or type(part).__name__ for name, part in stubborn[:_SHOWN])
        notes.append(f"eval() left {names} in training mode; they were switched, too")
    elif trained:
        notes.append("the model was in training mode; eval() was called")


def script_in_training(model: Any, what: str) -> None:
    """Refuse TorchScript in which training mode was fixed when it was traced.

    Raises:
        ImportInputError: A batch norm or dropout trains, whatever `eval()` says.
    """
    graph = getattr(model, "inlined_graph", None)
    if graph is None:
        return
    for kind, place in _TRAINING_INPUT.items():
        for node in graph.findAllNodes(kind):
            flag = list(node.inputs())[place].node()
            if flag.kind() == "prim::Constant" and flag.hasAttribute("value") and flag.i("value"):
                raise ImportInputError(
                    f"{what}: was traced in training mode: {kind} trains{source_place(node)}; "
                    "call model.eval() before torch.jit.trace()"
                )


def source_place(node: Any) -> str:
    """Tell the line of the user's code that a node of TorchScript came from; empty: none is known."""
    found = re.findall(r'File "([^"]+)", line (\d+)|(\S+\.py)\(?:?(\d+)', str(node.sourceRange()))
    places = [(file or other, line or number) for file, line, other, number in found]
    own = [place for place in places if "/torch/" not in place[0]]
    return f" at {own[-1][0]}:{own[-1][1]}" if own else ""
