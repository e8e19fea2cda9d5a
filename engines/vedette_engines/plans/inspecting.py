"""TensorRT's account of a plan's layers."""

from __future__ import annotations

from typing import Any


def inspect_layers(trt: Any, logger: Any, content: bytes) -> str | None:
    """Load a plan and ask for its layers, as JSON; None where it cannot be loaded, which takes a GPU."""
    runtime = trt.Runtime(logger)
    if hasattr(runtime, "engine_host_code_allowed"):
        # A version-compatible plan brings the code that runs it; this one was built here and now.
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        return None
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
