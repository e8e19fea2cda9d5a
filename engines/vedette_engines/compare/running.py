"""How an engine is run to be compared: a plain function from frames to its output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vedette_engines.errors import ImportInputError, ImportRefusedError, MissingRuntimeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vedette_engines.graft.frames import Sample
    from vedette_engines.manifest import Manifest

# Takes frames, `uint8 [n, H, W, 3]`, BGR, C-contiguous, n from 1 on; returns the engine's output, `float32 [n, ...]`,
# an array that the caller may keep. How the engine is run is the business of whoever made the function.
Infer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def infer_with_onnxruntime(model: bytes | Path, what: str = "the engine", threads: int = 1) -> Infer:
    """Make a function that runs an ONNX engine on the CPU.

    The number of threads is fixed, since it decides how sums are split and so the last digits: the same engine gives
    the same figures on every machine of a kind. A file with a fixed batch is fed in pieces of it.

    Args:
        model: The file or its bytes, with one input.
        what: How messages call it.
        threads: Threads within one run.

    Raises:
        ImportInputError: ONNX Runtime cannot load it.
        MissingRuntimeError: ONNX Runtime is not installed.
    """
    session = _session(model, what, threads)
    given = session.get_inputs()[0]
    fixed = given.shape[0] if isinstance(given.shape[0], int) else None

    def infer(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        size = fixed or len(frames)
        pieces = [
            _run(session, given.name, frames[first : first + size], size, what) for first in range(0, len(frames), size)
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    return infer


def _session(model: bytes | Path, what: str, threads: int) -> Any:
    try:
        import onnxruntime as ort  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise MissingRuntimeError(
            "comparing engines needs onnxruntime: pip install 'vedette[cpu]', or 'vedette[gpu]' for CUDA"
        ) from error
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what matters comes as an exception
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = str(model) if isinstance(model, Path) else model
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the binding's exceptions share no base but this
        raise ImportInputError(f"{what}: ONNX Runtime cannot load it: {first_line(error)}") from error


def _run(session: Any, name: str, frames: NDArray[np.uint8], size: int, what: str) -> NDArray[np.float32]:
    """Run one piece, filled up with its last frame where the batch is fixed."""
    short = size - len(frames)
    full = np.concatenate([frames, np.repeat(frames[-1:], short, axis=0)]) if short else frames
    try:
        result = session.run(None, {name: full})[0]
    except Exception as error:  # as above
        raise ImportRefusedError(f"{what}: running it on {list(full.shape)} fails: {first_line(error)}") from error
    output: NDArray[np.float32] = np.asarray(result, np.float32)[: len(frames)]
    return output


def run_frames(
    infer: Infer, frames: Sequence[Sample], batch: int, manifest: Manifest, what: str
) -> Iterator[NDArray[np.float32]]:
    """Run frames through an engine in batches and give its output frame by frame.

    Args:
        infer: The engine.
        frames: Letterboxed for it.
        batch: Frames per run.
        manifest: Tells the output's shape.
        what: How messages call the engine.

    Raises:
        ImportRefusedError: The output has another shape than the manifest says.
    """
    for first in range(0, len(frames), batch):
        pixels = np.stack([frame.pixels for frame in frames[first : first + batch]])
        output = np.asarray(infer(pixels))
        if output.shape != (len(pixels), *manifest.output_shape):
            raise ImportRefusedError(
                f"{what} gives {list(output.shape)} for {len(pixels)} frames; "
                f"its manifest says {[len(pixels), *manifest.output_shape]}"
            )
        yield from output


def first_line(error: Exception) -> str:
    """Shorten a runtime's message to what fits on a line."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
