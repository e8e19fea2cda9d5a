"""The file of a recording that shows a time; and what the ring and the files tell those who look for something."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_collecting import MASK, Yard
from support_evidence import EPOCH_S, ring_of, source, store_in, timed
from vedette_server.data.channel import RecordingConfig
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.packet import Packet
from vedette_server.data.rules import EvidencePolicy, Mask, MaskKind, WatchConfig
from vedette_server.errors import EvidenceError, NotFoundError
from vedette_server.evidence.playable import Transcoder
from vedette_server.evidence.recording import RecordingIndex
from vedette_server.evidence.ring import PacketRing
from vedette_server.evidence.seeking import RecordedFiles

if TYPE_CHECKING:
    from pathlib import Path


ORIGINAL = WatchConfig()


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """A channel of which some seconds are recorded, in two segments."""
    yard = Yard(tmp_path, recording=RecordingConfig(enabled=True, segment_s=3.0))
    for _ in range(12):
        yard.stream(0.5)
        yard.workers.step()
    yard.collector.close()
    yard.workers.run()
    assert len(yard.collector.index.segments) == 2
    return yard


def files(yard: Yard, watch: WatchConfig | None = ORIGINAL) -> RecordedFiles:
    index = yard.collector.index
    return RecordedFiles(
        yard.store, Transcoder(yard.store), lambda name: index if name == "yard" else None, lambda _name: watch
    )


def test_a_time_is_found_in_its_segment_and_one_before_all_in_the_first(yard: Yard) -> None:
    for at_s, number in ((0.0, 0), (EPOCH_S + 1.5, 0), (EPOCH_S + 4.5, 1)):
        with files(yard).seek("yard", at_s, False, lambda: True) as found:
            segment = yard.collector.index.segments[number]
            assert (found.start_s, found.sha256) == (segment.first_s, segment.sha256)
            assert found.start_s + found.seek_s == pytest.approx(max(at_s, EPOCH_S), abs=0.11)
            assert hashlib.sha256(found.path.read_bytes()).hexdigest() == found.sha256
            assert not found.transcoded


def test_what_no_browser_plays_is_transcoded_and_gone_when_it_was_read(yard: Yard) -> None:
    with files(yard).seek("yard", EPOCH_S, True, lambda: True) as found:
        assert found.transcoded
        with av.open(str(found.path)) as container:
            assert container.streams.video[0].codec_context.name == "h264"
        assert hashlib.sha256(found.path.read_bytes()).hexdigest() == found.sha256
    assert not found.path.exists()


def test_what_was_not_recorded_is_not_found_and_a_file_that_is_gone_says_so(yard: Yard) -> None:
    for channel, at_s in (("yard", EPOCH_S + 100), ("other", EPOCH_S)):
        with (
            pytest.raises(NotFoundError, match="nothing of channel"),
            files(yard).seek(channel, at_s, False, lambda: True),
        ):
            pass
    yard.store.remove(yard.collector.index.segments[0].path)
    for playable in (False, True):
        with pytest.raises(EvidenceError, match="no evidence"), files(yard).seek("yard", 0.0, playable, lambda: True):
            pass


def test_a_recording_that_was_kept_with_less_hidden_is_not_shown(yard: Yard, tmp_path: Path) -> None:
    left = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0))
    masked = WatchConfig(evidence=EvidencePolicy.MASKED, masks=(Mask(MaskKind.PRIVACY, left),))
    for watch, words in (
        (masked, "without a privacy mask"),
        (WatchConfig(evidence=EvidencePolicy.NONE), "nothing of channel yard"),
        (None, "not known"),
    ):
        for playable in (False, True):
            with (
                pytest.raises(NotFoundError, match=words) as refused,
                files(yard, watch).seek("yard", EPOCH_S, playable, lambda: True),
            ):
                pass
            assert refused.value.reason == "EVIDENCE_NOT_SHOWN"
    again = RecordingIndex(yard.store, "yard")
    assert [one.policy for one in again.segments] == ["original"] * 2, "the index keeps it"


def test_a_masked_recording_is_shown_under_its_masks(tmp_path: Path) -> None:
    yard = Yard(tmp_path, EvidencePolicy.MASKED, MASK, recording=RecordingConfig(enabled=True, segment_s=3.0))
    for _ in range(4):
        yard.stream(0.5)
        yard.workers.step()
    yard.collector.close()
    yard.workers.run()
    watch = WatchConfig(evidence=EvidencePolicy.MASKED, masks=MASK)
    with files(yard, watch).seek("yard", EPOCH_S, False, lambda: True) as found:
        assert found.size_bytes


def test_the_ring_finds_a_packet_the_latest_and_the_keyframe_before() -> None:
    fmt, packets = source("h264")
    ring = ring_of(fmt, packets)
    keys = [kept.index for kept in ring.read(0, 100) if kept.keyframe]
    for packet in packets:
        index = ring.index_of(packet.sequence)
        assert index == packet.sequence
        assert ring.keyframe_before(index) == max(key for key in keys if key <= index)
    assert ring.index_of(1000) is None
    latest = ring.latest()
    assert latest is not None
    assert latest.packet is packets[-1]
    ring.clear()
    assert (ring.latest(), ring.index_of(5), ring.size_bytes) == (None, None, 0)
    assert ring.keyframe_before(5) == len(packets)


def test_the_ring_knows_that_a_session_is_over_until_another_begins() -> None:
    fmt, packets = source("h264")
    ring = ring_of(fmt, packets)
    assert not ring.over
    ring.end()
    assert ring.over
    assert ring.index_of(3) == 3, "what it showed is still found"
    ring.begin(fmt)
    assert not ring.over
    assert ring.index_of(3) is None
    ring.feed(timed(packets[:1], start_s=EPOCH_S + 60)[0])
    assert ring.index_of(0) == len(packets)


def test_a_clips_beginning_is_not_looked_for_in_a_session_whose_time_ran_ahead() -> None:
    fmt, packets = source("h264")
    ring = ring_of(fmt, timed(packets, start_s=EPOCH_S + 1000))
    ring.begin(fmt)
    for packet in timed(packets, start_s=EPOCH_S):
        ring.feed(packet)
    assert ring.find_start(EPOCH_S + 0.5, 30.0) == len(packets)


CODECS = st.sampled_from([codec for codec in Codec if codec is not Codec.RAW])
DATA = st.one_of(
    st.binary(max_size=60),
    st.binary(max_size=40).map(lambda data: b"\0\0\0\1\x67" + data),
    st.binary(max_size=40).map(lambda data: b"\0\0\1\x40\1" + data),
)


@settings(max_examples=300, deadline=None)
@given(codec=CODECS, data=st.lists(st.tuples(DATA, st.booleans(), st.one_of(st.none(), DATA)), max_size=8), extra=DATA)
def test_whatever_bytes_a_client_sends_the_ring_takes_them_or_leaves_them(
    codec: Codec, data: list[tuple[bytes, bool, bytes | None]], extra: bytes
) -> None:
    ring = PacketRing(5.0, 10_000)
    ring.begin(VideoFormat(codec, extradata=extra))
    for number, (one, keyframe, extradata) in enumerate(data):
        ring.feed(replace(Packet(number, one, keyframe=keyframe), extradata=extradata), time_s=float(number))
    assert ring.size_bytes <= 10_000


def test_all_files_of_an_event_go_at_once_and_no_others(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    kept = store.put("gate", "e10", ".jpg", EPOCH_S, b"other").path
    other = store.put("yard", "e1", ".jpg", EPOCH_S, b"another channel's").path
    for suffix, at_s in ((".jpg", EPOCH_S), (".boxes.jpg", EPOCH_S), (".1.jpg", EPOCH_S + 86_400), (".mp4", EPOCH_S)):
        store.put("gate", "e1", suffix, at_s, b"12345")
    assert (store.total_bytes("gate"), store.total_bytes()) == (25, 42)
    assert store.remove_of("gate", "e1") == 4
    assert store.remove_of("gate", "e1") == 0
    assert set(store.paths) == {kept, other}
    assert (store.total_bytes("gate"), store.total_bytes("nobody"), store.total_bytes()) == (5, 0, 22)
    store.put("gate", "e10", ".jpg", EPOCH_S, b"replaced")
    assert store.total_bytes("gate") == 8
    assert store_in(tmp_path).total_bytes() == store.total_bytes() == 25
