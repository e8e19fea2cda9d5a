"""The client against a server that keeps the contract."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import grpc
import pytest

from support_fakeserver import Behaviour, FakeServer
from support_toyvideo import FORMAT, STILLS, ListSource, packet, stills, video
from vedette_client import (
    AccountMismatchError,
    Client,
    ConnectionLostError,
    OptionsError,
    Policy,
    ReconnectOptions,
    RefusedError,
    SessionState,
    SkipReason,
    SourceError,
    StreamClosedError,
    StreamLimits,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette_client.sources.base import SourcePacket

EVERY = Policy.EVERY_FRAME
QUICK = ReconnectOptions(initial_s=0.001, max_s=0.05, connect_s=0.3, give_up_s=5.0)


async def test_every_packet_of_a_source_gets_its_verdict_in_presentation_order() -> None:
    packets = video()
    async with FakeServer(Behaviour(window=8)) as server, Client(server.address) as client:
        source = ListSource(packets)
        verdicts = [v async for v in client.analyze(source, "a", engines=["toy"], policy=EVERY)]
    assert [v.pts for v in verdicts] == sorted(p.pts for p in packets if p.pts is not None)
    assert all(v.analysed for v in verdicts)
    assert source.closed
    assert server.acked > 0


async def test_a_verdict_knows_its_packet_and_its_boxes_in_pixels() -> None:
    async with FakeServer() as server, Client(server.address) as client:
        packets = video(groups=1, length=3)
        verdicts = [v async for v in client.analyze(ListSource(packets), "a", engines=["toy"], policy=EVERY)]
    assert verdicts[0].packet is packets[0]
    found = verdicts[0].detections[0]
    assert found.box == (0.0, 0.0, 0.5, 0.5)
    assert found.box_px == (0.0, 0.0, 100.0, 50.0)


async def test_the_channel_and_the_token_travel_in_the_metadata() -> None:
    async with FakeServer() as server, Client(server.address, token="secret") as client:
        stream = await client.open("front-door", FORMAT)
        assert stream.channel == "channels/front-door"
        await stream.finish()
    assert server.metadata[0]["x-vedette-channel"] == "channels/front-door"
    assert server.metadata[0]["authorization"] == "Bearer secret"


async def test_the_settings_travel_in_the_config() -> None:
    async with FakeServer() as server, Client(server.address) as client:
        stream = await client.open(
            "a", FORMAT, engines=["person@3", "blobs"], max_fps=5.0, max_age_s=1.5, classes=["person"], priority=20
        )
        await stream.finish()
    config = server.configs[0]
    assert [(e.name, e.version) for e in config.engines] == [("person", "3"), ("blobs", "")]
    assert (config.max_fps, config.max_age.ToMilliseconds(), config.priority) == (5.0, 1500, 20)
    assert not config.HasField("min_score")


async def test_a_stream_of_nothing_ends_with_an_empty_account() -> None:
    async with FakeServer() as server, Client(server.address) as client:
        stream = await client.open("a", FORMAT)
        account = await stream.finish()
        assert [v async for v in stream] == []
    assert account.packets == account.pending == 0


async def test_a_refusal_tells_code_reason_and_metadata() -> None:
    behaviour = Behaviour(refuse=(grpc.StatusCode.NOT_FOUND, "ENGINE_NOT_FOUND", "no engine 'nope'; there are: toy"))
    async with FakeServer(behaviour) as server, Client(server.address) as client:
        with pytest.raises(RefusedError, match="no engine 'nope'") as caught:
            await client.open("a", FORMAT, engines=["nope"])
    assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "ENGINE_NOT_FOUND")
    assert caught.value.metadata == {"key": "value"}
    assert server.calls == 1


async def test_a_channel_that_another_holds_is_refused_at_once() -> None:
    async with FakeServer() as server, Client(server.address) as client:
        await client.open("a", FORMAT)
        with pytest.raises(RefusedError, match="CHANNEL_TAKEN"):
            await client.open("a", FORMAT)


async def test_a_server_that_is_not_there_is_told_in_time() -> None:
    async with FakeServer() as server:
        address = server.address
    async with Client(address, reconnect=QUICK) as client:
        with pytest.raises(ConnectionLostError, match=r"given up after 0.3 s"):
            await client.open("a", FORMAT)


async def test_a_bad_option_is_refused_before_anything_is_sent() -> None:
    async with FakeServer() as server, Client(server.address) as client:
        with pytest.raises(OptionsError, match=r"min_score is 1.5"):
            await client.open("a", FORMAT, min_score=1.5)
        with pytest.raises(OptionsError, match=r"channel is 'a b'"):
            await client.open("a b", FORMAT)
    assert server.calls == 0


async def test_a_reason_that_is_not_known_is_counted() -> None:
    async with FakeServer(Behaviour(reasons={1: 77, 2: 77})) as server, Client(server.address) as client:
        stream = await client.open("a", FORMAT, policy=EVERY)
        for item in video(groups=1, length=6):
            await stream.send(item)
        account = await stream.finish()
        reasons = {v.sequence: v.reason async for v in stream}
    assert account.skipped[SkipReason(77)] == 2
    assert reasons[1] is not None
    assert reasons[1].name == "UNKNOWN_77"


async def test_an_account_that_differs_is_an_error() -> None:
    async with FakeServer(Behaviour(account_error=1)) as server, Client(server.address) as client:
        with pytest.raises(AccountMismatchError, match="analysed: 7 here, 8 there"):
            async for _ in client.analyze(ListSource(video(groups=1)), "a", policy=EVERY):
                pass


async def test_skips_that_are_not_told_are_in_the_account() -> None:
    behaviour = Behaviour(window=6, reasons={1: 1, 4: 1, 5: 4})
    async with FakeServer(behaviour) as server, Client(server.address) as client:
        stream = await client.open("a", FORMAT, policy=EVERY, omit_skips=True)
        packets = video()
        for item in packets:
            await stream.send(item)
        account = await stream.finish()
        verdicts = [v async for v in stream]
    assert len(verdicts) == account.analysed == len(packets) - 3
    assert account.skipped == {SkipReason.SUPERSEDED: 2, SkipReason.RATE_LIMIT: 1}
    assert account.pending == 0


async def test_leaving_the_loop_early_ends_the_stream_and_closes_the_source() -> None:
    source = ListSource(video(groups=50))
    async with FakeServer(Behaviour(window=8)) as server, Client(server.address) as client:
        async for verdict in client.analyze(source, "a", policy=EVERY):
            if verdict.sequence > 5:
                break
    assert source.closed
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith(("vedette", "feed"))]


async def test_cancelling_the_reader_leaves_nothing_behind() -> None:
    source = ListSource(video(groups=50))
    async with FakeServer(Behaviour(window=1, stall=asyncio.Event())) as server, Client(server.address) as client:

        async def read() -> None:
            async for _ in client.analyze(source, "a", policy=EVERY):
                pass

        reader = asyncio.create_task(read())
        while not server.configs:
            await asyncio.sleep(0.01)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert source.closed
        assert not [t for t in asyncio.all_tasks() if t.get_name().startswith(("vedette", "feed"))]
    assert not [t for t in threading.enumerate() if t.name.startswith("source")]


class FailingSource(ListSource):
    """Gives three packets, then fails."""

    def packets(self) -> Iterator[SourcePacket]:
        yield from self._packets[:3]
        raise OSError("the camera went away")


async def test_a_source_that_fails_half_way_is_told_after_its_verdicts() -> None:
    verdicts = []
    async with FakeServer() as server, Client(server.address) as client:
        with pytest.raises(SourceError, match="list: the camera went away"):
            async for verdict in client.analyze(FailingSource(video()), "a", policy=EVERY):
                verdicts.append(verdict)  # noqa: PERF401  they are wanted although it raises
    assert len(verdicts) == 3


async def test_a_source_that_cannot_be_opened_is_told() -> None:
    class Broken(ListSource):
        def open(self) -> object:  # type: ignore[override]
            raise FileNotFoundError("no such clip")

    async with FakeServer() as server, Client(server.address) as client:
        with pytest.raises(SourceError, match="list: no such clip"):
            async for _ in client.analyze(Broken([]), "a"):
                pass
    assert server.calls == 0


async def test_settings_are_changed_in_mid_stream_and_asked_for_again_after_a_reconnect() -> None:
    async with FakeServer() as server, Client(server.address, reconnect=QUICK) as client:
        stream = await client.open("a", FORMAT, policy=EVERY, max_fps=5.0, classes=["person"])
        updated = await stream.update(max_fps=2.0, classes=["car", "dog"], max_age_s=3.0)
        assert updated.config.max_fps == 2.0
        assert list(updated.config.classes) == ["car", "dog"]
        await stream.update(max_fps=None)
        await server.stop(forget=True)
        await server.start()
        await stream.finish()
    config = server.configs[-1]
    assert config is not server.configs[0]
    assert not config.HasField("max_fps")
    assert list(config.classes) == ["car", "dog"]
    assert config.max_age.seconds == 3


async def test_what_cannot_be_changed_in_mid_stream_is_refused() -> None:
    async with FakeServer() as server, Client(server.address) as client:
        stream = await client.open("a", FORMAT)
        with pytest.raises(OptionsError, match="cannot be changed"):
            await stream.update(engines=["other"])


async def test_the_clock_of_the_server_is_known() -> None:
    async with FakeServer() as server, Client(server.address) as client:
        stream = await client.open("a", FORMAT)
        await stream.finish()
        assert stream.clock_offset_s == pytest.approx(5.0, abs=1.0)


async def test_wishes_of_the_server_reach_the_caller() -> None:
    seen = []
    behaviour = Behaviour(rate_hint_fps=7.5, keyframe_request=True)
    async with FakeServer(behaviour) as server, Client(server.address) as client:
        stream = await client.open("a", FORMAT, on_flow=lambda flow: seen.append(flow.keyframe_requests))
        await stream.send(packet(0, (), keyframe=True))
        await stream.finish()
    assert stream.flow.rate_hint_fps == 7.5
    assert seen


async def test_numbers_are_told_to_who_sent_the_packets() -> None:
    numbered = {}
    async with FakeServer() as server, Client(server.address) as client:
        stream = await client.open("a", STILLS, policy=EVERY, on_sent=lambda n, p: numbered.update({n: p.pts}))
        for item in stills(5):
            await stream.send(item)
        await stream.finish()
    assert numbered == {n: n for n in range(5)}


async def test_an_error_in_a_callback_ends_the_stream() -> None:
    def fail(sequence: int, item: SourcePacket) -> None:
        raise RuntimeError("caller's own")

    async with FakeServer() as server, Client(server.address) as client:
        stream = await client.open("a", STILLS, policy=EVERY, on_sent=fail)
        await stream.send(stills(1)[0])
        with pytest.raises(RuntimeError, match="caller's own"):
            await stream.finish()


async def test_credits_in_bytes_are_kept() -> None:
    packets = [packet(n, (), keyframe=True, padding=900) for n in range(20)]
    async with FakeServer(Behaviour(window_bytes=2000, delay=0)) as server, Client(server.address) as client:
        stream = await client.open("a", STILLS, policy=EVERY)
        for item in packets:
            await stream.send(item)
        account = await stream.finish()
    assert account.analysed == 20


async def test_a_packet_above_the_limit_of_a_message_is_sent_in_fragments() -> None:
    big = packet(0, (), keyframe=True, padding=50_000)
    async with FakeServer(Behaviour(max_message_bytes=8192)) as server, Client(server.address) as client:
        stream = await client.open("a", STILLS, policy=EVERY)
        await stream.send(big)
        await stream.send(packet(1, (), keyframe=True))
        account = await stream.finish()
    assert account.analysed == 2
    assert account.bytes == len(big.data) + 2 + 1
    assert len(server.packets) >= 8


async def test_packets_that_are_ready_together_share_a_message() -> None:
    async with FakeServer() as server, Client(server.address, limits=StreamLimits(bundle_packets=8)) as client:
        stream = await client.open("a", STILLS, policy=EVERY)
        for item in stills(40):
            await stream.send(item)
        await stream.finish()
    assert max(server.bundles) > 1
    assert max(server.bundles) <= 8


async def test_a_live_stream_drops_groups_while_the_server_stalls_and_says_so() -> None:
    gate = asyncio.Event()
    limits = StreamLimits(wait_packets=25, wait_bytes=1 << 20, wait_s=100.0, bundle_packets=4)
    packets = video(groups=40, length=10, b_pictures=0)
    for item in packets:
        item.data += b"x" * 20_000
    async with FakeServer(Behaviour(stall=gate)) as server, Client(server.address, limits=limits) as client:
        stream = await client.open("a", FORMAT, policy=Policy.LIVE)
        dropped = 0
        for item in packets:
            dropped += await stream.send(item)
            assert stream.waiting <= 25
            await asyncio.sleep(0)
        assert dropped > 0
        gate.set()
        account = await stream.finish()
        verdicts = [v async for v in stream]
    assert account.client_dropped == dropped
    assert account.packets + dropped == len(packets)
    assert all(v.analysed for v in verdicts)  # whole groups were dropped: nothing lost its reference
    after_gap = [p for p in server.packets if p.client_dropped_before]
    assert after_gap
    assert all(p.keyframe and p.discontinuity for p in after_gap)


async def test_a_recorded_stream_waits_while_the_server_gives_no_credit() -> None:
    gate = asyncio.Event()
    limits = StreamLimits(wait_packets=4)
    async with FakeServer(Behaviour(window=4, stall=gate)) as server, Client(server.address, limits=limits) as client:
        stream = await client.open("a", STILLS, policy=EVERY)
        sent = 0

        async def send_all() -> None:
            nonlocal sent
            for item in stills(100):
                await stream.send(item)
                sent += 1

        sender = asyncio.create_task(send_all())
        await asyncio.sleep(0.2)
        assert sent <= 4 + 4
        gate.set()
        await sender
        account = await stream.finish()
    assert account.analysed == 100


async def test_a_reader_that_lags_pauses_reading_and_loses_nothing() -> None:
    limits = StreamLimits(queued_verdicts=5)
    async with FakeServer() as server, Client(server.address, limits=limits) as client:
        stream = await client.open("a", STILLS, policy=EVERY)
        for item in stills(60):
            await stream.send(item)
        await asyncio.sleep(0.1)
        assert stream.account.analysed <= 6
        seen = [await anext(stream) for _ in range(40)]
        await stream.finish()
        seen += [v async for v in stream]
    assert [v.sequence for v in seen] == list(range(60))


async def test_a_closed_stream_takes_nothing_more() -> None:
    async with FakeServer() as server, Client(server.address) as client:
        stream = await client.open("a", FORMAT)
        await stream.close()
        await stream.close()
        with pytest.raises(StreamClosedError):
            await stream.send(packet(0, (), keyframe=True))
        with pytest.raises(StreamClosedError):
            await stream.finish()
        assert [v async for v in stream] == []


async def test_sessions_can_be_asked_for() -> None:
    async with FakeServer() as server, Client(server.address) as client:
        for channel in ("a", "b", "c"):
            stream = await client.open(channel, STILLS, policy=EVERY)
            await stream.send(stills(1)[0])
            await stream.finish()
        found = await client.session(stream.session_name)
        assert (found.state, found.account.analysed, found.pending) == (SessionState.ENDED, 1, 0)
        assert len(await client.sessions()) >= 3
        assert len(await client.sessions(limit=2)) == 2
        with pytest.raises(RefusedError, match="SESSION_NOT_FOUND"):
            await client.session("channels/a/sessions/nope")
