"""Run the steps of a build, each once for the same inputs.

A step is named by what decides its result: its inputs, its settings, and the code and libraries that carry it out.
What it made is kept under that name, so that a build that was cut short goes on where it stood, and a second one
with nothing changed does nothing. A step's folder appears whole or not at all; one whose files have changed is made
anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette_engines.bundle import sha256_of
from vedette_engines.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Say = Callable[[str], None]
    Produce = Callable[[Path, Say], Mapping[str, Any]]

_RECORD = "step.json"
_KEY_DIGITS = 24
# Is of use while one waits, and not afterwards.
_PROGRESS = re.compile(r": \d+ of \d+ [a-z0-9 ]+$")
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of work.

    Attributes:
        name: Lower-case, for folders and messages.
        inputs: All that decides the result, as JSON can write it: hashes, settings, versions.
        produce: Does the work: writes its files into the folder it is given, tells lines of what it found, and
            returns figures that JSON can write.
    """

    name: str
    inputs: Mapping[str, Any]
    produce: Produce

    @property
    def key(self) -> str:
        """Hash of name and inputs, 64 hexadecimal digits."""
        text = json.dumps({"name": self.name, "inputs": self.inputs}, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step made.

    Attributes:
        name: The step's.
        key: The step's.
        folder: Where its files are; nobody may change them.
        figures: What it measured.
        lines: What it told.
        seconds: How long it took when it was done.
        reused: It was done before.
    """

    name: str
    key: str
    folder: Path
    figures: Mapping[str, Any]
    lines: tuple[str, ...]
    seconds: float
    reused: bool


class StepCache:
    """Keeps what steps made. Several processes may use one folder.

    Args:
        root: The folder; made when it is missing.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def run(self, step: Step, say: Say) -> StepResult:
        """Do a step, or take what it made before.

        Raises:
            BuildError: Its folder cannot be written.
        """
        folder = self._root / f"{step.name}-{step.key[:_KEY_DIGITS]}"
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with _alone(folder.with_name(f".{folder.name}.lock"), say):
                kept = _read(folder, step)
                if kept is not None:
                    for line in kept.lines:
                        say(line)
                    return kept
                return self._make(step, folder, say)
        except OSError as error:
            raise BuildError(f"{self._root}: the build's folder cannot be used: {error}") from error

    def forget(self, unused_s: float = 30 * _DAY_S) -> int:
        """Remove what no build has used for so long, by default thirty days; returns how many steps."""
        count = 0
        for record in self._root.glob(f"*/{_RECORD}"):
            folder = record.parent
            with contextlib.suppress(OSError):
                if time.time() - record.stat().st_mtime < unused_s:
                    continue
                lock = folder.with_name(f".{folder.name}.lock")
                with _alone(lock, lambda _: None):
                    shutil.rmtree(folder)
                    lock.unlink()
                count += 1
        return count

    def _make(self, step: Step, folder: Path, say: Say) -> StepResult:
        lines: list[str] = []

        def told(line: str) -> None:
            if _PROGRESS.search(line) is None:
                lines.append(line)
            say(line)

        # Whoever holds the step's lock is alone with it: a draft that is there was left by one that was killed.
        for left in self._root.glob(f".{folder.name}-draft-*"):
            shutil.rmtree(left, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-draft-", dir=self._root))
        try:
            started = time.monotonic()
            figures = dict(step.produce(draft, told))
            seconds = time.monotonic() - started
            record = {
                "name": step.name,
                "key": step.key,
                "inputs": step.inputs,
                "figures": figures,
                "lines": lines,
                "seconds": round(seconds, 3),
                "files": {path.name: sha256_of(path) for path in sorted(draft.iterdir()) if path.is_file()},
            }
            text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
            (draft / _RECORD).write_text(text, encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return StepResult(step.name, step.key, folder, figures, tuple(lines), seconds, reused=False)


def _read(folder: Path, step: Step) -> StepResult | None:
    """Take what a step made before; None when it was never done, or its files are not what they were."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        whole = record["key"] == step.key and all(
            sha256_of(folder / name) == digest for name, digest in record["files"].items()
        )
        if not whole:
            return None
        lines = tuple(record["lines"])
        os.utime(folder / _RECORD)  # it was used
        return StepResult(step.name, step.key, folder, record["figures"], lines, record["seconds"], reused=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def _alone(lock: Path, say: Say) -> Iterator[None]:
    """Wait until nobody else does the same step."""
    with lock.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build that does the same")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
