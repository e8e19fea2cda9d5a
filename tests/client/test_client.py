"""The client against a server that keeps the contract."""

from __future__ import annotations

from support_fakeserver import Behaviour, FakeServer
from support_toyvideo import ListSource, video
from vedette_client import Client, Policy


async def test_every_packet_of_a_source_gets_its_verdict_in_presentation_order() -> None:
    packets = video()
    async with FakeServer(Behaviour(window=8)) as server, Client(server.address) as client:
        source = ListSource(packets)
        verdicts = [v async for v in client.analyze(source, "a", engines=["toy"], policy=Policy.EVERY_FRAME)]
    assert [v.pts for v in verdicts] == sorted(p.pts for p in packets if p.pts is not None)
    assert all(v.analysed for v in verdicts)
    assert source.closed
    assert server.acked > 0
