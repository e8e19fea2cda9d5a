"""What only TensorRT for RTX has: kernels that are compiled at run time, and graphs of its own.

Kernels are compiled for the shapes that come; each of our contexts has one shape for good, so it is compiled at the
first run, which is the warm-up's (EAGER), instead of beside the first hundred (LAZY). What was compiled is kept in a
file: RTX itself refuses one of another version, GPU or driver. Graphs are left to RTX, as its documentation advises
where shapes are dynamic, since only it knows when its kernels are the final ones; a plan that was built without
REQUIRE_USER_ALLOCATION could not be captured by anybody else.
https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/work-with-cuda-graphs.html
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from vedette_engines.plans.timing import write_whole

if TYPE_CHECKING:
    from pathlib import Path


class RtxRuntime:
    """The runtime configuration of all contexts of one engine.

    Args:
        trt: The module.
        engine: The engine.
        file: Keeps what was compiled; read here, written by `close`. A file that cannot be read or written, or that
            RTX refuses, costs time and nothing else.
    """

    def __init__(self, trt: Any, engine: Any, file: Path) -> None:
        self._file = file
        self.config: Any = engine.create_runtime_config()
        self.config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        self.config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        # Since 1.2.
        self.graphs_itself = hasattr(trt, "CudaGraphStrategy")
        if self.graphs_itself:
            self.config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._cache: Any = self.config.create_runtime_cache()
        self._kept = b""
        with contextlib.suppress(OSError):
            content = file.read_bytes()
            if self._cache.deserialize(content):
                self._kept = content
        self.config.set_runtime_cache(self._cache)

    def close(self) -> None:
        """Keep what was compiled."""
        # Whatever is wrong, on a device that is lost for one, closing goes on: it is only a cache.
        with contextlib.suppress(Exception):
            content = bytes(self._cache.serialize())
            if content != self._kept:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self._file, content)
        self._cache = self.config = None
