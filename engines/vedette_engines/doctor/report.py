"""What the doctor found, as plain data; `to_json` has the keys that scripts may rely on.

A key is never renamed or given another meaning without a new `SCHEMA`; new ones may come.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = 1


class State(StrEnum):
    """How a library, a driver or a trial is.

    WORKS: it does what it is for. IDLE: it is in order as far as can be told, but there is no GPU for it. BROKEN: it
    is installed and does not work. ABSENT: it is not installed. NOT_RUN: a trial that nothing is here for.
    """

    WORKS = "works"
    IDLE = "idle"
    BROKEN = "broken"
    ABSENT = "absent"
    NOT_RUN = "not run"


class Severity(StrEnum):
    """How much a finding matters: an ERROR stands in the way, a WARNING costs something, a NOTE explains."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Driver:
    """NVIDIA's driver.

    Attributes:
        state: WORKS, BROKEN or ABSENT.
        version: Its version, like `580.82.07`; empty: it does not tell.
        cuda: The newest CUDA that it runs, like `13.0`; empty: it does not tell.
        reason: Why it does not work; empty: it does.
    """

    state: State
    version: str = ""
    cuda: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """One GPU.

    Attributes:
        index: Its number, as CUDA counts; -1: CUDA does not see it.
        name: Its model.
        capability: Compute capability, like `sm_90`.
        uuid: The driver's name for it.
        memory_bytes: All its memory.
        free_bytes: What is free now; None: nobody tells.
        mig: `off`, `on` (parts of it can be used), `instance` (it is such a part); empty: nobody tells.
        integrated: It shares the host's memory, as on a Jetson.
    """

    index: int
    name: str
    capability: str
    uuid: str = ""
    memory_bytes: int = 0
    free_bytes: int | None = None
    mig: str = ""
    integrated: bool = False

    @property
    def compute(self) -> int:
        """The compute capability as a number: 90."""
        return int(self.capability.removeprefix("sm_") or 0)


@dataclass(frozen=True, slots=True)
class LibraryFacts:
    """One library.

    Attributes:
        name: As people install or import it.
        state: How it is.
        version: Its version; empty: it does not tell, or is not there.
        reason: Why it does not work, or has nothing to do; else what is worth knowing of it.
        details: More, by name: what the checks below read, and scripts may.
    """

    name: str
    state: State
    version: str = ""
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def works(self) -> bool:
        """Whether it does what it is for."""
        return self.state is State.WORKS


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the installation that people stumble over.

    Attributes:
        code: Its name, for scripts.
        severity: How much it matters.
        text: What is so.
        remedy: What to do.
    """

    code: str
    severity: Severity
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Ability:
    """Something that can be done here or not.

    Attributes:
        name: `onnxruntime-cpu`, `onnxruntime-cuda`, `tensorrt`, `tensorrt-rtx`, `openvino`, `preprocess`, `graphs`,
            `nvdec`, `gpu-metrics`.
        words: The same for people.
        available: Whether it can.
        reason: By what, or why not.
    """

    name: str
    words: str
    available: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of trying one backend.

    Attributes:
        name: Which.
        words: The same for people.
        state: WORKS, BROKEN, or NOT_RUN.
        reason: Why it is not WORKS; else what was done besides.
        backend: What really ran it.
        against: What it was compared with.
        worst: The largest difference of each kind, by name with its unit: `score`, `box_px`, `bytes`.
        bound: How far apart they may be, in words.
        seconds: How long it took, start of the process included.
    """

    name: str
    words: str
    state: State
    reason: str = ""
    backend: str = ""
    against: str = ""
    worst: Mapping[str, float] = field(default_factory=dict)
    bound: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Requirement:
    """Something that `--require` asked for."""

    name: str
    met: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All of it."""

    platform: str
    python: str
    vedette: str
    device: int
    driver: Driver
    gpus: tuple[GpuFacts, ...]
    libraries: tuple[LibraryFacts, ...]
    abilities: tuple[Ability, ...]
    auto: Mapping[str, str]
    decoder: Mapping[str, Any]
    findings: tuple[Finding, ...]
    trials: tuple[Trial, ...]
    requirements: tuple[Requirement, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """What is installed and does not work, and what was required and is not there; nothing: all is well."""
        broken = [f"{library.name} does not work" for library in self.libraries if library.state is State.BROKEN]
        failed = [f"the trial of {trial.name} failed" for trial in self.trials if trial.state is State.BROKEN]
        errors = [finding.code for finding in self.findings if finding.severity is Severity.ERROR]
        missing = [f"{one.name} is required" for one in self.requirements if not one.met]
        driver = ["the driver does not work"] if self.driver.state is State.BROKEN else []
        return (*driver, *broken, *failed, *errors, *missing)

    @property
    def exit_code(self) -> int:
        """0: all that was found works; 1: something does not, or a requirement is not met."""
        return 1 if self.problems else 0

    def to_json(self) -> dict[str, Any]:
        """Give it as plain data."""
        data = {"schema": SCHEMA, **asdict(self)}
        return {**data, "problems": list(self.problems), "exit_code": self.exit_code}
