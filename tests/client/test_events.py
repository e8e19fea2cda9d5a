"""Finding events, fetching their evidence, acknowledging and verifying them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_watching import CLIP, JPEG, PENDING, T0, Monitor, MonitorServer, event, serving
from vedette.v1 import event_pb2
from vedette_client import (
    Client,
    ConnectionLostError,
    Event,
    EventFilter,
    EventKind,
    EventState,
    Evidence,
    EvidenceState,
    IntegrityError,
    OptionsError,
    ProtocolError,
    RefusedError,
    sync,
)
from vedette_client.events import event_name
from vedette_client.events_chain import ChainHead, head_from_json, head_from_wire
from vedette_client.events_data import event_from_wire, time_from_wire, time_to_wire

if TYPE_CHECKING:
    from pathlib import Path

FIRST = "gate/0001abcdefghijklmnopqrstuv"


def filled(count: int, **fields: object) -> Monitor:
    monitor = Monitor()
    monitor.happen(*(event(number, **fields) for number in range(1, count + 1)))
    return monitor


async def test_a_list_is_gathered_page_by_page_the_newest_first() -> None:
    monitor = filled(2300)
    async with MonitorServer(monitor) as server, Client(server.address) as client:
        found = await client.events.list(limit=5000)
        assert [one.record for one in found] == list(range(2300, 0, -1))
        assert len(monitor.asked) == 3
        assert [one.record for one in await client.events.list(limit=2)] == [2300, 2299]
        assert monitor.asked[-1].page_size == 2


async def test_events_are_chosen_by_channel_time_rule_kind_state_and_label() -> None:
    monitor = filled(3)
    other = event(4, "yard", rule="cars", label="car", kind=event_pb2.EVENT_KIND_CROSS, end_time=None, state=1)
    monitor.happen(other)
    async with MonitorServer(monitor) as server, Client(server.address) as client:

        async def records(channel: str | None = None, **wanted: object) -> list[int]:
            return [one.record for one in await client.events.list(channel, EventFilter(**wanted))]  # type: ignore[arg-type]

        assert await records("gate") == [3, 2, 1]
        assert await records(kinds=[EventKind.CROSS]) == await records(rules=["cars"]) == [4]
        assert await records(states=[EventState.ACTIVE]) == await records(labels=["car", "bus"]) == [4]
        assert await records(start_time_ns=(T0 + 5) * 10**9, end_time_ns=(T0 + 4) * 10**9 + 10**10) == [4, 3]
        await client.events.acknowledge(FIRST)
        assert await records("gate", unacknowledged=True) == [3, 2]


async def test_one_event_has_all_its_facts() -> None:
    async with MonitorServer(filled(1)) as server, Client(server.address) as client:
        one = await client.events.get(FIRST)
    assert (one.name, one.event_id) == ("channels/gate/events/0001abcdefghijklmnopqrstuv", FIRST.split("/")[1])
    assert (one.channel, one.track_ids, one.peak_score, one.measures) == ("gate", ("t1",), 0.75, {"dwell_s": 4.5})
    assert [point.x for point in one.trail] == pytest.approx([0.0, 0.1, 0.2])
    assert (one.clip.state, one.clip.size_bytes, one.clip.media_type) == (EvidenceState.READY, len(CLIP), "video/mp4")
    assert one.end_time_ns == (T0 + 1) * 10**9 + 2_500_000_000
    assert (one.acknowledgement, one.box is not None and one.box.x_max) == (None, 0.5)


async def test_an_acknowledgement_tells_who_and_what_for() -> None:
    async with MonitorServer(filled(1)) as server, Client(server.address) as client:
        seen = (await client.events.acknowledge(FIRST, note="a cat")).acknowledgement
    assert seen is not None
    assert (seen.user, seen.note, seen.token) == ("desk", "a cat", "front desk")
    assert seen.time_ns == (T0 + 60) * 10**9


async def test_pictures_come_with_and_without_boxes() -> None:
    async with MonitorServer(filled(1)) as server, Client(server.address) as client:
        one = await client.events.get(FIRST)
        assert await client.events.snapshot(one) == JPEG
        assert await client.events.snapshot(one, annotated=True) == JPEG + b"!"


async def test_a_picture_that_is_not_what_its_hash_says_is_refused() -> None:
    monitor = filled(1, snapshot=event_pb2.Evidence(state=2, sha256="cd" * 32))
    async with MonitorServer(monitor) as server, Client(server.address) as client:
        with pytest.raises(IntegrityError, match="than its event says"):
            await client.events.snapshot(await client.events.get(FIRST))
        monitor.jpeg_hash = "ab" * 32
        with pytest.raises(IntegrityError, match="as the server said"):
            await client.events.snapshot(FIRST)


@pytest.mark.parametrize("annotated", [False, True])
async def test_a_better_picture_that_took_the_place_of_the_listed_one_is_right_and_no_other(annotated: bool) -> None:
    piece = "annotated_snapshot" if annotated else "snapshot"
    monitor = filled(1, **{piece: event_pb2.Evidence(state=2, sha256="cd" * 32)})
    (now,) = monitor.events.values()
    async with MonitorServer(monitor) as server, Client(server.address) as client:
        (listed,) = await client.events.list()
        getattr(now, piece).sha256 = hashlib.sha256(JPEG + b"!" * annotated).hexdigest()
        assert await client.events.snapshot(listed, annotated=annotated) == JPEG + b"!" * annotated
        getattr(now, piece).sha256 = "ef" * 32
        with pytest.raises(IntegrityError, match="than its event says: efef"):
            await client.events.snapshot(listed, annotated=annotated)


async def test_an_event_is_asked_for_again_only_where_its_picture_is_not_the_one_it_was_listed_with() -> None:
    monitor = filled(1)
    async with MonitorServer(monitor) as server, Client(server.address) as client:
        await client.events.snapshot(await client.events.get(FIRST))
        await client.events.snapshot(FIRST)
    assert [type(one).__name__ for one in monitor.asked] == ["GetEventRequest", *["GetEventSnapshotRequest"] * 2]


async def test_a_clip_becomes_a_file_when_all_of_it_has_come(tmp_path: Path) -> None:
    path = tmp_path / "new" / "clip.mp4"
    async with MonitorServer(filled(1)) as server, Client(server.address) as client:
        info = await client.events.clip(await client.events.get(FIRST), path)
        assert (path.read_bytes(), info.size_bytes, info.transcoded) == (CLIP, len(CLIP), False)
        assert (await client.events.clip(FIRST, path, playable=True)).transcoded
    assert [one.name for one in path.parent.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"clip_info": event_pb2.ClipInfo(size_bytes=len(CLIP), sha256="ab" * 32)}, "has the hash"),
        ({"clip_info": event_pb2.ClipInfo(size_bytes=1000, sha256="ab" * 32)}, "not 1000 as the server said"),
        ({"end_clip_early": 150_000}, "has 150000 bytes, not 256000"),
        ({"clip": CLIP[:-1]}, "than its event says"),
    ],
)
async def test_a_clip_that_is_not_what_its_hash_says_leaves_no_file(
    wrong: dict[str, object], said: str, tmp_path: Path
) -> None:
    monitor = filled(1)
    for name, value in wrong.items():
        setattr(monitor, name, value)
    old = tmp_path / "clip.mp4"
    old.write_bytes(b"an earlier one")
    async with MonitorServer(monitor) as server, Client(server.address) as client:
        with pytest.raises(IntegrityError, match=said):
            await client.events.clip(await client.events.get(FIRST), old)
    assert old.read_bytes() == b"an earlier one"
    assert list(tmp_path.iterdir()) == [old]


async def test_a_cancelled_fetch_leaves_no_file(tmp_path: Path) -> None:
    monitor = filled(1)
    async with MonitorServer(monitor) as server, Client(server.address) as client:
        fetching = asyncio.create_task(client.events.clip(FIRST, tmp_path / "clip.mp4"))
        while not list(tmp_path.iterdir()) and not fetching.done():
            await asyncio.sleep(0)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
    assert list(tmp_path.iterdir()) == []


async def test_a_clip_that_is_being_written_is_waited_for_as_long_as_is_wanted(tmp_path: Path) -> None:
    monitor = filled(1, clip=event_pb2.Evidence(state=PENDING))
    async with MonitorServer(monitor) as server, Client(server.address) as client:
        with pytest.raises(ConnectionLostError, match="is being written"):
            await client.events.clip(FIRST, tmp_path / "clip.mp4")
        waiting = asyncio.create_task(client.events.clip(FIRST, tmp_path / "clip.mp4", wait_s=10))
        await asyncio.sleep(0.1)
        monitor.events["channels/" + FIRST.replace("/", "/events/")].clip.state = 2  # type: ignore[assignment]
        assert (await waiting).size_bytes == len(CLIP)


async def test_an_unknown_event_is_refused_with_the_servers_words() -> None:
    async with MonitorServer() as server, Client(server.address) as client:
        with pytest.raises(RefusedError, match="there is no event") as refused:
            await client.events.get("gate/none")
    assert (refused.value.code, refused.value.reason) == ("NOT_FOUND", "EVENT_NOT_FOUND")


async def test_a_server_that_keeps_no_events_is_told_as_such() -> None:
    async with MonitorServer(absent=True) as server, Client(server.address) as client:
        with pytest.raises(RefusedError, match=r"keeps no events; it does when .* --state DIR or --channels FILE"):
            await client.events.list()


@pytest.mark.parametrize("name", ["gate", "gate/", "/x", "a/b/c", "gate/events/..%2f", "channels/gate/sessions/x", ""])
def test_what_names_no_event_is_refused_here(name: str) -> None:
    with pytest.raises(OptionsError, match="CHANNEL/EVENT"):
        event_name(name)


def test_filters_that_find_nothing_are_refused_here() -> None:
    with pytest.raises(OptionsError, match="lies before"):
        EventFilter(start_time_ns=2, end_time_ns=1)
    with pytest.raises(OptionsError, match="a list is wanted"):
        EventFilter(rules="yard")


@given(st.integers(-62_135_596_800 * 10**9, 253_402_300_799 * 10**9))
def test_times_go_there_and_back(time_ns: int) -> None:
    assert time_from_wire(time_to_wire(time_ns)) == time_ns


def test_an_event_of_a_newer_server_is_read_as_far_as_it_is_understood() -> None:
    made = event_from_wire(event_pb2.Event(name="odd", kind=99, state=7))  # type: ignore[arg-type]
    assert (made.kind.name, made.state.name, made.channel, made.event_id) == ("UNKNOWN_99", "UNKNOWN_7", "", "odd")
    assert isinstance(made, Event)


async def test_the_head_of_the_chain_is_signed_and_goes_to_a_file_and_back() -> None:
    monitor = filled(3)
    async with MonitorServer(monitor) as server, Client(server.address) as client:
        head = await client.events.chain_head()
    head.check_signature()
    assert head_from_json(head.to_json()) == head
    page = json.loads(head.to_json())
    assert (page["length"], page["signTime"]) == ("3", "2026-09-21T14:13:20.123456789Z")


def test_a_head_that_was_changed_is_not_signed() -> None:
    head = head_from_wire(Monitor().head(5))
    head.check_signature()
    for other in (
        ChainHead(6, head.hash, head.sign_time_ns, head.signature, head.public_key),
        ChainHead(5, "cd" * 32, head.sign_time_ns, head.signature, head.public_key),
        ChainHead(5, head.hash, head.sign_time_ns + 1, head.signature, head.public_key),
        ChainHead(5, head.hash, head.sign_time_ns, head.signature, Monitor().head(5).public_key),
        ChainHead(5, head.hash, head.sign_time_ns, head.signature, b"short"),
    ):
        with pytest.raises(IntegrityError, match="not signed with its key"):
            other.check_signature()


def test_the_servers_store_and_the_client_read_each_others_heads() -> None:
    from vedette_server.store.chain import imported, sign  # noqa: PLC0415

    theirs = sign(Monitor().key, 7, bytes(range(32)), T0 * 10**9 + 5)
    ours = head_from_json(theirs.exported())
    ours.check_signature()
    assert imported(ours.to_json()) == theirs


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"length": "x"}', '{"hash": "ab"}', '{"nonsense": 1}'])
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(OptionsError, match="is no exported head"):
        head_from_json(text)


def test_without_the_library_that_checks_signatures_it_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    with pytest.raises(ImportError):
        head_from_wire(Monitor().head(5)).check_signature()


async def test_a_check_tells_what_does_not_fit_and_how_far_it_is() -> None:
    monitor, told = filled(4), []
    monitor.findings = [["record 2: wrong"], ["record 2: wrong", "record 3: wrong"]]
    async with MonitorServer(monitor) as server, Client(server.address) as client:
        found = await client.events.verify(
            head_from_wire(monitor.head()), files=True, on_progress=lambda *a: told.append(a)
        )
    assert (found.records, found.files) == (4, 12)
    assert found.findings == ("record 2: wrong", "record 3: wrong")
    assert told == [(2, 6), (4, 12)]
    assert monitor.asked[0].head == monitor.head()


async def test_a_check_that_ends_before_it_is_done_has_found_nothing_out() -> None:
    monitor = filled(1)
    monitor.findings = []
    async with MonitorServer(monitor) as server, Client(server.address) as client:
        with pytest.raises(ProtocolError, match="before it was done"):
            await client.events.verify()


async def test_what_the_token_does_not_allow_is_refused() -> None:
    monitor = filled(1)
    monitor.refuse["AcknowledgeEvent"] = (grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN", "acknowledge is missing")
    async with MonitorServer(monitor) as server, Client(server.address) as client:
        with pytest.raises(RefusedError, match="acknowledge is missing"):
            await client.events.acknowledge(FIRST)


def test_all_of_it_works_without_asyncio(tmp_path: Path) -> None:
    with serving(filled(3)) as server, sync.Client(server.address) as client:
        events = client.events
        assert [one.record for one in events.list(limit=2)] == [3, 2]
        assert next(events.find("gate")).record == 3
        assert events.get(FIRST).record == 1
        acknowledged = events.acknowledge(FIRST, note="n").acknowledgement
        assert acknowledged is not None
        assert acknowledged.note == "n"
        assert events.snapshot(FIRST) == JPEG
        assert events.snapshot(replace(events.get(FIRST), snapshot=Evidence(EvidenceState.READY, sha256="cd"))) == JPEG
        events.clip(FIRST, tmp_path / "clip.mp4")
        assert (tmp_path / "clip.mp4").read_bytes() == CLIP
        assert events.verify(events.chain_head()).findings == ()
