"""What the contract says of events comes out as what it stands for."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from support_store import BEGIN_S, an_event, ended, ready
from vedette.v1 import event_pb2
from vedette_server.data.event import Acknowledgement, EventKind, EventState, Evidence, EvidenceState, TrailPoint
from vedette_server.errors import InvalidError
from vedette_server.rpc import convert_event as convert
from vedette_server.store.chain import sign
from vedette_server.store.querying import EventFilter


def test_all_of_an_event_goes_to_the_wire() -> None:
    event = ended(
        place="yard",
        peak_s=BEGIN_S + 2.25,
        snapshot=ready(7),
        annotated=Evidence(EvidenceState.FAILED, detail="the disk is full"),
        clip=Evidence(EvidenceState.PENDING),
        engine_version="person@2.1",
        session="s1",
        sequence=99,
        acknowledgement=Acknowledgement("ann", BEGIN_S + 60.5, "seen"),
        detail="somebody came in",
    )
    wire = convert.event_to_wire(event, 17)
    assert json_format.MessageToDict(wire, preserving_proto_field_name=True) == {
        "name": "channels/gate/events/e1",
        "kind": "EVENT_KIND_ENTER",
        "rule": "yard",
        "state": "EVENT_STATE_ENDED",
        "place": "yard",
        "label": "person",
        "track_ids": ["e1-t"],
        "start_time": "2026-09-21T14:13:20Z",
        "update_time": "2026-09-21T14:13:25Z",
        "end_time": "2026-09-21T14:13:25Z",
        "peak_score": 0.75,
        "box": {"x_min": 0.1, "y_min": 0.2, "x_max": 0.3, "y_max": 0.4},
        "measures": {"dwell_s": 1.5},
        "trail": [{"time": "2026-09-21T14:13:20Z", "point": {"x": 0.2, "y": 0.4}}],
        "snapshot": {
            "state": "EVIDENCE_STATE_READY",
            "size_bytes": "7",
            "sha256": "ab" * 32,
            "media_type": "video/mp4",
        },
        "clip": {"state": "EVIDENCE_STATE_PENDING"},
        "engine_version": "engines/person/versions/2.1",
        "session": "channels/gate/sessions/s1",
        "sequence": "99",
        "acknowledgement": {"user": "ann", "time": "2026-09-21T14:14:20.500Z", "note": "seen"},
        "detail": "somebody came in",
        "record": "17",
        "peak_time": "2026-09-21T14:13:22.250Z",
        "annotated_snapshot": {"state": "EVIDENCE_STATE_FAILED", "detail": "the disk is full"},
    }


def test_no_field_of_an_event_is_forgotten() -> None:
    event = ended(
        place="p", peak_s=1.0, snapshot=ready(), annotated=ready(), clip=ready(), engine_version="e@1", session="s",
        sequence=1, acknowledgement=Acknowledgement("a", 1.0), detail="d",
    )  # fmt: skip
    written = {field.name for field, _ in convert.event_to_wire(event, 1).ListFields()}
    assert written == {field.name for field in event_pb2.Event.DESCRIPTOR.fields}


def test_what_an_event_of_the_camera_lacks_is_absent() -> None:
    bare = replace(
        an_event(), kind=EventKind.CAMERA_DARK, peak_score=None, box=None, trail=(), measures={}, track_ids=()
    )
    wire = convert.event_to_wire(bare, 1)
    for field in ("end_time", "peak_time", "peak_score", "box", "snapshot", "clip", "annotated_snapshot"):
        assert not wire.HasField(field), field
    assert not wire.HasField("acknowledgement")
    assert (wire.engine_version, wire.session) == ("", "")


def test_an_event_that_was_kept_without_a_packet_keeps_no_other_from_being_read() -> None:
    assert convert.event_to_wire(an_event(sequence=-1), 1).sequence == 0


def test_every_kind_state_and_piece_has_its_name() -> None:
    for kind in EventKind:
        wire = convert.event_to_wire(an_event(kind=kind), 1)
        assert event_pb2.EventKind.Name(wire.kind) == f"EVENT_KIND_{kind.value.upper()}"
    for state in EvidenceState:
        wire = convert.event_to_wire(an_event(clip=Evidence(state, detail="x")), 1)
        name = "UNSPECIFIED" if state is EvidenceState.NONE else state.value.upper()
        assert event_pb2.EvidenceState.Name(wire.clip.state) == f"EVIDENCE_STATE_{name}"


def test_a_long_trail_is_thinned_evenly_between_its_ends() -> None:
    trail = tuple(TrailPoint(BEGIN_S + n, n / 1000, 0.5) for n in range(1000))
    wire = convert.event_to_wire(an_event(trail=trail, track_ids=tuple(f"t{n}" for n in range(100))), 1)
    times = [point.time.seconds - BEGIN_S for point in wire.trail]
    assert (len(times), times[0], times[-1]) == (256, 0, 999)
    steps = {after - before for before, after in itertools.pairwise(times)}
    assert steps == {3, 4}
    assert list(wire.track_ids) == [f"t{n}" for n in range(64)]
    assert not convert.event_to_wire(an_event(trail=trail), 1, trail=False).trail


@given(st.floats(0, 4e9) | st.floats(-1e9, 0))
def test_a_time_is_the_same_there_and_back(time_s: float) -> None:
    wire = Timestamp()
    convert.set_time(wire, time_s)
    assert 0 <= wire.nanos < 10**9
    # From 2**23 s on a double is coarser than two nanoseconds: there it must be the very same.
    assert convert.time_from_wire(wire, "x") == pytest.approx(time_s, abs=1e-9 if abs(time_s) < 2**23 else 0)


@pytest.mark.parametrize("time_s", [-1e18, 1e18, 253402300799.9999999])
def test_a_time_beyond_all_years_is_the_last_or_first_that_there_is(time_s: float) -> None:
    wire = Timestamp()
    convert.set_time(wire, time_s)
    assert wire.ToJsonString()[:4] == ("0001" if time_s < 0 else "9999")


def test_the_epoch_is_not_an_absent_time() -> None:
    wire = convert.event_to_wire(an_event(start_s=0.0), 1)
    assert wire.HasField("start_time")


def test_a_filter_says_what_it_says() -> None:
    wire = event_pb2.EventFilter(
        rules=["yard", "yard", "door"],
        kinds=[event_pb2.EVENT_KIND_ENTER, event_pb2.EVENT_KIND_CAMERA_DARK],
        states=[event_pb2.EVENT_STATE_ACTIVE],
        unacknowledged=True,
        labels=["person", ""],
    )
    convert.set_time(wire.start_time, BEGIN_S)
    convert.set_time(wire.end_time, BEGIN_S + 0.5)
    assert convert.filter_from_wire(wire, ("gate",)) == EventFilter(
        channels=("gate",),
        start_s=BEGIN_S,
        end_s=BEGIN_S + 0.5,
        rules=("yard", "door"),
        kinds=(EventKind.ENTER, EventKind.CAMERA_DARK),
        states=(EventState.ACTIVE,),
        labels=("person", ""),
        unacknowledged=True,
    )
    assert convert.filter_from_wire(event_pb2.EventFilter()) == EventFilter()


@pytest.mark.parametrize(
    ("wire", "reason", "message"),
    [
        (event_pb2.EventFilter(kinds=[0]), "INVALID_FILTER", "filter.kinds is 0; allowed: 1, 2"),
        (event_pb2.EventFilter(kinds=[77]), "INVALID_FILTER", "filter.kinds is 77"),
        (event_pb2.EventFilter(states=[0]), "INVALID_FILTER", "filter.states is 0; allowed: 1, 2"),
        (event_pb2.EventFilter(rules=["x" * 257]), "INVALID_FILTER", "filter.rules"),
        (event_pb2.EventFilter(labels=["a\0"]), "INVALID_FILTER", "filter.labels"),
        (event_pb2.EventFilter(rules=[str(n) for n in range(257)]), "INVALID_FILTER", "a list of 257"),
        (event_pb2.EventFilter(start_time=Timestamp(seconds=1 << 60)), "INVALID_TIME", "years 1 to 9999"),
        (event_pb2.EventFilter(end_time=Timestamp(nanos=-1)), "INVALID_TIME", "filter.end_time"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(wire: event_pb2.EventFilter, reason: str, message: str) -> None:
    with pytest.raises(InvalidError, match=re.escape(message)) as caught:
        convert.filter_from_wire(wire)
    assert caught.value.reason == reason


def test_a_head_is_the_same_there_and_back() -> None:
    head = sign(Ed25519PrivateKey.generate(), 12, bytes(range(32)), 1_790_000_000_123_456_789)
    wire = convert.head_to_wire(head)
    assert convert.head_from_wire(event_pb2.ChainHead.FromString(wire.SerializeToString())) == head
    # What is exported is the JSON of the message.
    assert json_format.Parse(head.exported(), event_pb2.ChainHead()) == wire


@pytest.mark.parametrize(
    ("field", "value"), [("hash", "ab"), ("hash", "xy" * 32), ("signature", b"1"), ("public_key", b"")]
)
def test_a_head_that_is_none_is_refused(field: str, value: object) -> None:
    wire = convert.head_to_wire(sign(Ed25519PrivateKey.generate(), 12, bytes(32), 5))
    setattr(wire, field, value)
    with pytest.raises(InvalidError, match=f"head.{field}") as caught:
        convert.head_from_wire(wire)
    assert caught.value.reason == "INVALID_HEAD"


@pytest.mark.parametrize("name", ["", "channels/gate", "channels/gate/events/", "channels/a b/events/x", "x" * 300])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidError, match=re.escape("allowed: channels/{channel}/events/{event}")):
        convert.event_from_name(name)


def test_a_name_is_taken_apart() -> None:
    assert convert.event_from_name(convert.event_name("gate.1", "abc234")) == ("gate.1", "abc234")
