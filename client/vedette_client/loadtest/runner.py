"""Run a load test: start the sending processes together, look at the server meanwhile, gather the records."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import time
from typing import TYPE_CHECKING, Any, Self

from vedette_client.errors import ClientError, OptionsError, SourceError
from vedette_client.loadtest.proc import MachineLoad, usage
from vedette_client.loadtest.records import Records, Sample, WorkerRecord, join
from vedette_client.loadtest.undisturbed import undisturbed
from vedette_client.loadtest.worker import Failed, Progress, Ready, storms, work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from types import TracebackType

    from vedette_client.loadtest.plan import LoadPlan

_KINDS: dict[str, type[ClientError]] = {"OptionsError": OptionsError, "SourceError": SourceError}
_READY_S = 300.0
_LEAD_S = 0.5
_SAMPLE_S = 1.0
_JOIN_S = 5.0
# Over the schedule itself: the generator's own limits for late frames and closing accounts, and room to write home.
_GRACE_S = 90.0


class LoadRun:
    """One run of a plan; use it in a `with`, which ends its processes whatever happens.

    Args:
        plan: The load test.
        server_pid: The server's process, when it is on this machine.
        on_progress: Called about every second with the seconds since the start and each process's progress.
    """

    def __init__(
        self,
        plan: LoadPlan,
        server_pid: int | None = None,
        on_progress: Callable[[float, Sequence[Progress]], None] | None = None,
    ) -> None:
        self._plan = plan
        self._pid = server_pid
        self._on_progress = on_progress
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self._samples: list[Sample] = []
        self._progress: list[Progress] = []

    def __enter__(self) -> Self:
        """Start the processes."""
        try:
            with undisturbed():
                self._start()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        self._progress = [Progress() for _ in self._pipes]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes: they end by themselves when all went well."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(_JOIN_S if kind is None else 0.0)
            if process.is_alive():
                process.terminate()
                process.join(_JOIN_S)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
        for number in range(min(self._plan.processes, self._plan.channels)):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(self._plan, number, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def run(self) -> Records:
        """Run it.

        Raises:
            ClientError: A source cannot be read, or no camera could be connected.
        """
        for pipe in self._pipes:
            self._expect(pipe, Ready, _READY_S)
        start_s = time.monotonic() + _LEAD_S
        for pipe in self._pipes:
            pipe.send(start_s)
        workers = self._gather(start_s)
        frames = join([worker.frames for worker in workers])
        cameras = sorted((one for worker in workers for one in worker.cameras), key=lambda one: one.index)
        spent = [(worker.cpu_s, worker.wall_s) for worker in workers]
        return Records(frames, cameras, spent, self._samples, storms(self._plan), os.cpu_count() or 1)

    def _gather(self, start_s: float) -> list[WorkerRecord]:
        """Take what the processes say until each has brought home its record."""
        machine = MachineLoad()
        deadline_s = start_s + self._plan.last_due_s + _GRACE_S
        waiting = dict(enumerate(self._pipes))
        records: dict[int, WorkerRecord] = {}
        sample_s = start_s
        while waiting:
            now_s = time.monotonic()
            if now_s > deadline_s:
                raise ClientError("the sending processes did not end in time")
            if now_s >= sample_s:
                self._look(now_s - start_s, machine)
                sample_s += _SAMPLE_S
            ready = multiprocessing.connection.wait(list(waiting.values()), max(0.0, sample_s - now_s))
            for number in [number for number, pipe in waiting.items() if pipe in ready]:
                said = self._receive(waiting[number])
                if isinstance(said, WorkerRecord):
                    records[number] = said
                    del waiting[number]
                elif isinstance(said, Progress):
                    self._progress[number] = said
        return [records[number] for number in sorted(records)]

    def _look(self, at_s: float, machine: MachineLoad) -> None:
        used = usage(self._pid) if self._pid is not None else None
        cpu_s, rss_bytes = (used.cpu_s, used.rss_bytes) if used is not None else (None, None)
        self._samples.append(Sample(at_s, cpu_s, rss_bytes, machine.busy_share()))
        if self._on_progress is not None:
            self._on_progress(at_s, self._progress)

    def _expect(self, pipe: Connection, kind: type, within_s: float) -> None:
        if not pipe.poll(within_s):
            raise ClientError(f"a sending process was not ready within {within_s:g} s")
        said = self._receive(pipe)
        if not isinstance(said, kind):
            raise ClientError(f"a sending process said {said!r}")

    def _receive(self, pipe: Connection) -> Any:
        try:
            said = pipe.recv()
        except (EOFError, OSError):
            said = Failed("ClientError", "a sending process died")
        if isinstance(said, Failed):
            raise _KINDS.get(said.kind, ClientError)(said.message)
        return said
