"""Verdicts go to those who watch: once on the wire, at each one's pace, and what is missing is known."""

from __future__ import annotations

import asyncio
import threading

import pytest

from support_watch import a_verdict
from vedette_server.data.outcome import SkipReason
from vedette_server.rpc.bell import Bell
from vedette_server.watch import hub as hub_module
from vedette_server.watch.hub import ResultHub
from vedette_server.watch.results import Missed, ResultQueue, ResultWish


def anything(_channel: str) -> bool:
    return True


def wish(*channels: str, may_see=anything, **more) -> ResultWish:
    return ResultWish(frozenset(channels) or None, may_see, **more)


def nothing() -> None:
    return None


@pytest.fixture
async def hub() -> ResultHub:
    return ResultHub(Bell(asyncio.get_running_loop()), room=4)


def publish(hub: ResultHub, channel: str, sequence: int = 0, found: int = 1) -> None:
    hub.publish(channel, "s1", a_verdict(sequence, found), sequence, f"r{sequence}")


def taken(queue: ResultQueue) -> list[tuple[str, int]]:
    found = []
    while (one := queue.take()) is not None:
        found.append((one[1].channel.removeprefix("channels/"), one[1].verdict.sequence))
    return found


async def test_a_verdict_reaches_those_who_watch_its_channel_and_is_put_on_the_wire_once(hub):
    woken = asyncio.Event()
    gate, yard, all_of_them = (hub.watch(one, woken.set) for one in (wish("gate"), wish("yard"), wish()))
    hub.publish("gate", "s1", a_verdict(7), 5, "r7")
    await asyncio.wait_for(woken.wait(), 5)
    (position, result), (other_position, other) = gate.take(), all_of_them.take()
    assert yard.take() is None
    assert result is other
    assert position == other_position
    assert (result.channel, result.session) == ("channels/gate", "channels/gate/sessions/s1")
    assert (result.verdict.sequence, result.verdict.verdict_index, result.verdict.request_id) == (7, 5, "r7")
    assert result.verdict.analysis.results[0].detections[0].label == "person"


async def test_a_skip_without_a_number_is_a_result_too(hub):
    queue = hub.watch(wish("gate"), nothing)
    hub.publish("gate", "s1", a_verdict(3, reason=SkipReason.NO_MOTION, detail="still"), None, "")
    hub.wake()
    (_, result) = queue.take()
    assert (result.verdict.skip.reason, result.verdict.skip.detail) == (5, "still")


async def test_nothing_is_kept_for_channels_that_nobody_watches(hub):
    queue = hub.watch(wish("gate"), nothing)
    for n in range(10):
        publish(hub, "yard", n)
    hub.wake()
    assert len(queue) == 0
    hub.unwatch(queue)
    hub.unwatch(queue)
    publish(hub, "gate")
    assert (hub.watchers, len(hub._pile)) == (0, 0)


async def test_threads_publish_while_others_watch_and_each_channel_stays_in_order(hub):
    count = 200
    woken = asyncio.Event()
    hub._room = 10_000
    queue = hub.watch(wish(), woken.set)
    threads = [
        threading.Thread(target=lambda name=name: [publish(hub, name, n) for n in range(count)]) for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    found: list[tuple[str, int]] = []
    async with asyncio.timeout(20):
        while len(found) < count * len(threads):
            await woken.wait()
            woken.clear()
            found += taken(queue)
    for name in "abcd":
        assert [sequence for channel, sequence in found if channel == name] == list(range(count))


async def test_a_slow_watcher_keeps_the_newest_and_knows_how_many_it_missed(hub):
    queue = hub.watch(wish("a", "b"), nothing)
    for n in range(7):
        publish(hub, "a", n)
    hub.wake()
    assert queue.take_missed() == Missed("a", 3)
    assert queue.take_missed() is None
    assert taken(queue) == [("a", n) for n in range(3, 7)]
    for n in range(4):
        publish(hub, "a", n)
        publish(hub, "b", n)
    hub.wake()
    assert queue.take_missed() == Missed("", 4)
    assert hub.dropped == 7
    hub.unwatch(queue)
    hub.unwatch(queue)
    assert hub.dropped == 7


async def test_what_the_loop_is_too_slow_for_is_told_to_all(hub, monkeypatch):
    monkeypatch.setattr(hub_module, "MOST_PILED", 2)
    gate, yard = hub.watch(wish("gate"), nothing), hub.watch(wish("yard"), nothing)
    for n in range(5):
        publish(hub, "gate", n)
    hub.wake()
    assert taken(gate) == [("gate", 0), ("gate", 1)]
    assert gate.take_missed() == yard.take_missed() == Missed("", 0)
    assert gate.take_missed() is None
    assert hub.lost == 3


async def test_only_what_was_found_only_what_may_be_seen(hub):
    found = hub.watch(wish(found_only=True), nothing)
    seen = hub.watch(wish(may_see=lambda channel: channel == "gate"), nothing)
    publish(hub, "gate", 0, found=0)
    publish(hub, "yard", 1)
    hub.publish("gate", "s", a_verdict(2, reason=SkipReason.STALE), 2, "")
    hub.wake()
    assert taken(found) == [("yard", 1)]
    assert taken(seen) == [("gate", 0), ("gate", 2)]


def test_a_pace_holds_on_average_and_saves_nothing_up():
    queue = ResultQueue(wish(interval_s=1.0), nothing)
    takes = [n / 10 for n in range(100) if queue.wants("a", found=True, now_s=n / 10)]
    assert takes == [float(n) for n in range(10)]
    # 15 frames a second thinned to 10: on average as often as asked for, though no frame falls on the beat.
    queue = ResultQueue(wish(interval_s=0.1), nothing)
    assert sum(queue.wants("a", found=True, now_s=n / 15) for n in range(150)) in {99, 100, 101}
    # After a pause there is no burst, and channels do not share a pace.
    assert [queue.wants("a", found=True, now_s=100.0 + n / 1000) for n in range(3)] == [True, True, False]
    assert queue.wants("b", found=True, now_s=100.0)


async def test_of_a_position_it_is_known_which_channels_had_results_since(hub):
    publish(hub, "gate")
    before = hub.position
    assert hub.missed(before, wish()) == set()
    publish(hub, "yard")
    publish(hub, "gate")
    assert hub.missed(before, wish()) == {"gate", "yard"}
    assert hub.missed(before, wish("gate", "other")) == {"gate"}
    assert hub.missed(before, wish(may_see=lambda channel: channel == "yard")) == {"yard"}
    assert hub.missed(hub.position, wish()) == set()


async def test_whoever_goes_on_from_a_result_misses_nothing_unknowingly(hub):
    queue = hub.watch(wish(), nothing)
    for channel in "abab":
        publish(hub, channel)
    hub.wake()
    positions = [queue.take()[0] for _ in range(4)]
    assert positions == sorted(set(positions))
    missed = [sorted(hub.missed(position, wish())) for position in positions]
    assert missed == [["a", "b"], ["a", "b"], ["b"], []]


async def test_of_forgotten_channels_it_is_known_that_they_had_results(hub, monkeypatch):
    monkeypatch.setattr(hub_module, "MOST_REMEMBERED", 10)
    before = hub.position
    for n in range(30):
        publish(hub, f"c{n:02}")
        hub.wake()
    assert len(hub._last) <= 11
    assert "" in hub.missed(before, wish("c00"))
    assert hub.missed(hub.position, wish("c00")) == set()


async def test_names_are_forgotten_though_nobody_watches(hub, monkeypatch):
    monkeypatch.setattr(hub_module, "MOST_REMEMBERED", 10)
    for n in range(100):
        publish(hub, f"c{n}")
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert len(hub._last) <= 12
