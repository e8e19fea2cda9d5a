"""What a build is to make, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vedette_engines.importing import ImportRequest
    from vedette_engines.manifest import Precision
    from vedette_engines.optimise import Level
    from vedette_engines.sources.spec import SourceSpec

Int8Target = Literal["onnxruntime", "tensorrt"]
CalibrationMethod = Literal["minmax", "entropy", "percentile"]


@dataclass(frozen=True, slots=True)
class Footage:
    """The frames to calibrate and to judge on.

    Attributes:
        calibration: Videos, pictures or folders that ranges are taken from.
        validation: Those that accuracy is measured on; no clip may stand in both.
        frames: Given instead of the two: split by clip.
        calibration_frames: Frames to take for calibration, spread over the clips.
        validation_frames: Frames to take for validation.
    """

    calibration: tuple[Path, ...] = ()
    validation: tuple[Path, ...] = ()
    frames: tuple[Path, ...] = ()
    calibration_frames: int = 128
    validation_frames: int = 128

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return bool(self.calibration or self.validation or self.frames)


@dataclass(frozen=True, slots=True)
class Lowering:
    """The precisions besides FP32.

    Attributes:
        precisions: FP16, INT8; FP32 is always made.
        int8_targets: The runtimes that get an INT8 file: each wants another.
        dynamic: Quantise activations at run time: for models of matrices, no calibration needed.
        method: How a tensor's range is taken from the calibration frames.
        percentile: Of the values that the range covers, for the method of that name.
        exclude: Layers that stay in float.
        auto_exclude: Leave out the most sensitive layers until the gate is passed.
    """

    precisions: tuple[Precision, ...] = ()
    int8_targets: tuple[Int8Target, ...] = ("onnxruntime", "tensorrt")
    dynamic: bool = False
    method: CalibrationMethod | None = None
    percentile: float | None = None
    exclude: tuple[str, ...] = ()
    auto_exclude: bool = False


@dataclass(frozen=True, slots=True)
class PlanWish:
    """TensorRT plans to build.

    Attributes:
        profiles: Smallest, best and largest batch of each optimisation profile.
        precisions: Of which files; empty: of all that are made.
        targets: Compute capabilities like `sm_86`; empty: this machine's.
        workspace_bytes: Most scratch memory.
        version_compatible: Also for later versions of the same major version.
        hardware_compatibility: none, same or ampere+.
        refit: Weights can be changed later.
        strip: Leave the weights out; nobody could run such a plan out of a bundle.
        tf32: Products of float32 may round their factors to ten bits.
        timing_cache: File to keep timings in.
        module: tensorrt or tensorrt_rtx; empty: whichever is installed.
    """

    profiles: tuple[tuple[int, int, int], ...] = ((1, 8, 32),)
    precisions: tuple[Precision, ...] = ()
    targets: tuple[str, ...] = ()
    workspace_bytes: int = 1 << 30
    version_compatible: bool = False
    hardware_compatibility: str = "none"
    refit: bool = False
    strip: bool = False
    tf32: bool = False
    timing_cache: Path | None = None
    module: str = ""


@dataclass(frozen=True, slots=True)
class Truth:
    """What the engine must find, said by somebody else than the engine.

    Attributes:
        file: COCO JSON, this project's JSON, or a table of a classifier's labels; None: none.
        reference: `module:function` that takes one BGR picture and returns what it sees; empty: none.
    """

    file: Path | None = None
    reference: str = ""

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return self.file is not None or bool(self.reference)


@dataclass(frozen=True, slots=True)
class BenchWish:
    """A benchmark of what was built.

    Attributes:
        batches: Batch sizes to measure.
        seconds: Time for all of it.
    """

    batches: tuple[int, ...] = (1, 8)
    seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What a build is to make.

    Attributes:
        source: The model.
        engine: Name, labels, head and preprocessing; its `model` is not looked at, an empty version means the next.
        footage: Frames to calibrate and judge on.
        truth: What the engine must find there.
        lowering: Precisions besides FP32.
        gates: Bounds by name that replace the defaults: `int8.map50` to 0.93.
        per_layer: Compare layer by layer, too.
        optimise: Let ONNX Runtime rewrite the files that it runs; `all` is for one machine only and not for a bundle.
        plans: TensorRT plans; None: none.
        bench: Measure what was built; None: do not.
        publish: Publish when all gates are passed.
        work: Folder that keeps what steps made.
        report: Folder for the report; None: beside what steps made.
        words: The options as they were given, for the report.
    """

    source: SourceSpec
    engine: ImportRequest
    work: Path
    footage: Footage = field(default_factory=Footage)
    truth: Truth = field(default_factory=Truth)
    lowering: Lowering = field(default_factory=Lowering)
    gates: Mapping[str, float] = field(default_factory=dict)
    per_layer: bool = False
    optimise: Level | None = None
    plans: PlanWish | None = None
    bench: BenchWish | None = None
    publish: bool = True
    report: Path | None = None
    words: Mapping[str, object] = field(default_factory=dict)
