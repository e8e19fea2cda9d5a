"""The sender of a load test against a server that is slower than the schedule."""

from __future__ import annotations

import asyncio
import time

from support_fakeserver import Behaviour, FakeServer
from support_toyvideo import FORMAT, stills
from vedette_client import AnalyzeOptions, Policy
from vedette_client.loadtest import generator
from vedette_client.loadtest.clips import LoadClip
from vedette_client.loadtest.generator import Generator
from vedette_client.loadtest.plan import LoadPlan
from vedette_client.loadtest.statistics import check_accounts
from vedette_client.reach import Reach

FRAMES = 200


async def test_frames_that_credits_hold_back_for_too_long_are_told_and_the_rest_is_kept(monkeypatch) -> None:
    monkeypatch.setattr(generator, "SEND_GRACE_S", 0.2)
    stall = asyncio.Event()
    async with FakeServer(Behaviour(window=4, stall=stall)) as server:
        options = AnalyzeOptions(engines=("toy",), policy=Policy.EVERY_FRAME)
        plan = LoadPlan(Reach(server.address), 1, 400.0, FRAMES / 400, ("toy",), options)
        sender = Generator(plan, plan.cameras(), plan.reach)
        sender._clips = {"toy": LoadClip(FORMAT, tuple(stills(FRAMES)), FRAMES, seamless=False)}
        await sender.open()
        try:
            asyncio.get_running_loop().call_later(1.2, stall.set)
            async with asyncio.timeout(20):
                await sender.send(time.monotonic())
        finally:
            await sender.close()
    record = sender.records[0]
    assert record.scheduled == plan.frames == FRAMES
    assert 0 < record.unsent < FRAMES
    assert record.analysed == record.sent == FRAMES - record.unsent
    assert check_accounts([record]).problems == {}
