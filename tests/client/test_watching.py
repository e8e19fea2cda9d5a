"""Watching channels: news as they come, and going on after a lost connection without a gap and without a double."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_watching import Monitor, MonitorServer, event, result, serving
from vedette.v1 import event_pb2, watch_pb2
from vedette_client import (
    ChannelResult,
    Client,
    ConnectionLostError,
    Event,
    EventFilter,
    EventKind,
    EventState,
    Gap,
    GapReason,
    OptionsError,
    ProtocolError,
    ReconnectOptions,
    RefusedError,
    StreamClosedError,
    sync,
)
from vedette_client.watching import News, Watch, news_from_wire

QUICK = ReconnectOptions(initial_s=0.001, max_s=0.01, connect_s=5.0, give_up_s=5.0)
WAIT_S = 10.0


async def take(watch: Watch, count: int) -> list[News]:
    async with asyncio.timeout(WAIT_S):
        return [await anext(watch) for _ in range(count)]


def numbers(news: list[News]) -> list[int]:
    return [one.record if isinstance(one, Event) else one.verdict.sequence for one in news if not isinstance(one, Gap)]


async def test_events_results_and_gaps_come_as_records_in_order() -> None:
    monitor = Monitor()
    gap = watch_pb2.Gap(reason=watch_pb2.GAP_REASON_SLOW_WATCHER, results=7, from_offset="1", to_offset="8")
    monitor.happen(event(1), result(2), gap)
    async with MonitorServer(monitor) as server, Client(server.address) as client:
        entered, seen, missed = await take(client.watch(results=True, offset="earliest"), 3)
    assert isinstance(entered, Event)
    assert (entered.kind, entered.state, entered.channel) == (EventKind.ENTER, EventState.ENDED, "gate")
    assert (entered.rule, entered.place, entered.label, entered.duration_s) == ("yard-enter", "yard", "person", 2.5)
    assert isinstance(seen, ChannelResult)
    assert (seen.channel, seen.verdict.detections[0].track_id) == ("gate", "t1")
    assert missed == Gap("", GapReason.SLOW_WATCHER, 7, "1", "8")


async def test_without_an_offset_only_what_happens_from_now_on_comes() -> None:
    monitor = Monitor()
    monitor.happen(event(1))
    async with MonitorServer(monitor) as server, Client(server.address) as client, client.watch() as watch:
        waiting = asyncio.create_task(take(watch, 1))
        while not watch.connected:
            await asyncio.sleep(0.005)
        monitor.happen(event(2))
        assert numbers(await waiting) == [2]
        assert watch.offset == "2"


async def test_what_is_wanted_is_asked_of_the_server() -> None:
    monitor = Monitor()
    wanted = EventFilter(rules=["a"], kinds=[EventKind.DWELL], labels=["car"], unacknowledged=True)
    monitor.happen(event(1), event(2, rule="a", kind=event_pb2.EVENT_KIND_DWELL, label="car"))
    async with MonitorServer(monitor) as server, Client(server.address) as client:
        watch = client.watch(["gate", "yard", "gate"], offset="earliest", wanted=wanted, max_results_per_second=2)
        assert numbers(await take(watch, 1)) == [2]
    asked = monitor.asked[0]
    assert list(asked.channels) == ["channels/gate", "channels/yard"]
    assert (asked.events, asked.results, asked.max_results_per_second) == (True, False, 2.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.lists(st.integers(0, 6), max_size=8), st.booleans())
async def test_wherever_the_connection_breaks_nothing_is_missing_and_nothing_doubled(
    count: int, cuts: list[int], results: bool
) -> None:
    monitor = Monitor()
    monitor.happen(*(result(n) if results and n % 3 == 0 else event(n) for n in range(1, count + 1)))
    monitor.cuts.extend(cuts)
    async with MonitorServer(monitor) as server, Client(server.address, reconnect=QUICK) as client:
        watch = client.watch(offset="earliest", results=results)
        assert numbers(await take(watch, count)) == list(range(1, count + 1))
        monitor.happen(event(99))
        assert numbers(await take(watch, 1)) == [99]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 0.02), min_size=1, max_size=6))
async def test_a_wait_that_is_cancelled_at_any_time_loses_and_doubles_nothing(waits: list[float]) -> None:
    monitor, found = Monitor(), []
    monitor.happen(*(event(n) for n in range(1, 7)))
    async with MonitorServer(monitor) as server, Client(server.address, reconnect=QUICK) as client:
        watch = client.watch(offset="earliest")
        for wait_s in waits:
            try:
                async with asyncio.timeout(wait_s):
                    while len(found) < 6:
                        found += numbers([await anext(watch)])
            except TimeoutError:
                pass
        found += numbers(await take(watch, 6 - len(found)))
    assert found == [1, 2, 3, 4, 5, 6]


async def test_a_server_that_was_started_anew_is_found_again_and_the_caller_is_told() -> None:
    monitor, told = Monitor(), []
    monitor.happen(event(1))
    server = MonitorServer(monitor)
    await server.start()
    async with Client(server.address, reconnect=QUICK) as client:
        watch = client.watch(offset="earliest", on_connection=told.append)
        assert numbers(await take(watch, 1)) == [1]
        waiting = asyncio.create_task(take(watch, 1))
        await asyncio.sleep(0.02)
        await server.stop()
        monitor.happen(event(2))
        await asyncio.sleep(0.05)
        await server.start()
        assert numbers(await waiting) == [2]
    await server.stop()
    assert [type(one) for one in told] == [type(None), ConnectionLostError, type(None)]


async def test_an_offset_that_was_kept_goes_on_in_another_process() -> None:
    monitor = Monitor()
    monitor.happen(event(1), event(2), event(3))
    async with MonitorServer(monitor) as server:
        async with Client(server.address) as client, client.watch(offset="earliest") as watch:
            assert numbers(await take(watch, 2)) == [1, 2]
        async with Client(server.address) as client:
            assert numbers(await take(client.watch(offset=watch.offset), 1)) == [3]


async def test_a_server_that_falls_silent_is_given_up_and_asked_again() -> None:
    monitor = Monitor(silent=True)
    monitor.happen(event(1))
    async with MonitorServer(monitor) as server:
        options = ReconnectOptions(initial_s=0.001, max_s=0.01, connect_s=0.1, give_up_s=0.1)
        async with Client(server.address, reconnect=options) as client:
            with pytest.raises(ConnectionLostError, match=r"silent for 0\.1 s; given up after 0\.1 s"):
                await take(client.watch(offset="earliest"), 1)
        monitor.silent = False
        async with Client(server.address, reconnect=QUICK) as client:
            assert numbers(await take(client.watch(offset="earliest"), 1)) == [1]


async def test_a_refusal_ends_a_watch_at_once() -> None:
    monitor = Monitor()
    monitor.refuse["WatchChannels"] = (grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN", "the token may not watch")
    async with MonitorServer(monitor) as server, Client(server.address) as client:
        with pytest.raises(RefusedError, match="may not watch") as refused:
            await take(client.watch(["gate"]), 1)
    assert (refused.value.code, refused.value.reason, monitor.watches) == ("PERMISSION_DENIED", "FORBIDDEN", 1)


@pytest.mark.parametrize("code", [grpc.StatusCode.ABORTED, grpc.StatusCode.RESOURCE_EXHAUSTED])
async def test_a_watch_that_stood_outlives_what_passes(code: grpc.StatusCode) -> None:
    monitor = Monitor(cut_code=code)
    monitor.happen(event(1), event(2))
    monitor.cuts.append(2)
    async with MonitorServer(monitor) as server, Client(server.address, reconnect=QUICK) as client:
        assert numbers(await take(client.watch(offset="earliest"), 2)) == [1, 2]
        monitor.cuts.append(0)
        with pytest.raises(RefusedError, match=code.name):
            await take(client.watch(offset="earliest"), 1)


async def test_a_server_without_monitoring_is_told_as_such() -> None:
    async with MonitorServer(absent=True) as server, Client(server.address) as client:
        with pytest.raises(RefusedError, match="started with --state DIR or --channels FILE"):
            await take(client.watch(), 1)


async def test_no_server_is_told_when_the_time_to_connect_is_over() -> None:
    options = ReconnectOptions(initial_s=0.01, connect_s=0.2)
    async with Client("127.0.0.1:1", reconnect=options) as client:
        with pytest.raises(ConnectionLostError, match=r"127\.0\.0\.1:1: .*given up after 0\.2 s"):
            await take(client.watch(), 1)


async def test_news_without_an_offset_break_the_contract() -> None:
    monitor = Monitor(without_offsets=True)
    monitor.happen(event(1))
    async with MonitorServer(monitor) as server, Client(server.address) as client:
        with pytest.raises(ProtocolError, match="without an offset"):
            await take(client.watch(offset="earliest"), 1)


async def test_closing_the_client_ends_a_watch_that_waits() -> None:
    async with MonitorServer() as server:
        client = Client(server.address)
        watch = client.watch()

        async def count() -> int:
            return len([one async for one in watch])

        waiting = asyncio.create_task(count())
        while not watch.connected:
            await asyncio.sleep(0.005)
        await client.close()
        async with asyncio.timeout(WAIT_S):
            assert await waiting == 0
        await watch.close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"events": False}, "neither results nor events"),
        ({"channels": "gate"}, "a list of names is wanted"),
        ({"channels": ["a b"]}, "channel is 'a b'"),
        ({"max_results_per_second": 0.0}, "max_results_per_second is 0; above 0"),
        ({"max_results_per_second": float("nan")}, "above 0"),
    ],
)
async def test_a_wrong_option_is_refused_before_anything_is_sent(wrong: dict[str, object], said: str) -> None:
    async with Client("127.0.0.1:1") as client:
        with pytest.raises(OptionsError, match=said):
            client.watch(**wrong)  # type: ignore[arg-type]


def test_what_a_newer_server_sends_is_kept_as_far_as_it_is_understood() -> None:
    newer = news_from_wire(watch_pb2.WatchChannelsResponse(offset="1", event=event(1, kind=77)))
    assert isinstance(newer, Event)
    assert (newer.kind.name, newer.kind.word) == ("UNKNOWN_77", "unknown_77")
    assert news_from_wire(watch_pb2.WatchChannelsResponse(offset="1")) is None


def test_without_asyncio_a_watch_is_an_iterator() -> None:
    monitor = Monitor()
    monitor.happen(event(1), event(2), event(3))
    monitor.cuts.append(2)
    with serving(monitor) as server, sync.Client(server.address, reconnect=QUICK) as client:
        with client.watch(offset="earliest") as watch:
            found = []
            for news in watch:
                found += numbers([news])
                if len(found) == 3:
                    break
        assert (found, watch.offset) == ([1, 2, 3], "3")
        assert list(watch) == []
        left = client.watch()
    left.close()
    with pytest.raises(StreamClosedError):
        next(left)


def test_without_asyncio_a_watch_that_waits_may_be_closed_from_another_thread() -> None:
    monitor, found = Monitor(), []
    monitor.happen(event(1))
    with serving(monitor) as server, sync.Client(server.address, reconnect=QUICK) as client:
        watch = client.watch(offset="earliest")
        begun = threading.Event()

        def read() -> None:
            for news in watch:
                found.extend(numbers([news]))
                begun.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert begun.wait(WAIT_S)
        watch.close()
        reader.join(WAIT_S)
        assert (found, reader.is_alive()) == ([1], False)
