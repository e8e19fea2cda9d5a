"""How far a build is: events from TensorRT's progress monitor, and a rendering of them for a terminal."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rich.console import Console
    from rich.progress import TaskID


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of one phase of a build.

    Attributes:
        phase: The phase's name, as TensorRT calls it.
        parent: The phase that it is part of; empty for the outermost.
        step: Steps that are done.
        steps: All of its steps.
        over: The phase has ended, however many of its steps were needed.
    """

    phase: str
    parent: str
    step: int
    steps: int
    over: bool = False


class Cancel:
    """Tells a build that runs in another thread to end at its next step."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask it to end; any thread may."""
        self._event.set()

    def is_set(self) -> bool:
        """Tell whether it was asked to."""
        return self._event.is_set()


def make_monitor(trt: Any, tell: Callable[[Progress], None] | None, cancel: Cancel) -> Any:
    """Make a monitor of a TensorRT module's own class; TensorRT calls it from threads of its own.

    Args:
        trt: The module.
        tell: Takes each event, one at a time; None: nobody wants them.
        cancel: Ends the build at the next step.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the class exists only once the module is known
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._phases: dict[str, tuple[str, int]] = {}
            self._lock = threading.Lock()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._phases[phase_name] = (parent_phase or "", num_steps)
                self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                self._tell(phase_name, step + 1)
            return not cancel.is_set()

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._tell(phase_name, self._phases.get(phase_name, ("", 0))[1], over=True)

        def _tell(self, phase: str, step: int, *, over: bool = False) -> None:
            parent, steps = self._phases.get(phase, ("", 0))
            if tell is not None:
                # TensorRT may report one step more than it announced.
                tell(Progress(phase, parent, min(step, steps), steps, over))

    return Monitor()


class ProgressView:
    """Bars on a terminal, one for each phase that runs, indented below its parent; nothing where there is no terminal.

    Args:
        console: Where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._depths: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, progress: Progress) -> None:
        """Show one event; any thread may call it, one at a time."""
        phase = progress.phase
        if progress.over:
            task = self._tasks.pop(phase, None)
            if task is not None:
                self._bars.remove_task(task)
            return
        if phase not in self._tasks:
            self._depths[phase] = self._depths.get(progress.parent, -1) + 1
            self._tasks[phase] = self._bars.add_task("  " * self._depths[phase] + phase, total=progress.steps)
        self._bars.update(self._tasks[phase], completed=progress.step)

    def draw(self) -> None:
        """Draw now, instead of at the next of a few times a second."""
        self._bars.refresh()
