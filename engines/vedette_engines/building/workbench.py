"""What all stages of one build share: the request, the cache of steps, and the report that grows."""

from __future__ import annotations

import dataclasses
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette_engines.building.report import Outcome, Report, Stage
from vedette_engines.building.step import Step, StepCache
from vedette_engines.building.versions import code_digest
from vedette_engines.bundle import sha256_of
from vedette_engines.errors import EnginesError, ImportInputError, ImportRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_engines.building.request import BuildRequest
    from vedette_engines.building.step import Produce, Say, StepResult


class MissedGateError(ImportRefusedError):
    """A stage's figures are beyond their bounds.

    Args:
        stage: Which stage.
        reasons: Each with its figure and its bound.
    """

    def __init__(self, stage: str, reasons: tuple[str, ...]) -> None:
        super().__init__(f"{stage}: {'; '.join(reasons)}")
        self.reasons = reasons


class Workbench:
    """Runs a build's stages and notes what came of them.

    Args:
        request: What is to be made.
        report: Takes the stages.
        say: Takes one line for each thing that was assumed or found.
    """

    def __init__(self, request: BuildRequest, report: Report, say: Say) -> None:
        self.request = request
        self.report = report
        self.say = say
        self._cache = StepCache(request.work / "steps")
        self._tools = {"code": code_digest(), **report.versions}

    def tidy(self) -> None:
        """Remove steps that no build has used for a month."""
        self._cache.forget()

    def stage(self, name: str, inputs: Mapping[str, Any], produce: Produce) -> StepResult:
        """Run one step as a stage of the report.

        What `produce` returns under `reasons` are the gates that were missed.

        Raises:
            MissedGateError: There are some.
            EnginesError: The step failed; the report says so.
        """
        self.say(f"{name}:")
        step = Step(name, {"tools": self._tools, **{key: plain(value) for key, value in inputs.items()}}, produce)
        try:
            result = self._cache.run(step, lambda line: self.say(f"  {line}"))
        except EnginesError as error:
            outcome = Outcome.REFUSED if isinstance(error, ImportRefusedError) else Outcome.FAILED
            self.report.stages.append(Stage(name, outcome, reasons=(str(error),)))
            raise
        reasons = tuple(result.figures.get("reasons", ()))
        done = Outcome.REUSED if result.reused else Outcome.DONE
        self.report.stages.append(
            Stage(
                name,
                Outcome.REFUSED if reasons else done,
                result.seconds,
                result.lines,
                {key: value for key, value in result.figures.items() if key != "reasons"},
                reasons,
            )
        )
        if reasons:
            raise MissedGateError(name, reasons)
        return result


def plain(value: object) -> Any:
    """Turn a setting into what JSON can write; a file becomes the hash of what it holds."""
    if isinstance(value, Path):
        return _file_digest(value)
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {entry.name: getattr(value, entry.name) for entry in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _file_digest(path: Path) -> str | dict[str, str]:
    """Hash a file; of a folder each file in it."""
    try:
        if path.is_dir():
            files = (file for file in sorted(path.rglob("*")) if file.is_file())
            return {str(file.relative_to(path)): sha256_of(file) for file in files}
        return sha256_of(path)
    except OSError as error:
        raise ImportInputError(f"{path}: cannot be read: {error}") from error
