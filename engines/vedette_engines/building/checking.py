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

    from vedette_engines.building.request import BuildRequest, Lowering
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
        if request.plans is not None and request.plans.strip:
            raise ImportInputError(
                "--strip leaves the weights out, so that nobody could run the published plan; give --no-publish, or "
                "build one beside the engine: vedette engine plan NAME --strip -o FILE.plan"
            )
    footage, wanted = request.footage, request.lowering
    judged, calibrated = (bool(paths or footage.frames) for paths in (footage.validation, footage.calibration))
    if request.truth.given and not judged:
        raise ImportInputError("--truth and --reference speak of footage: give --validation, or --frames")
    if set(wanted.precisions) - {Precision.FP32} and not judged:
        raise ImportInputError("a lower precision is judged on footage: give --validation, or --frames")
    _check_int8(wanted)
    if Precision.INT8 in wanted.precisions and not wanted.dynamic and not calibrated:
        raise ImportInputError("INT8 takes its ranges from footage: give --calibration, or --frames, or --dynamic")


def _check_int8(wanted: Lowering) -> None:
    """Refuse what would be said in vain."""
    measured = {
        "--calibration-method": wanted.method is not None,
        "--percentile": wanted.percentile is not None,
        "--auto-exclude": wanted.auto_exclude,
    }
    said = [option for option, given in measured.items() if given]
    if Precision.INT8 not in wanted.precisions:
        said += ["--dynamic"] * wanted.dynamic + ["--exclude"] * bool(wanted.exclude)
        if said:
            raise ImportInputError(f"{said[0]} is about INT8: give --precision int8")
    elif wanted.dynamic and said:
        raise ImportInputError(
            f"{said[0]} means nothing to --dynamic, whose ranges are taken at run time; leave it out"
        )
    elif wanted.percentile is not None and wanted.method not in {None, "percentile"}:
        raise ImportInputError(f"--percentile means nothing to --calibration-method {wanted.method}; leave it out")


def _check_root(root: Path) -> None:
    """Want the nearest part of the path that is there to be a folder."""
    there = next((place for place in (root, *root.absolute().parents) if place.exists()), root)
    if not there.is_dir():
        where = "" if there == root else f": {there} is none"
        raise ImportInputError(f"--engines-dir {root} is no folder{where}")
