"""Channels on the wire: there and back, and what cannot be read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from google.protobuf import duration_pb2
from hypothesis import given, settings

from support_channels import SECRET_URL, SHOWN_URL, record_of, records
from vedette.v1 import channel_pb2 as pb
from vedette.v1 import event_pb2, media_pb2, stream_pb2
from vedette_server.channels.status import ChannelStatusView
from vedette_server.data.channel import ChannelRecord
from vedette_server.data.event import EventKind
from vedette_server.data.rules import Anchor, Enter, EvidencePolicy, GateMode
from vedette_server.errors import InvalidError
from vedette_server.pull.status import PullState
from vedette_server.rpc.convert_channel import record_from_wire, record_to_wire


@given(records)
@settings(max_examples=70, deadline=None)
def test_a_channel_that_went_over_the_wire_and_back_is_the_same(record: ChannelRecord) -> None:
    wire = pb.Channel.FromString(record_to_wire(record).SerializeToString())
    assert record_from_wire(wire) == record


def test_a_channel_of_which_nothing_is_said_has_the_defaults() -> None:
    assert record_from_wire(pb.Channel(name="channels/gate")) == ChannelRecord("gate")


def test_every_field_of_the_contract_is_written() -> None:
    """Whoever adds a field to the contract is told that it goes nowhere."""
    record = record_of(url=SECRET_URL)
    record = replace(record, display_name="Gate", create_s=1.0, update_s=2.0)
    record = replace(record, watch=replace(record.watch, width_metres=12.0, revision=3))
    record = replace(record, retention=replace(record.retention, max_age_s=5.0))
    told = {field.name for field, _ in record_to_wire(record, ChannelStatusView(connected=True)).ListFields()}
    assert told == set(pb.Channel.DESCRIPTOR.fields_by_name) - {"masks", "stages"}


def test_enumerations_left_open_have_the_meaning_that_the_contract_gives_them() -> None:
    wire = pb.Channel(name="channels/gate", gate=pb.Gate(min_area=0.5), rules=[pb.Rule(name="r", enter={})])
    record = record_from_wire(wire)
    assert record.watch.evidence is EvidencePolicy.ORIGINAL
    assert record.watch.gate.mode is GateMode.OFF
    assert record.watch.rules[0].anchor is Anchor.BOTTOM_CENTRE
    assert record.watch.rules[0].condition == Enter("")
    assert record.watch.rules[0].hysteresis == 0.01


def test_a_duration_of_nothing_is_not_an_absent_one() -> None:
    wire = pb.Channel(name="channels/gate", health=pb.Health(min_time=duration_pb2.Duration()))
    record = record_from_wire(wire)
    assert record.watch.health.min_time_s == 0.0
    assert record_from_wire(record_to_wire(record)).watch.health.min_time_s == 0.0


def test_a_password_is_never_sent() -> None:
    assert record_to_wire(record_of(url=SECRET_URL)).source.url == SHOWN_URL
    asked = record_to_wire(record_of(url="http://cam/video?user=a&password=hunter2&size=1"))
    assert "hunter2" not in str(asked)


def test_where_a_channel_stands_is_told_with_it() -> None:
    status = ChannelStatusView(
        connected=True,
        session="channels/gate/sessions/s1",
        frame_time_s=12.5,
        pull=PullState.WAITING,
        detail="connection refused",
        faults=(EventKind.CAMERA_DARK,),
    )
    wire = record_to_wire(replace(record_of(), from_file=True), status).status
    assert (wire.connected, wire.session, wire.detail) == (True, "channels/gate/sessions/s1", "connection refused")
    assert (wire.frame_time.seconds, wire.frame_time.nanos) == (12, 500_000_000)
    assert (wire.pull, list(wire.faults)) == (pb.PULL_STATE_WAITING, [event_pb2.EVENT_KIND_CAMERA_DARK])
    assert wire.from_file
    assert record_to_wire(record_of()).status.pull == pb.PULL_STATE_UNSPECIFIED


@pytest.mark.parametrize("state", PullState)
def test_every_state_of_a_source_has_its_word_in_the_contract(state: PullState) -> None:
    wire = record_to_wire(record_of(), ChannelStatusView(pull=state)).status
    assert pb.PullState.Name(wire.pull) == f"PULL_STATE_{state.name}"


SOURCE = stream_pb2.StreamConfig(engines=[stream_pb2.EngineRef(name="person")])


def with_stream(**more: object) -> pb.Channel:
    stream = stream_pb2.StreamConfig(**more)  # type: ignore[arg-type]
    stream.MergeFrom(SOURCE)
    return pb.Channel(name="channels/gate", source=pb.Source(url="rtsp://h/1", stream=stream))


@pytest.mark.parametrize(
    ("wire", "reason", "field"),
    [
        (pb.Channel(name="gate"), "INVALID_CHANNEL", "channel"),
        (pb.Channel(name="channels/gate", evidence=9), "INVALID_EVIDENCE", "evidence"),  # type: ignore[arg-type]
        (pb.Channel(name="channels/gate", gate=pb.Gate(mode=9)), "INVALID_GATE", "gate.mode"),  # type: ignore[arg-type]
        (pb.Channel(name="channels/gate", masks=[pb.MaskArea()]), "INVALID_MASK", "masks[0].kind"),
        (pb.Channel(name="channels/gate", health=pb.Health(ignored=[0])), "INVALID_HEALTH", "health.ignored"),
        (pb.Channel(name="channels/gate", rules=[pb.Rule(name="r")]), "INVALID_RULE", "rules.r.condition"),
        (
            pb.Channel(name="channels/gate", rules=[pb.Rule(name="r", enter={}, anchor=7)]),  # type: ignore[arg-type]
            "INVALID_RULE",
            "rules.r.anchor",
        ),
        (
            pb.Channel(
                name="channels/gate",
                rules=[pb.Rule(name="r", dwell=pb.DwellCondition(at_least={"seconds": 1, "nanos": -1}))],  # type: ignore[arg-type]
            ),
            "INVALID_RULE",
            "rules.r.at_least",
        ),
        (with_stream(policy=7), "INVALID_SOURCE", "source.stream.policy"),
        (with_stream(resume=stream_pb2.Resume()), "INVALID_SOURCE", "source.stream.resume"),
        (with_stream(takeover=True), "INVALID_SOURCE", "source.stream.takeover"),
        (with_stream(omit_skips=True), "INVALID_SOURCE", "source.stream.omit_skips"),
        (with_stream(capture_clock=media_pb2.CAPTURE_CLOCK_NTP), "INVALID_SOURCE", "source.stream.capture_clock"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason_and_its_field(
    wire: pb.Channel, reason: str, field: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        record_from_wire(wire)
    assert (caught.value.reason, caught.value.metadata["field"]) == (reason, field)
    assert "; allowed: " in caught.value.message


def test_the_channel_and_the_format_of_a_source_are_not_looked_at_but_for_the_rotation() -> None:
    video = media_pb2.VideoFormat(codec=media_pb2.CODEC_H264, width=9, rotation_degrees=90)
    record = record_from_wire(with_stream(channel="nonsense", format=video))
    assert record.source is not None
    assert record.source.stream.rotation_degrees == 90
