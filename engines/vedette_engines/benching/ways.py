"""Find the candidates of a bench: every runner that is installed, with every file of the bundle that it takes."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vedette_engines.benching.way import Runtime, Way
from vedette_engines.errors import EnginesError, ImportInputError, MissingRuntimeError
from vedette_engines.graft.preprocess import Preprocessing
from vedette_engines.manifest import Backend, Precision
from vedette_engines.runners.providers import CUDA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vedette_engines.bundle import Bundle
    from vedette_engines.graft.preprocess import ChannelOrder
    from vedette_engines.manifest import Manifest
    from vedette_engines.sources.spec import SourceSpec

CPU_RUNNER = "ONNX Runtime CPU"
BASELINE = (CPU_RUNNER, str(Precision.FP32))
RUNNERS = ("onnxruntime", "optimised", "openvino", "cuda", "torch", "torchscript")
_NUMBERS = r"[-+0-9.e]+, [-+0-9.e]+, [-+0-9.e]+"
# As `Preprocessing` writes itself.
_PREPROCESSING = re.compile(
    rf"(?P<order>rgb|bgr), \(pixel \* (?P<scale>[-+0-9.e]+) - \((?P<mean>{_NUMBERS})\)\) / \((?P<std>{_NUMBERS})\)"
)
_OF_SOURCE = {"torch": Runtime.EAGER, "torchscript": Runtime.TORCHSCRIPT}


def find_ways(
    bundle: Bundle,
    folder: Path,
    *,
    runners: Sequence[str] = (),
    source: SourceSpec | None = None,
    preprocessing: Preprocessing | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Way, ...]:
    """List the candidates; what is not installed is told and left out, unless it was asked for.

    Args:
        bundle: The engine.
        folder: Where optimised files are written; it must outlive the bench.
        runners: Some of RUNNERS; empty: all that can run here.
        source: The model in PyTorch.
        preprocessing: What goes before it.
        say: Takes what is left out, and why.

    Raises:
        ImportInputError: A runner has no such name, or PyTorch is asked for without a source.
        MissingRuntimeError: A runner that was asked for is not installed.
    """
    for name in runners:
        if name not in RUNNERS:
            raise ImportInputError(f"--runner is {name!r}; allowed is {', '.join(RUNNERS)}")
        if name in _OF_SOURCE and source is None:
            raise ImportInputError(f"--runner {name} runs the model's source; give --source")
    found: list[Way] = []
    for name in runners or (RUNNERS if source is not None else RUNNERS[:4]):
        reason = _absent(name)
        if reason and runners:
            raise MissingRuntimeError(reason)
        if reason:
            say(f"left out: {reason}")
            continue
        if name in _OF_SOURCE:
            found += _of_source(name, source, preprocessing)
        else:
            found += _of_files(name, bundle, folder, say)
    return tuple(found)


def _absent(name: str) -> str:
    """Tell why a runner cannot run here; empty: it can."""
    package, extra = {"openvino": ("openvino", "openvino"), "torch": ("torch", "export")}.get(
        name.removesuffix("script"), ("onnxruntime", "cpu")
    )
    if importlib.util.find_spec(package) is None:
        return f"{package} is not installed: pip install 'vedette[{extra}]'"
    if name == "cuda":
        import onnxruntime as ort  # noqa: PLC0415  (an extra)

        if CUDA not in ort.get_available_providers():
            return "this build of ONNX Runtime has no CUDA: pip install 'vedette[gpu]'"
    return ""


def _of_source(name: str, source: SourceSpec | None, preprocessing: Preprocessing | None) -> Iterator[Way]:
    if source is None:
        return
    runner = "PyTorch eager" if name == "torch" else "TorchScript"
    # Of module:factory the file is the weights; without them there is none.
    file = source.weights if source.is_factory else Path(source.source)
    note = "preprocessing included, the head's decoding not: PyTorch has none"
    yield Way(
        runner,
        _OF_SOURCE[name],
        Precision.FP32,
        file,
        source=source,
        preprocessing=preprocessing,
        note=note,
        providers=(),
    )


def _of_files(name: str, bundle: Bundle, folder: Path, say: Callable[[str], None]) -> Iterator[Way]:
    for file in bundle.manifest.files:
        if file.backend is not Backend.ONNXRUNTIME:
            continue
        way = Way(
            CPU_RUNNER,
            Runtime.ONNXRUNTIME,
            file.precision,
            bundle.path_of(file),
            batch=file.batch,
            max_batch=file.max_batch,
        )
        match name:
            case "openvino":
                yield replace(way, runner="OpenVINO CPU", runtime=Runtime.OPENVINO)
            case "cuda":
                yield replace(way, runner="ONNX Runtime CUDA", providers=(CUDA,))
            case "optimised":
                yield from _optimised(way, folder, say)
            case _:
                yield way


def _optimised(way: Way, folder: Path, say: Callable[[str], None]) -> Iterator[Way]:
    """Optimise a file for this CPU; where that fails, there is one candidate less."""
    from vedette_engines.optimise import optimise  # noqa: PLC0415  (needs a runtime)

    if way.file is None:
        return
    target = folder / f"optimised-{way.precision}.onnx"
    try:
        target.write_bytes(optimise(way.file.read_bytes(), "all"))
    except EnginesError as error:
        say(f"left out: {way.file.name} optimised: {error}")
        return
    yield replace(
        way, runner="ONNX Runtime CPU, optimised", file=target, note="optimised beforehand, for this CPU only"
    )


def preprocessing_of(manifest: Manifest) -> Preprocessing | None:
    """Read from the provenance what was grafted before the model; None: it does not say."""
    found = _PREPROCESSING.fullmatch(manifest.provenance.get("preprocessing", ""))
    if found is None:
        return None
    mean, std = (tuple(float(part) for part in found[name].split(",")) for name in ("mean", "std"))
    order: ChannelOrder = "rgb" if found["order"] == "rgb" else "bgr"
    return Preprocessing(order, float(found["scale"]), (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
