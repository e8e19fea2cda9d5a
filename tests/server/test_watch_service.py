"""WatchService over real calls, before a real store."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support_store import an_event, ended
from support_watch import TOKENS, WAIT_S, a_site, a_verdict, bearer, begun, drained, news, read, refusal
from vedette.v1 import event_pb2, watch_pb2
from vedette_server.data.event import EventKind
from vedette_server.rpc import watch_service
from vedette_server.store.errors import StoreUnavailableError, StoreUnusableError
from vedette_server.store.retaining import Retention
from vedette_server.store.writer import EventWriter
from vedette_server.watch import tail as tail_module
from vedette_server.watch.offsets import Offset, decoded

if TYPE_CHECKING:
    from pathlib import Path

    from support_watch import Site
    from vedette_server.store.changes import Change

Code = grpc.StatusCode
EVERYTHING = 1_000_000


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.toml"
    file.write_text(TOKENS)
    return file


def publish(site: Site, channel: str, *sequences: int, found: int = 1) -> None:
    for sequence in sequences:
        site.hub.publish(channel, "s1", a_verdict(sequence, found), sequence, "")


def records(responses: list[Any]) -> list[int]:
    return [one.event.record for one in responses]


async def until(condition: Any) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


# -- events -------------------------------------------------------------------------------------


async def test_changes_come_as_they_are_kept_each_once(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(an_event("before"))
        call = site.watch(events=True)
        await begun(call)
        site.keep(an_event("a"), an_event("b", channel="yard"))
        site.keep(ended("a"))
        site.store.acknowledge("b", "ann")
        site.feed.told(site.store.get("b"))
        found = await news(call, 4)
        assert records(found) == [2, 3, 4, 5]
        assert [one.event.name for one in found[:2]] == ["channels/gate/events/a", "channels/yard/events/b"]
        assert found[0].event.trail
        assert (found[2].event.state, found[3].event.acknowledgement.user) == (event_pb2.EVENT_STATE_ENDED, "ann")
        call.cancel()


async def test_a_watch_says_at_once_where_it_stands_and_that_the_server_lives(tmp_path: Path) -> None:
    async with a_site(tmp_path, heartbeat_s=0.05) as site:
        call = site.watch(events=True, results=True)
        first, *others = await news(call, 3, "heartbeat")
        assert first.offset
        assert others[-1].heartbeat.time.ToNanoseconds() > first.heartbeat.time.ToNanoseconds()
        call.cancel()


async def test_an_offset_from_the_beginning_of_a_watch_loses_nothing(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        call = site.watch(events=True)
        offset = await begun(call)
        call.cancel()
        site.keep(an_event("a"))
        again = site.watch(events=True, offset=offset)
        assert records(await news(again, 1)) == [1]
        again.cancel()


async def test_the_earliest_is_all_that_is_kept(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(ended("old", at_s=0), an_event("new", at_s=3599), ended("older", at_s=-9))
        list(site.store.retain(Retention(max_age_s=60)))
        call = site.watch(events=True, offset="earliest")
        assert records(await news(call, 1)) == [2], "and what was removed is no gap"
        site.keep(an_event("later"))
        assert records(await news(call, 1)) == [5], "and what retention says of itself is no event"
        call.cancel()


async def test_who_watches_while_retention_works_hears_of_neither_gap_nor_record(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(ended("old", at_s=0))
        call = site.watch(events=True)
        await begun(call)
        for number in range(3):
            site.keep(an_event(f"young{number}", at_s=3599))
            assert list(site.store.retain(Retention(max_age_s=60)))[:1] or number, "one step, the first time"
            site.keep(an_event(f"next{number}", at_s=3599))
            found = await news(call, 2)
            assert [one.event.name.rpartition("/")[2] for one in found] == [f"young{number}", f"next{number}"]
        call.cancel()


async def test_what_retention_removed_before_it_was_seen_is_a_gap(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(an_event("new", at_s=3599))
        first = site.watch(events=True)
        offset = await begun(first)
        first.cancel()
        site.keep(ended("old", at_s=0), an_event("newer", at_s=3599))
        list(site.store.retain(Retention(max_age_s=60)))
        call = site.watch(events=True, offset=offset)
        ((gap,), (event,)) = await news_after_gap(call)
        assert gap.gap.reason == watch_pb2.GAP_REASON_EXPIRED
        assert (gap.gap.from_offset, gap.offset) == (offset, offset)
        assert (decoded(gap.gap.to_offset).events, decoded(event.offset).events) == (4, 3)
        assert event.event.record == 3
        call.cancel()


async def news_after_gap(call: Any) -> tuple[list[Any], list[Any]]:
    """Read gaps, then one event or result; heartbeats are passed over."""
    gaps: list[Any] = []
    while True:
        response = await read(call)
        match response.WhichOneof("news"):
            case "gap":
                gaps.append(response)
            case "event" | "result":
                return gaps, [response]


async def test_an_offset_of_another_store_is_a_gap_and_then_all_that_there_is(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(an_event())
        call = site.watch(events=True, offset=Offset(site.hub.process, 99, 5).encoded())
        (gap,), (event,) = await news_after_gap(call)
        assert (gap.gap.reason, event.event.record) == (watch_pb2.GAP_REASON_EXPIRED, 1)
        call.cancel()


async def test_a_filter_chooses_events(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(
            an_event("a", rule="door"),
            an_event("b", kind=EventKind.CAMERA_DARK, rule="camera", label=""),
            ended("c", label="car"),
        )
        site.store.acknowledge("a", "ann")
        for wanted, found in (
            ({"rules": ["door"]}, [1, 4]),
            ({"kinds": [event_pb2.EVENT_KIND_CAMERA_DARK]}, [2]),
            ({"states": [event_pb2.EVENT_STATE_ENDED]}, [3]),
            ({"labels": ["car", ""]}, [2, 3]),
            ({"unacknowledged": True}, [1, 2, 3]),
        ):
            call = site.watch(events=True, offset="earliest", filter=event_pb2.EventFilter(**wanted))
            responses = [await read(call) for _ in range(1 + len(found))]
            assert records(responses[1:]) == found, wanted
            call.cancel()


async def test_a_heartbeat_stands_behind_all_that_was_looked_at(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(*(an_event(f"e{n}", channel="yard") for n in range(5)))
        call = site.watch("gate", events=True, offset="earliest")
        _, heartbeat = await news(call, 2, "heartbeat")
        call.cancel()
        assert decoded(heartbeat.offset).events == 5


async def test_one_of_many_thousand_channels_is_as_good_as_any(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.keep(*(an_event(f"e{n}", channel=f"c{n}") for n in range(10)))
        calls = [
            site.watch(*channels, events=True, offset="earliest")
            for channels in (["c3", "c7"], [f"c{n}" for n in range(3, 10_003, 4)])
        ]
        for call in calls:
            assert records(await news(call, 2)) == [4, 8]
        site.keep(an_event("x", channel="c8"), an_event("y", channel="c7"))
        for call in calls:
            assert records(await news(call, 1)) == [12]
            call.cancel()


async def cut(site: Site, offset: str, take: int, follow: str | None) -> tuple[list[Any], str]:
    """Watch from an offset, break off after so many messages, and go on from the last one's offset."""
    call = site.watch(events=True, results=True, offset=offset, metadata=bearer(follow) if follow else ())
    found = []
    for _ in range(take):
        response = await read(call)
        offset = response.offset
        if response.WhichOneof("news") == "event":
            found.append(response)
        assert offset
    call.cancel()
    return found, offset


STEPS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["begin", "update", "end", "see", "other"]), st.integers(0, 4)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, kept=st.integers(1, 6), restarts=st.booleans())
def test_however_a_watch_is_cut_each_change_comes_once_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: Any, kept: int, restarts: bool
) -> None:
    folder = tmp_path_factory.mktemp("resume")
    tokens = folder / "tokens.toml"
    tokens.write_text(TOKENS)

    async def run() -> None:
        seen: list[int] = []
        offset = "earliest"
        chunks = [steps[: len(steps) // 2], steps[len(steps) // 2 :]] if restarts else [steps]
        for chunk in chunks:
            async with a_site(folder, tokens, heartbeat_s=0.005) as site:
                # Somebody else follows all the time: what is cut goes on from memory, or from the store.
                site.watching._tail._most_kept = kept
                standing = site.watch(events=True, metadata=bearer("head"))
                await begun(standing)
                for number, (event_id, what, take) in enumerate(chunk):
                    for stored in apply(site, event_id, what, number):
                        site.feed.told(stored)
                    publish(site, "gate1", number)
                    found, offset = await cut(site, offset, take, "gate")
                    seen += records(found)
                standing.cancel()
        async with a_site(folder, tokens, heartbeat_s=0.005) as site:
            changes = site.store.changes_after(0, None, EVERYTHING).changes
            wanted = [one.number for one in changes if one.event is not None and one.event.channel == "gate1"]
            while len(seen) < len(wanted):
                found, offset = await cut(site, offset, 3, "gate")
                seen += records(found)
            assert seen == wanted
            # And nothing more comes.
            assert (await cut(site, offset, 3, "gate"))[0] == []

    asyncio.run(run())


def apply(site: Site, event_id: str, what: str, number: int) -> list[Any]:
    """Make a change of an event of a channel that is watched, or of another one."""
    at: dict[str, Any] = {"channel": "gate1"}
    changes: list[Change] = [an_event(event_id, **at)]
    match what:
        case "update":
            begin = an_event(event_id, **at)
            changes.append(an_event(event_id, **at, measures={"n": number}, update_s=begin.start_s + number))
        case "end":
            changes.append(ended(event_id, **at))
        case "see":
            return [*site.store.append(changes), site.store.acknowledge(event_id, f"user {number}")]
        case "other":
            changes = [an_event(f"yard {event_id}", channel="yard", measures={"n": number})]
    return site.store.append(changes)


async def test_the_offset_of_each_message_is_a_place_to_go_on_from(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        offset = await watch_some(site, 12)
        found = offset[-1]
        assert records([one for one in found if one.WhichOneof("news") == "event"]) == list(range(1, 13))
        for number, response in enumerate(found):
            rest = site.watch(events=True, offset=response.offset)
            left = [one.event.record for one in found[number + 1 :] if one.WhichOneof("news") == "event"]
            assert records(await news(rest, len(left))) == left
            rest.cancel()


async def watch_some(site: Site, count: int) -> tuple[Any, list[Any]]:
    """Watch results and events as they come, and give all messages."""
    call = site.watch(events=True, results=True)
    found = [await read(call)]
    for n in range(count):
        publish(site, "gate", n)
        site.keep(an_event(f"e{n}"))
    while sum(one.WhichOneof("news") != "heartbeat" for one in found) < 2 * count:
        found.append(await read(call))
    call.cancel()
    return call, found


async def test_many_watchers_share_one_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_site(tmp_path) as site:
        calls = [site.watch(events=True) for _ in range(30)]
        for call in calls:
            await begun(call)
        asked: list[int] = []
        real = site.store.changes_after
        monkeypatch.setattr(
            site.store, "changes_after", lambda offset, *args: (asked.append(offset), real(offset, *args))[1]
        )
        for n in range(20):
            site.keep(an_event(f"e{n}"))
        for call in calls:
            assert records(await news(call, 20)) == list(range(1, 21))
            call.cancel()
        # Once for each commit and once to see that there is no more, at most; not once for each watcher.
        assert len(asked) <= 41


async def test_a_writer_that_is_busy_is_followed_to_its_end(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        call = site.watch(events=True)
        await begun(call)

        def write() -> None:
            with EventWriter(site.store) as writer:
                for n in range(500):
                    writer.submit(an_event(f"e{n}", channel=f"c{n % 7}"), site.feed.told)

        thread = threading.Thread(target=write)
        thread.start()
        assert records(await news(call, 500)) == list(range(1, 501))
        thread.join(WAIT_S)
        call.cancel()


async def test_what_another_process_keeps_comes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_service.EventTail.__init__, "__kwdefaults__", {
        **(watch_service.EventTail.__init__.__kwdefaults__ or {}), "poll_s": 0.05,
    })  # fmt: skip
    async with a_site(tmp_path) as site:
        call = site.watch(events=True)
        await begun(call)
        site.store.append([an_event()])  # and nobody tells the feed
        assert records(await news(call, 1)) == [1]
        call.cancel()


async def test_who_stands_far_back_catches_up_from_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_site(tmp_path) as site:
        site.watching._tail._most_kept = 5
        ahead = site.watch(events=True)
        await begun(ahead)
        for n in range(30):
            site.keep(*(an_event(f"e{n}-{m}") for m in range(10)))
        assert len(await news(ahead, 300)) == 300
        assert site.watching._tail.kept == 5
        behind = site.watch(events=True, offset="earliest")
        assert records(await news(behind, 300)) == list(range(1, 301))
        for call in (ahead, behind):
            call.cancel()


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (StoreUnusableError("CORRUPT", "store x: it is damaged"), Code.FAILED_PRECONDITION, "STORE_CORRUPT"),
        (StoreUnavailableError("LOCKED", "store x: another holds it"), Code.UNAVAILABLE, "STORE_LOCKED"),
        (KeyError("ours"), Code.INTERNAL, "INTERNAL"),
    ],
)
async def test_a_store_that_fails_ends_the_watch_and_the_offset_still_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: grpc.StatusCode, reason: str
) -> None:
    async with a_site(tmp_path) as site:
        monkeypatch.setattr(tail_module, "PAUSE_S", 0.01)
        site.watching._tail._patience_s = 0.03
        call = site.watch(events=True)
        offset = await begun(call)
        real = site.store.changes_after

        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(site.store, "changes_after", fail)
        site.keep(an_event())
        assert (await refusal(drained(call)))[:2] == (code, reason)
        monkeypatch.setattr(site.store, "changes_after", real)
        again = site.watch(events=True, offset=offset)
        assert records(await news(again, 1)) == [1]
        again.cancel()


async def test_a_short_failure_of_the_store_is_not_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_site(tmp_path) as site:
        monkeypatch.setattr(tail_module, "PAUSE_S", 0.01)
        call = site.watch(events=True)
        await begun(call)
        real, failures = site.store.changes_after, [1, 2, 3]

        def fail(*args: Any) -> Any:
            if failures:
                failures.pop()
                raise StoreUnavailableError("LOCKED", "another holds it")
            return real(*args)

        monkeypatch.setattr(site.store, "changes_after", fail)
        site.keep(an_event())
        assert records(await news(call, 1)) == [1]
        assert not failures
        call.cancel()


# -- results ------------------------------------------------------------------------------------


async def test_results_of_the_channels_that_are_named_come(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        call, every = site.watch("gate", results=True), site.watch(results=True)
        await begun(call)
        await begun(every)
        site.keep(an_event())
        publish(site, "yard", 1)
        publish(site, "gate", 2)
        (result,) = await news(call, 1, "result")
        assert (result.result.channel, result.result.verdict.sequence) == ("channels/gate", 2)
        assert result.result.session == "channels/gate/sessions/s1"
        assert [one.result.verdict.sequence for one in await news(every, 2, "result")] == [1, 2]
        # A channel that comes later is watched, too.
        publish(site, "new", 3)
        assert (await news(every, 1, "result"))[0].result.channel == "channels/new"
        call.cancel()
        every.cancel()


async def test_results_can_be_thinned_and_chosen(tmp_path: Path) -> None:
    async with a_site(tmp_path, heartbeat_s=0.05) as site:
        slow = site.watch(results=True, max_results_per_second=1e-320)
        found = site.watch(results=True, found_only=True)
        await begun(slow)
        await begun(found)
        publish(site, "gate", 0, found=0)
        publish(site, "gate", 1)
        publish(site, "yard", 2)
        assert [one.result.verdict.sequence for one in await news(slow, 2, "result")] == [0, 2]
        assert [one.result.verdict.sequence for one in await news(found, 2, "result")] == [1, 2]
        # What was not wanted is no gap.
        await news(slow, 1, "heartbeat")
        slow.cancel()
        found.cancel()


async def test_a_slow_watcher_loses_results_and_is_told_how_many_but_no_event(tmp_path: Path) -> None:
    async with a_site(tmp_path, room=50) as site:
        call = site.watch(results=True, events=True)
        first = await read(call)
        published = 0
        for n in range(10):
            # More than there is room for, before the loop can send any; then what it can send while nobody reads.
            publish(site, "gate", *range(published, published + 80), found=20)
            published += 80
            site.keep(*(an_event(f"e{n}-{m}") for m in range(10)))
            await asyncio.sleep(0.01)
        seen, missed, events, last = 0, 0, [], first
        while seen + missed < published or len(events) < 100:
            response = await read(call)
            match response.WhichOneof("news"):
                case "result":
                    assert response.result.verdict.sequence == seen + missed
                    seen += 1
                case "gap":
                    assert response.gap.reason == watch_pb2.GAP_REASON_SLOW_WATCHER
                    assert response.gap.channel == "channels/gate"
                    assert response.gap.from_offset == last.offset
                    assert response.gap.to_offset == response.offset
                    missed += response.gap.results
                case "event":
                    events.append(response)
            last = response
        assert missed >= 300
        assert records(events) == list(range(1, 101))
        call.cancel()


async def test_results_between_two_watches_are_a_gap(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        first = site.watch("gate", "yard", results=True)
        await begun(first)
        publish(site, "gate", 1)
        (result,) = await news(first, 1, "result")
        first.cancel()
        await until(lambda: not site.watching.watchers)
        quiet = site.watch("gate", "yard", results=True, offset=result.offset)
        await begun(quiet)  # nothing was missed, and so nothing is told
        quiet.cancel()
        publish(site, "gate", 2)
        publish(site, "other", 3)
        again = site.watch("gate", "yard", results=True, offset=result.offset)
        gap = await read(again)
        assert (gap.gap.reason, gap.gap.channel, gap.gap.results) == (
            watch_pb2.GAP_REASON_EXPIRED,
            "channels/gate",
            0,
        )
        assert gap.gap.from_offset == result.offset
        publish(site, "yard", 4)
        assert (await news(again, 1, "result"))[0].result.verdict.sequence == 4
        again.cancel()


async def test_after_a_restart_results_are_a_gap_and_events_are_not(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        call = site.watch(results=True, events=True)
        await begun(call)
        site.keep(an_event("a"), an_event("b"))
        offset = (await news(call, 1))[0].offset
        call.cancel()
    async with a_site(tmp_path) as site:
        call = site.watch(results=True, events=True, offset=offset)
        (gap,), (event,) = await news_after_gap(call)
        assert (gap.gap.reason, gap.gap.from_offset) == (watch_pb2.GAP_REASON_RESTART, offset)
        assert event.event.record == 2
        call.cancel()
        only_events = site.watch(events=True, offset=offset)
        assert records(await news(only_events, 1)) == [2]
        only_events.cancel()


# -- who may ------------------------------------------------------------------------------------


async def test_who_watches_all_gets_what_it_may_watch(tmp_path: Path, tokens: Path) -> None:
    async with a_site(tmp_path, tokens) as site:
        call = site.watch(events=True, results=True, metadata=bearer("gate"))
        await begun(call)
        for channel in ("yard", "gate1", "gates"):
            publish(site, channel, 1)
        site.keep(an_event("y", channel="yard"), an_event("g", channel="gate1"))
        found = [await read(call) for _ in range(3)]
        assert {one.event.name or one.result.channel for one in found} == {
            "channels/gate1/events/g",
            "channels/gate1",
            "channels/gates",
        }
        await news(call, 1, "heartbeat")
        call.cancel()


@pytest.mark.parametrize(
    ("who", "channels", "code"),
    [
        ("gate", ["yard"], Code.PERMISSION_DENIED),
        ("gate", ["gate", "yard"], Code.PERMISSION_DENIED),
        ("camera", [], Code.PERMISSION_DENIED),
        ("nobody", ["gate"], Code.UNAUTHENTICATED),
    ],
)
async def test_who_may_not_watch_is_told(
    tmp_path: Path, tokens: Path, who: str, channels: list[str], code: grpc.StatusCode
) -> None:
    async with a_site(tmp_path, tokens) as site:
        call = site.watch(*channels, events=True, metadata=bearer(who))
        assert (await refusal(drained(call)))[0] is code
        assert not site.watching.watchers


@pytest.mark.parametrize(
    ("before", "after", "code", "reason"),
    [
        ("gate-secret", "other-secret", Code.UNAUTHENTICATED, "UNKNOWN_TOKEN"),
        ('channels = ["gate*"]', 'channels = ["yard"]', Code.PERMISSION_DENIED, "PERMISSION_DENIED"),
        ('channels = ["gate*"]', 'channels = ["*"]', Code.ABORTED, "TOKEN_CHANGED"),
    ],
)
async def test_a_watch_ends_when_its_token_is_changed(
    tmp_path: Path, tokens: Path, before: str, after: str, code: grpc.StatusCode, reason: str
) -> None:
    async with a_site(tmp_path, tokens, heartbeat_s=0.1) as site:
        call = site.watch("gate", events=True, metadata=bearer("gate"))
        await begun(call)
        tokens.write_text(TOKENS.replace(before, after))
        assert (await refusal(asyncio.wait_for(drained(call), WAIT_S)))[:2] == (code, reason)


# -- requests, limits, ends ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"channels": ["channels/gate"]}, "NOTHING_WANTED"),
        ({"events": True}, "INVALID_CHANNELS"),
        ({"events": True, "channels": ["channels/-", "channels/gate"]}, "INVALID_CHANNELS"),
        ({"events": True, "channels": ["channels/gate"] * 10_001}, "INVALID_CHANNELS"),
        ({"events": True, "channels": ["gate"]}, "INVALID_CHANNEL"),
        ({"events": True, "channels": ["channels/-"], "offset": "now"}, "INVALID_OFFSET"),
        ({"events": True, "channels": ["channels/-"], "offset": "é" * 40}, "INVALID_OFFSET"),
        ({"events": True, "channels": ["channels/-"], "offset": "AA" * 20}, "INVALID_OFFSET"),
        ({"events": True, "channels": ["channels/-"], "filter": {"kinds": [99]}}, "INVALID_FILTER"),
        ({"results": True, "channels": ["channels/-"], "max_results_per_second": 0.0}, "INVALID_RATE"),
        ({"results": True, "channels": ["channels/-"], "max_results_per_second": -1.0}, "INVALID_RATE"),
        ({"results": True, "channels": ["channels/-"], "max_results_per_second": float("nan")}, "INVALID_RATE"),
    ],
)
async def test_a_request_that_cannot_be_meant_is_refused(tmp_path: Path, request_: Any, reason: str) -> None:
    async with a_site(tmp_path) as site:
        call = site.watches.WatchChannels(watch_pb2.WatchChannelsRequest(**request_))
        assert (await refusal(drained(call)))[:2] == (Code.INVALID_ARGUMENT, reason)
        assert not site.watching.watchers


@given(st.binary(min_size=8, max_size=8), st.integers(0, 2**62 - 1), st.integers(0, 2**64 - 1))
def test_an_offset_is_the_same_there_and_back(process: bytes, events: int, results: int) -> None:
    offset = Offset(process, events, results)
    assert decoded(offset.encoded()) == offset


async def test_so_many_watch_at_once(tmp_path: Path) -> None:
    async with a_site(tmp_path, most_watchers=2) as site:
        calls = [site.watch(events=True), site.watch(results=True)]
        for call in calls:
            await begun(call)
        third = site.watch(events=True)
        assert (await refusal(drained(third)))[:2] == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHERS")
        calls[0].cancel()
        await until(lambda: site.watching.watchers == 1)
        again = site.watch(events=True)
        await begun(again)
        for call in (again, calls[1]):
            call.cancel()
        await until(lambda: site.watching.watchers == 0)
        assert site.hub.watchers == 0
        assert site.watching._tail._following is None


async def test_who_reads_nothing_is_let_go(tmp_path: Path) -> None:
    async with a_site(tmp_path, patience_s=0.2) as site:
        call = site.watch(results=True)
        await begun(call)
        async with asyncio.timeout(WAIT_S):
            while site.watching.watchers:
                publish(site, "gate", 0, found=4000)
                await asyncio.sleep(0.005)
        call.cancel()


async def test_a_server_that_drains_ends_all_watches(tmp_path: Path) -> None:
    async with a_site(tmp_path, heartbeat_s=60) as site:
        calls = [site.watch(events=True), site.watch(results=True)]
        offsets = [await begun(call) for call in calls]
        site.watching.drain()
        for call in calls:
            assert (await refusal(asyncio.wait_for(drained(call), WAIT_S)))[:2] == (Code.UNAVAILABLE, "DRAINING")
        new = site.watch(events=True, offset=offsets[0])
        assert (await refusal(drained(new)))[:2] == (Code.UNAVAILABLE, "DRAINING")
