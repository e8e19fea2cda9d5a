"""The stage that holds the engine against what somebody else says is in the footage.

The comparison with the source cannot find what both have wrong: channel order, scale, head. This one can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vedette_engines.building.making import ENGINE_FILE
from vedette_engines.compare.gates import gate_for, judge
from vedette_engines.compare.program import load_program, truth_of_program
from vedette_engines.compare.running import infer_with_onnxruntime
from vedette_engines.compare.truth import compare_with_truth
from vedette_engines.compare.truth_files import load_truth
from vedette_engines.footage.clips import clips_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from vedette_engines.building.step import Say, StepResult
    from vedette_engines.building.workbench import Workbench
    from vedette_engines.compare.truth import Truth
    from vedette_engines.footage.clips import Clip
    from vedette_engines.manifest import Manifest


def check_truth(bench: Workbench, made: StepResult, manifest: Manifest, clips: Sequence[Clip]) -> None:
    """Compare the FP32 engine with each truth that was given.

    Raises:
        ImportInputError: A truth cannot be read, or is about other frames.
        MissedGateError: The engine sees something else.
    """
    for name, truth in _truths(bench, manifest, clips):
        _check(bench, name, truth, (made, manifest, clips))


def _truths(bench: Workbench, manifest: Manifest, clips: Sequence[Clip]) -> Iterator[tuple[str, Truth]]:
    """Give each truth with the name of its stage."""
    wanted, count = bench.request.truth, bench.request.footage.validation_frames
    if wanted.file is not None:
        yield "truth", load_truth(wanted.file, manifest.labels)
    if wanted.reference:
        program = load_program(wanted.reference, bench.request.source.search_path)
        yield "reference", truth_of_program(program, wanted.reference, manifest, clips, count=count, say=bench.say)


def _check(
    bench: Workbench,
    name: str,
    truth: Truth,
    engine: tuple[StepResult, Manifest, Sequence[Clip]],
) -> None:
    made, manifest, clips = engine
    gate = gate_for(manifest.task, truth.scope, bench.request.gates)
    count = bench.request.footage.validation_frames

    def produce(_: Path, say: Say) -> Mapping[str, Any]:
        infer = infer_with_onnxruntime(made.folder / ENGINE_FILE)
        agreement = compare_with_truth(manifest, infer, truth, clips, count=count, say=say)
        for line in agreement.lines():
            say(line)
        return {
            "agreement": agreement.to_json(),
            "tables": agreement.tables(gate.shown),
            "gate": str(gate),
            "reasons": list(judge(agreement, gate)),
        }

    inputs = {"engine": made.key, "clips": clips_digest(clips), "frames": count, "gate": gate, "truth": truth.digest}
    bench.stage(name, inputs, produce)
