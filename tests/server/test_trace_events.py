"""Events of a trace: spans nest, rows are shared, flows join what belongs together."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_engines.gpu.base import LaneTimes, Outcome
from vedette_server.data.outcome import SkipReason
from vedette_server.trace import EngineTrace
from vedette_server.tracing.events import Events, Passage, Way
from vedette_server.tracing.reading import STAGES, Trace, faults, read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ENGINE = "engine toy 1"


def written(events: Events, folder: Path) -> Trace:
    path = folder / "trace.json"
    path.write_text("[\n" + ",\n".join(events.take()) + "\n]\n")
    return read(path)


def passage(sequence: int, received_s: float, steps: Sequence[float], **fields: Any) -> Passage:
    """An analysed frame whose stages take so long: receive, decode, held, wait, convert, batch, ... order."""
    at = [received_s]
    for step in steps:
        at.append(at[-1] + step)
    way = Way(at[5], at[6], at[7], at[8], at[9], ENGINE, "lane 0", 1)
    values: dict[str, Any] = {
        "channel": "gate",
        "sequence": sequence,
        "verdict_index": sequence,
        "reason": None,
        "detail": "",
        "received_s": received_s,
        "taken_s": at[1],
        "decode_s": steps[1],
        "offered_s": at[3],
        "wait_s": steps[3],
        "total_s": at[10] - received_s,
        "way": way,
    }
    return Passage(**(values | fields))


def test_an_analysed_frame_shows_what_each_stage_took(tmp_path: Path):
    events = Events(100.0)
    took = [0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008, 0.009, 0.010]
    events.batch(ENGINE, "lane 0", 100.021 + 1, 100.028 + 1, 1, 1, False, (), None)
    events.frame(passage(5, 101.0, took))
    trace = written(events, tmp_path)
    (passed,) = trace.frames
    assert list(passed.stages) == [
        *("receive", "decode", "held", "wait", "convert", "batch", "execute", "answer", "post", "order"),
    ]
    assert [round(us / 1000) for us in passed.stages.values()] == list(range(1, 11))
    assert abs(passed.whole.end - passed.whole.start - 55_000) <= 1
    assert abs(passed.whole.start - 1_000_000) <= 1
    assert faults(trace) == []


def test_a_skip_shows_its_reason_where_its_way_ended(tmp_path: Path):
    events = Events(0.0)
    steps = [0.001] * 10
    events.frame(passage(1, 1.0, steps, reason=SkipReason.SUPERSEDED, way=None, total_s=0.010))
    events.frame(passage(2, 2.0, steps, reason=SkipReason.NO_FRAME, way=None, offered_s=0.0, total_s=0.002))
    gone = {"reason": SkipReason.OVERLOAD, "way": None, "offered_s": 0.0, "taken_s": 0.0, "detail": "shed"}
    events.frame(passage(3, 3.0, steps, **gone, total_s=0.5))
    trace = written(events, tmp_path)
    assert [list(passed.stages) for passed in trace.frames] == [
        ["receive", "decode", "held", "wait"],
        ["receive", "decode"],
        ["receive"],
    ]
    assert [(name, args) for _, name, _, args in trace.instants] == [
        ("SUPERSEDED", {}),
        ("NO_FRAME", {}),
        ("OVERLOAD", {"detail": "shed"}),
    ]
    assert [passed.outcome for passed in trace.frames] == ["SUPERSEDED", "NO_FRAME", "OVERLOAD"]
    assert faults(trace) == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 0.05),
            st.lists(st.floats(-1e-6, 0.02), min_size=10, max_size=10),
            st.sampled_from([None, SkipReason.STALE]),
        ),
        max_size=30,
    )
)
def test_frames_never_overlap_on_a_row_whatever_they_took(
    tmp_path_factory: Any, frames: list[tuple[float, list[float], SkipReason | None]]
):
    events = Events(10.0)
    received_s = 10.0
    made = []
    for sequence, (gap_s, steps, reason) in enumerate(frames):
        received_s += gap_s
        way = {} if reason is None else {"way": None, "reason": reason}
        one = passage(sequence, received_s, steps)
        assert one.way is not None
        # A lane for each frame: here it is about the rows of the channel.
        lanes = {"way": one.way._replace(lane=f"lane {sequence}")} | way
        made.append(one._replace(**lanes))
    made.sort(key=lambda one: one.received_s + one.total_s)
    for one in made:
        if one.way is not None:
            events.batch(ENGINE, one.way.lane, one.way.started_s, one.way.finished_s, 1, 1, False, (), None)
        events.frame(one)
    trace = written(events, tmp_path_factory.mktemp("trace"))
    assert faults(trace) == []
    assert sorted(passed.sequence for passed in trace.frames) == list(range(len(frames)))
    whole = [passed.whole for passed in trace.frames]
    moments = [span.start for span in whole if span.end > span.start]
    busiest = max((sum(one.start <= at < one.end for one in whole) for at in moments), default=0)
    rows = {passed.whole.track for passed in trace.frames}
    assert len(rows) <= max(2 * busiest, 1), "rows are used again"


def test_one_flow_joins_a_frame_on_every_track(tmp_path: Path):
    events = Events(0.0)
    one = passage(5, 1.0, [0.001] * 10)
    events.work(11, "decode", "gate", 5, 1.001, 1.002)
    events.work(12, "convert", "gate", 5, 1.004, 1.005)
    assert one.way is not None
    events.batch(ENGINE, "lane 0", one.way.started_s, one.way.finished_s, 1, 1, False, (), 12)
    events.work(12, "post", "gate", 5, one.way.read_s, one.way.judged_s)
    events.frame(one)
    events.told("gate", 1.02, 1.03, 9, 9, [5])
    events.acknowledged("gate", 9, 1.05)
    events.acknowledged("gate", 9, 1.06)
    trace = written(events, tmp_path)
    assert faults(trace) == []
    (steps,) = trace.flows.values()
    assert [(phase, track) for phase, (track, _) in steps] == [
        ("s", ("gate", "frames 1")),
        ("t", ("vedette serve", "thread 11")),
        ("t", ("vedette serve", "thread 12")),
        ("t", (ENGINE, "lane 0")),
        ("t", ("vedette serve", "thread 12")),
        ("f", ("gate", "verdicts told 1")),
    ]
    (waited,) = trace.spans["gate", "until acknowledged 1"]
    assert (waited.start, waited.end) == (1_030_000, 1_050_000)
    assert [span.name for span in trace.spans["vedette serve", "thread 12"]] == ["convert", "run toy 1", "post"]


def test_a_batch_of_a_gpu_shows_what_of_it_ran_when(tmp_path: Path):
    events = Events(0.0)
    records: list[tuple[Any, ...]] = []
    tracer: Any = type("Queue", (), {"put": records.append})
    trace_of = EngineTrace(tracer, ENGINE, "GPU 1")
    # The device's clock is read apart: it may say that a copy began a little before the batch was enqueued.
    times = LaneTimes((0.9375, 1.25), (1.25, 1.5), (1.4375, 1.75))
    trace_of.came(Outcome(None, "broken", 1.0, 2.0, 2, 8, times), 5)
    for method, *arguments in records:
        method(events, *arguments)
    trace = written(events, tmp_path)
    assert faults(trace) == []
    whole, *parts = trace.spans[ENGINE, "GPU 1, lane 2"]
    assert whole.args == {"frames": 5, "size": 8, "failed": True}
    assert [(part.name, part.start, part.end) for part in parts] == [
        ("upload", 1_000_000, 1_250_000),
        ("compute", 1_250_000, 1_500_000),
        ("download", 1_500_000, 1_750_000),
    ]
    assert ("vedette serve", "thread 0") not in trace.spans, "no worker ran it"
    assert trace.figures[ENGINE, "batch size"] == [(1_000_000, 5)]


def test_numbers_of_flows_stay_exact_where_numbers_are_floating_point():
    events = Events(0.0)
    events.take()
    events.work(1, "decode", "gate", (1 << 40) + 3, 0.0, 1.0)
    ids = [event["id"] for event in map(json.loads, events.take()) if "id" in event]
    assert ids
    assert all(int(float(number)) == number < 1 << 53 for number in ids)


def test_a_fault_is_found_for_each_thing_that_can_be_wrong(tmp_path: Path):
    events = Events(0.0)
    events.span("group/track", "first", 1.0, 2.0, {})
    events.span("group/track", "second", 1.5, 2.5, {})
    one = passage(5, 1.0, [0.001] * 10)
    events.frame(one)
    trace = written(events, tmp_path)
    overlap, flow = faults(trace)
    assert overlap.startswith("second overlaps first on ('group', 'track')")
    assert flow.startswith("flow ")
    assert "meets no span on ('engine toy 1', 'lane 0')" in flow
    spans = trace.spans["gate", "frames 1"]
    for stage in STAGES:
        trace.spans["gate", "frames 1"] = [span for span in spans if span.name != stage]
        assert f"frame 5 of gate was analysed without {stage}" in faults(trace)
