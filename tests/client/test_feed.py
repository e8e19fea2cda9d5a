"""A blocking source beside an event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest

from support_fakeserver import Behaviour, FakeServer
from support_toyvideo import STILLS, ListSource, stills
from vedette_client import Client, Policy
from vedette_client.feed import open_source_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette_client.sources.base import SourceFormat, SourcePacket


class HangingSource(ListSource):
    """Gives one packet, then hangs in a read until it is closed."""

    def __init__(self) -> None:
        super().__init__(stills(1), STILLS, live=True)
        self.pulled_out = threading.Event()

    def packets(self) -> Iterator[SourcePacket]:
        yield from self._packets
        assert self.pulled_out.wait(20)

    def close(self) -> None:
        super().close()
        self.pulled_out.set()


async def test_a_source_that_hangs_is_pulled_out() -> None:
    source = HangingSource()
    async with FakeServer(Behaviour(delay=0)) as server, Client(server.address) as client:
        async with await client.start(source, "a") as analysis:
            assert (await anext(analysis)).sequence == 0
        assert source.closed
    assert source.pulled_out.is_set()


async def test_packets_are_sent_when_they_are_due() -> None:
    packets = stills(4)
    for number, item in enumerate(packets):
        item.due_s = number * 0.05
    sent_s: list[float] = []
    async with FakeServer(Behaviour(delay=0)) as server, Client(server.address) as client:
        start_s = time.monotonic()
        source = ListSource(packets, STILLS)
        async with await client.start(source, "a", on_sent=lambda n, p: sent_s.append(time.monotonic())) as analysis:
            while await analysis.read():
                pass
    assert all(at - start_s >= number * 0.05 for number, at in enumerate(sent_s))
    assert len(sent_s) == 4


async def test_a_recording_sent_as_fast_as_possible_is_slowed_not_dropped_even_when_live() -> None:
    async with FakeServer(Behaviour(delay=0)) as server, Client(server.address) as client:
        source = ListSource(stills(500), STILLS)
        verdicts = [v async for v in client.analyze(source, "a", policy=Policy.LIVE)]
    assert [v.sequence for v in verdicts] == list(range(500))


async def test_a_source_never_runs_far_ahead_of_its_stream() -> None:
    taken = 0

    class Counting(ListSource):
        def packets(self) -> Iterator[SourcePacket]:
            nonlocal taken
            for item in self._packets:
                taken += 1
                yield item

    gate = asyncio.Event()
    async with FakeServer(Behaviour(window=4, stall=gate)) as server, Client(server.address) as client:
        source = Counting(stills(1000), STILLS)
        async with await client.start(source, "a", policy=Policy.EVERY_FRAME) as analysis:
            await asyncio.sleep(0.3)
            assert taken < 200
            gate.set()
            count = 0
            while verdicts := await analysis.read():
                count += len(verdicts)
    assert count == taken == 1000


async def test_an_opening_that_is_no_longer_waited_for_closes_its_source() -> None:
    opened = threading.Event()

    class Slow(ListSource):
        def open(self) -> SourceFormat:
            opened.wait(20)
            return STILLS

    source = Slow([], STILLS)
    waiter = asyncio.create_task(open_source_in_thread(source))
    await asyncio.sleep(0.05)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    opened.set()
    while not source.closed:
        await asyncio.sleep(0.01)
