"""EventService over real calls, before a real store and real files."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support_evidence import source, whole_clip
from support_store import BEGIN_S, an_event, ended, ready
from support_watch import TOKENS, a_site, bearer, drained, refusal, sha256
from vedette.v1 import event_pb2 as pb
from vedette_server.data.event import EventKind, Evidence, EvidenceState
from vedette_server.data.rules import EvidencePolicy, Mask, MaskKind, WatchConfig
from vedette_server.evidence.showing import kept_under
from vedette_server.rpc import convert_event, event_service
from vedette_server.store import querying
from vedette_server.store.changes import EvidenceChange
from vedette_server.store.retaining import Retention

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support_watch import Site
    from vedette_server.data.rules import Points

Code = grpc.StatusCode


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.toml"
    file.write_text(TOKENS)
    return file


def name(event_id: str = "e1", channel: str = "gate") -> str:
    return f"channels/{channel}/events/{event_id}"


def ids(events: Any) -> list[str]:
    return [one.name.rpartition("/")[2] for one in events]


async def pages(site: Site, size: int, parent: str = "channels/-", metadata: Any = (), **wanted: Any) -> list[str]:
    """List to the end; no page may be larger than asked for."""
    found: list[str] = []
    request = pb.ListEventsRequest(parent=parent, page_size=size, filter=pb.EventFilter(**wanted))
    while True:
        response = await site.events.ListEvents(request, metadata=metadata)
        assert len(response.events) <= size
        found += ids(response.events)
        request.page_token = response.next_page_token
        if not response.next_page_token:
            return found


async def test_events_are_listed_the_newest_first_and_without_their_trails(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(*(an_event(f"e{n}", at_s=n) for n in range(5)), ended("e2", at_s=2))
        response = await site.events.ListEvents(pb.ListEventsRequest(parent="channels/gate", page_size=3))
        assert ids(response.events) == ["e4", "e3", "e2"]
        assert [one.state for one in response.events] == [pb.EVENT_STATE_ACTIVE] * 2 + [pb.EVENT_STATE_ENDED]
        assert response.events[2].record == 6
        assert not any(one.trail for one in response.events)
        rest = await site.events.ListEvents(
            pb.ListEventsRequest(parent="channels/gate", page_size=3, page_token=response.next_page_token)
        )
        assert (ids(rest.events), rest.next_page_token) == (["e1", "e0"], "")


async def test_a_filter_chooses(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(
            ended("old", at_s=0),
            ended("dark", at_s=100, kind=EventKind.CAMERA_DARK, rule="camera", label=""),
            an_event("now", at_s=200, label="car"),
        )
        site.store.acknowledge("old", "ann")
        for wanted, found in (
            ({"rules": ["camera"]}, ["dark"]),
            ({"kinds": [pb.EVENT_KIND_ENTER]}, ["now", "old"]),
            ({"states": [pb.EVENT_STATE_ACTIVE]}, ["now"]),
            ({"unacknowledged": True}, ["now", "dark"]),
            ({"labels": ["car", ""]}, ["now", "dark"]),
        ):
            assert await pages(site, 10, **wanted) == found, wanted
        request = pb.ListEventsRequest(parent="channels/gate")
        convert_event.set_time(request.filter.start_time, BEGIN_S + 50)
        convert_event.set_time(request.filter.end_time, BEGIN_S + 200)
        assert ids((await site.events.ListEvents(request)).events) == ["dark"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["gate1", "gate2", "yard"]), max_size=40),
    st.integers(1, 7),
    st.integers(2, 9),
    st.sampled_from(["gate", "yard", "head"]),
)
def test_pages_hold_what_the_caller_may_watch_each_once_in_order(
    tmp_path_factory: pytest.TempPathFactory, channels: list[str], size: int, window: int, who: str
) -> None:
    folder = tmp_path_factory.mktemp("pages")
    tokens = folder / "tokens.toml"
    tokens.write_text(TOKENS)

    async def run() -> list[str]:
        async with a_site(folder, tokens) as site:
            if channels:
                # Many begin at the same time: their identities order them.
                site.keep(*(an_event(f"e{n:02}", channel=one, at_s=n // 5) for n, one in enumerate(channels)))
            return await pages(site, size, metadata=bearer(who))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(querying, "GLANCE", window)
        patch.setattr(querying, "MOST_GLANCES", 2)
        found = asyncio.run(run())
    sees = {"gate": ("gate1", "gate2"), "yard": ("yard",), "head": ("gate1", "gate2", "yard")}[who]
    assert found == [f"e{n:02}" for n in reversed(range(len(channels))) if channels[n] in sees]


async def test_what_comes_in_between_two_pages_moves_nothing(tmp_path: Path, tokens: Path) -> None:
    async with a_site(tmp_path, tokens) as site:
        site.keep(*(an_event(f"e{n}", channel="gate1", at_s=n) for n in range(4)))
        request = pb.ListEventsRequest(parent="channels/-", page_size=2)
        first = await site.events.ListEvents(request, metadata=bearer("gate"))
        site.keep(*(an_event(f"new{n}", channel=f"gate{n}", at_s=50 + n) for n in range(4)))
        request.page_token = first.next_page_token
        second = await site.events.ListEvents(request, metadata=bearer("gate"))
        assert ids(first.events) + ids(second.events) == ["e3", "e2", "e1", "e0"]


async def test_a_page_is_no_larger_than_clients_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_service, "MOST_PAGE_BYTES", 3000)
    async with a_site(tmp_path) as site:
        site.keep(*(an_event(f"e{n}", at_s=n, detail="x" * 1200 * n) for n in range(6)))
        response = await site.events.ListEvents(pb.ListEventsRequest(parent="channels/-"))
        assert ids(response.events) == ["e5"], "one at least, so that it goes on"
        assert await pages(site, 10) == [f"e{n}" for n in reversed(range(6))]


async def test_a_list_that_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(an_event("a"), an_event("b"))
        token = (
            await site.events.ListEvents(pb.ListEventsRequest(parent="channels/gate", page_size=1))
        ).next_page_token
        for request, reason in (
            (pb.ListEventsRequest(parent="gate"), "INVALID_CHANNEL"),
            (pb.ListEventsRequest(parent="channels/gate", page_size=1001), "INVALID_PAGE_SIZE"),
            (pb.ListEventsRequest(parent="channels/gate", page_size=-1), "INVALID_PAGE_SIZE"),
            (pb.ListEventsRequest(parent="channels/gate", page_token="x"), "INVALID_PAGE_TOKEN"),
            (pb.ListEventsRequest(parent="channels/-", page_token=token), "INVALID_PAGE_TOKEN"),
            (pb.ListEventsRequest(parent="channels/gate", filter=pb.EventFilter(kinds=[99])), "INVALID_FILTER"),
        ):
            assert (await refusal(site.events.ListEvents(request)))[:2] == (Code.INVALID_ARGUMENT, reason)


async def test_an_event_is_given_whole(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        number = site.keep(an_event())
        response = await site.events.GetEvent(pb.GetEventRequest(name=name()))
        assert response.event == convert_event.event_to_wire(an_event(), number)
        assert response.event.trail


async def test_an_event_that_is_not_there_or_is_anothers_is_not_found(tmp_path: Path, tokens: Path) -> None:
    async with a_site(tmp_path, tokens) as site:
        site.keep(an_event(channel="yard"))
        for wanted in (name("none", "gate"), name("e1", "gate")):
            call = site.events.GetEvent(pb.GetEventRequest(name=wanted), metadata=bearer("gate"))
            code, reason, words = await refusal(call)
            assert (code, reason) == (Code.NOT_FOUND, "EVENT_NOT_FOUND")
            assert "yard" not in words


async def test_only_who_may_is_served(tmp_path: Path, tokens: Path) -> None:
    async with a_site(tmp_path, tokens) as site:
        events = site.events
        site.keep(an_event(channel="yard"))
        yard = name(channel="yard")
        for call, request, who in (
            (events.ListEvents, pb.ListEventsRequest(parent="channels/yard"), "gate"),
            (events.ListEvents, pb.ListEventsRequest(parent="channels/-"), "camera"),
            (events.GetEvent, pb.GetEventRequest(name=yard), "gate"),
            (events.AcknowledgeEvent, pb.AcknowledgeEventRequest(name=yard), "gate"),
            (events.AcknowledgeEvent, pb.AcknowledgeEventRequest(name=name("x", "gate")), "gate"),
            (events.GetEventSnapshot, pb.GetEventSnapshotRequest(name=yard), "keeper"),
            (events.GetChainHead, pb.GetChainHeadRequest(), "keeper"),
        ):
            assert (await refusal(call(request, metadata=bearer(who))))[0] is Code.PERMISSION_DENIED, (request, who)
        for stream, request, who in (
            (events.GetEventClip, pb.GetEventClipRequest(name=yard), "gate"),
            (events.VerifyEvents, pb.VerifyEventsRequest(), "yard"),
        ):
            assert (await refusal(drained(stream(request, metadata=bearer(who)))))[0] is Code.PERMISSION_DENIED
        assert (await refusal(events.GetEvent(pb.GetEventRequest(name=yard))))[0] is Code.UNAUTHENTICATED


async def test_an_acknowledgement_is_kept_shown_and_told(tmp_path: Path, tokens: Path) -> None:
    async with a_site(tmp_path, tokens) as site:
        site.keep(an_event(channel="yard"))
        told = threading.Event()
        site.feed.listen(told.set)
        request = pb.AcknowledgeEventRequest(name=name(channel="yard"), note="a cat")
        response = await site.events.AcknowledgeEvent(request, metadata=bearer("yard"))
        seen = response.event.acknowledgement
        assert (seen.user, seen.note, seen.time.seconds) == ("yard desk", "a cat", BEGIN_S + 3600)
        assert seen.token == "yard desk"
        assert response.event.record == 2
        assert told.is_set()
        assert site.feed.length == 2
        again = await site.events.AcknowledgeEvent(request, metadata=bearer("yard"))
        assert again == response, "the same person again: nothing changes"
        request.user = "ann"
        other = (await site.events.AcknowledgeEvent(request, metadata=bearer("head"))).event
        assert (other.acknowledgement.user, other.acknowledgement.token) == ("ann", "head"), "who says that it is ann"
        request.note = "a dog"
        more = (await site.events.AcknowledgeEvent(request, metadata=bearer("head"))).event
        assert (more.acknowledgement.note, more.record, site.feed.length) == ("a dog", 4, 4), "and that is told, too"


async def test_where_there_are_no_tokens_an_acknowledgement_has_none(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(an_event())
        response = await site.events.AcknowledgeEvent(pb.AcknowledgeEventRequest(name=name(), user="ann"))
        assert (response.event.acknowledgement.user, response.event.acknowledgement.token) == ("ann", "")


async def test_who_names_nobody_replaces_nobody_and_is_shown_who_it_was(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(an_event("a"), an_event("b"))
        named = pb.AcknowledgeEventRequest(name=name("a"), user="ann")
        response = await site.events.AcknowledgeEvent(named)
        unnamed = pb.AcknowledgeEventRequest(name=name("a"), note="mine")
        assert await site.events.AcknowledgeEvent(unnamed) == response
        unnamed.name = name("b")
        seen = (await site.events.AcknowledgeEvent(unnamed)).event.acknowledgement
        assert (seen.user, seen.token, seen.note) == ("", "", "mine")


async def test_acknowledgements_that_wait_for_the_database_hold_up_no_reader(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(an_event())
        other = sqlite3.connect(tmp_path / "events.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = [
            asyncio.ensure_future(site.events.AcknowledgeEvent(pb.AcknowledgeEventRequest(name=name(), user=f"u{n}")))
            for n in range(2 * event_service.LOOKERS)
        ]
        # Once they are under way; all of them wait for the lock.
        await asyncio.sleep(0.1)
        for _number in range(3):
            await site.events.GetEvent(pb.GetEventRequest(name=name()))
        assert not any(one.done() for one in waiting)
        other.execute("ROLLBACK")
        other.close()
        await asyncio.gather(*waiting)
        assert site.store.end()[0] == 1 + len(waiting)


async def test_what_cannot_be_acknowledged_is_refused(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(an_event())
        for request, code, reason in (
            (pb.AcknowledgeEventRequest(name=name("none")), Code.NOT_FOUND, "EVENT_NOT_FOUND"),
            (pb.AcknowledgeEventRequest(name=name(channel="yard")), Code.NOT_FOUND, "EVENT_NOT_FOUND"),
            (pb.AcknowledgeEventRequest(name="gate"), Code.INVALID_ARGUMENT, "INVALID_NAME"),
            (pb.AcknowledgeEventRequest(name=name(), note="x" * 4097), Code.INVALID_ARGUMENT, "INVALID_NOTE"),
            (pb.AcknowledgeEventRequest(name=name(), user="x" * 257), Code.INVALID_ARGUMENT, "INVALID_USER"),
        ):
            assert (await refusal(site.events.AcknowledgeEvent(request)))[:2] == (code, reason)
        assert site.store.end()[0] == 1


async def test_a_snapshot_is_given_with_and_without_boxes(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        event = an_event()
        plain, boxes = site.put(event, b"plain"), site.put(event, b"with boxes", ".boxes.jpg")
        site.keep(replace(event, snapshot=plain, annotated=boxes))
        for annotated, data in ((False, b"plain"), (True, b"with boxes")):
            request = pb.GetEventSnapshotRequest(name=name(), annotated=annotated)
            response = await site.events.GetEventSnapshot(request)
            assert (response.jpeg, response.sha256) == (data, sha256(data))


PIECES = [
    (Evidence(EvidenceState.PENDING), Code.UNAVAILABLE, "EVIDENCE_PENDING", "being written"),
    (Evidence(), Code.NOT_FOUND, "NO_EVIDENCE", "none is kept"),
    (Evidence(EvidenceState.FAILED, detail="no keyframe"), Code.NOT_FOUND, "EVIDENCE_FAILED", "written: no keyframe"),
    (replace(ready(), state=EvidenceState.EXPIRED), Code.NOT_FOUND, "EVIDENCE_EXPIRED", "removed by retention"),
    (replace(ready(), path="gate/2026-01-01/e1.mp4"), Code.DATA_LOSS, "EVIDENCE_LOST", "not there any more"),
]


@pytest.mark.parametrize(("evidence", "code", "reason", "words"), PIECES)
async def test_evidence_that_is_not_there_says_why(
    tmp_path: Path, evidence: Evidence, code: grpc.StatusCode, reason: str, words: str
) -> None:
    async with a_site(tmp_path) as site:
        site.keep(an_event(snapshot=evidence, clip=evidence, annotated=evidence))
        calls = [
            drained(site.events.GetEventClip(pb.GetEventClipRequest(name=name(), playable=playable)))
            for playable in (False, True)
        ]
        calls += [
            site.events.GetEventSnapshot(pb.GetEventSnapshotRequest(name=name(), annotated=annotated))
            for annotated in (False, True)
        ]
        for call in calls:
            seen = await refusal(call)
            assert seen[:2] == (code, reason)
            assert words in seen[2]


LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0))
RIGHT = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0))


def wanted(policy: EvidencePolicy, *areas: Points, kind: MaskKind = MaskKind.PRIVACY) -> WatchConfig:
    return WatchConfig(evidence=policy, masks=tuple(Mask(kind, area) for area in areas))


@pytest.mark.parametrize(
    ("policy", "watch", "words"),
    [
        (kept_under(()), wanted(EvidencePolicy.ORIGINAL), ""),
        ("", wanted(EvidencePolicy.ORIGINAL), ""),
        (kept_under([LEFT]), wanted(EvidencePolicy.ORIGINAL), ""),
        (kept_under(()), wanted(EvidencePolicy.MASKED), ""),
        (kept_under(()), wanted(EvidencePolicy.MASKED, LEFT, kind=MaskKind.MOTION), ""),
        (kept_under(()), wanted(EvidencePolicy.MASKED, LEFT), "without a privacy mask that channel gate has now"),
        ("", wanted(EvidencePolicy.MASKED, LEFT, RIGHT), "without 2 privacy masks"),
        (kept_under([LEFT]), wanted(EvidencePolicy.MASKED, LEFT, RIGHT), "without a privacy mask"),
        (kept_under([LEFT]), wanted(EvidencePolicy.MASKED, RIGHT), "without a privacy mask"),
        (kept_under([RIGHT, LEFT]), wanted(EvidencePolicy.MASKED, LEFT, RIGHT), ""),
        (kept_under([LEFT, RIGHT]), wanted(EvidencePolicy.MASKED, LEFT), ""),
        (kept_under([LEFT]), wanted(EvidencePolicy.NONE, LEFT), "nothing of channel gate may be shown now"),
        (kept_under([LEFT]), None, "channel gate is not known"),
    ],
)
async def test_what_was_kept_is_shown_as_far_as_its_channel_allows_now(
    tmp_path: Path, policy: str, watch: WatchConfig | None, words: str
) -> None:
    async with a_site(tmp_path) as site:
        event = an_event()
        pieces = [
            replace(site.put(event, data, suffix), policy=policy)
            for data, suffix in ((b"plain", ".jpg"), (b"boxes", ".boxes.jpg"), (b"clip", ".mp4"))
        ]
        site.keep(replace(event, snapshot=pieces[0], annotated=pieces[1], clip=pieces[2]))
        site.allow("gate", watch)
        for call in (
            site.events.GetEventSnapshot(pb.GetEventSnapshotRequest(name=name())),
            site.events.GetEventSnapshot(pb.GetEventSnapshotRequest(name=name(), annotated=True)),
            drained(site.events.GetEventClip(pb.GetEventClipRequest(name=name()))),
        ):
            if words:
                code, reason, said = await refusal(call)
                assert (code, reason) == (Code.NOT_FOUND, "EVIDENCE_NOT_SHOWN")
                assert words in said
            else:
                await call


async def test_evidence_that_was_changed_is_not_given(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        event = an_event()
        snapshot, clip = site.put(event, b"plain"), site.put(event, b"clip" * 10, ".mp4", "video/mp4")
        site.keep(replace(event, snapshot=snapshot, clip=clip))
        for one in (snapshot, clip):
            path = site.evidence.find(one.path)
            path.write_bytes(path.read_bytes()[:-1] + b"!")
        for call in (
            site.events.GetEventSnapshot(pb.GetEventSnapshotRequest(name=name())),
            drained(site.events.GetEventClip(pb.GetEventClipRequest(name=name()))),
            drained(site.events.GetEventClip(pb.GetEventClipRequest(name=name(), playable=True))),
        ):
            assert (await refusal(call))[:2] == (Code.DATA_LOSS, "EVIDENCE_DAMAGED")


async def test_a_file_that_retention_took_meanwhile_is_expired_not_lost(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        event = an_event()
        clip = site.put(event, b"clip", ".mp4")
        site.keep(replace(event, clip=clip))
        site.evidence.remove(clip.path)
        old = site.store.get("e1").event
        site.keep(EvidenceChange("e1", clip=replace(clip, state=EvidenceState.EXPIRED)))
        real_get, stale = site.store.get, [replace(site.store.get("e1"), event=old)]
        site.store.get = lambda event_id: stale.pop() if stale else real_get(event_id)  # type: ignore[method-assign]
        call = drained(site.events.GetEventClip(pb.GetEventClipRequest(name=name())))
        assert (await refusal(call))[:2] == (Code.NOT_FOUND, "EVIDENCE_EXPIRED")


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 3 << 20])
async def test_a_clip_comes_in_pieces_the_first_says_what_it_is(tmp_path: Path, size: int) -> None:
    async with a_site(tmp_path) as site:
        event, data = an_event(at_s=0.5), os.urandom(size)
        site.keep(replace(event, clip=site.put(event, data, ".mp4", "video/mp4")))
        responses = await drained(site.events.GetEventClip(pb.GetEventClipRequest(name=name())))
        info = responses[0].info
        assert (info.media_type, info.size_bytes, info.sha256) == ("video/mp4", size, sha256(data))
        assert (info.transcoded, info.start_time.seconds, info.start_time.nanos) == (False, BEGIN_S, 500_000_000)
        assert not any(one.HasField("info") for one in responses[1:])
        assert b"".join(one.data for one in responses) == data
        assert max(len(one.data) for one in responses) <= 64 * 1024


@asynccontextmanager
async def with_clip(tmp_path: Path, what: str) -> AsyncIterator[tuple[Site, Evidence]]:
    async with a_site(tmp_path) as site:
        made = whole_clip(site.evidence, *source(what))
        clip = replace(made.evidence, path=made.path)
        site.keep(an_event(clip=clip))
        yield site, clip


@pytest.mark.parametrize(("what", "transcoded"), [("mpeg4-b", True), ("h264-b", False)])
async def test_a_clip_that_browsers_do_not_play_is_transcoded_when_asked_for(
    tmp_path: Path, what: str, transcoded: bool
) -> None:
    async with with_clip(tmp_path, what) as (site, clip):
        responses = await drained(site.events.GetEventClip(pb.GetEventClipRequest(name=name(), playable=True)))
        data = b"".join(one.data for one in responses)
        info = responses[0].info
        assert (info.transcoded, info.size_bytes, info.sha256) == (transcoded, len(data), sha256(data))
        assert (info.sha256 == clip.sha256) is not transcoded
        assert b"avc1" in data
        assert not list((site.evidence.root / ".incoming").iterdir()), "nothing of it stays"


async def test_a_call_that_is_cancelled_stops_its_transcoding(tmp_path: Path) -> None:
    async with with_clip(tmp_path, "mpeg4-b") as (site, _):
        # Held at its beginning, until the caller has gone.
        begun, go_on, opened = threading.Event(), threading.Event(), threading.Event()
        pictures = site.service._pictures
        real = pictures.clip

        def held(event: Any, *, playable: bool, is_wanted: Any) -> Any:
            begun.set()
            assert go_on.wait(20)
            assert not is_wanted()
            opened.set()
            return real(event, playable=playable, is_wanted=is_wanted)

        pictures.clip = held  # type: ignore[method-assign]
        call = site.events.GetEventClip(pb.GetEventClipRequest(name=name(), playable=True))
        reading = asyncio.ensure_future(call.read())
        assert await asyncio.to_thread(begun.wait, 20)
        reading.cancel()
        call.cancel()
        while site.service._clips:
            await asyncio.sleep(0.01)
        go_on.set()
        assert await asyncio.to_thread(opened.wait, 20)
        site.service.close()
        await asyncio.to_thread(site.service._transcodes._threads.shutdown)
        assert not list((site.evidence.root / ".incoming").iterdir())


async def test_who_reads_nothing_of_a_clip_loses_its_turn(tmp_path: Path) -> None:
    async with a_site(tmp_path, patience_s=0.3) as site:
        event = an_event()
        site.keep(replace(event, clip=site.put(event, bytes(32 << 20), ".mp4")))
        call = site.events.GetEventClip(pb.GetEventClipRequest(name=name()))
        await call.read()
        while site.service._clips:
            await asyncio.sleep(0.02)
        call.cancel()


async def test_so_many_clips_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_service, "MOST_CLIPS", 1)
    async with a_site(tmp_path) as site:
        event = an_event()
        site.keep(replace(event, clip=site.put(event, bytes(32 << 20), ".mp4")))
        first = site.events.GetEventClip(pb.GetEventClipRequest(name=name()))
        await first.read()
        second = drained(site.events.GetEventClip(pb.GetEventClipRequest(name=name())))
        assert (await refusal(second))[:2] == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_CLIPS")
        first.cancel()
        while site.service._clips:
            await asyncio.sleep(0.01)


async def verified(site: Site, **more: Any) -> Any:
    """Check; give the last message. What comes before it only counts."""
    responses = await drained(site.events.VerifyEvents(pb.VerifyEventsRequest(**more)))
    assert [one.done for one in responses] == [False] * (len(responses) - 1) + [True]
    assert not any(one.findings for one in responses[:-1])
    return responses[-1]


async def test_the_chain_and_its_head_are_checked(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(an_event("a"), an_event("b"))
        head = (await site.events.GetChainHead(pb.GetChainHeadRequest())).head
        assert head.length == 2
        assert convert_event.head_from_wire(head).is_signed_by(head.public_key)
        site.keep(ended("a"))
        done = await verified(site, head=head)
        assert (done.records, done.files, list(done.findings)) == (3, 0, [])
        forged = json_format.ParseDict(json_format.MessageToDict(head) | {"length": "3"}, pb.ChainHead())
        assert any("not signed" in one for one in (await verified(site, head=forged)).findings)
        with site.store.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE vedette_records SET content = x'7b7d' WHERE number = 2")
        (finding,) = (await verified(site, head=head)).findings
        assert finding.startswith("record 2: the content of event b was changed")
        bad = pb.VerifyEventsRequest(head=pb.ChainHead(hash="x"))
        assert (await refusal(drained(site.events.VerifyEvents(bad))))[1] == "INVALID_HEAD"


async def test_files_are_read_again_when_asked_for(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        kept = []
        for n in range(4):
            event = an_event(f"e{n}")
            clip = site.put(event, f"clip {n}".encode(), ".mp4")
            kept.append(clip)
            site.keep(replace(event, snapshot=site.put(event, b"picture"), clip=clip))
        site.keep(an_event("bare", clip=Evidence(EvidenceState.PENDING)))
        done = await verified(site, files=True)
        assert (done.records, done.files, list(done.findings)) == (5, 8, [])
        site.evidence.find(kept[1].path).write_bytes(b"other")
        site.evidence.find(kept[2].path).unlink()
        assert list((await verified(site)).findings) == []
        done = await verified(site, files=True)
        assert sorted(done.findings) == [
            "channels/gate/events/e1: the clip was changed: its hash differs",
            "channels/gate/events/e2: the clip cannot be read: No such file or directory",
        ]


async def test_a_check_that_nobody_waits_for_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_site(tmp_path) as site:
        site.keep(an_event())
        begun, go_on = threading.Event(), threading.Event()
        checked: list[int] = []

        def verify(_head: object, *, on_progress: Any) -> None:
            begun.set()
            assert go_on.wait(20)
            on_progress(1)
            checked.append(1)

        monkeypatch.setattr(site.store, "verify", verify)
        call = site.events.VerifyEvents(pb.VerifyEventsRequest())
        assert await asyncio.to_thread(begun.wait, 20)
        call.cancel()
        while site.service._checks._busy and not go_on.is_set():
            await asyncio.sleep(0.05)
            go_on.set()
        await asyncio.to_thread(site.service._checks._threads.shutdown)
        assert checked == []


async def test_a_store_that_fails_is_told_as_it_is(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(an_event())
        with site.store.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE vedette_events")
        call = site.events.GetEvent(pb.GetEventRequest(name=name()))
        code, reason, _ = await refusal(call)
        assert (code, reason) == (Code.FAILED_PRECONDITION, "STORE_CORRUPT")


async def test_what_retention_removed_is_not_found(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(ended("old", at_s=0), an_event("new", at_s=3599))
        list(site.store.retain(Retention(max_age_s=60)))
        call = site.events.GetEvent(pb.GetEventRequest(name=name("old")))
        assert (await refusal(call))[:2] == (Code.NOT_FOUND, "EVENT_NOT_FOUND")
        assert await pages(site, 10) == ["new"]


async def test_after_closing_nothing_is_begun(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.service.close()
        call = site.events.GetEvent(pb.GetEventRequest(name=name()))
        assert (await refusal(call))[:2] == (Code.UNAVAILABLE, "DRAINING")
