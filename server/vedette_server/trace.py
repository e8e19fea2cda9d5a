"""Trace every frame's way through stages and lanes, into a file that Perfetto opens.

Whoever does something for a frame says so with one call, when tracing is on: it puts a tuple into a queue, nothing
more. One thread writes the queue down. When that cannot follow, or the disk cannot, what does not fit is dropped and
counted, and the trace says how much; nobody ever waits for it. It ends at its limit of size, or at a full disk, and the
server goes on.

Threads: any may record; the writer alone formats and writes. It does not run at a low priority: it needs the
interpreter, and whoever holds that must not be put off.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from vedette_server.execute.client import lane_name
from vedette_server.tracing.events import Events, Passage, Way
from vedette_server.tracing.file import TraceFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from vedette_engines.gpu.base import Outcome
    from vedette_server.data.verdict import EngineLabel, Verdict
    from vedette_server.execute.client import Inference
    from vedette_server.frame import Frame
    from vedette_server.settings import TraceSettings

_log = logging.getLogger(__name__)

# Records that may wait for the writer: seconds of a busy server, some ten megabytes.
CAPACITY = 65_536
# The writer looks this often; figures are read as often.
_INTERVAL_S = 0.05
# Records between two writes: some ten kilobytes, and well under the interpreter's switch interval.
_CHUNK = 64
# So long a close waits for the writer: a disk may hang.
_CLOSE_S = 10.0

Figure = tuple[str, str, int]


class Tracer:
    """Records what happens, and has it written.

    Args:
        file: Where to.
        capacity: Records that may wait for the writer.
        clock: Monotonic seconds.

    Attributes:
        figures: Gives what is to be drawn as curves: the group, the name and the value of each; called by the writer.
        dropped: Records that found no room so far.
    """

    def __init__(
        self, file: TraceFile, *, capacity: int = CAPACITY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.figures: Callable[[], Iterable[Figure]] = tuple
        self.dropped = 0
        self._file = file
        self._capacity = capacity
        self._clock = clock
        self._records: deque[tuple[Any, ...]] = deque()
        self._dropping = threading.Lock()
        self._drops_told = 0
        self._events = Events(clock())
        self._ended = False
        self._closing = threading.Event()
        wall = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
        self._events.remark("began", clock(), {"wall clock": wall})
        self._thread = threading.Thread(target=self._run, name="trace", daemon=True)
        self._thread.start()

    def channel(self, name: str) -> ChannelTrace:
        """Return what records for one channel."""
        return ChannelTrace(self, name)

    def engine(self, label: EngineLabel, place: str = "") -> EngineTrace:
        """Return what records for one engine, of several places (GPUs) for one place of it."""
        return EngineTrace(self, engine_group(label), place)

    def span(self, track: str, name: str, start_s: float, end_s: float, **args: Any) -> None:
        """Record a span.

        Args:
            track: `GROUP/TRACK`; a track without a group is the server's. Spans of one track must nest.
            name: What it shows.
            start_s: Its begin, monotonic seconds.
            end_s: Its end.
            args: More about it: whatever JSON can say.
        """
        self.put((Events.span, track, name, start_s, end_s, args))

    def work(self, name: str, channel: str, sequence: int, start_s: float, end_s: float) -> None:
        """Record what the calling thread did for one frame."""
        self.put((Events.work, threading.get_ident(), name, channel, sequence, start_s, end_s))

    def put(self, record: tuple[Any, ...]) -> None:
        """Queue a record: a method of Events and its arguments."""
        if len(self._records) < self._capacity:
            self._records.append(record)
        elif not self._ended:
            with self._dropping:
                self.dropped += 1

    def close(self) -> None:
        """Write what waits and complete the file; may be called twice."""
        self._closing.set()
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            _log.error("trace could not be completed in time: %s, %g s", self._file.path, _CLOSE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the writer -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._write_until_closed()
        except OSError as error:
            _log.error("trace ended: %s: %s", self._file.path, error.strerror)
            self._file.abandon()
        except Exception:  # noqa: BLE001 - a bug of the trace costs the trace, not the server
            _log.exception("trace ended: %s", self._file.path)
            self._file.abandon()
        finally:
            # From here on nothing is queued, and nothing counted.
            self._ended, self._capacity = True, 0
            self._records.clear()

    def _write_until_closed(self) -> None:
        room = True
        while room:
            closing = self._closing.wait(_INTERVAL_S)
            self._read_figures()
            # What comes meanwhile is for the next time, so that a close has an end.
            waiting = len(self._records)
            while waiting > 0 and room:
                room = self._write_some(min(_CHUNK, waiting))
                waiting -= _CHUNK
            self._tell_drops()
            if closing:
                break
        if not room:
            _log.warning("trace ended at its limit: %s, %d bytes", self._file.path, self._file.size_bytes)
            self._events.remark("the limit of size was reached", self._clock(), {})
        self._file.close(self._events.take())

    def _write_some(self, count: int) -> bool:
        events, take = self._events, self._records.popleft
        for _ in range(count):
            record = take()
            record[0](events, *record[1:])
        return self._file.write(events.take())

    def _read_figures(self) -> None:
        now = self._clock()
        for group, name, value in self.figures():
            self._events.figure(group, name, now, value)

    def _tell_drops(self) -> None:
        dropped = self.dropped
        if dropped > self._drops_told:
            if not self._drops_told:
                _log.warning("trace has gaps: its writer cannot follow")
            self._events.remark("records dropped", self._clock(), {"since": self._drops_told, "in all": dropped})
            self._drops_told = dropped


class ChannelTrace:
    """Records for one channel.

    Args:
        tracer: Takes the records.
        name: The channel.
    """

    __slots__ = ("_name", "_tracer")

    def __init__(self, tracer: Tracer, name: str) -> None:
        self._tracer = tracer
        self._name = name

    def work(self, name: str, sequence: int, start_s: float, end_s: float) -> None:
        """Record what the calling thread did for one frame."""
        self._tracer.put((Events.work, threading.get_ident(), name, self._name, sequence, start_s, end_s))

    def read(self, frame: Frame, label: EngineLabel, inference: Inference, start_s: float, end_s: float) -> None:
        """Record that an engine's results were read; the frame keeps what its verdict is to say of that."""
        self.work("post", frame.packet.sequence, start_s, end_s)
        frame.way = Way(
            frame.submitted_s,
            inference.started_s,
            inference.finished_s,
            start_s,
            end_s,
            engine_group(label),
            inference.lane,
            inference.batch_size,
        )

    def judged(self, verdict: Verdict, index: int | None) -> None:
        """Record a packet's way, when its verdict is booked."""
        packet, times = verdict.packet, verdict.times
        self._tracer.put(
            (
                _write_passage,
                self._name,
                packet.sequence,
                index,
                verdict.reason,
                verdict.detail,
                packet.received_s,
                packet.taken_s,
                times.decode_s,
                verdict.offered_s,
                times.wait_s,
                times.total_s,
                verdict.way,
            )
        )

    def told(self, start_s: float, verdicts: Sequence[tuple[int, Verdict]]) -> None:
        """Record that a message with these verdicts was written."""
        first, last = verdicts[0][0], verdicts[-1][0]
        sequences = [verdict.packet.sequence for _, verdict in verdicts]
        self._tracer.put((Events.told, self._name, start_s, time.monotonic(), first, last, sequences))

    def acknowledged(self, through_index: int, now_s: float) -> None:
        """Record that the client has verdicts."""
        self._tracer.put((Events.acknowledged, self._name, through_index, now_s))


class EngineTrace:
    """Records for one engine in one place.

    Args:
        tracer: Takes the records.
        group: Under which name.
        place: Where it runs; empty: in this process.
    """

    __slots__ = ("_group", "_place", "_tracer")

    def __init__(self, tracer: Tracer, group: str, place: str = "") -> None:
        self._tracer = tracer
        self._group = group
        self._place = place

    def ran(self, lane: int, start_s: float, end_s: float, frames: int, *, failed: bool) -> None:
        """Record a batch that the calling thread ran."""
        self._tracer.put(
            (
                Events.batch,
                self._group,
                lane_name(lane, self._place),
                start_s,
                end_s,
                frames,
                frames,
                failed,
                (),
                threading.get_ident(),
            )
        )

    def came(self, outcome: Outcome, frames: int) -> None:
        """Record a batch that a GPU's executor ran, whose clock is the server's."""
        times = outcome.times
        parts = (
            ()
            if times is None
            else (("upload", *times.upload), ("compute", *times.compute), ("download", *times.download))
        )
        failed = outcome.rows is None
        start_s, end_s = outcome.started_s, outcome.finished_s
        self._tracer.put(
            (
                Events.batch,
                self._group,
                lane_name(outcome.lane, self._place),
                start_s,
                end_s,
                frames,
                outcome.size,
                failed,
                parts,
                None,
            )
        )


def engine_group(label: EngineLabel) -> str:
    """Say under which name an engine stands in a trace."""
    return f"engine {label.name} {label.version}"


@contextlib.contextmanager
def tracing(settings: TraceSettings, restarts: int = 0) -> Iterator[Tracer | None]:
    """Keep a trace if one is wanted, and complete it at the end.

    Args:
        settings: Whether and where.
        restarts: How often this server was started again by its supervisor: then it leaves the traces of those that
            failed alone, and its own file is numbered, `trace.1.json` for `trace.json`.

    Raises:
        SettingsError: Its file cannot be written.
    """
    path = settings.file
    if path is None:
        yield None
        return
    if restarts:
        stem, dot, suffixes = path.name.partition(".")
        path = path.with_name(f"{stem}.{restarts}{dot}{suffixes}")
    with Tracer(TraceFile(path, settings.max_bytes)) as tracer:
        yield tracer


def _write_passage(events: Events, *fields: Any) -> None:
    events.frame(Passage(*fields))
