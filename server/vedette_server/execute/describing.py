"""What a manifest says of an engine, as channels need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_engines.manifest import DetectorOutput
from vedette_server.data.verdict import EngineLabel
from vedette_server.picture.letterbox import Letterbox

if TYPE_CHECKING:
    from vedette_engines.manifest import Manifest


def label_of(manifest: Manifest, backend: str) -> EngineLabel:
    """Tell what a verdict says of its engine; ``backend`` is what really runs it."""
    return EngineLabel(
        name=manifest.name,
        version=manifest.version,
        backend=backend,
        task=manifest.task,
        labels=tuple(manifest.labels),
        extras=manifest.output.extras if isinstance(manifest.output, DetectorOutput) else (),
        min_score=manifest.defaults.min_score,
    )


def fit_of(manifest: Manifest) -> Letterbox:
    """Tell how a picture is put into the engine's input."""
    return Letterbox(manifest.input.width, manifest.input.height, manifest.input.letterbox, manifest.input.pad)
