"""Time what the server's stages cost, from within: CPU time of the calling thread, without what is timed inside.

What no stage accounts for is told by thread: the event loop (gRPC's own Python and Cython), the workers (taking jobs,
locks), the executor, and gRPC's threads, which Python does not know.
"""

from __future__ import annotations

import functools
import json
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LOOP, WORKERS, EXECUTOR, OTHERS = "event loop", "workers", "executor", "gRPC's threads"


class Stopwatch:
    """Sums CPU time by stage."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._sums: list[dict[tuple[str, str], int]] = []
        self._lock = threading.Lock()
        self._begun: tuple[dict[tuple[str, str], int], dict[str, int]] = ({}, {})

    def install(self) -> None:
        """Put itself around the stages; before the server is built."""
        import grpc

        from vedette_engines.gpu.executor import Executor
        from vedette_server.conversion import Converter
        from vedette_server.execute.device import DeviceInference
        from vedette_server.metrics_figures import ChannelMetrics, EngineMetrics
        from vedette_server.post.reader import ResultReader
        from vedette_server.rpc.stream_call import StreamCall
        from vedette_server.session.books import Books
        from vedette_server.session.seat import DecoderSeat
        from vedette_server.session.session import Session

        handler = grpc.stream_stream_rpc_method_handler

        def timed_handler(behavior: Any, request_deserializer: Any = None, response_serializer: Any = None) -> Any:
            return handler(
                behavior,
                self._timed("parse the message", request_deserializer),
                self._timed("serialise the message", response_serializer),
            )

        grpc.stream_stream_rpc_method_handler = timed_handler
        for owner, method, stage in (
            (StreamCall, "_take", "take the packet out of the message"),
            (Session, "receive", "session: receive"),
            (Session, "acknowledge", "session: acknowledge"),
            (Session, "outgoing", "session: what to tell"),
            (StreamCall, "_news_to_wire", "write the verdict"),
            (Session, "work", "session: take, admit, offer"),
            (DecoderSeat, "feed", "decoder (raw: a view)"),
            (Converter, "convert", "convert: around the slot"),
            (DeviceInference, "fill", "copy into the slot"),
            (DeviceInference, "submit", "submit"),
            (Executor, "step", "executor: turn"),
            (DeviceInference, "next_batch", "executor: gather the batch"),
            (DeviceInference, "_end", "executor: hand results over"),
            (ResultReader, "read", "read candidates, NMS"),
            (Session, "infer", "session: judge"),
            (Books, "settle", "books: order, number, account"),
            (ChannelMetrics, "verdict", "metrics"),
            (ChannelMetrics, "packet", "metrics"),
            (EngineMetrics, "batch", "metrics"),
        ):
            setattr(owner, method, self._timed(stage, getattr(owner, method)))

    def begin(self) -> None:
        """Count from now on."""
        self._begun = (self._totals(), _threads())

    def write(self, file: Path) -> None:
        """Write seconds by stage since `begin`."""
        totals, threads = self._totals(), _threads()
        before, threads_before = self._begun
        spent = {key: value - before.get(key, 0) for key, value in totals.items()}
        by_kind = {kind: value - threads_before.get(kind, 0) for kind, value in threads.items()}
        stages: dict[str, int] = defaultdict(int)
        for (kind, stage), value in spent.items():
            stages[stage] += value
            by_kind[kind] = by_kind.get(kind, 0) - value
        rest = {f"rest of {kind}": value for kind, value in by_kind.items()}
        seconds = {name: value / 1e9 for name, value in {**dict(stages), **rest}.items()}
        seconds["all"] = sum(seconds.values())
        part = file.with_suffix(".part")
        part.write_text(json.dumps(seconds), encoding="utf-8")
        part.rename(file)

    def _totals(self) -> dict[tuple[str, str], int]:
        sums: dict[tuple[str, str], int] = defaultdict(int)
        with self._lock:
            for own in self._sums:
                for key, value in tuple(own.items()):
                    sums[key] += value
        return dict(sums)

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        local, clock = self._local, time.thread_time_ns

        @functools.wraps(function, updated=())
        def timed(*args: Any, **kwargs: Any) -> Any:
            own = getattr(local, "sums", None)
            if own is None:
                own = self._enter()
            outer, local.inner = local.inner, 0
            began = clock()
            try:
                return function(*args, **kwargs)
            finally:
                took = clock() - began
                own[local.kind, stage] += took - local.inner
                local.inner = outer + took

        return timed

    def _enter(self) -> dict[tuple[str, str], int]:
        local = self._local
        local.sums, local.inner = defaultdict(int), 0
        local.kind = _kind(threading.current_thread().name)
        with self._lock:
            self._sums.append(local.sums)
        return local.sums  # type: ignore[no-any-return]


def _kind(name: str) -> str:
    if name == "MainThread":
        return LOOP
    return WORKERS if name.startswith("worker-") else EXECUTOR if name.startswith("gpu-") else f"thread {name}"


def _threads() -> dict[str, int]:
    """Tell the CPU nanoseconds of all threads, by kind."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    sums: dict[str, int] = defaultdict(int)
    for task in Path("/proc/self/task").iterdir():
        try:
            spent = int((task / "schedstat").read_text(encoding="ascii").split()[0])
        except OSError:
            continue
        sums[_kind(names[int(task.name)]) if int(task.name) in names else OTHERS] += spent
    return dict(sums)
