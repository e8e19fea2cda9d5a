"""Recording all the time: segments, their index, and finding a time in them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from support_evidence import EPOCH_S, LIMITS, FailingDisk, Steps, read_file, ring_of, slowly, source, store_in, timed
from support_video import clip, plain
from vedette_server.data.rules import EvidencePolicy
from vedette_server.errors import EvidenceError
from vedette_server.evidence.recording import INDEX_NAME, Recorder, RecordingIndex, Segment

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_server.evidence.ring import PacketRing
    from vedette_server.evidence.store import EvidenceStore


def recorder(
    ring: PacketRing, store: EvidenceStore, steps: Steps, policy: EvidencePolicy = EvidencePolicy.ORIGINAL
) -> tuple[Recorder, RecordingIndex]:
    index = RecordingIndex(store, "gate")
    return Recorder(ring, store, index, "gate", policy, (), LIMITS, segment_s=0.4, clock=steps.clock), index


def record(store: EvidenceStore, name: str = "h264-b") -> RecordingIndex:
    """Record 30 pictures at 25 fps with keyframes at 0, 12 and 24: three segments."""
    steps, ring = Steps(), ring_of(*source(name))
    ring.close()
    job, index = recorder(ring, store, steps)
    steps.run(job)
    assert job.failures == 0
    return index


def test_the_segments_together_show_every_picture_once(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    segments = record(store).segments
    shown = [read_file(store.find(segment.path)) for segment in segments]
    assert [len(file.digests) for file in shown] == [12, 12, 6]
    assert [digest for file in shown for digest in file.digests] == plain(clip("h264-b"))
    assert all(file.keyframe_first for file in shown)
    assert [s.first_s - EPOCH_S for s in segments] == pytest.approx([0, 0.48, 0.96])
    assert [s.last_s - EPOCH_S for s in segments] == pytest.approx([0.44, 0.92, 1.16])
    assert [s.size_bytes for s in segments] == [store.find(s.path).stat().st_size for s in segments]


def test_a_time_is_found_with_the_keyframe_to_begin_at(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    steps, ring = Steps(), ring_of(*source("h264"))
    ring.close()
    index = RecordingIndex(store, "gate")
    steps.run(Recorder(ring, store, index, "gate", EvidencePolicy.ORIGINAL, (), LIMITS, 0.9, clock=steps.clock))
    first, second = index.segments
    assert index.seek(EPOCH_S + 0.2) == (first, 0.0)
    assert index.seek(EPOCH_S + 0.7) == (first, pytest.approx(0.48))
    assert index.seek(EPOCH_S + 1.0) == (second, 0.0)
    # Before all: the first. Between two: the next. Behind all: nothing.
    assert index.seek(EPOCH_S - 100) == (first, 0.0)
    assert index.seek(EPOCH_S + 0.93) == (second, 0.0)
    assert index.seek(EPOCH_S + 100) is None


def test_the_index_is_the_same_after_a_restart(tmp_path: Path) -> None:
    segments = record(store_in(tmp_path)).segments
    assert RecordingIndex(store_in(tmp_path), "gate").segments == segments
    assert RecordingIndex(store_in(tmp_path), "yard").segments == []


def test_a_line_that_a_crash_cut_short_is_made_anew(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    before = record(store).segments
    (path,) = store.root.rglob(INDEX_NAME)
    path.write_bytes(b'{"path": 1}\n[]\n' + path.read_bytes()[:-60])
    after = RecordingIndex(store, "gate").segments
    assert after[:2] == before[:2]
    assert (after[2].path, after[2].size_bytes) == (before[2].path, before[2].size_bytes)
    assert after[2].first_s == pytest.approx(before[2].first_s, abs=0.01)
    assert after[2].last_s == pytest.approx(before[2].last_s, abs=0.05)
    assert after[2].keyframes_s == pytest.approx(before[2].keyframes_s, abs=0.01)


def remove(store: EvidenceStore, index: RecordingIndex, *segments: Segment) -> None:
    for segment in segments:
        assert store.remove(segment.path)
        index.forget(segment.path)


def test_what_retention_removed_is_not_found_any_more(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    index = record(store)
    first, *others = index.segments
    remove(store, index, first)
    assert index.segments == others
    assert index.seek(EPOCH_S) == (others[0], 0.0)
    assert not index.knows(first.path)
    assert index.knows(others[0].path)
    remove(store, index, *others)
    assert list(store.root.rglob("*.*")) == [store.root / ".incoming"]


def test_a_line_of_another_recorder_stays_when_all_of_the_day_that_is_known_is_removed(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    (first, *_) = record(store).segments
    again = RecordingIndex(store, "gate")
    filed = store.put("gate", "recording-1800000009000", ".mp4", EPOCH_S + 9, b"late")
    late = Segment(filed.path, EPOCH_S + 9, EPOCH_S + 10, 4, filed.sha256, (EPOCH_S + 9,), "masked:ab")
    RecordingIndex(store, "gate").add(late)
    for segment in again.segments:
        store.remove(segment.path)
        again.forget(segment.path)
    assert RecordingIndex(store, "gate").segments == [late]
    assert first.path.split("/")[1] == late.path.split("/")[1]


def test_a_recording_goes_on_after_a_full_disk(tmp_path: Path) -> None:
    disk = FailingDisk("rename")
    store, steps = store_in(tmp_path, disk), Steps()
    fmt, packets = source("h264")
    ring = ring_of(fmt, packets[:12])
    job, index = recorder(ring, store, steps)
    job.step()
    ring.feed(packets[12])
    job.step()
    assert (job.failures, index.segments) == (1, [])
    disk.failing = False
    for packet in packets[13:]:
        ring.feed(packet)
    ring.close()
    steps.run(job)
    assert [len(read_file(store.find(s.path)).digests) for s in index.segments] == [6]


def test_an_index_that_cannot_be_written_loses_no_segment(tmp_path: Path) -> None:
    store, steps = store_in(tmp_path, FailingDisk("append")), Steps()
    ring = ring_of(*source("h264"))
    job, _ = recorder(ring, store, steps)
    job.step()
    job.abort()
    assert job.failures
    assert store.trouble
    assert len(RecordingIndex(store_in(tmp_path), "gate").segments) >= 1


def test_a_silent_channel_ends_its_segment_and_another_session_begins_the_next(tmp_path: Path) -> None:
    store, steps = store_in(tmp_path), Steps()
    fmt, packets = source("h264")
    ring = ring_of(fmt, packets[:10])
    job, index = recorder(ring, store, steps)
    while not index.segments:
        wait_s = job.step()
        assert wait_s is not None
        steps.now_s += wait_s
    ring.begin(replace(fmt, rotation_degrees=90))
    for packet in timed(packets[:10], start_s=EPOCH_S + 60):
        ring.feed(packet)
    job.step()
    job.stop()
    steps.run(job)
    assert [s.first_s - EPOCH_S for s in index.segments] == pytest.approx([0, 60])


def test_packets_that_the_ring_dropped_unread_end_a_segment(tmp_path: Path) -> None:
    store, steps = store_in(tmp_path), Steps()
    fmt, packets = source("h264")
    ring = ring_of(fmt, packets[:6], max_s=0.1)
    job, index = recorder(ring, store, steps)
    job.step()
    for packet in packets[6:]:
        ring.feed(packet)
    ring.close()
    steps.run(job)
    assert [len(read_file(store.find(s.path)).digests) for s in index.segments] == [6, 6]


def test_a_masked_recording_holds_no_original_packet(tmp_path: Path) -> None:
    store, steps = store_in(tmp_path), Steps()
    fmt, packets = source("hevc")
    ring = ring_of(fmt, packets)
    ring.close()
    job, index = recorder(ring, store, steps, EvidencePolicy.MASKED)
    steps.run(job)
    assert [read_file(store.find(s.path)).codec for s in index.segments] == ["h264"] * len(index.segments)
    assert index.segments
    kept = b"".join(store.find(s.path).read_bytes() for s in index.segments)
    assert not any(packet.data[-48:] in kept for packet in packets)


def test_a_masked_recording_has_keyframes_where_its_index_says(tmp_path: Path) -> None:
    store, steps = store_in(tmp_path), Steps()
    ring = ring_of(*slowly(*source("hevc-b")))
    ring.close()
    index = RecordingIndex(store, "gate")
    steps.run(Recorder(ring, store, index, "gate", EvidencePolicy.MASKED, (), LIMITS, 60.0, clock=steps.clock))
    (segment,) = index.segments
    frames = read_file(store.find(segment.path)).frames
    told = [time_s - segment.first_s for time_s in segment.keyframes_s]
    assert [frame.time for frame in frames if frame.key_frame] == pytest.approx(told, abs=1e-3)
    assert told == pytest.approx([0.0, 1.2, 2.4])


def test_an_index_that_is_written_again_needs_room(tmp_path: Path) -> None:
    disk = FailingDisk("append")
    disk.failing = False
    store = store_in(tmp_path, disk)
    index = record(store)
    disk.failing = True
    with pytest.raises(EvidenceError, match="cannot be written"):
        index.add(index.segments[0])
