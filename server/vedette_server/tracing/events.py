"""Write what happened as trace events, which Perfetto and chrome://tracing open.

The format is Chromium's "Trace Event Format", JSON array form: complete events (`ph` X), instants (i), counters (C),
flows (s, t, f) and names (M), with times in whole microseconds since the server's start. A *process* of the format is a
group of tracks here: the server with a track for each worker thread, each engine with a track for each lane, each
channel. Frames of a channel overlap, and tracks may not: a frame takes the first row of its channel that is free.

A flow joins what happened to one frame on all tracks. Its number is made of the channel's and the packet's, so that
nothing must be remembered of a frame.

Threads: used by the writer alone.
"""

from __future__ import annotations

import functools
import json
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vedette_server.data.outcome import SkipReason

SERVER = "vedette serve"
# Numbers of flows stay exact where numbers are floating-point: 2^20 groups times 2^32 packets.
_SEQUENCES = 1 << 32
_json = json.JSONEncoder(separators=(",", ":")).encode
# Of channels, engines and tasks, which come again with every frame.
_quoted = functools.lru_cache(maxsize=4096)(json.dumps)
# Stages that every analysed frame goes through; the others are left out where they take no time.
STAGES = ("receive", "decode", "wait", "convert", "batch", "execute", "post")
_FLOW = '"cat":"frame","name":"frame"'


class Way(NamedTuple):
    """When a frame passed its engine, of several the last to answer; monotonic seconds.

    Attributes:
        submitted_s: It was converted.
        started_s: Its batch left.
        finished_s: Its batch was done.
        read_s: Reading its results began.
        judged_s: They were read.
        engine: The engine's group.
        lane: Which of the engine's lanes.
        batch_size: Frames in the batch.
    """

    submitted_s: float
    started_s: float
    finished_s: float
    read_s: float
    judged_s: float
    engine: str
    lane: str
    batch_size: int


class Passage(NamedTuple):
    """One packet from its receipt to its verdict; moments are monotonic seconds.

    Attributes:
        channel: Its channel.
        sequence: Its number.
        verdict_index: Its verdict's number; None: it got none of its own.
        reason: Why it was skipped; None: it was analysed.
        detail: The same in words.
        received_s: It came.
        taken_s: A decoder took it; 0: none did.
        decode_s: Seconds of decoding.
        offered_s: Its picture began to wait for its turn; 0: it has none.
        wait_s: Seconds of waiting.
        total_s: Seconds until its verdict.
        way: How it passed its engine; None: it did not.
    """

    channel: str
    sequence: int
    verdict_index: int | None
    reason: SkipReason | None
    detail: str
    received_s: float
    taken_s: float
    decode_s: float
    offered_s: float
    wait_s: float
    total_s: float
    way: Way | None


class _Group:
    """A process of the format: its number, and its tracks by name with the end of each row."""

    __slots__ = ("pid", "rows", "sent", "tracks")

    def __init__(self, pid: int, max_unacknowledged: int) -> None:
        self.pid = pid
        self.tracks: dict[str, int] = {}
        self.rows: dict[str, list[tuple[int, int]]] = {}
        # When verdicts were told that are not acknowledged yet: the last of each message, and the moment.
        self.sent: deque[tuple[int, int]] = deque(maxlen=max_unacknowledged)


class Events:
    """Turns records into events.

    Args:
        began_s: The moment that counts as 0, monotonic seconds.
        max_unacknowledged: So many messages of verdicts are remembered until they are acknowledged.
    """

    def __init__(self, began_s: float, max_unacknowledged: int = 4096) -> None:
        self._began_us = int(began_s * 1e6)
        self._max_unacknowledged = max_unacknowledged
        self._out: list[str] = []
        self._groups: dict[str, _Group] = {}
        self._tracks = 0
        self._threads: dict[int, int] = {}
        self._figures: dict[tuple[str, str], int] = {}
        self._server = self._group(SERVER)

    def take(self) -> list[str]:
        """Return the events so far, each one JSON object."""
        out, self._out = self._out, []
        return out

    # -- what is recorded -----------------------------------------------------------------------

    def frame(self, passage: Passage) -> None:
        """Write a packet's way: a span for all of it, and one within for each stage."""
        group, end_s = self._group(passage.channel), passage.received_s + passage.total_s
        zero, pid, way = self._began_us, group.pid, passage.way
        begin, end = self._us(passage.received_s), self._us(end_s)
        tid = self._row(group, "frames", begin, end)
        args = f'"sequence":{passage.sequence},"outcome":"{passage.reason.name if passage.reason else "ANALYSED"}"'
        if passage.verdict_index is not None:
            args += f',"verdict":{passage.verdict_index}'
        if way is not None:
            args += f',"engine":{_quoted(way.engine)},"lane":"{way.lane}","batch":{way.batch_size}'
        self._span(pid, tid, f'"frame {passage.sequence}"', begin, end, "frame", args)
        add, at = self._out.append, begin
        for name, start_s, until_s in _stages(passage, end_s):
            # Clocks are read on several threads, and spans must not overlap by a tick.
            start = min(max(int(start_s * 1e6) - zero, at), end)
            at = min(max(int(until_s * 1e6) - zero, start), end)
            if start < at or name in STAGES:
                add(
                    f'{{"ph":"X","pid":{pid},"tid":{tid},"ts":{start},"dur":{at - start},'
                    f'"cat":"stage","name":"{name}"}}'
                )
        number = pid * _SEQUENCES + passage.sequence % _SEQUENCES
        self._flow("s", pid, tid, begin, number)
        if way is not None:
            engine = self._group(way.engine)
            self._flow("t", engine.pid, self._track(engine, way.lane), self._us(way.started_s), number)
        if passage.reason is not None:
            self._instant(pid, tid, passage.reason.name, end, {"detail": passage.detail} if passage.detail else {})

    def work(self, thread: int, name: str, channel: str, sequence: int, start_s: float, end_s: float) -> None:
        """Write what a worker did for one frame."""
        tid = self._threads.get(thread) or self._thread(thread)
        start, pid = self._us(start_s), self._server.pid
        args = f'"channel":{_quoted(channel)},"sequence":{sequence}'
        self._span(pid, tid, _quoted(name), start, self._us(end_s), "work", args)
        self._flow("t", pid, tid, start, self._group(channel).pid * _SEQUENCES + sequence % _SEQUENCES)

    def batch(
        self,
        engine: str,
        lane: str,
        start_s: float,
        end_s: float,
        frames: int,
        size: int,
        failed: bool,
        parts: Sequence[tuple[str, float, float]],
        thread: int | None,
    ) -> None:
        """Write a batch on its lane, with what of it ran when, and on the worker that ran it."""
        group = self._group(engine)
        start, end = self._us(start_s), self._us(end_s)
        args = f'"frames":{frames},"size":{size}' + (',"failed":true' if failed else "")
        tid, at = self._track(group, lane), start
        self._span(group.pid, tid, f'"batch of {frames}"', start, end, "batch", args)
        for name, begin_s, finish_s in parts:
            # The device's clock is read apart from the host's.
            begin = min(max(self._us(begin_s), at), end)
            at = min(max(self._us(finish_s), begin), end)
            self._span(group.pid, tid, _quoted(name), begin, at, "batch", "")
        if thread is not None:
            what = _quoted(f"run {engine.removeprefix('engine ')}")
            self._span(self._server.pid, self._thread(thread), what, start, end, "work", f'"frames":{frames}')
        self._counter(group.pid, "batch size", start, frames)

    def told(self, channel: str, start_s: float, end_s: float, first: int, last: int, sequences: Sequence[int]) -> None:
        """Write a message of verdicts, from taking them out until gRPC has taken it."""
        group = self._group(channel)
        start, end = self._us(start_s), self._us(end_s)
        tid = self._row(group, "verdicts told", start, end)
        name = f'"verdict {first}"' if first == last else f'"verdicts {first} to {last}"'
        self._span(group.pid, tid, name, start, end, "verdict", f'"first":{first},"last":{last}')
        for sequence in sequences:
            self._flow("f", group.pid, tid, start, group.pid * _SEQUENCES + sequence % _SEQUENCES)
        group.sent.append((last, end))

    def acknowledged(self, channel: str, through: int, now_s: float) -> None:
        """Write an acknowledgement as a span since the newest verdict that it is about was told."""
        group = self._group(channel)
        now, told = self._us(now_s), None
        while group.sent and group.sent[0][0] <= through:
            told = group.sent.popleft()[1]
        if told is not None:
            told = min(told, now)
            tid = self._row(group, "until acknowledged", told, now)
            self._span(group.pid, tid, f'"through {through}"', told, now, "verdict", f'"through":{through}')

    def span(self, track: str, name: str, start_s: float, end_s: float, args: Mapping[str, Any]) -> None:
        """Write anything else: `track` is GROUP/TRACK."""
        group_name, _, track_name = track.rpartition("/")
        group = self._group(group_name or SERVER)
        tid = self._track(group, track_name)
        more = _json(dict(args))[1:-1]
        self._span(group.pid, tid, _quoted(name), self._us(start_s), self._us(end_s), "span", more)

    def figure(self, group: str, name: str, now_s: float, value: int) -> None:
        """Write a figure when it has changed."""
        if self._figures.get((group, name)) != value:
            self._figures[group, name] = value
            self._counter(self._group(group).pid, name, self._us(now_s), value)

    def remark(self, name: str, now_s: float, args: Mapping[str, Any]) -> None:
        """Write something that matters for all of the trace."""
        self._instant(
            self._server.pid, self._track(self._server, "trace"), name, self._us(now_s), dict(args), scope="g"
        )

    # -- tracks ---------------------------------------------------------------------------------

    def _us(self, moment_s: float) -> int:
        return int(moment_s * 1e6) - self._began_us

    def _group(self, name: str) -> _Group:
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = _Group(len(self._groups) + 1, self._max_unacknowledged)
            self._named(group.pid, 0, "process_name", name)
            # The server first, then engines, then channels.
            order = 0 if name == SERVER else 1 if name.startswith("engine ") else 2
            self._out.append(
                f'{{"ph":"M","pid":{group.pid},"tid":0,"ts":0,"name":"process_sort_index",'
                f'"args":{{"sort_index":{order}}}}}'
            )
        return group

    def _track(self, group: _Group, name: str) -> int:
        tid = group.tracks.get(name)
        if tid is None:
            self._tracks += 1
            tid = group.tracks[name] = self._tracks
            self._named(group.pid, tid, "thread_name", name)
        return tid

    def _thread(self, ident: int) -> int:
        tid = self._threads.get(ident)
        if tid is None:
            names = {thread.ident: thread.name for thread in threading.enumerate()}
            tid = self._threads[ident] = self._track(self._server, names.get(ident) or f"thread {ident}")
        return tid

    def _row(self, group: _Group, name: str, begin: int, end: int) -> int:
        """Return the first track of a kind that is free from a moment on."""
        rows = group.rows.setdefault(name, [])
        for index, (tid, until) in enumerate(rows):
            if until <= begin:
                rows[index] = (tid, end)
                return tid
        # As many as the channel ever had on their way at once, which its window and its inbox bound.
        tid = self._track(group, f"{name} {len(rows) + 1}")
        rows.append((tid, end))
        return tid

    # -- events ---------------------------------------------------------------------------------

    def _span(self, pid: int, tid: int, name: str, start: int, end: int, kind: str, args: str) -> None:
        """Write a span; its name with its quotes, its arguments without their braces: to encode them costs most."""
        more = f',"args":{{{args}}}' if args else ""
        self._out.append(
            f'{{"ph":"X","pid":{pid},"tid":{tid},"ts":{start},"dur":{end - start if end > start else 0},'
            f'"cat":"{kind}","name":{name}{more}}}'
        )

    def _flow(self, phase: str, pid: int, tid: int, at: int, number: int) -> None:
        # Bound to the span that is on at the moment, not to the next one.
        self._out.append(f'{{"ph":"{phase}","pid":{pid},"tid":{tid},"ts":{at},"id":{number},{_FLOW},"bp":"e"}}')

    def _instant(self, pid: int, tid: int, name: str, at: int, args: Mapping[str, Any], *, scope: str = "t") -> None:
        self._out.append(
            _json({"ph": "i", "s": scope, "pid": pid, "tid": tid, "ts": at, "cat": "event", "name": name, "args": args})
        )

    def _counter(self, pid: int, name: str, at: int, value: int) -> None:
        self._out.append(f'{{"ph":"C","pid":{pid},"tid":0,"ts":{at},"name":"{name}","args":{{"value":{value}}}}}')

    def _named(self, pid: int, tid: int, what: str, name: str) -> None:
        self._out.append(_json({"ph": "M", "pid": pid, "tid": tid, "ts": 0, "name": what, "args": {"name": name}}))


def _stages(passage: Passage, end_s: float) -> list[tuple[str, float, float]]:
    """Tell the stages of a packet that it reached, in order; names as in StageTimes where that has them.

    `held` is the time in the decoder after its own packet was decoded, as of pictures that are shown later; `order` the
    wait for verdicts of earlier pictures.
    """
    if not passage.taken_s:
        return [("receive", passage.received_s, end_s)]
    decoded_s = passage.taken_s + passage.decode_s
    stages = [("receive", passage.received_s, passage.taken_s), ("decode", passage.taken_s, decoded_s)]
    if not passage.offered_s:
        return [*stages, ("order", decoded_s, end_s)]
    stages.append(("held", decoded_s, passage.offered_s))
    way = passage.way
    if way is None:
        # Skipped before or while its turn came; until then it waited.
        return [*stages, ("wait", passage.offered_s, end_s)]
    turn_s = passage.offered_s + passage.wait_s
    return [
        *stages,
        ("wait", passage.offered_s, turn_s),
        ("convert", turn_s, way.submitted_s),
        ("batch", way.submitted_s, way.started_s),
        ("execute", way.started_s, way.finished_s),
        ("answer", way.finished_s, way.read_s),
        ("post", way.read_s, way.judged_s),
        ("order", way.judged_s, end_s),
    ]
