"""Let ONNX Runtime optimise a model once and keep the result, so that loading need not do it again.

The levels are ONNX Runtime's, each with all of those before it. `basic` folds constants and drops what does nothing:
the result is plain ONNX. `extended` fuses operators into ONNX Runtime's own: any CPU runs it, but no other runtime.
`all` lays tensors out for the vector units of this CPU (NCHWc): another CPU may refuse or mistake it, so that such a
file belongs to the machine it was made on and into no bundle that travels.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from vedette_engines.errors import ImportInputError, ImportRefusedError
from vedette_engines.graft.session import Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

Level = Literal["basic", "extended", "all"]
_LEVELS = {
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
# Largest difference that fusing may make, as a share of the largest value: it reorders sums, no more.
TOLERANCE = 1e-4
_PROBE_SIDE = 64


def optimise(content: bytes, level: Level = "extended", *, tolerance: float = TOLERANCE) -> bytes:
    """Optimise a model for the CPU, and check that it takes and gives what it did.

    Args:
        content: The model's bytes; its weights are in it.
        level: How far; what comes of `all` is for this CPU only.
        tolerance: Largest difference of an output on noise, as a share of the output's largest value.

    Raises:
        ImportInputError: There is no such level, or ONNX Runtime cannot load the model.
        ImportRefusedError: The result has another border, or gives something else.
    """
    if level not in get_args(Level):
        raise ImportInputError(f"level is {level!r}; allowed is {', '.join(get_args(Level))}")
    with tempfile.TemporaryDirectory(prefix="vedette-optimise-") as folder:
        place = Path(folder) / "model.onnx"
        options = ort.SessionOptions()
        options.graph_optimization_level = _LEVELS[level]
        options.optimized_model_filepath = str(place)
        options.log_severity_level = 4  # it warns that `all` is for this machine; the caller was told above
        try:
            ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            optimised = place.read_bytes()
        except Exception as error:  # the binding's exceptions share no base but this
            raise ImportInputError(f"ONNX Runtime cannot optimise the model: {error}") from error
    kept = _with_border(optimised, content)
    _compare(content, kept, level, tolerance)
    return kept


def _with_border(optimised: bytes, content: bytes) -> bytes:
    """Write the declared inputs and outputs back as they were: ONNX Runtime may drop the names of open dimensions."""
    before, after = onnx.load_from_string(content), onnx.load_from_string(optimised)
    for kind in ("input", "output"):
        there, here = _declared(before, kind), _declared(after, kind)
        if list(there) != list(here):
            raise ImportRefusedError(f"optimising changed the {kind}s: {list(there)} became {list(here)}")
        for name, value in here.items():
            value.CopyFrom(there[name])
    return after.SerializeToString()


def _declared(model: onnx.ModelProto, kind: str) -> dict[str, Any]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return {value.name: value for value in getattr(model.graph, kind) if value.name not in constants}


def _compare(content: bytes, optimised: bytes, level: str, tolerance: float) -> None:
    before = Session(content, "the model")
    after = Session(optimised, f"the model optimised with level {level}")
    feed = _noise(onnx.load_from_string(content))
    for name, want, have in zip(before.output_names, before.run(feed), after.run(feed), strict=True):
        if want.shape != have.shape or want.dtype != have.dtype:
            raise ImportRefusedError(
                f"optimising with level {level} turned output {name} from {want.dtype} {list(want.shape)} "
                f"into {have.dtype} {list(have.shape)}"
            )
        difference = _difference(want, have)
        if not difference <= tolerance:  # a NaN is no agreement either
            raise ImportRefusedError(
                f"optimising with level {level} changed output {name} by {difference:.3g} of its largest value; "
                f"allowed is {tolerance:g}"
            )


def _difference(want: NDArray[Any], have: NDArray[Any]) -> float:
    """Measure the largest difference as a share of the largest value; rows of a detector are found again wherever."""
    if want.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(want, have) else float("nan")
    first, second = want.astype(np.float64), have.astype(np.float64)
    largest = max(float(np.abs(first).max(initial=0.0)), 1e-30)
    if first.ndim == 3:
        return max((_rows_apart(*frames) for frames in zip(first, second, strict=True)), default=0.0) / largest
    return float(np.abs(first - second).max(initial=0.0)) / largest


def _rows_apart(want: NDArray[np.float64], have: NDArray[np.float64]) -> float:
    """Tell how far each row's nearest is, of the worst row but one in fifty.

    Sorted rows change places where their scores all but tie, and the last of them fall out of the list.
    """
    apart = np.sort([float(np.abs(have - row).max(axis=1).min()) for row in want])
    return float(apart[-1 - len(apart) // 50]) if len(apart) else 0.0


def _noise(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Draw noise for every input; dimensions that are left open become 2 in front and a picture's side elsewhere."""
    random = np.random.default_rng(0)
    feed: dict[str, NDArray[Any]] = {}
    for name, value in _declared(model, "input").items():
        dims = value.type.tensor_type.shape.dim
        shape = [dim.dim_value or (2 if axis == 0 else _PROBE_SIDE) for axis, dim in enumerate(dims)]
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if dtype == np.uint8:
            feed[name] = random.integers(0, 256, shape, np.uint8)
        else:
            feed[name] = random.uniform(0, 1, shape).astype(dtype)
    return feed
