"""The module under test is `rpc/convert.py`; `test_convert.py` belongs to `picture/convert.py`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.v1 import analysis_pb2, media_pb2, stream_pb2
from vedette_server.data import format as formats
from vedette_server.data.config import ChannelConfig, DeliveryPolicy, EngineRef
from vedette_server.data.format import Codec, ColorRange, ColorSpace, PixelFormat, VideoFormat
from vedette_server.data.outcome import SkipReason
from vedette_server.data.packet import Packet
from vedette_server.data.times import StageTimes
from vedette_server.data.verdict import EngineLabel, EngineOutcome, Verdict
from vedette_server.errors import InvalidError, PictureTooLargeError
from vedette_server.rpc.convert import (
    ConfigDefaults,
    account_to_wire,
    apply_update,
    channel_from_wire,
    config_from_wire,
    config_to_wire,
    packet_from_wire,
    write_verdict,
)
from vedette_server.session.accounts import Account

DEFAULTS = ConfigDefaults(max_age_s=3.5, max_width=4096, max_height=2160)
NAMES = st.text("abcXYZ019._-", min_size=1, max_size=20)
SHARES = st.floats(0, 1, width=32)


def wire_config(**changes) -> stream_pb2.StreamConfig:
    config = stream_pb2.StreamConfig(channel="channels/gate", engines=[stream_pb2.EngineRef(name="person")])
    config.format.codec = media_pb2.CODEC_H264
    config.MergeFrom(stream_pb2.StreamConfig(**changes))
    return config


def raw_format(**changes) -> media_pb2.VideoFormat:
    values = {"codec": media_pb2.CODEC_RAW, "width": 5, "height": 4, "pixel_format": media_pb2.PIXEL_FORMAT_BGR24}
    return media_pb2.VideoFormat(**(values | changes))


fractions = st.builds(Fraction, st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1))


@st.composite
def video_formats(draw) -> VideoFormat:
    codec = draw(st.sampled_from(Codec))
    width, height = draw(st.integers(1, 4096)), draw(st.integers(1, 2160))
    pixel_format, strides = None, ()
    if codec is Codec.RAW:
        pixel_format = draw(st.sampled_from(PixelFormat))
        planes = {PixelFormat.NV12: 2, PixelFormat.I420: 3}.get(pixel_format, 1)
        strides = draw(st.just(()) | st.tuples(*[st.integers(3 * 4096, 2**20)] * planes))
    return VideoFormat(
        codec=codec,
        extradata=draw(st.binary(max_size=40)),
        time_base=draw(fractions),
        width=width,
        height=height,
        pixel_format=pixel_format,
        strides_bytes=strides,
        rotation_degrees=draw(st.sampled_from([0, 90, 180, 270])),
        sample_aspect=draw(fractions),
        color_space=draw(st.sampled_from(ColorSpace)),
        color_range=draw(st.sampled_from(ColorRange)),
    )


configs = st.builds(
    ChannelConfig,
    channel=NAMES,
    format=video_formats(),
    engines=st.lists(
        st.builds(EngineRef, NAMES, st.just("") | NAMES), min_size=1, max_size=8, unique_by=lambda e: e.name
    ).map(tuple),
    policy=st.sampled_from(DeliveryPolicy),
    max_fps=st.none() | st.floats(1e-3, 1e6),
    # Whole milliseconds: a Duration holds nanoseconds, a float of seconds does not hold all of those.
    max_age_s=st.integers(1, 10**7).map(lambda ms: ms / 1000),
    min_score=st.none() | SHARES,
    iou=st.none() | SHARES,
    classes=st.lists(st.text("abc é", min_size=1, max_size=9), unique=True, max_size=4).map(tuple),
    regions=st.lists(st.lists(st.tuples(SHARES, SHARES), min_size=3, max_size=64).map(tuple), max_size=3).map(tuple),
    priority=st.integers(1, 100),
    omit_skips=st.booleans(),
    max_detections=st.integers(1, 1000),
    capture_clock=st.integers(0, 3),
)


@given(configs)
@settings(max_examples=60, deadline=None)
def test_a_configuration_comes_back_from_the_wire_as_it_was(config):
    wire = stream_pb2.StreamConfig.FromString(config_to_wire(config).SerializeToString())
    assert config_from_wire(wire, DEFAULTS) == config


def test_a_silent_configuration_gets_the_contracts_defaults():
    config = config_from_wire(wire_config(), DEFAULTS)
    assert config == ChannelConfig(
        channel="gate", format=VideoFormat(Codec.H264), engines=(EngineRef("person"),), max_age_s=3.5
    )
    assert config.format.time_base == Fraction(1, 90_000)


@pytest.mark.parametrize(
    ("prefix", "ours", "theirs"),
    [
        ("CODEC", formats.Codec, media_pb2.Codec),
        ("PIXEL_FORMAT", formats.PixelFormat, media_pb2.PixelFormat),
        ("COLOR_SPACE", formats.ColorSpace, media_pb2.ColorSpace),
        ("COLOR_RANGE", formats.ColorRange, media_pb2.ColorRange),
        ("DELIVERY_POLICY", DeliveryPolicy, stream_pb2.DeliveryPolicy),
        ("SKIP_REASON", SkipReason, analysis_pb2.SkipReason),
    ],
)
def test_the_numbers_of_our_enumerations_are_those_of_the_contract(prefix, ours, theirs):
    mine = {f"{prefix}_{member.name}": member.value for member in ours}
    assert {f"{prefix}_UNSPECIFIED": 0} | mine == dict(theirs.items())


@pytest.mark.parametrize(
    "name", ["", "gate", "channels/", "channels/a/b", "channels/ä", "channels/" + "a" * 129, "channels/a\n"]
)
def test_a_bad_channel_name_is_refused(name):
    with pytest.raises(InvalidError, match="allowed: channels/") as caught:
        channel_from_wire(name)
    assert caught.value.reason == "INVALID_CHANNEL"
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("changes", "reason", "message"),
    [
        ({"format": {"codec": 42}}, "UNKNOWN_CODEC", r"format\.codec is 42; allowed: H264 \(1\)"),
        ({"format": {"time_base": {"num": 0, "den": 1}}}, "INVALID_TIME_BASE", r"'0/1'; allowed: .* above 0"),
        ({"format": {"time_base": {"num": 1, "den": -1}}}, "INVALID_TIME_BASE", "1/-1"),
        ({"format": {"sample_aspect": {"num": 1}}}, "INVALID_SAMPLE_ASPECT", "1/0"),
        ({"format": {"rotation_degrees": 45}}, "INVALID_ROTATION", "45; allowed: 0, 90, 180, 270"),
        ({"format": {"extradata": bytes(65_537)}}, "EXTRADATA_TOO_LARGE", "at most 65536 bytes"),
        ({"format": {"color_space": 9}}, "INVALID_COLOR_SPACE", "color_space is 9"),
        ({"format": {"color_range": 9}}, "INVALID_COLOR_RANGE", "color_range is 9"),
        ({"engines": [{"name": "person"}]}, "INVALID_ENGINES", "each name once"),
        ({"engines": [{"name": "../etc"}]}, "INVALID_ENGINES", "'../etc'"),
        ({"engines": [{"name": "a", "version": "1/2"}]}, "INVALID_ENGINES", "'1/2'"),
        ({"engines": [{"name": f"e{n}"} for n in range(8)]}, "INVALID_ENGINES", "engines is 9; allowed: 1 to 8"),
        ({"policy": 7}, "INVALID_POLICY", r"policy is 7; allowed: LIVE \(1\), EVERY_FRAME \(2\)"),
        ({"capture_clock": 7}, "INVALID_CAPTURE_CLOCK", "capture_clock is 7"),
        ({"max_fps": 0.0}, "INVALID_MAX_FPS", r"max_fps is 0\.0; allowed: above 0"),
        ({"max_fps": math.inf}, "INVALID_MAX_FPS", "inf"),
        ({"max_fps": math.nan}, "INVALID_MAX_FPS", "nan"),
        ({"max_age": {}}, "INVALID_MAX_AGE", "allowed: above 0 s"),
        ({"max_age": {"seconds": -1}}, "INVALID_MAX_AGE", "-1 s"),
        ({"max_age": {"seconds": 2**63 - 1}}, "INVALID_MAX_AGE", "below 86401 s"),
        ({"max_age": {"nanos": 2_000_000_000}}, "INVALID_MAX_AGE", "2000000000 ns"),
        ({"min_score": 1.5}, "INVALID_MIN_SCORE", r"min_score is 1\.5; allowed: 0 to 1"),
        ({"iou": math.nan}, "INVALID_IOU", "iou is nan"),
        ({"classes": [""]}, "INVALID_CLASSES", "labels of 1 to 256"),
        ({"classes": ["x" * 300]}, "INVALID_CLASSES", "labels of 1 to 256"),
        ({"regions": [{"vertices": [{"x": 0.1}] * 2}]}, "INVALID_REGIONS", "2 corners'; allowed: 3 to 64"),
        ({"regions": [{"vertices": [{"x": 0.1}] * 65}]}, "INVALID_REGIONS", "65 corners"),
        ({"regions": [{"name": "x" * 257, "vertices": [{"x": 0.5}] * 3}]}, "INVALID_REGIONS", "at most 256 characters"),
        ({"regions": [{"vertices": [{"x": 1.5}] * 3}]}, "INVALID_REGIONS", "x and y from 0 to 1"),
        ({"priority": 0}, "INVALID_PRIORITY", "priority is 0; allowed: 1 to 100"),
        ({"priority": 101}, "INVALID_PRIORITY", "101"),
        ({"max_detections": 1001}, "INVALID_MAX_DETECTIONS", "allowed: 1 to 1000"),
        ({"format": raw_format(width=0)}, "INVALID_RAW_FORMAT", "width is 0; allowed: above 0"),
        ({"format": raw_format(height=0)}, "INVALID_RAW_FORMAT", "height is 0"),
        ({"format": raw_format(pixel_format=0)}, "INVALID_RAW_FORMAT", "pixel_format is 0; allowed: BGR24"),
        ({"format": raw_format(pixel_format=77)}, "INVALID_RAW_FORMAT", "pixel_format is 77"),
        ({"format": raw_format(strides_bytes=[14])}, "INVALID_STRIDES", "at least 15 for BGR24 of width 5"),
        ({"format": raw_format(strides_bytes=[15, 15])}, "INVALID_STRIDES", "1 planes of BGR24"),
        ({"format": raw_format(pixel_format=4, strides_bytes=[5, 5])}, "INVALID_STRIDES", "at least 5, 6 for NV12"),
        ({"format": raw_format(pixel_format=5, strides_bytes=[5, 3, 2])}, "INVALID_STRIDES", "5, 3, 3 for I420"),
    ],
)
def test_a_wrong_field_is_refused_with_field_value_and_what_is_allowed(changes, reason, message):
    with pytest.raises(InvalidError, match=message) as caught:
        config_from_wire(wire_config(**changes), DEFAULTS)
    assert caught.value.reason == reason
    assert caught.value.metadata["field"] in caught.value.message


def test_a_configuration_without_codec_or_engine_is_refused():
    with pytest.raises(InvalidError, match=r"format\.codec is 0"):
        config_from_wire(stream_pb2.StreamConfig(channel="channels/a", engines=[{"name": "e"}]), DEFAULTS)
    with pytest.raises(InvalidError, match="engines is 0"):
        config_from_wire(stream_pb2.StreamConfig(channel="channels/a", format={"codec": 1}), DEFAULTS)


@pytest.mark.parametrize(("field", "size"), [("width", 4097), ("height", 2161)])
def test_a_picture_over_the_servers_limit_is_too_large(field, size):
    with pytest.raises(PictureTooLargeError, match=f"{field} is {size}; allowed: at most {size - 1}"):
        config_from_wire(wire_config(format={field: size}), DEFAULTS)


def test_raw_facts_of_a_coded_stream_are_ignored():
    config = config_from_wire(wire_config(format={"pixel_format": 77, "strides_bytes": [1]}), DEFAULTS)
    assert config.format == VideoFormat(Codec.H264)


def test_a_label_named_twice_counts_once():
    assert config_from_wire(wire_config(classes=["car", "bus", "car"]), DEFAULTS).classes == ("car", "bus")


def update(paths, **values) -> stream_pb2.UpdateConfig:
    return stream_pb2.UpdateConfig(config=stream_pb2.StreamConfig(**values), update_mask={"paths": paths})


@given(configs, configs, st.data())
@settings(max_examples=40, deadline=None)
def test_an_update_takes_the_masked_fields_and_no_others(current, wanted, data):
    fields = {
        "max_fps": "max_fps",
        "max_age": "max_age_s",
        "min_score": "min_score",
        "iou": "iou",
        "classes": "classes",
        "regions": "regions",
        "priority": "priority",
        "omit_skips": "omit_skips",
        "max_detections": "max_detections",
        "policy": "policy",
    }
    paths = data.draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, unique=True))
    change = stream_pb2.UpdateConfig(config=config_to_wire(wanted), update_mask={"paths": paths})
    result = apply_update(current, change, DEFAULTS)
    for name in ChannelConfig.__slots__:
        source = wanted if name in {fields[path] for path in paths} else current
        assert getattr(result, name) == getattr(source, name), name


def test_a_masked_field_that_is_absent_goes_back_to_its_default():
    current = config_from_wire(wire_config(max_fps=5.0, priority=50, max_age={"seconds": 9}), DEFAULTS)
    result = apply_update(current, update(["max_fps", "priority", "max_age"]), DEFAULTS)
    assert (result.max_fps, result.priority, result.max_age_s) == (None, 10, 3.5)


@pytest.mark.parametrize("paths", [[], ["channel"], ["max_fps", "format.codec"], ["*"], ["MAX_FPS"]])
def test_a_mask_that_is_empty_or_names_what_cannot_change_is_refused(paths):
    current = config_from_wire(wire_config(), DEFAULTS)
    with pytest.raises(InvalidError, match=r"allowed: .*max_fps, max_age, min_score") as caught:
        apply_update(current, update(paths), DEFAULTS)
    assert caught.value.reason == "INVALID_UPDATE_MASK"


def test_an_update_is_checked_like_a_configuration():
    with pytest.raises(InvalidError, match="priority is 0"):
        apply_update(config_from_wire(wire_config(), DEFAULTS), update(["priority"], priority=0), DEFAULTS)


maybe_ticks = st.none() | st.integers(-(2**63), 2**63 - 1)


@given(
    st.builds(
        Packet,
        sequence=st.integers(0, 2**64 - 1),
        data=st.binary(max_size=30),
        received_s=st.floats(0, 1e9),
        received_wall_ns=st.integers(0, 2**60),
        pts=maybe_ticks,
        dts=maybe_ticks,
        duration=maybe_ticks,
        keyframe=st.booleans(),
        capture_wall_ns=st.none() | st.integers(0, 2**62),
        extradata=st.none() | st.binary(max_size=20),
        discontinuity=st.booleans(),
        decode_only=st.booleans(),
    )
)
@settings(max_examples=60)
def test_a_packet_is_taken_apart_without_loss(packet):
    wire = stream_pb2.Packet(
        sequence=packet.sequence,
        pts=packet.pts,
        dts=packet.dts,
        duration=packet.duration,
        keyframe=packet.keyframe,
        data=packet.data,
        extradata=packet.extradata,
        discontinuity=packet.discontinuity,
        decode_only=packet.decode_only,
    )
    if packet.capture_wall_ns is not None:
        wire.capture_time.FromNanoseconds(packet.capture_wall_ns)
    received = stream_pb2.Packet.FromString(wire.SerializeToString())
    assert packet_from_wire(received, packet.received_s, packet.received_wall_ns) == packet


def test_a_packets_extradata_has_the_contracts_limit():
    with pytest.raises(InvalidError, match="at most 65536 bytes"):
        packet_from_wire(stream_pb2.Packet(extradata=bytes(65_537)), 0.0, 0)


def test_an_account_is_told_with_the_reasons_that_occurred():
    account = Account()
    for sequence in range(4):
        account.receive(sequence, 10)
    account.skip(0, SkipReason.STALE)
    account.analyse(1)
    account.skip(2, SkipReason.NO_FRAME)
    account.drop_by_client(7)
    account.number_verdict(3)
    account.decode_picture(2)
    wire = account_to_wire(account.snapshot())
    assert [(entry.reason, entry.count) for entry in wire.skipped] == [(2, 1), (6, 1)]
    assert wire.packets_received == wire.packets_pending + wire.analysed + sum(entry.count for entry in wire.skipped)
    assert (wire.bytes_received, wire.pictures_decoded, wire.client_dropped, wire.verdicts) == (40, 2, 7, 3)


@dataclass
class Found:
    """Stands for post/detections.py, whose form it has."""

    boxes: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray
    extras: np.ndarray
    saturated: bool = False
    track_ids: tuple[str, ...] = ()
    attached: tuple[object, ...] = ()


def found(count: int, extras: int = 0, **changes) -> Found:
    boxes = np.linspace(0, 1, 4 * count, dtype=np.float32).reshape(count, 4)
    scores = np.linspace(1, 0.5, count, dtype=np.float32)
    columns = np.arange(count * extras, dtype=np.float32).reshape(count, extras) / 10
    return Found(boxes, scores, np.arange(count, dtype=np.int32), columns, **changes)


PACKET = Packet(9, b"", received_wall_ns=1_700_000_000_123_456_789, capture_wall_ns=1_600_000_000_000_000_001)
DETECTOR = EngineLabel("yolo", "1.2", "onnxruntime:CPUExecutionProvider", "detector", ("person", "car"))


def verdict_to_wire(verdict: Verdict, verdict_index: int = 0, request_id: str = "") -> analysis_pb2.FrameVerdict:
    wire = analysis_pb2.FrameVerdict()
    write_verdict(verdict, wire, verdict_index, request_id)
    return wire


def test_an_analysis_tells_boxes_labels_and_scores_best_first():
    outcome = EngineOutcome(DETECTOR, 4, found(3, saturated=True))
    wire = verdict_to_wire(
        Verdict(PACKET, 77, width=640, height=480, rotation_degrees=90, results=(outcome,)), 5, "r-9"
    )
    assert wire.WhichOneof("outcome") == "analysis"
    assert (wire.verdict_index, wire.sequence, wire.frame_pts, wire.request_id) == (5, 9, 77, "r-9")
    assert (wire.picture.width, wire.picture.height, wire.picture.rotation_degrees) == (640, 480, 90)
    assert wire.times.receive_time.ToNanoseconds() == PACKET.received_wall_ns
    assert wire.times.capture_time.ToNanoseconds() == PACKET.capture_wall_ns
    [result] = wire.analysis.results
    assert (result.engine, result.version, result.batch_size, result.candidates_saturated) == ("yolo", "1.2", 4, True)
    assert result.backend == "onnxruntime:CPUExecutionProvider"
    # A class beyond the labels has a number and no name.
    assert [(d.class_id, d.label) for d in result.detections] == [(0, "person"), (1, "car"), (2, "")]
    assert [d.score for d in result.detections] == [1.0, 0.75, 0.5]
    box = result.detections[1].box
    expected = np.linspace(0, 1, 12, dtype=np.float32)[4:8].tolist()
    assert [box.x_min, box.y_min, box.x_max, box.y_max] == expected


def test_an_analysis_that_found_nothing_is_still_an_analysis():
    for results in ((), (EngineOutcome(DETECTOR, 1, found(0)),)):
        wire = analysis_pb2.FrameVerdict.FromString(
            verdict_to_wire(Verdict(PACKET, results=results)).SerializeToString()
        )
        assert wire.WhichOneof("outcome") == "analysis"
        assert len(wire.analysis.results) == len(results)


@pytest.mark.parametrize("reason", SkipReason)
def test_a_skip_tells_its_reason(reason):
    wire = verdict_to_wire(Verdict(PACKET, reason=reason, detail="because"))
    assert (wire.WhichOneof("outcome"), wire.skip.reason, wire.skip.detail) == ("skip", reason.value, "because")
    assert not wire.HasField("picture")
    assert not wire.HasField("frame_pts")


def test_stage_times_are_whole_microseconds_and_never_negative():
    times = StageTimes(0.001, 0.0021234, -1e-9, 0.0, 1.5, 2e-6, 4e-7, 3600.0)
    wire = verdict_to_wire(Verdict(PACKET, times=times)).times
    stages = [wire.receive_us, wire.decode_us, wire.wait_us, wire.convert_us, wire.batch_us, wire.execute_us]
    assert [*stages, wire.post_us, wire.total_us] == [1000, 2123, 0, 0, 1_500_000, 2, 0, 3_600_000_000]


def test_extras_become_keypoints_and_attributes():
    extras = ("angle", "kpt:nose:x", "kpt:nose:y", "kpt:nose:score", "age")
    engine = EngineLabel("pose", "1", "b", "detector", ("person",), extras)
    wire = verdict_to_wire(Verdict(PACKET, results=(EngineOutcome(engine, 1, found(2, extras=5)),)))
    second = wire.analysis.results[0].detections[1]
    assert [(a.name, a.value) for a in second.attributes] == [("angle", "0.5"), ("age", "0.9")]
    [nose] = second.keypoints
    assert (nose.name, round(nose.point.x, 6), round(nose.point.y, 6), round(nose.score, 6)) == ("nose", 0.6, 0.7, 0.8)


def test_a_classifier_tells_its_best_classes_in_order():
    labels = tuple(f"class {n}" for n in range(20))
    scores = np.array([(7 * n) % 20 / 20 for n in range(20)], np.float32)
    outcome = EngineOutcome(EngineLabel("cls", "1", "b", "classifier", labels), 1, vector=scores)
    told = verdict_to_wire(Verdict(PACKET, results=(outcome,))).analysis.results[0].classifications
    assert [c.score for c in told] == sorted(scores.tolist(), reverse=True)[:10]
    assert all(c.label == f"class {c.class_id}" and scores[c.class_id] == np.float32(c.score) for c in told)


def test_an_embedder_tells_its_vector():
    vector = np.array([0.5, -1.25, 3.0], np.float32)
    outcome = EngineOutcome(EngineLabel("emb", "1", "b", "embedder", ()), 1, vector=vector)
    result = verdict_to_wire(Verdict(PACKET, results=(outcome,))).analysis.results[0]
    assert list(result.embedding) == vector.tolist()
    assert not result.classifications


@pytest.mark.parametrize("seconds", [2**63 - 1, -(2**63), 253_402_300_800, -62_135_596_801])
def test_a_capture_time_that_no_verdict_could_repeat_is_refused(seconds):
    wire = stream_pb2.Packet(capture_time={"seconds": seconds, "nanos": 5})
    with pytest.raises(InvalidError, match="years 1 to 9999") as caught:
        packet_from_wire(wire, 0.0, 0)
    assert caught.value.reason == "INVALID_CAPTURE_TIME"


@pytest.mark.parametrize("seconds", [253_402_300_799, -62_135_596_800])
def test_the_first_and_the_last_capture_time_are_repeated_in_the_verdict(seconds):
    packet = packet_from_wire(stream_pb2.Packet(capture_time={"seconds": seconds}), 0.0, 0)
    wire = analysis_pb2.FrameVerdict()
    write_verdict(Verdict(packet, reason=SkipReason.STALE), wire, 0, "")
    assert wire.times.capture_time.seconds == seconds
