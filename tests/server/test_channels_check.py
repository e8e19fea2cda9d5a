"""Channels that are refused before anything changes, and addresses that may be called."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support_channels import SECRET_URL, SHOWN_URL, YARD, record_of, records, with_rule
from vedette.v1 import channel_pb2
from vedette_server.channels.check import check_record
from vedette_server.channels.record_tree import record_from_tree, record_to_tree
from vedette_server.channels.tree import Place
from vedette_server.channels.urls import with_kept_secrets
from vedette_server.data.channel import ChannelRecord, RecordingConfig, RetentionConfig, SourceStream, StageConfig
from vedette_server.data.config import EngineRef
from vedette_server.data.rules import Crowd, Dwell, Enter, EvidencePolicy, Occupancy, Rule, ScheduleSpan, Zone
from vedette_server.errors import InvalidError, SettingsError
from vedette_server.pull.hosts import Hosts
from vedette_server.pull.secrets import shown_url
from vedette_server.rpc.convert_channel import record_from_wire, record_to_wire

if TYPE_CHECKING:
    from google.protobuf.message import Message

LABELS = ("person", "car")


def refused(record: ChannelRecord, labels: tuple[str, ...] = (), folders: tuple[Path, ...] = ()) -> tuple[str, str]:
    with pytest.raises(InvalidError) as caught:
        check_record(record, labels, folders)
    assert "; allowed" in caught.value.message
    return caught.value.reason, caught.value.metadata["field"]


def with_zone(*vertices: tuple[float, float]) -> ChannelRecord:
    record = record_of()
    return replace(record, watch=replace(record.watch, zones=(Zone("yard", vertices),)))


def with_stream(**more: object) -> ChannelRecord:
    record = record_of(url=SECRET_URL)
    assert record.source is not None
    stream = replace(record.source.stream, **more)
    return replace(record, source=replace(record.source, stream=stream))


def with_stages(*stages: StageConfig) -> ChannelRecord:
    return replace(record_of(), stages=stages)


def test_a_good_channel_passes() -> None:
    check_record(record_of(url=SECRET_URL), LABELS)
    check_record(ChannelRecord("a" * 128))


# -- the bad inputs of which the issue speaks --


def test_a_zone_that_crosses_itself_is_refused() -> None:
    crossed = with_zone((0.1, 0.1), (0.9, 0.9), (0.9, 0.1), (0.1, 0.9))
    assert refused(crossed) == ("INVALID_ZONE", "zones.yard.vertices")


def test_a_zone_outside_the_picture_is_refused() -> None:
    assert refused(with_zone((0.1, 0.1), (1.1, 0.1), (0.5, 0.5))) == ("INVALID_ZONE", "zones.yard.vertices")


def test_a_class_that_no_engine_knows_is_refused_once_they_are_known() -> None:
    record = with_rule(record_of(), Rule("r", Enter("yard"), labels=("unicorn",)))
    check_record(record)
    assert refused(record, LABELS) == ("UNKNOWN_LABEL", "rules.r.labels")
    assert refused(with_stream(classes=("unicorn",)), LABELS) == ("UNKNOWN_LABEL", "source.stream.classes")
    stage = StageConfig(EngineRef("ppe"), labels=("unicorn",))
    assert refused(with_stages(stage), LABELS) == ("UNKNOWN_LABEL", "stages[0].labels")


def test_a_schedule_that_never_fires_is_refused() -> None:
    rule = Rule("r", Dwell("yard", 3600.0), schedule=(ScheduleSpan((1,), 600, 610),))
    assert refused(with_rule(record_of(), rule)) == ("SCHEDULE_NEVER_FIRES", "rules.r.schedule")


def test_a_rule_that_names_a_missing_zone_is_refused() -> None:
    assert refused(with_rule(record_of(), Rule("r", Enter("garden")))) == ("UNKNOWN_ZONE", "rules.r.zone")


# -- all the rest --


@pytest.mark.parametrize(
    ("record", "reason", "field"),
    [
        (ChannelRecord(""), "INVALID_CHANNEL", "name"),
        (ChannelRecord("a/b"), "INVALID_CHANNEL", "name"),
        (ChannelRecord("-"), "INVALID_CHANNEL", "name"),
        (ChannelRecord("a" * 129), "INVALID_CHANNEL", "name"),
        (ChannelRecord("a", "x" * 257), "INVALID_DISPLAY_NAME", "display_name"),
        (ChannelRecord("a", "\x1b[2J"), "INVALID_DISPLAY_NAME", "display_name"),
        (with_rule(record_of(), Rule("r", Enter(), labels=("",))), "INVALID_RULE", "rules.r.labels"),
        (with_rule(record_of(), Rule("r", Occupancy("", 10**9))), "INVALID_RULE", "rules.r.at_least"),
        (with_rule(record_of(), Rule("r", Crowd("", 10**9, 0.1))), "INVALID_RULE", "rules.r.at_least"),
        (with_stages(*[StageConfig(EngineRef(f"e{n}")) for n in range(5)]), "INVALID_STAGE", "stages"),
        (with_stages(StageConfig(EngineRef("e")), StageConfig(EngineRef("e", "2"))), "INVALID_STAGE", "stages.engine"),
        (with_stages(StageConfig(EngineRef(""))), "INVALID_STAGE", "stages.engine"),
        (with_stages(StageConfig(EngineRef("e", "a b"))), "INVALID_STAGE", "stages.engine"),
        (with_stages(StageConfig(EngineRef("e"), margin=1.5)), "INVALID_STAGE", "stages[0].margin"),
        (with_stages(StageConfig(EngineRef("e"), refresh_s=-1)), "INVALID_STAGE", "stages[0].refresh_s"),
        (with_stages(StageConfig(EngineRef("e"), refresh_s=float("nan"))), "INVALID_STAGE", "stages[0].refresh_s"),
        (with_stream(engines=()), "INVALID_SOURCE", "source.stream.engines"),
        (with_stream(engines=(EngineRef("e"),) * 2), "INVALID_SOURCE", "source.stream.engines"),
        (with_stream(max_fps=0.0), "INVALID_SOURCE", "source.stream.max_fps"),
        (with_stream(max_age_s=float("nan")), "INVALID_SOURCE", "source.stream.max_age_s"),
        (with_stream(min_score=1.5), "INVALID_SOURCE", "source.stream.min_score"),
        (with_stream(iou=-0.5), "INVALID_SOURCE", "source.stream.iou"),
        (with_stream(priority=0), "INVALID_SOURCE", "source.stream.priority"),
        (with_stream(max_detections=1001), "INVALID_SOURCE", "source.stream.max_detections"),
        (with_stream(rotation_degrees=1), "INVALID_SOURCE", "source.stream.rotation_degrees"),
        (with_stream(regions=(YARD, YARD[:2])), "INVALID_SOURCE", "source.stream.regions[1]"),
        (with_stream(regions=((*YARD, (0.5, 2.0)),)), "INVALID_SOURCE", "source.stream.regions[0]"),
        (replace(record_of(), recording=RecordingConfig(True, 0.0)), "INVALID_RECORDING", "recording.segment_s"),
        (replace(record_of(), retention=RetentionConfig(max_age_s=0.0)), "INVALID_RETENTION", "retention.max_age_s"),
        (replace(record_of(), retention=RetentionConfig(max_events=0)), "INVALID_RETENTION", "retention.max_events"),
        (replace(record_of(), retention=RetentionConfig(max_bytes=2**63)), "INVALID_RETENTION", "retention.max_bytes"),
    ],
)
def test_what_is_wrong_is_refused_with_its_reason_and_its_field(record: ChannelRecord, reason: str, field: str) -> None:
    assert refused(record) == (reason, field)


def test_a_channel_of_which_nothing_is_kept_cannot_be_recorded() -> None:
    record = replace(record_of(), recording=RecordingConfig(True))
    check_record(record)
    none = replace(record, watch=replace(record.watch, evidence=EvidencePolicy.NONE))
    assert refused(none) == ("INVALID_RECORDING", "recording.enabled")


# -- addresses --


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://10.0.0.7/1",
        "rtsps://user:p%40ss@[::1]:322/1?channel=2",
        "http://127.0.0.1:8080/video.mjpg",
        "https://cam.example/hls/1.m3u8",
    ],
)
def test_cameras_that_may_be_called(url: str) -> None:
    check_record(record_of(url=url))


@pytest.mark.parametrize(
    "url",
    [
        "gopher://h/1",
        "concat:/etc/passwd|/etc/shadow",
        "/etc/passwd",
        "rtsp:///1",
        "rtsp://u:hunter2@h:99999/1",
        "rtsp://u:hunt/er2@h:1/1",
        "rtsp://h/1\r\nX: y",
        "rtsp://" + "h" * 3000,
        "file:///etc/passwd",
    ],
)
def test_what_may_not_be_called_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidError) as caught:
        check_record(record_of(url=url))
    assert caught.value.reason in {"INVALID_SOURCE", "SOURCE_NOT_ALLOWED"}
    assert caught.value.metadata["field"] == "source.url"
    assert "hunt" not in caught.value.message


def test_a_camera_that_is_never_called_is_refused_at_once_without_its_password() -> None:
    hosts = Hosts.read(["*.cams.example", "10.20.0.0/16"])
    for url in ("rtsp://10.20.0.7/1", "rtsp://yard.cams.example/1", "rtsp://maybe.example/1", "file:///clips/a.mp4"):
        check_record(record_of(url=url), folders=(Path("/clips"),), hosts=hosts)
    with pytest.raises(InvalidError) as caught:
        check_record(record_of(url="rtsp://viewer:hunter2@127.0.0.1/1"), hosts=hosts)
    assert (caught.value.reason, caught.value.metadata["field"]) == ("SOURCE_NOT_ALLOWED", "source.url")
    assert "is 'rtsp://viewer:***@127.0.0.1/1': host '127.0.0.1' may not be called; allowed" in caught.value.message


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "a b.mp4").touch()
    (tmp_path / "secret").touch()
    (folder / "inner").symlink_to(folder / "a b.mp4")
    (folder / "outer").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    return folder


@pytest.mark.parametrize("name", ["a%20b.mp4", "inner", "x/../inner", "not-there-yet.mp4"])
def test_a_file_below_an_allowed_folder_may_be_a_source(clips: Path, name: str) -> None:
    check_record(record_of(url=f"file://{clips}/{name}"), folders=(clips,))


@pytest.mark.parametrize("name", ["../secret", "%2e%2e/secret", "outer", "up/secret", "../clips-2/x", "a%00b", "x?y"])
def test_a_file_elsewhere_may_not_whatever_leads_there(clips: Path, name: str) -> None:
    reason, field = refused(record_of(url=f"file://{clips}/{name}"), folders=(clips,))
    assert (reason in {"INVALID_SOURCE", "SOURCE_NOT_ALLOWED"}, field) == (True, "source.url")


def test_without_folders_there_are_no_files(clips: Path) -> None:
    assert refused(record_of(url=f"file://{clips}/inner")) == ("SOURCE_NOT_ALLOWED", "source.url")


def test_an_address_without_a_hidden_password_is_taken_as_it_is() -> None:
    for url in ("rtsp://h/1", SECRET_URL, "rtsp://***@h/1", "file:///clips/***.mp4"):
        assert with_kept_secrets(url, None) == url
        assert with_kept_secrets(url, SECRET_URL) == url
    assert with_kept_secrets(SHOWN_URL, SECRET_URL) == SECRET_URL


@pytest.mark.parametrize(
    "url",
    [
        "http://admin:***@cam/stream?=***",
        "http://admin@cam/stream?=***",
        "http://admin:***@cam/stream?channel=1&x=***",
        "http://admin:***@cam/***?=***",
        "http://admin:***@cam/stream?token=***&token=***",
    ],
)
def test_a_hidden_password_is_never_put_where_it_is_none(url: str) -> None:
    with pytest.raises(InvalidError) as caught:
        with_kept_secrets(url, "http://admin:S3cret@cam/stream?token=other")
    assert caught.value.reason == "HIDDEN_PASSWORD"
    assert "S3cret" not in caught.value.message


_texts = st.text("sec:/?#@&;=_*", min_size=1, max_size=8)


@given(_texts, _texts, st.sampled_from(["?p={}", "?channel={}", "/{}", "?p=***{}", "#{}", "/user=a_psw={}_channel=1"]))
@settings(deadline=None)
def test_what_is_kept_is_shown_by_no_change(password: str, more: str, tail: str) -> None:
    kept = f"http://admin:{password}@cam/stream?p={password}"
    new = f"http://admin:***@cam/stream{tail.format('***')}{more}"
    try:
        filled = with_kept_secrets(new, kept)
    except InvalidError:
        return
    assert shown_url(filled) == shown_url(new)


def test_streams_have_the_defaults_of_the_contract() -> None:
    assert SourceStream((EngineRef("person"),)).priority == 10


# -- whatever anybody sends --

_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "person", "dwell", "yard", "22:00", "mon", "rtsp://h/1", "motion"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "kind", "zone"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def spoilt(data: st.DataObject, value: Any) -> Any:
    """Put anything anywhere in a tree, once."""
    if isinstance(value, dict | list) and value and data.draw(st.integers(0, 3)):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = data.draw(st.sampled_from(keys))
        copy: Any = value.copy()
        copy[key] = spoilt(data, value[key])
        return copy
    return data.draw(_values)


def passes(record: ChannelRecord) -> bool:
    """Tell whether a channel is taken; then it can be kept and sent."""
    try:
        check_record(record, LABELS)
    except InvalidError:
        return False
    json.dumps(record_to_tree(record), allow_nan=False).encode()
    record_to_wire(record).SerializeToString()
    return True


@given(records, st.data())
@settings(max_examples=70, deadline=None)
def test_whatever_a_file_says_is_taken_or_refused_and_what_is_taken_can_be_sent(
    record: ChannelRecord, data: st.DataObject
) -> None:
    tree = spoilt(data, record_to_tree(data.draw(st.sampled_from([record, record_of(url=SECRET_URL)]))))
    with contextlib.suppress(SettingsError):
        passes(record_from_tree(tree if isinstance(tree, dict) else {"name": tree}, Place("here")))


def scrambled(data: st.DataObject, message: Message, depth: int = 0) -> None:
    """Set some fields of a message to anything that the wire can carry."""
    for field in message.DESCRIPTOR.fields:
        if data.draw(st.integers(0, 2)):
            continue
        many = field.is_repeated
        for _ in range(data.draw(st.integers(1, 2)) if many else 1):
            if field.message_type is not None:
                inner = getattr(message, field.name).add() if many else getattr(message, field.name)
                inner.SetInParent()
                if depth < 4:
                    scrambled(data, inner, depth + 1)
                continue
            value = data.draw(_WIRE[field.type])
            if many:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)


_texts = st.sampled_from(["", "channels/gate", "person", "rtsp://h/1", "UTC", "x" * 300, "\x00"])
_WIRE: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: _texts,
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=3),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
    FieldDescriptor.TYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.TYPE_ENUM: st.integers(-1, 40),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
}


@given(st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_whatever_a_client_sends_is_taken_or_refused(data: st.DataObject) -> None:
    wire = channel_pb2.Channel()
    scrambled(data, wire)
    wire.name = "channels/gate"
    with contextlib.suppress(InvalidError):
        passes(record_from_wire(wire))
