"""Start the server's worker process, and start it again when it ends unexpectedly.

`vedette serve` becomes this process, `python -m vedette_server.supervise PLAN COMMAND...`, which starts the
command `python -m vedette_server FLAGS...`. It stays small: it imports neither grpc nor anything that computes, and
the worker has the terminal's output to itself.

A worker is started again that was killed by a signal, lost its device (exit code 70), raised, or whose event loop
stands still (it is asked for a traceback by SIGABRT first, then killed). It is not when it ended with 0, or with 2
(wrong settings) before any has served, or when the supervisor was told to stop: the first signal drains, the
second stops at once, the third kills. Too many ends within some time, and it gives up.

Exit codes: 0 drained or told to stop, 2 wrong settings, 70 gave up; when it was told to stop, that of the worker.

Threads: one, the main thread of a process that does nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from vedette_server.ports import Port
from vedette_server.restarts import Limits, Restarts
from vedette_server.worker_process import Patience, Worker
from vedette_server.worker_words import Past

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GAVE_UP = 70
_WRONG_SETTINGS = 2
_TOLD_BY = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_TURN_S = 1.0
# Whoever turns so much later than it meant to was stopped itself, or the machine was.
_STALL_S = 1.0


class Plan(NamedTuple):
    """What the supervisor is told, by `cli.py`.

    Attributes:
        host: Address of the server.
        port: Its port; 0: any free one, the same for every worker.
        metrics_host: Address of the metrics.
        metrics_port: Their port, likewise; None: they are off.
        json: Whether it speaks in JSON.
        limits: How often a worker is started again.
        patience: How long a worker may be silent.
    """

    host: str = "127.0.0.1"
    port: int = 0
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    json: bool = False
    limits: Limits = Limits()
    patience: Patience = Patience()

    def text(self) -> str:
        """Write it as one argument of a command line."""
        parts = {"limits": self.limits._asdict(), "patience": self.patience._asdict()}
        return json.dumps(self._asdict() | parts, separators=(",", ":"))

    @classmethod
    def read(cls, text: str) -> Plan:
        """Read what `text` wrote."""
        told = json.loads(text)
        parts = {"limits": Limits(**told["limits"]), "patience": Patience(**told["patience"])}
        return cls(**(told | parts))


class Supervisor:
    """Runs one worker after the other.

    Args:
        command: What starts a worker; flags for the ports are added.
        plan: What to be told.
    """

    def __init__(self, command: Sequence[str], plan: Plan) -> None:
        self._command = tuple(command)
        self._plan = plan
        self._restarts = Restarts(plan.limits)
        self._past = Past({})
        self._told = 0
        self._has_served = False
        self._worker: Worker | None = None
        # Of workers that have ended, by their number.
        self._statuses: dict[int, int] = {}

    def run(self) -> int:
        """Serve until told to stop, or until it is no use; return the exit code."""
        with contextlib.ExitStack() as stack:
            wake = stack.enter_context(_listening())
            stack.callback(self._leave_nobody)
            command = [*self._command, *self._port_flags(stack)]
            while True:
                code = self._run_one(command, wake)
                if code is not None:
                    return code

    def _run_one(self, command: Sequence[str], wake: socket.socket) -> int | None:
        """Run one worker, and wait after its end; return the exit code, None when another one is to be started."""
        try:
            self._worker = worker = Worker(command, self._past, self._plan.patience)
        except OSError as error:
            return self._again("start", f"cannot be started: {error.strerror}", 0.0, wake)
        code = self._watch(worker, wake)
        self._worker = None
        worker.line.close()
        if code is None:
            # It still has its number, and perhaps its device: another one beside it would be no better off.
            self._say("error", "worker does not end although it was killed (is a driver stuck?), giving up")
            return GAVE_UP
        self._has_served |= worker.served_at_s is not None
        if self._told:
            return _code_when_told(code)
        if code == 0 or (code == _WRONG_SETTINGS and not self._has_served):
            return code
        served_s = 0.0 if worker.served_at_s is None else time.monotonic() - worker.served_at_s
        return self._again(*worker.why(code), served_s, wake)

    def _watch(self, worker: Worker, wake: socket.socket) -> int | None:
        """Wait for the worker's end; return its exit code, None when it does not end."""
        while worker.pid not in self._statuses:
            self._turn(worker.due_at_s - time.monotonic(), wake)
            silent = worker.pid not in self._statuses and time.monotonic() >= worker.due_at_s
            if silent and not worker.press():
                return None
        return os.waitstatus_to_exitcode(self._statuses.pop(worker.pid))

    def _again(self, reason: str, text: str, served_s: float, wake: socket.socket) -> int | None:
        """Wait until the next worker may be started; return the exit code when it is not to be."""
        wait_s = self._restarts.ended(reason, time.monotonic(), served_s)
        limits = self._plan.limits
        within = f"{limits.most} within {limits.window_s / 60:g} min"
        if wait_s is None:
            self._say("error", f"worker ended ({text}), giving up: more than {within}", reason=reason)
            return GAVE_UP
        again = f"restart in {wait_s:.2g} s ({self._restarts.recent} of {within})"
        self._say("warning", f"worker ended ({text}), {again}", reason=reason, wait_s=round(wait_s, 3))
        self._past = Past(dict(self._restarts.counts), reason, time.time())
        until_s = time.monotonic() + wait_s
        while not self._told and time.monotonic() < until_s:
            self._turn(until_s - time.monotonic(), wake)
        return 0 if self._told else None

    def _turn(self, most_s: float, wake: socket.socket) -> None:
        """Wait for a signal, for the end of a child or for a word of the worker, and answer it."""
        wait_s = max(min(most_s, _TURN_S), 0.0)
        meant_s = time.monotonic() + wait_s
        worker = self._worker
        lines = [worker.line] if worker is not None and worker.line.fileno() >= 0 else []
        ready, _, _ = select.select([wake, *lines], [], [], wait_s)
        if worker is not None and (late_s := time.monotonic() - meant_s) > _STALL_S:
            worker.due_at_s += late_s
        if wake in ready:
            for number in wake.recv(256):
                if number != signal.SIGCHLD:
                    self._told += 1
                    if worker is not None:
                        worker.tell(number, self._told)
        if worker is not None and worker.line in ready:
            worker.hear()
        self._reap()

    def _reap(self) -> None:
        """Take the status of every child that has ended: also of strangers', when this is process 1 of a container."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if self._worker is not None and ended[0] == self._worker.pid:
                    self._statuses[ended[0]] = ended[1]

    def _port_flags(self, stack: contextlib.ExitStack) -> list[str]:
        """Keep the ports, and return the flags that tell them to every worker."""
        plan = self._plan
        flags = []
        ports = [("--port", plan.host, plan.port)]
        if plan.metrics_port is not None:
            ports.append(("--metrics-port", plan.metrics_host, plan.metrics_port))
        for flag, host, number in ports:
            port = Port(host, number)
            stack.callback(port.close)
            flags.append(f"{flag}={port.number}")
        return flags

    def _leave_nobody(self) -> None:
        """Kill a worker that is still there, when something unforeseen ends this process."""
        if self._worker is not None and self._worker.pid not in self._statuses:
            self._worker.signal(signal.SIGKILL)

    def _say(self, level: str, event: str, **fields: Any) -> None:
        if self._plan.json:
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            line = json.dumps({"event": event, "level": level, "timestamp": now, **fields})
        else:
            line = f"vedette: {event}"
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(line, file=sys.stderr, flush=True)  # noqa: T201


def _code_when_told(code: int) -> int:
    """Give the exit code for that of a worker that was told to stop."""
    if code >= 0:
        return code
    # It had no handler yet, at its start.
    return 0 if -code in _TOLD_BY else 128 - code


@contextlib.contextmanager
def _listening() -> Iterator[socket.socket]:
    """Turn signals into bytes on a socket, for the main thread."""
    wake, wakers = socket.socketpair()
    with wake, wakers:
        wake.setblocking(False)
        wakers.setblocking(False)
        # What `nohup` has us ignore stays ignored.
        numbers = [number for number in _TOLD_BY if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, lambda *_: None) for number in (*numbers, signal.SIGCHLD)}
        fd_before = signal.set_wakeup_fd(wakers.fileno(), warn_on_full_buffer=False)
        try:
            yield wake
        finally:
            signal.set_wakeup_fd(fd_before)
            for number, handler in before.items():
                signal.signal(number, handler)


def main(arguments: Sequence[str]) -> int:
    """Run the supervisor; returns the exit code.

    Args:
        arguments: The plan as text, then what starts a worker.
    """
    return Supervisor(arguments[1:], Plan.read(arguments[0])).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
