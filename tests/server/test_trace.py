"""A trace: what is recorded is written, nobody waits for it, and its end is told."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from support_trace import MIB, sound, traced
from vedette_server.data.outcome import SkipReason
from vedette_server.data.packet import Packet
from vedette_server.data.verdict import EngineLabel, Verdict
from vedette_server.errors import SettingsError
from vedette_server.settings import TraceSettings
from vedette_server.trace import Tracer, tracing
from vedette_server.tracing.file import TraceFile
from vedette_server.tracing.reading import read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LABEL = EngineLabel("toy", "3", "fake", "detector", ())


def skipped(sequence: int) -> Verdict:
    now = time.monotonic()
    verdict = Verdict(Packet(sequence, b"", received_s=now - 0.002, taken_s=now - 0.001), reason=SkipReason.NO_FRAME)
    verdict.times.total_s = 0.002
    return verdict


def test_whatever_is_recorded_is_in_the_file_once_the_trace_is_closed(tmp_path: Path):
    def record(tracer: Tracer) -> None:
        channel, now = tracer.channel('gate "é"'), time.monotonic()
        for sequence in range(300):
            channel.judged(skipped(sequence), sequence)
        channel.work("decode", 7, now, now + 0.001)
        tracer.engine(LABEL).ran(1, now, now + 0.01, 4, failed=False)
        tracer.span("elsewhere/there", "something", now, now + 0.5, size=3)
        tracer.span("here", "something", now, now + 0.5)

    trace = traced(tmp_path / "trace.json", record)
    assert trace.complete
    # Frames that overlap stand on tracks of their own, how many depends on how fast this runs.
    assert sorted(passed.sequence for passed in trace.frames) == list(range(300))
    assert {passed.channel for passed in trace.frames} == {'gate "é"'}
    worker = threading.current_thread().name
    assert [span.name for span in trace.spans["vedette serve", worker]] == ["run toy 3", "decode"]
    assert trace.spans["engine toy 3", "lane 1"][0].args == {"frames": 4, "size": 4}
    assert trace.spans["elsewhere", "there"][0].args == {"size": 3}
    assert trace.spans["vedette serve", "here"]
    assert [name for _, name, _, _ in trace.instants] == ["began"] + ["NO_FRAME"] * 300


def test_a_name_that_ends_in_gz_makes_it_compressed(tmp_path: Path):
    def record(tracer: Tracer) -> None:
        for sequence in range(500):
            tracer.channel("gate").judged(skipped(sequence), None)

    plain, packed = tmp_path / "trace.json", tmp_path / "trace.json.gz"
    assert len(list(sound(traced(plain, record)).frames)) == len(list(sound(traced(packed, record)).frames)) == 500
    assert packed.stat().st_size < plain.stat().st_size / 4


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_the_file_of_a_server_that_was_killed_opens_as_far_as_it_was_written(tmp_path: Path, name: str):
    path = tmp_path / name
    file = TraceFile(path, MIB)
    tracer = Tracer(file)
    for sequence in range(100):
        tracer.channel("gate").judged(skipped(sequence), None)
    while tracer._records or not path.stat().st_size:
        time.sleep(0.01)
    tracer.close()
    # What a kill leaves: the last write may be there in part.
    text = path.read_bytes() if name == "trace.json" else zlib.decompress(path.read_bytes(), 31)
    assert json.loads(text)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    trace = read(path)
    assert not trace.complete
    assert 20 < len(list(trace.frames)) < 100


def test_it_ends_at_its_limit_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "trace.json"
    with Tracer(TraceFile(path, 64 * 1024)) as tracer:
        for sequence in range(5000):
            tracer.channel("gate").judged(skipped(sequence), None)
        tracer._thread.join(10)
        assert "trace ended at its limit" in caplog.text
        tracer.channel("gate").judged(skipped(1), None)
        assert not tracer._records, "after its end nothing is queued"
        assert not tracer.dropped, "nor counted as a gap"
    assert 32 * 1024 < path.stat().st_size <= 64 * 1024
    trace = sound(read(path))
    assert trace.instants[-1][1] == "the limit of size was reached"


class SlowFile(TraceFile):
    """Writes when it is let."""

    gate = threading.Event()

    def write(self, events: Sequence[str]) -> bool:
        self.gate.wait(10)
        return super().write(events)


def test_a_writer_that_cannot_follow_costs_records_and_nobody_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "trace.json"
    file = SlowFile(path, MIB)
    with Tracer(file, capacity=200) as tracer:
        for sequence in range(1000):
            tracer.channel("gate").judged(skipped(sequence), None)
        assert len(tracer._records) <= 200
        dropped = tracer.dropped
        assert dropped >= 1000 - 200 - 64, "what is being written is in no queue"
        file.gate.set()
    trace = sound(read(path))
    assert len(list(trace.frames)) == 1000 - dropped
    (told,) = [args for _, name, _, args in trace.instants if name == "records dropped"]
    assert told == {"since": 0, "in all": dropped}
    assert "trace has gaps" in caplog.text


class FullFile(TraceFile):
    """A disk that is full after some writes."""

    left = 3

    def write(self, events: Sequence[str]) -> bool:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(events)


def test_a_full_disk_ends_the_trace_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "trace.json"
    with Tracer(FullFile(path, MIB)) as tracer:
        for sequence in range(1000):
            tracer.channel("gate").judged(skipped(sequence), None)
        tracer._thread.join(10)
        tracer.channel("gate").judged(skipped(1), None)
        assert not tracer._records
    assert f"trace ended: {path}: No space left on device" in caplog.text
    assert 0 < len(list(read(path).frames)) < 1000


def test_a_bug_in_a_record_ends_the_trace_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with Tracer(TraceFile(tmp_path / "trace.json", MIB)) as tracer:
        bad: Any = "no number"
        tracer.span("here", "something", bad, 1.0)
        tracer._thread.join(10)
    assert "trace ended" in caplog.text


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nowhere/trace.json", "No such file or directory"),
        (".", "Is a directory"),
        ("pipe", "No such device or address"),
        ("/dev/full", "No space left on device"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path, path: str, why: str):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingsError, match=f"trace.file is .*{why}.*allowed: a file") as refused:
        TraceFile(tmp_path / path, MIB)
    assert "\n" not in str(refused.value)


def test_a_file_that_another_server_writes_is_refused_and_left_alone(tmp_path: Path):
    path = tmp_path / "trace.json"
    with Tracer(TraceFile(path, MIB)) as tracer:
        tracer.channel("gate").judged(skipped(1), None)
        with pytest.raises(SettingsError, match="which another server writes; allowed: a file of its own"):
            TraceFile(path, MIB)
    assert len(list(sound(read(path)).frames)) == 1
    TraceFile(path, MIB).close()
    assert list(read(path).frames) == [], "a file that nobody writes any more is replaced"


def test_a_server_that_was_started_again_leaves_the_trace_of_the_one_that_failed(tmp_path: Path):
    settings = TraceSettings(tmp_path / "trace.json.gz")
    for restarts in range(3):
        with tracing(settings, restarts) as tracer:
            assert tracer is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trace.1.json.gz", "trace.2.json.gz", "trace.json.gz"]
    with tracing(TraceSettings()) as tracer:
        assert tracer is None


def test_a_close_may_come_twice_and_completes_the_file_once(tmp_path: Path):
    path = tmp_path / "trace.json"
    tracer = Tracer(TraceFile(path, MIB))
    tracer.close()
    tracer.close()
    assert read(path).complete


def test_figures_are_drawn_when_they_change(tmp_path: Path):
    values = iter([1, 1, 2, 2, 2])
    read_all = threading.Event()

    def figures() -> list[tuple[str, str, int]]:
        value = next(values, None)
        if value is None:
            read_all.set()
        return [] if value is None else [("engine toy 3", "slots in use", value)]

    def record(tracer: Tracer) -> None:
        tracer.figures = figures
        assert read_all.wait(10)

    trace = traced(tmp_path / "trace.json", record)
    assert [value for _, value in trace.figures["engine toy 3", "slots in use"]] == [1, 2]


def test_what_is_no_trace_is_not_read_as_one(tmp_path: Path):
    path = tmp_path / "trace.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="is not a trace"):
        read(path)
