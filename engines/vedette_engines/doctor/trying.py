"""Try each backend that is here: run the engine `blobs` and compare, move bytes and compare.

The CPU's answer is compared with what was drawn, all others with the CPU's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vedette_engines.doctor import scene
from vedette_engines.doctor.abilities import no_gpu
from vedette_engines.doctor.report import State, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_engines.compare.detections import Boxes
    from vedette_engines.doctor.asking import Answer, Asker
    from vedette_engines.doctor.findings import Facts
    from vedette_engines.doctor.report import Ability

_CPU = "onnxruntime-cpu"
_BACKENDS = {
    _CPU: "blobs on ONNX Runtime, CPU",
    "onnxruntime-cuda": "blobs on ONNX Runtime, CUDA",
    "openvino": "blobs on OpenVINO",
    "tensorrt": "blobs on TensorRT",
    "tensorrt-rtx": "blobs on TensorRT-RTX",
}
_LIBRARIES = ("cuda-bindings", "pycuda")
_ALL_BYTES = "every byte"


class _Wanted(NamedTuple):
    """What an answer has to be like."""

    boxes: Sequence[Boxes]
    bound: scene.Bound


def try_all(asker: Asker, facts: Facts, able: Sequence[Ability], tell: Callable[[str], None]) -> tuple[Trial, ...]:
    """Try all; what cannot be tried is there with the reason."""
    can = {ability.name: ability for ability in able}
    drawn = scene.truth()
    wanted = _Wanted([*drawn, drawn[0]], scene.TRUTH)
    trials: list[Trial] = []
    for name, words in _BACKENDS.items():
        ability = can[name]
        builds = name == "tensorrt-rtx" and facts.gpu is None and facts.library("tensorrt_rtx").works
        if not ability.available and not builds:
            trials.append(Trial(name, words, State.NOT_RUN, ability.reason))
            continue
        tell(words)
        answer = asker("run", backend=name, device=facts.device, gpu=facts.gpu is not None)
        trial, found = _judged(name, words, answer, wanted)
        trials.append(trial)
        if name == _CPU and trial.state is State.WORKS:
            wanted = _Wanted(found, scene.ALIKE)
    trials += [_copies(asker, name, facts, tell) for name in _LIBRARIES]
    return tuple(trials)


def _judged(name: str, words: str, answer: Answer, wanted: _Wanted) -> tuple[Trial, list[Boxes]]:
    """Compare what a backend answered."""
    value = answer.value
    note, backend = str(value.get("note", "")), str(value.get("backend", ""))
    if answer.failure:
        return Trial(name, words, State.BROKEN, answer.failure, seconds=answer.seconds), []
    if value.get("rows") is None:
        # The one thing that is tried without a GPU: a plan is built.
        reason = f"{note}; running it needs a GPU"
        return Trial(name, words, State.NOT_RUN, reason, seconds=answer.seconds), []
    found = scene.read(np.asarray(value["rows"], np.float32))
    worst, reason = scene.differences(wanted.boxes, found)
    reason = reason or scene.beyond(worst, wanted.bound)
    state = State.BROKEN if reason else State.WORKS
    against, bound = wanted.bound.why, str(wanted.bound)
    return Trial(name, words, state, reason or note, backend, against, worst, bound, answer.seconds), found


def _copies(asker: Asker, name: str, facts: Facts, tell: Callable[[str], None]) -> Trial:
    """Try a CUDA library: bytes to the GPU and back, and the letterbox kernel."""
    words = f"copies, letterbox with {name}"
    library = facts.library(name)
    if facts.gpu is None or not library.works:
        return Trial(name, words, State.NOT_RUN, (no_gpu(facts) if library.version else "") or library.reason)
    tell(words)
    answer = asker("copies", library=name, device=facts.device)
    if answer.failure:
        return Trial(name, words, State.BROKEN, answer.failure, seconds=answer.seconds)
    wrong = answer.value["wrong"]
    over = ", ".join(f"{count} bytes of the {what}" for what, count in wrong.items() if count)
    return Trial(
        name,
        words,
        State.BROKEN if over else State.WORKS,
        f"wrong: {over}" if over else "",
        backend=str(answer.value.get("backend", name)),
        against="the host",
        worst={"bytes": float(sum(wrong.values()))},
        bound=_ALL_BYTES,
        seconds=answer.seconds,
    )
