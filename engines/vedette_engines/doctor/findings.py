"""What people stumble over: wheels that exclude each other, drivers too old for them, parts that are missing.

Plain rules about what was found, so that they hold, and are tested, for machines that are not this one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vedette_engines.doctor.report import Driver, Finding, GpuFacts, LibraryFacts, Severity, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")
_OPENCVS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
_CUDA_PROVIDER = "CUDAExecutionProvider"
_HIDES = "CUDA_VISIBLE_DEVICES"
_CAPABILITIES = "NVIDIA_DRIVER_CAPABILITIES"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules look at.

    Attributes:
        driver: The driver.
        gpus: The GPUs.
        device: Number of the one that is meant.
        libraries: By name.
        packages: Versions of the installed distributions, by normalised name.
        variables: The environment's.
        device_nodes: The kernel's part of the driver is there: `/dev/nvidia0`, or a Jetson's.
    """

    driver: Driver
    gpus: Sequence[GpuFacts]
    device: int
    libraries: Mapping[str, LibraryFacts]
    packages: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)
    device_nodes: bool = False

    @property
    def gpu(self) -> GpuFacts | None:
        """The GPU that is meant; None: CUDA sees none of that number."""
        return next((gpu for gpu in self.gpus if gpu.index == self.device), None)

    def library(self, name: str) -> LibraryFacts:
        """Tell a library's facts; one that nobody asked is absent."""
        return self.libraries.get(name, LibraryFacts(name, State.ABSENT))


def findings(facts: Facts) -> tuple[Finding, ...]:
    """Say what is wrong or odd, what stands in the way first."""
    rules = (_driver, _driver_too_old, _onnxruntimes, _providers, _opencvs, _tensorrts, _rtx, _video, _hidden, _nvml)
    found = [finding for rule in rules for finding in rule(facts)]
    return tuple(sorted(found, key=lambda finding: list(Severity).index(finding.severity)))


def _installed(facts: Facts, names: Sequence[str]) -> list[str]:
    return [f"{name} {facts.packages[name]}" for name in names if name in facts.packages]


def _driver(facts: Facts) -> Iterator[Finding]:
    if "STUB" in facts.driver.reason:
        yield Finding(
            "cuda-stub",
            Severity.ERROR,
            "the loader finds CUDA's stub of libcuda.so.1 instead of the driver's",
            "take the toolkit's lib64/stubs out of LD_LIBRARY_PATH",
        )
    elif "MISMATCH" in facts.driver.reason:
        yield Finding(
            "driver-mismatch",
            Severity.ERROR,
            "libcuda.so.1 and the kernel's module are of different versions, as after an update",
            "restart the machine, or load the module again",
        )
    if facts.driver.state is State.ABSENT and facts.device_nodes:
        yield Finding(
            "container-without-driver",
            Severity.WARNING,
            "the kernel has the driver's device nodes, but libcuda.so.1 is not here: a container without it",
            "start it with the NVIDIA container toolkit: docker run --gpus all ...",
        )


def _driver_too_old(facts: Facts) -> Iterator[Finding]:
    """Compare major versions: within one, a driver runs what was built with a later minor one."""
    have = _major(facts.driver.cuda)
    for name, wants in _wanted_cudas(facts) if have is not None else ():
        if have is not None and wants > have:
            yield Finding(
                "driver-too-old",
                Severity.ERROR,
                f"{name} is built for CUDA {wants}; the driver runs CUDA {facts.driver.cuda}",
                f"update the driver, or install {name.split()[0]} for CUDA {have}",
            )


def _wanted_cudas(facts: Facts) -> Iterator[tuple[str, int]]:
    """Tell which major CUDA each library, and each wheel of TensorRT, is built for."""
    for name, library in facts.libraries.items():
        wants = _major(str(library.details.get("cuda", "")))
        if wants is not None:
            yield f"{name} {library.version}", wants
    for package, version in facts.packages.items():
        if match := re.fullmatch(r"tensorrt-(?:rtx-)?cu(\d+)(?:-bindings)?", package):
            yield f"{package} {version}", int(match[1])


def _major(version: str) -> int | None:
    first = version.partition(".")[0]
    return int(first) if first.isdigit() else None


def _onnxruntimes(facts: Facts) -> Iterator[Finding]:
    there = _installed(facts, _ONNXRUNTIMES)
    if len(there) > 1:
        yield Finding(
            "two-onnxruntimes",
            Severity.WARNING,
            f"{' and '.join(there)} are one module: the one installed last has overwritten the other",
            "make a new environment with 'vedette[gpu]' or 'vedette[cpu]'; removing one breaks both",
        )
    elif facts.gpu is not None and there and "onnxruntime-gpu" not in facts.packages:
        yield Finding(
            "onnxruntime-without-cuda",
            Severity.WARNING,
            f"there is a GPU, but {there[0]} has no CUDA provider",
            "make a new environment with 'vedette[gpu]' instead of 'vedette[cpu]'",
        )


def _providers(facts: Facts) -> Iterator[Finding]:
    started = facts.library("onnxruntime").details.get("started", {}).get(_CUDA_PROVIDER)
    if started and started.get("works") and started.get("preload"):
        yield Finding(
            "cuda-libraries-need-preload",
            Severity.NOTE,
            "CUDA's libraries come as wheels, where the loader does not look: Vedette loads them first",
            "in other programs call onnxruntime.preload_dlls() before the first session",
        )
    if started and not started.get("works") and facts.gpu is not None:
        missing = re.search(r"(lib[\w.+-]+\.so[.\d]*)[^.]*cannot open shared object", started.get("reason", ""))
        yield Finding(
            "cuda-provider-does-not-start",
            Severity.ERROR,
            f"ONNX Runtime's CUDA provider does not start: {started.get('reason') or 'it does not say why'}",
            f"{missing[1]} is missing: pip install 'onnxruntime-gpu[cuda,cudnn]'" if missing else "",
        )


def _opencvs(facts: Facts) -> Iterator[Finding]:
    there = _installed(facts, _OPENCVS)
    if len(there) > 1:
        yield Finding(
            "two-opencvs",
            Severity.WARNING,
            f"{' and '.join(there)} are one module: the one installed last has overwritten the other",
            "uninstall them all, then install opencv-python-headless, which Vedette names",
        )


def _tensorrts(facts: Facts) -> Iterator[Finding]:
    kinds = sorted(
        {name for name in facts.packages if re.fullmatch(r"tensorrt-(?:rtx-)?cu\d+(?:-libs|-bindings)?", name)}
    )
    libraries = [name for name in kinds if name.endswith("-libs") and "rtx" not in name]
    cudas = {match[1] for name in kinds if "rtx" not in name and (match := re.search(r"cu(\d+)", name))}
    if "tensorrt" in facts.packages and not libraries and facts.library("tensorrt").state is State.BROKEN:
        yield Finding(
            "tensorrt-stub",
            Severity.ERROR,
            f"tensorrt {facts.packages['tensorrt']} is a shell: its libraries were not installed with it",
            "pip install 'vedette[tensorrt]' again, with a pip that can reach the packages tensorrt_cu*_libs",
        )
    if len(cudas) > 1:
        yield Finding(
            "two-tensorrts",
            Severity.WARNING,
            f"TensorRT is installed for CUDA {' and '.join(sorted(cudas))}: {', '.join(kinds)}",
            "uninstall those that the driver does not fit",
        )
    tensorrt = facts.library("tensorrt")
    providers = facts.library("onnxruntime").details.get("providers", ())
    if tensorrt.works and (_major(tensorrt.version) or 0) > 10 and "TensorrtExecutionProvider" in providers:
        yield Finding(
            "onnxruntime-wants-tensorrt-10",
            Severity.NOTE,
            f"ONNX Runtime's own TensorRT provider wants libnvinfer.so.10; TensorRT {tensorrt.version} is not that",
            "nothing: Vedette runs plans itself, not through that provider",
        )


def _rtx(facts: Facts) -> Iterator[Finding]:
    library, gpu = facts.library("tensorrt_rtx"), facts.gpu
    takes = library.details.get("capabilities", ())
    if gpu is not None and library.works and takes and gpu.capability not in takes:
        yield Finding(
            "rtx-does-not-take-gpu",
            Severity.WARNING,
            f"TensorRT-RTX {library.version} runs on {', '.join(takes)}; {gpu.name} is {gpu.capability}",
            "use TensorRT: pip install 'vedette[tensorrt]'",
        )


def _video(facts: Facts) -> Iterator[Finding]:
    library = facts.library("PyNvVideoCodec")
    lacks = re.search(r"libnv(?:cuvid|idia-encode)\S*", library.reason)
    if facts.gpu is not None and library.state is State.BROKEN and lacks:
        told = facts.variables.get(_CAPABILITIES, "")
        yield Finding(
            "no-video-capability",
            Severity.ERROR,
            f"{lacks[0].rstrip(':')} is missing: {_CAPABILITIES} is {told!r}" if told else f"{lacks[0]} is missing",
            f"in a container set {_CAPABILITIES}=compute,utility,video",
        )


def _hidden(facts: Facts) -> Iterator[Finding]:
    words = facts.variables.get(_HIDES)
    unseen = [gpu for gpu in facts.gpus if gpu.index < 0]
    if words is not None and unseen:
        yield Finding(
            "gpus-hidden",
            Severity.NOTE,
            f"{_HIDES} is {words!r}: it hides {len(unseen)} of {len(facts.gpus)} GPUs",
        )


def _nvml(facts: Facts) -> Iterator[Finding]:
    if "pynvml" in facts.packages and "nvidia-ml-py" not in facts.packages:
        yield Finding(
            "pynvml-is-abandoned",
            Severity.NOTE,
            f"pynvml {facts.packages['pynvml']} is no longer looked after",
            "pip uninstall pynvml; pip install nvidia-ml-py, which is the same module",
        )
