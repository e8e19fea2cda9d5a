"""A cut stream, resumed, must end as the uncut one: same verdicts, same account."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support_fakeserver import Behaviour, Cut, FakeServer
from support_toyvideo import FORMAT, STILLS, packet, stills, video
from vedette_client import Client, ConnectionLostError, Policy, ReconnectOptions, SkipReason, StreamLimits

if TYPE_CHECKING:
    from vedette_client import Verdict
    from vedette_client.sources.base import SourceFormat, SourcePacket

QUICK = ReconnectOptions(initial_s=0.001, max_s=0.05, give_up_s=20.0)
PACKETS = video(groups=3, length=6)
ONE_BY_ONE = StreamLimits(bundle_packets=1)
Outcome = set[tuple[int, int | None, SkipReason | None, str]]


def outcome(verdicts: list[Verdict]) -> Outcome:
    return {(v.sequence, v.pts, v.reason, v.detections[0].label if v.detections else "") for v in verdicts}


async def run(
    cuts: list[Cut],
    packets: list[SourcePacket],
    *,
    video_format: SourceFormat = FORMAT,
    limits: StreamLimits | None = None,
    policy: Policy = Policy.EVERY_FRAME,
    **wishes: object,
) -> tuple[list[Verdict], FakeServer]:
    """Stream the packets to a server that cuts; closing accounts are compared on the way."""
    behaviour = Behaviour(window=6, cuts=deque(cuts), **wishes)  # type: ignore[arg-type]
    async with FakeServer(behaviour) as server, Client(server.address, reconnect=QUICK, limits=limits) as client:
        stream = await client.open("a", video_format, engines=["toy"], policy=policy)
        for item in packets:
            await stream.send(item, wait=True)
        account = await stream.finish()
        verdicts = [v async for v in stream]
    assert account.packets == len(packets) == len(verdicts)
    assert account.pending == 0
    return verdicts, server


@pytest.mark.parametrize("forget", [False, True], ids=["kept", "forgotten"])
@pytest.mark.parametrize("direction", ["in", "out"])
async def test_a_cut_at_any_message_changes_no_verdict(direction: str, *, forget: bool) -> None:
    whole = outcome((await run([], PACKETS))[0])
    after, met = 0, True
    while met:
        limits = ONE_BY_ONE
        verdicts, server = await run([Cut(direction, after, forget)], PACKETS, limits=limits)
        assert outcome(verdicts) == whole, f"cut {direction} after {after}"
        met = server.calls > 1
        after += 1
    assert after > 14


@given(
    cuts=st.lists(st.builds(Cut, st.sampled_from(["in", "out"]), st.integers(1, 20), st.booleans()), max_size=5),
    groups=st.integers(1, 5),
    length=st.sampled_from([3, 6, 12]),
    b_pictures=st.integers(0, 2),
    open_groups=st.booleans(),
    bundle=st.integers(1, 4),
    bundle_packets=st.integers(1, 4),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_random_cuts_change_no_verdict(
    cuts: list[Cut], groups: int, length: int, b_pictures: int, bundle: int, bundle_packets: int, *, open_groups: bool
) -> None:
    packets = video(groups, length, b_pictures=b_pictures, open_groups=open_groups)
    whole = outcome((await run([], packets))[0])
    verdicts, _ = await run(cuts, packets, limits=StreamLimits(bundle_packets=bundle_packets), bundle=bundle)
    assert outcome(verdicts) == whole
    assert len({v.sequence for v in verdicts}) == len(packets)


@given(cuts=st.lists(st.builds(Cut, st.sampled_from(["in", "out"]), st.integers(1, 20)), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
async def test_a_server_that_kept_all_but_its_decoder_changes_no_verdict(cuts: list[Cut]) -> None:
    whole = outcome((await run([], PACKETS))[0])
    verdicts, _ = await run(cuts, PACKETS, drop_decoder=True)
    assert outcome(verdicts) == whole


async def test_a_kept_decoder_is_never_fed_twice() -> None:
    _, server = await run([Cut("in", 6), Cut("out", 7), Cut("in", 3)], PACKETS, limits=ONE_BY_ONE)
    assert server.calls == 4
    numbers = [p.sequence for p in server.packets]
    assert numbers == sorted(set(numbers))


async def test_a_forgetful_server_is_told_which_packets_to_decode_only() -> None:
    _, server = await run([Cut("out", 12, forget=True)], video(groups=2, length=30))
    again = [p for p in server.packets if p.decode_only]
    assert again
    assert again[0].keyframe


async def test_stills_need_no_keyframe_to_start_again() -> None:
    packets = stills(30)
    verdicts, server = await run([Cut("out", 14, forget=True)], packets, video_format=STILLS)
    assert all(v.analysed for v in verdicts)
    assert not any(p.decode_only for p in server.packets)


async def test_packets_whose_keyframe_was_evicted_are_lost_and_counted() -> None:
    packets = [*video(groups=1, length=60, b_pictures=0), packet(60, (), keyframe=True)]
    packets += [packet(pts, (pts - 1,)) for pts in range(61, 70)]
    limits = StreamLimits(keep_packets=8)
    verdicts, _ = await run([Cut("out", 50, forget=True)], packets, limits=limits)
    lost = [v for v in verdicts if v.reason is SkipReason.SESSION_LOST]
    assert lost
    assert all(v.index is None and v.sequence < 60 for v in lost)
    assert any(v.reason is SkipReason.LOST_REFERENCE for v in verdicts)  # those that were sent afterwards
    assert [v.sequence for v in verdicts if v.analysed][-10:] == list(range(60, 70))
    assert {v.sequence for v in verdicts} == set(range(70))


async def test_a_stream_that_cannot_be_resumed_in_time_accounts_for_every_packet() -> None:
    reconnect = ReconnectOptions(initial_s=0.001, max_s=0.05, give_up_s=0.3)
    server = FakeServer(Behaviour(window=6))
    await server.start()
    async with Client(server.address, reconnect=reconnect) as client:
        stream = await client.open("a", FORMAT, engines=["toy"], policy=Policy.EVERY_FRAME)
        for item in PACKETS[:6]:
            await stream.send(item)
        first = await anext(stream)
        await server.stop(forget=True)
        verdicts = [first]
        with pytest.raises(ConnectionLostError, match="given up after"):
            while more := await stream.read():
                verdicts += more
        assert sorted(v.sequence for v in verdicts) == list(range(6))
        assert stream.account.pending == 0
        assert stream.account.skipped[SkipReason.SESSION_LOST] > 0


async def test_a_server_that_is_stopped_and_started_again_changes_no_verdict() -> None:
    whole = outcome((await run([], PACKETS))[0])
    async with FakeServer(Behaviour(window=6)) as server, Client(server.address, reconnect=QUICK) as client:
        stream = await client.open("a", FORMAT, engines=["toy"], policy=Policy.EVERY_FRAME)
        for number, item in enumerate(PACKETS):
            await stream.send(item)
            if number in {4, 11}:
                await stream.read()
                await server.stop(forget=True)
                await server.start()
        await stream.finish()
        verdicts = [v async for v in stream]
    missing = {entry for entry in whole if entry not in outcome(verdicts)}
    assert stream.account.packets == len(PACKETS)
    assert outcome(verdicts) <= whole
    assert len(missing) + len(verdicts) == len(PACKETS)  # those that `read` took


async def test_a_new_decoder_configuration_is_sent_again_to_a_server_that_forgot_it() -> None:
    packets = video(groups=4, length=6)
    packets[0].extradata = b"first"
    _, server = await run([Cut("out", 25, forget=True)], packets)
    resumed = server.packets[
        next(i for i, p in enumerate(server.packets) if i and p.sequence <= server.packets[i - 1].sequence)
    ]
    assert resumed.sequence > 0
    assert resumed.extradata == b"first"
