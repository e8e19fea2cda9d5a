"""How far each file agrees with the FP32 engine: read from the bundle's report, or measured on frames."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.benching.report import Accuracy
from vedette_engines.compare.figures import FIGURES, MAIN_FIGURE
from vedette_engines.manifest import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from vedette_engines.benching.way import OpenWay
    from vedette_engines.bundle import Bundle
    from vedette_engines.compare.running import Infer
    from vedette_engines.graft.frames import Sample
    from vedette_engines.manifest import Manifest, Task

REPORT = "report.json"
_AGAINST = "-against-fp32"
_BATCH = 8


def reported(bundle: Bundle) -> dict[Precision, Accuracy]:
    """Read what the build measured, by precision; empty where the bundle has no report of a build."""
    if REPORT not in {attachment.path for attachment in bundle.manifest.attachments}:
        return {}
    try:
        document: Any = json.loads((bundle.path / REPORT).read_text(encoding="utf-8"))
        stages = [stage for stage in document["stages"] if stage["name"].endswith(_AGAINST)]
        found = [(stage["name"], stage["figures"]["agreement"]) for stage in stages]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    accuracies: dict[Precision, Accuracy] = {}
    # The file for TensorRT is compared, too; here it is the one for the CPU that runs.
    for name, agreement in sorted(found, key=lambda entry: "tensorrt" in entry[0]):
        precision = next((one for one in Precision if name.startswith(str(one))), None)
        if precision is not None and precision not in accuracies and not agreement.get("inconclusive"):
            where = f"{agreement['frames']} validation frames, with ONNX Runtime, when it was built"
            accuracies[precision] = Accuracy(_telling(bundle.manifest.task, agreement["figures"]), where)
    return accuracies


def measured(
    manifest: Manifest,
    reference: OpenWay,
    candidate: OpenWay,
    samples: Sequence[Sample],
    say: Callable[[str], None] = lambda _: None,
) -> Accuracy | None:
    """Compare a candidate with the FP32 engine on frames; None: nothing follows from them, and `say` is told why."""
    from vedette_engines.compare.agreement import compare_engines  # noqa: PLC0415  (pycocotools, an extra)

    batch = min([_BATCH, *(limit for limit in (file.batch for file in manifest.files) if limit)])
    agreement = compare_engines(manifest, _infer(reference), _infer(candidate), samples, batch=batch)
    if agreement.inconclusive:
        say(f"accuracy cannot be told: {agreement.inconclusive}")
        return None
    return Accuracy(_telling(manifest.task, agreement.figures), f"{agreement.frames} frames that were given")


def _infer(way: OpenWay) -> Infer:
    def infer(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        answer = way.run(list(frames))
        if answer is None:
            raise ValueError("a source is no engine: it has no answers to compare")
        return np.array(answer)

    return infer


def _telling(task: Task, figures: Mapping[str, float | None]) -> dict[str, float]:
    """Keep the finite figures of the task, the main one first."""
    main = MAIN_FIGURE[task]
    names = [main, *(name for name in figures if name != main)]
    kept = {name: figures.get(name) for name in names if name in FIGURES}
    return {name: float(value) for name, value in kept.items() if value is not None and np.isfinite(value)}
