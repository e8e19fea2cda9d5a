"""Find out before the work what a build would be refused for after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_engines.errors import ImportInputError
from vedette_engines.graft.registry import check_name, known_heads
from vedette_engines.importing import check_names
from vedette_engines.manifest import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vedette_engines.building.request import BuildRequest
    from vedette_engines.graft.head import Head


def check_request(request: BuildRequest, heads: Mapping[str, Head] | None) -> None:
    """Check what can be known without looking at the model or the footage.

    Args:
        request: What is to be made.
        heads: The heads to choose from; None: all that are installed.

    Raises:
        ImportInputError: Something is missing or wrong.
    """
    check_names(request.engine)
    check_name(request.engine.head, known_heads() if heads is None else heads)
    if request.publish:
        _check_root(request.engine.root)
    footage, wanted = request.footage, request.lowering
    judged, calibrated = (bool(paths or footage.frames) for paths in (footage.validation, footage.calibration))
    if request.truth.given and not judged:
        raise ImportInputError("--truth and --reference speak of footage: give --validation, or --frames")
    if set(wanted.precisions) - {Precision.FP32} and not judged:
        raise ImportInputError("a lower precision is judged on footage: give --validation, or --frames")
    if Precision.INT8 in wanted.precisions and not wanted.dynamic and not calibrated:
        raise ImportInputError("INT8 takes its ranges from footage: give --calibration, or --frames, or --dynamic")


def _check_root(root: Path) -> None:
    """Want the nearest part of the path that is there to be a folder."""
    there = next((place for place in (root, *root.absolute().parents) if place.exists()), root)
    if not there.is_dir():
        where = "" if there == root else f": {there} is none"
        raise ImportInputError(f"--engines-dir {root} is no folder{where}")
