"""Run a published engine once, to see that it keeps the contract and not only declares it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.errors import BundleError, EnginesError
from vedette_engines.graft.session import Session
from vedette_engines.manifest import Backend, DetectorOutput, Manifest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle


def try_engine(bundle: Bundle) -> int:
    """Run every file for ONNX Runtime on noise, one frame and three at once, and return how many files ran.

    Raises:
        BundleError: A file cannot be loaded or run, or what it gives is not what the contract wants.
    """
    manifest = bundle.manifest
    files = [file for file in manifest.files if file.backend is Backend.ONNXRUNTIME]
    frames = np.random.default_rng(1).integers(0, 256, (3, *manifest.slot_shape), np.uint8)
    for file in files:
        try:
            session = Session(bundle.path_of(file), file.path)
            for batch in (1, 3) if file.batch is None else (file.batch,):
                given = np.resize(frames, (batch, *manifest.slot_shape))
                check_result(session.run({"frames": given})[0], batch, manifest, file.path)
        except BundleError:
            raise
        except EnginesError as error:
            raise BundleError(str(error)) from error
    return len(files)


def check_result(result: NDArray[np.float32], batch: int, manifest: Manifest, what: str) -> None:
    """Compare one result with the contract.

    Raises:
        BundleError: They differ.
    """
    wanted = (batch, *manifest.output_shape)
    if result.shape != wanted or result.dtype != np.float32:
        raise BundleError(f"{what}: gives {result.dtype} {list(result.shape)}; wanted is float32 {list(wanted)}")
    if np.isnan(result).any():
        raise BundleError(f"{what}: gives NaN on noise")
    if isinstance(manifest.output, DetectorOutput):
        _check_candidates(result, manifest, what)


def _check_candidates(candidates: NDArray[np.float32], manifest: Manifest, what: str) -> None:
    scores, classes = candidates[..., 4], candidates[..., 5]
    if (np.diff(scores, axis=1) > 0).any():
        raise BundleError(f"{what}: candidates are not sorted by falling score")
    scored = scores > 0
    # A product of rounded probabilities may leave 0..1 by a hair.
    if (scores > 1.001).any() or (scores < 0).any():
        raise BundleError(f"{what}: scores are {scores.min():g} to {scores.max():g}; wanted is 0 to 1")
    if scored.any() and not set(np.unique(classes[scored])) <= set(range(len(manifest.labels))):
        raise BundleError(f"{what}: gives classes beyond its {len(manifest.labels)} labels")
