"""The trace of a real server: it says of every frame what its verdict says, and no fault of it is the server's."""

from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from support_serving import ServerProcess
from support_streams import encoded, grey
from support_trace import sound
from vedette_client import Client, Policy, SkipReason
from vedette_server.tracing.reading import Trace, read

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_client import Verdict

QUICK = ("--engine", "blobs", "--lanes", "2", "--max-batch", "4", "--tune-budget-s", "0")
# By the names of the trace, those of the contract; microseconds are rounded on both sides.
TIMES = {
    "receive": "receive_us",
    "decode": "decode_us",
    "wait": "wait_us",
    "convert": "convert_us",
    "batch": "batch_us",
    "execute": "execute_us",
    "post": "post_us",
}
ROUNDED_US = 2

RUNS: dict[str, tuple[Any, dict[str, Any]]] = {
    "recorded": (lambda: encoded("h264-b"), {"policy": Policy.EVERY_FRAME}),
    "live": (lambda: grey([5] * 40, fps=50), {}),
    "overloaded": (lambda: grey([5] * 60, fps=100), {"engines": ["slow"], "max_age_s": 0.05}),
    "rated": (lambda: grey([5] * 40), {"policy": Policy.EVERY_FRAME, "max_fps": 30}),
    "two": (lambda: grey([5] * 20), {"policy": Policy.EVERY_FRAME, "engines": ["gauge", "blobs"]}),
}


async def watch(address: str, name: str) -> list[Verdict]:
    make, wishes = RUNS[name]
    async with Client(address) as client:
        analysis = await client.start(make(), name, **({"engines": ["gauge"]} | wishes))
        verdicts = [verdict async for verdict in analysis]
        await analysis.stream.finish()
        return verdicts


def compare(trace: Trace, channel: str, verdicts: list[Verdict]) -> None:
    """Every verdict is in the trace, and says the same."""
    passed = {one.sequence: one for one in trace.frames if one.channel == channel}
    assert passed.keys() == {verdict.sequence for verdict in verdicts}
    for verdict in verdicts:
        one, times = passed[verdict.sequence], verdict.times
        assert one.outcome == ("ANALYSED" if verdict.analysed else verdict.reason.name)
        assert abs(one.whole.end - one.whole.start - times.total_us) <= ROUNDED_US
        if verdict.analysed and len(verdict.results) == 1:
            for stage, field in TIMES.items():
                assert abs(one.stages[stage] - getattr(times, field)) <= ROUNDED_US, (verdict.sequence, stage)
            assert one.whole.args["batch"] == verdict.results[0].batch_size


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
async def test_a_trace_says_of_every_frame_what_its_verdict_says(gauges: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with ServerProcess(*QUICK, "--engines-dir", str(gauges), "--trace", str(path)) as server:
        found = dict(zip(RUNS, await asyncio.gather(*(watch(server.address, run) for run in RUNS)), strict=True))
        assert server.stop() == 0
        assert "Traceback" not in server.output
    trace = sound(read(path))
    for run, verdicts in found.items():
        compare(trace, run, verdicts)
    analysed = sum(verdict.analysed for verdicts in found.values() for verdict in verdicts)
    batches = [span for (group, _), spans in trace.spans.items() if group.startswith("engine ") for span in spans]
    # One channel runs two engines.
    assert sum(span.args["frames"] for span in batches) == analysed + len(found["two"])
    reasons = {verdict.reason for verdict in found["overloaded"] if not verdict.analysed}
    assert reasons <= {SkipReason.SUPERSEDED, SkipReason.STALE}
    assert reasons, "the slow engine was to be too slow"
    told = {name for _, name, _, _ in trace.instants}
    assert {reason.name for reason in reasons} <= told
    workers = {track: spans for (group, track), spans in trace.spans.items() if track.startswith("worker-")}
    assert {span.name.split()[0] for spans in workers.values() for span in spans} == {
        *("decode", "convert", "run", "post")
    }
    assert ("live", "until acknowledged 1") in trace.spans
    ends = [(steps[0][0], steps[-1][0]) for steps in trace.flows.values()]
    assert ends.count(("s", "f")) >= analysed, "a frame's flow ends with the message of its verdict"


@pytest.mark.parametrize(
    ("path", "why"), [("nowhere/trace.json", "No such file or directory"), ("/dev/full", "No space left on device")]
)
def test_a_file_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path, path: str, why: str) -> None:
    command = [sys.executable, "-m", "vedette_server", "--port", "0", "--metrics-port", "off", "--trace"]
    ended = subprocess.run([*command, str(tmp_path / path)], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert why in ended.stderr
    assert ended.stderr.startswith("vedette serve: trace.file is ")
    assert ended.stderr.count("\n") == 1


def test_two_servers_do_not_write_one_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with ServerProcess(*QUICK, "--trace", str(path)) as server:
        command = [sys.executable, "-m", "vedette_server", "--port", "0", "--metrics-port", "off", "--trace", str(path)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 2
        assert "which another server writes" in ended.stderr
        assert ended.stderr.count("\n") == 1
        assert server.stop() == 0
    assert read(path).complete


async def test_a_full_disk_costs_the_trace_and_no_frame(gauges: Path, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with ServerProcess(*QUICK, "--engines-dir", str(gauges), "--trace", str(path)) as server:
        before = await watch(server.address, "recorded")
        until = time.monotonic() + 10
        while not list(read(path).frames) and time.monotonic() < until:
            await asyncio.sleep(0.05)
        room = path.stat().st_size + 8192
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (room, room))
        verdicts = before + await watch(server.address, "recorded")
        server.wait_for("trace ended: ")
        assert all(verdict.analysed for verdict in verdicts)
        assert len(await watch(server.address, "rated")) == 40
        assert server.stop() == 0
        assert "Traceback" not in server.output
    trace = read(path)
    assert not trace.complete
    assert list(trace.frames)


async def test_a_server_that_is_killed_leaves_a_trace_that_opens(gauges: Path, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with ServerProcess(*QUICK, "--engines-dir", str(gauges), "--trace", str(path)) as server:
        verdicts = await watch(server.address, "recorded")
        until = time.monotonic() + 10
        while len(list(read(path).frames)) < len(verdicts) and time.monotonic() < until:
            await asyncio.sleep(0.05)
        server.stop(signal.SIGKILL)
    trace = read(path)
    assert not trace.complete
    compare(trace, "recorded", verdicts)
