"""Open an engine with the runtime that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_engines.errors import MissingRuntimeError
from vedette_engines.runners.base import RunnerSettings

if TYPE_CHECKING:
    from vedette_engines.bundle import Bundle
    from vedette_engines.runners.base import LoadedEngine


def open_engine(bundle: Bundle, settings: RunnerSettings | None = None) -> LoadedEngine:
    """Load an engine, ready to make lanes.

    Args:
        bundle: The engine.
        settings: How to run it; None: the defaults.

    Raises:
        BundleError: The bundle has no file that fits.
        LoadError: The runtime refuses it, or would not run it where it was asked to.
        MissingRuntimeError: No runtime is installed; the message names the extra.
    """
    try:
        from vedette_engines.runners.onnxruntime import OnnxRuntimeEngine  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise MissingRuntimeError(
            f"engine {bundle.name} {bundle.version} needs ONNX Runtime ({error}): "
            "pip install 'vedette[cpu]', or 'vedette[gpu]' for CUDA"
        ) from error
    return OnnxRuntimeEngine(bundle, settings or RunnerSettings())
