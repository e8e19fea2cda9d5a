"""Measure how much memory a candidate takes, in a process of its own.

The growth of that process's resident memory from before the engine is loaded (its runtime is imported by then) to the
highest point while batches run. What the runtime's libraries take by being there is not the engine's.
"""

from __future__ import annotations

import importlib
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.benching.way import Runtime, open_way
from vedette_engines.errors import EnginesError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_engines.benching.way import Way
    from vedette_engines.manifest import Manifest

_RUNS = 3
_LIBRARIES = {
    Runtime.ONNXRUNTIME: "vedette_engines.runners.onnxruntime",
    Runtime.OPENVINO: "vedette_engines.runners.openvino",
    Runtime.EAGER: "vedette_engines.benching.torch_way",
    Runtime.TORCHSCRIPT: "vedette_engines.benching.torch_way",
}


def measure_memory(way: Way, manifest: Manifest, threads: int, batches: Sequence[int]) -> dict[int, int]:
    """Tell by how many bytes a process grows that loads the candidate and runs batches up to each size.

    Returns:
        By batch size; without those that were not reached, because it fails or the machine had no memory for them.
    """
    # A fresh interpreter: a fork would share the pages of what is loaded here.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as child:
        try:
            return child.submit(grow, way, manifest, threads, tuple(sorted(batches))).result()
        except BrokenProcessPool:
            return {}


def grow(way: Way, manifest: Manifest, threads: int, batches: Sequence[int]) -> dict[int, int]:
    """Load and run in this process; bytes by batch size."""
    grown: dict[int, int] = {}
    frames = list(np.random.default_rng(0).integers(0, 256, (max(batches), *manifest.slot_shape), np.uint8))
    try:
        importlib.import_module(_LIBRARIES[way.runtime])
        before = _reset_peak()
        opened = open_way(way, manifest, threads)
        for batch in batches:
            for _ in range(_RUNS):
                opened.run(frames[:batch])
            grown[batch] = max(0, _field("VmHWM") - before)
        opened.close()
    except (EnginesError, ImportError, MemoryError):
        pass
    return grown


def _reset_peak() -> int:
    """Forget how high the memory of this process has been; tell what it is now, in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return _field("VmHWM")  # a kernel that does not let us: count from the highest point so far
    return _field("VmRSS")


def _field(name: str) -> int:
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
