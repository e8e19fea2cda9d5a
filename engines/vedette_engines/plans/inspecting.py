"""TensorRT's account of a plan's layers."""

from __future__ import annotations

from typing import Any


def inspect_layers(trt: Any, logger: Any, content: bytes) -> str | None:
    """Load a plan and ask for its layers, as JSON; None where it cannot be loaded, which takes a GPU."""
    engine = trt.Runtime(logger).deserialize_cuda_engine(content)
    if engine is None:
        return None
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
