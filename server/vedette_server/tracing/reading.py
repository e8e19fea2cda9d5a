"""Read a trace back, and look whether it is sound: for tests, benchmarks and tools.

A file that its server did not complete is read as far as it goes.
"""

from __future__ import annotations

import bisect
import json
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vedette_server.tracing.events import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Track = tuple[str, str]
Moment = tuple[Track, int]


@dataclass(frozen=True, slots=True)
class Span:
    """One span; times in microseconds.

    Attributes:
        track: Group and name of its track.
        name: What it shows.
        kind: Its category.
        start: Its begin.
        end: Its end.
        args: More about it.
    """

    track: Track
    name: str
    kind: str
    start: int
    end: int
    args: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Passed:
    """One packet's way, as the trace has it; times in microseconds.

    Attributes:
        channel: Its channel.
        sequence: Its number.
        outcome: `ANALYSED`, or the reason why not.
        whole: The span of all of it.
        stages: What each stage took, in order.
    """

    channel: str
    sequence: int
    outcome: str
    whole: Span
    stages: dict[str, int]


@dataclass(slots=True)
class Trace:
    """A trace that was read.

    Attributes:
        complete: Its server completed it.
        spans: All spans, by track, each track in order of begin, the longer first.
        instants: All instants: track, name, moment, args.
        flows: By number: phase and place of each step, in order of time.
        figures: By group and name: moment and value.
    """

    complete: bool
    spans: dict[Track, list[Span]] = field(default_factory=lambda: defaultdict(list))
    instants: list[tuple[Track, str, int, dict[str, Any]]] = field(default_factory=list)
    flows: dict[int, list[tuple[str, Moment]]] = field(default_factory=lambda: defaultdict(list))
    figures: dict[tuple[str, str], list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))

    @property
    def frames(self) -> Iterator[Passed]:
        """Every packet's way, channel by channel."""
        for track, spans in self.spans.items():
            for index, span in enumerate(spans):
                if span.kind == "frame":
                    stages: dict[str, int] = {}
                    for part in spans[index + 1 :]:
                        if part.kind != "stage" or part.start > span.end:
                            break
                        stages[part.name] = part.end - part.start
                    yield Passed(track[0], span.args["sequence"], span.args["outcome"], span, stages)


def read(path: Path) -> Trace:
    """Read a file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not a trace.
    """
    events, complete = _events(path)
    names: dict[tuple[int, int], str] = {}
    for event in events:
        if event["ph"] == "M" and event["name"] in {"process_name", "thread_name"}:
            names[event["pid"], event["tid"]] = event["args"]["name"]
    trace = Trace(complete)
    for event in events:
        group = names[event["pid"], 0]
        _enter(trace, event, (group, names[event["pid"], event["tid"]]))
    for spans in trace.spans.values():
        # Stable: of two that are alike, the outer one was written first.
        spans.sort(key=lambda span: (span.start, -span.end))
    for steps in trace.flows.values():
        steps.sort(key=lambda step: step[1][1])
    return trace


def _enter(trace: Trace, event: dict[str, Any], track: Track) -> None:
    phase, at = event["ph"], event["ts"]
    if phase == "X":
        span = Span(track, event["name"], event["cat"], at, at + event["dur"], event.get("args", {}))
        trace.spans[track].append(span)
    elif phase == "i":
        trace.instants.append((track, event["name"], at, event["args"]))
    elif phase == "C":
        trace.figures[track[0], event["name"]].append((at, event["args"]["value"]))
    elif phase in "stf":
        trace.flows[event["id"]].append((phase, (track, at)))


def faults(trace: Trace) -> list[str]:
    """Tell what is wrong with a trace: spans that overlap, flows that lead nowhere, stages that are missing."""
    found: list[str] = []
    for spans in trace.spans.values():
        found += _overlaps(spans)
    for number, steps in trace.flows.items():
        found += [
            f"flow {number} meets no span on {track} at {at}" for _, (track, at) in steps if not _met(trace, track, at)
        ]
    for passed in trace.frames:
        what = f"frame {passed.sequence} of {passed.channel}"
        missing = [name for name in STAGES if name not in passed.stages]
        if passed.outcome == "ANALYSED" and missing:
            found.append(f"{what} was analysed without {', '.join(missing)}")
        if sum(passed.stages.values()) != passed.whole.end - passed.whole.start:
            found.append(
                f"{what}: its stages take {sum(passed.stages.values())} us of {passed.whole.end - passed.whole.start}"
            )
    return found


def _overlaps(spans: list[Span]) -> Iterator[str]:
    within: list[Span] = []
    for span in spans:
        while within and within[-1].end <= span.start:
            within.pop()
        if within and within[-1].end < span.end:
            yield f"{span.name} overlaps {within[-1].name} on {span.track} at {span.start}"
        within.append(span)


def _met(trace: Trace, track: Track, at: int) -> bool:
    """Whether a track has a span on at a moment, or one that is but a moment."""
    spans = trace.spans.get(track, [])
    last = bisect.bisect_right(spans, at, key=lambda span: span.start)
    # Spans nest: one that is on began not long ago, and those within it end before it does.
    return any(span.start <= at <= span.end for span in reversed(spans[max(last - 64, 0) : last]))


def _events(path: Path) -> tuple[list[dict[str, Any]], bool]:
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = zlib.decompressobj(31).decompress(data)
    text = data.decode()
    if not text.startswith("["):
        raise ValueError(f"{path} is not a trace: it begins with {text[:20]!r}")
    if text.endswith("]\n"):
        return json.loads(text), True
    lines = text.split("\n")[1:]
    # What was being written when the server was killed may lack its end.
    whole = [line.removesuffix(",") for line in lines if line.endswith(("}", "},"))]
    return [json.loads(line) for line in whole], False
