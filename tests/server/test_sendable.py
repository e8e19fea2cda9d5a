"""An event that does not fit the contract keeps no other from being read: listed, watched, asked for by name."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support_store import an_event, ended, ready
from support_watch import a_site, begun, news, refusal
from vedette.v1 import event_pb2 as pb
from vedette_server.rpc import event_service, sendable

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_server.data.event import Event

# More than the contract's 64 bits; the store bears it.
TOO_MUCH = 1 << 64
UNFIT: dict[str, dict[str, Any]] = {
    "sequence": {"sequence": TOO_MUCH},
    "size": {"clip": replace(ready(), size_bytes=-1)},
    "detail": {"detail": 7},
}


def unfit(name: str, how: str = "sequence", **more: Any) -> Event:
    return an_event(name, **(UNFIT[how] | more))


def ids(events: Any) -> list[str]:
    return [one.name.rpartition("/")[2] for one in events]


async def listed(events: Any, size: int = 100) -> list[str]:
    found, request = list[str](), pb.ListEventsRequest(parent="channels/-", page_size=size)
    while True:
        response = await events.ListEvents(request)
        found += ids(response.events)
        request.page_token = response.next_page_token
        if not response.next_page_token:
            return found


@pytest.mark.parametrize("how", sorted(UNFIT))
async def test_lists_go_on_without_it_and_who_asks_for_it_is_told_why(tmp_path: Path, how: str) -> None:
    async with a_site(tmp_path) as site:
        site.keep(an_event("a", at_s=0), unfit("b", how, at_s=1), an_event("c", at_s=2))
        assert await listed(site.events) == ["c", "a"]
        for size in (1, 2):
            assert await listed(site.events, size) == ["c", "a"]
        call = site.events.GetEvent(pb.GetEventRequest(name="channels/gate/events/b"))
        code, reason, words = await refusal(call)
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EVENT_UNSENDABLE")
        assert words.startswith("event 'b' cannot be sent: its record 2 does not fit the contract")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(unfits=st.lists(st.booleans(), min_size=1, max_size=12), size=st.integers(1, 5))
async def test_pages_hold_each_of_the_others_once(
    tmp_path_factory: pytest.TempPathFactory, unfits: list[bool], size: int
) -> None:
    kept = [unfit(f"e{n:02}", at_s=n) if bad else an_event(f"e{n:02}", at_s=n) for n, bad in enumerate(unfits)]
    with pytest.MonkeyPatch.context() as patch:
        # Two in a page, however many are asked for.
        patch.setattr(event_service, "MOST_PAGE_BYTES", 700)
        async with a_site(tmp_path_factory.mktemp("pages")) as site:
            site.keep(*kept)
            found = await listed(site.events, size)
    assert found == [f"e{n:02}" for n in reversed(range(len(kept))) if not unfits[n]]


async def test_a_watch_passes_it_over_and_goes_on_behind_it_without_gap_or_double(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        call = site.watch(events=True)
        await begun(call)
        site.keep(an_event("a"), unfit("b"), an_event("c"))
        site.keep(unfit("d"))
        site.keep(an_event("e"))
        live = await news(call, 3)
        assert [one.event.record for one in live] == [1, 3, 5]
        call.cancel()
        # What is behind an offset is read from the store; then what is in memory follows.
        kept = [1, 3, 5]
        for offset, through in (("earliest", 0), (live[0].offset, 1), (live[1].offset, 3)):
            again = site.watch(events=True, offset=offset)
            behind = [record for record in kept if record > through]
            assert [one.event.record for one in await news(again, len(behind))] == behind
            site.keep(unfit(f"x{through}"))
            kept.append(site.keep(an_event(f"y{through}")))
            (last,) = await news(again, 1)
            assert last.event.record == kept[-1]
            again.cancel()
            end = site.watch(events=True, offset=last.offset)
            assert len(await news(end, 3, "heartbeat")) == 3, "neither gap nor event"
            end.cancel()


async def test_a_watch_that_ends_where_it_cannot_be_sent_goes_on_behind_it(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(an_event("a"))
        call = site.watch(events=True, offset="earliest")
        await news(call, 1)
        site.keep(unfit("b"))
        beat = (await news(call, 2, "heartbeat"))[-1]
        call.cancel()
        site.keep(an_event("c"))
        again = site.watch(events=True, offset=beat.offset)
        assert ids([one.event for one in await news(again, 1)]) == ["c"]
        again.cancel()


async def test_it_is_told_once_for_each_of_its_records_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_site(tmp_path) as site:
        site.keep(an_event("a"), unfit("b"), ended("b", sequence=TOO_MUCH))
        with caplog.at_level(logging.ERROR, sendable.__name__):
            for _ in range(3):
                await listed(site.events)
                call = site.watch(events=True, offset="earliest")
                await news(call, 1)
                await news(call, 1, "heartbeat")
                call.cancel()
        told: list[Any] = [one for one in caplog.records if one.name == sendable.__name__]
        assert sorted((one.record, one.event_name) for one in told) == [
            (2, "channels/gate/events/b"),
            (3, "channels/gate/events/b"),
        ]
        assert all(one.levelname == "ERROR" and "ValueError" in one.error for one in told)
        assert site.sendable.unfit == 2


def test_no_more_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sendable, "_REMEMBERED", 3)
    one = sendable.SendableEvents()
    assert [one.find(unfit("e"), number) for number in (1, 2, 3, 4, 4, 1)] == [None] * 6
    assert one.unfit == 5
    assert one.find(an_event("e"), 5) is not None
