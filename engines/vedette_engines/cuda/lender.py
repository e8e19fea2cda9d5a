"""What cuda-bindings does on streams that pycuda made, by their handles.

Imported only where cuda-bindings is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vedette_engines.cuda.bindings import BindingsGraph, BindingsPinned, check

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Lender:
    """What cuda-bindings does on pycuda's streams.

    Args:
        driver: The module `cuda.bindings.driver`.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def begin_capture(self, stream: int) -> None:
        """Begin a capture in the stream of a handle; calls of other threads stay what they are."""
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        check(self._driver.cuStreamBeginCapture(stream, mode), "beginning a capture", self._driver)

    def end_capture(self, stream: int) -> BindingsGraph:
        """End it and make a graph of it."""
        captured = check(self._driver.cuStreamEndCapture(stream), "ending a capture", self._driver)
        return BindingsGraph(self._driver, captured)

    def launch_graph(self, graph: BindingsGraph, stream: int) -> None:
        """Launch a graph in the stream of a handle."""
        check(self._driver.cuGraphLaunch(graph.handle, stream), "launching a graph", self._driver)

    def register(self, array: NDArray[np.uint8]) -> BindingsPinned:
        """Lock the pages of somebody's memory."""
        return BindingsPinned(self._driver, array.nbytes, array)
