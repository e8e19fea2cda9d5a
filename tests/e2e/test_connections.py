"""Connections that die, hang, come back, are taken over, or come by the thousand."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import grpc
import psutil
import pytest

from support_fakeserver import TcpProxy
from support_serving import ROOT, ServerProcess
from support_wire import Refused, Wire, grey_config, grey_packet, session_of, until
from vedette.v1 import session_pb2, stream_pb2
from vedette_client import SkipReason

if TYPE_CHECKING:
    from pathlib import Path

    from vedette.v1.session_pb2 import Session

LIVE = stream_pb2.DELIVERY_POLICY_LIVE
DETACHED, ENDED = session_pb2.SESSION_STATE_DETACHED, session_pb2.SESSION_STATE_ENDED
# Three intervals of 0.4 s, the clock's tick, and time for a busy machine.
DEAD_WITHIN_S = 5.0

# Freshness, memory and graces are judged.
pytestmark = pytest.mark.alone

CAMERA = """
import asyncio, json, sys
from vedette_client import Client, Policy
async def main():
    async with Client(sys.argv[1]) as client:
        stream = client.analyze("synthetic:blobs?seconds=4&width=128&height=96&fps=15", sys.argv[2], engines=["blobs"])
        verdicts = []
        async for verdict in stream:
            if not verdicts:
                print("first", flush=True)
            verdicts.append(verdict.sequence)
        print(json.dumps(sorted(verdicts)), flush=True)
asyncio.run(main())
"""


async def state(server: ServerProcess, channel: str, wanted: int) -> bool:
    return (await session_of(server.address, channel)).state == wanted


async def slots_are_free(server: ServerProcess) -> bool:
    figures = await asyncio.to_thread(lambda: server.metrics)
    return sum(value for name, value in figures.items() if name.startswith("vedette_slots_in_use")) == 0


async def closed_account(server: ServerProcess, channel: str) -> Session:
    """Wait until nobody can come back to a channel's session, and return it."""
    await until(lambda: state(server, channel, ENDED))
    session = await session_of(server.address, channel)
    account = session.account
    assert account.packets_pending == 0
    assert account.packets_received == account.analysed + sum(entry.count for entry in account.skipped)
    return session


@pytest.mark.timeout(60)
async def test_a_stopped_client_is_taken_for_dead_and_may_come_back(quick_server: ServerProcess) -> None:
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("proto", "client"))}
    command = [sys.executable, "-c", CAMERA, quick_server.address, "stopped"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as camera:
        assert camera.stdout is not None
        assert await asyncio.to_thread(camera.stdout.readline) == "first\n"
        camera.send_signal(signal.SIGSTOP)
        stopped_s = time.monotonic()
        await until(lambda: state(quick_server, "stopped", DETACHED))
        assert time.monotonic() - stopped_s < DEAD_WITHIN_S
        session = await closed_account(quick_server, "stopped")
        assert session.end_reason == "CONNECTION_LOST"
        assert session.account.packets_received >= 1

        camera.send_signal(signal.SIGCONT)
        told = json.loads(await asyncio.to_thread(camera.stdout.readline))
        assert await asyncio.to_thread(camera.wait) == 0
    # A live camera drops what grew old while it was stopped; what it numbered is all judged.
    assert told == list(range(len(told)))
    assert await slots_are_free(quick_server)


async def test_a_connection_through_a_black_hole_is_taken_for_dead(quick_server: ServerProcess) -> None:
    async with TcpProxy(quick_server.address) as wire, Wire(wire.address, "hole") as camera:
        await camera.open(grey_config("hole"))
        await camera.say(packets=[grey_packet(number) for number in range(20)])
        await camera.hear_verdicts(20)
        wire.swallow = True
        lost_s = time.monotonic()
        await until(lambda: state(quick_server, "hole", DETACHED))
        assert time.monotonic() - lost_s < DEAD_WITHIN_S
        session = await closed_account(quick_server, "hole")
        assert session.account.analysed == 20
        await until(lambda: slots_are_free(quick_server))


async def test_a_silent_client_is_told_why_its_call_ends(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "silent") as camera:
        await camera.open(grey_config("silent"))
        with pytest.raises(Refused) as caught:
            await camera.hear_all()
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert caught.value.reasons == ["HEARTBEAT_TIMEOUT"]


async def test_heartbeats_keep_a_quiet_connection(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "quiet") as camera:
        await camera.open(grey_config("quiet"))
        for _ in range(12):
            await camera.say(heartbeat=stream_pb2.Heartbeat())
            await asyncio.sleep(0.2)
        assert (await camera.finish()).packets_received == 0


async def test_a_token_displaces_a_dead_stream(quick_server: ServerProcess) -> None:
    async with TcpProxy(quick_server.address) as wire, Wire(wire.address, "dead") as old:
        token = (await old.open(grey_config("dead"))).session_token
        await old.say(packets=[grey_packet(0), grey_packet(1)])
        await old.hear_verdicts(2)
        wire.swallow = True
        resume = stream_pb2.Resume(session_token=token, next_verdict_index=1, next_sequence=2)
        async with Wire(quick_server.address, "dead") as new:
            accepted = await new.open(grey_config("dead", resume=resume))
            assert (accepted.epoch, accepted.state_restored, accepted.keyframe_needed) == (2, True, False)
            assert (accepted.next_sequence, accepted.next_verdict_index) == (2, 1)
            await new.say(packets=[grey_packet(2)])
            await new.hear_verdicts(2)
            assert [verdict.verdict_index for verdict in new.verdicts] == [1, 2]
            assert (await new.finish()).analysed == 3


async def test_an_old_connection_is_told_that_a_new_one_took_over(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "moved") as old, Wire(quick_server.address, "moved") as new:
        token = (await old.open(grey_config("moved"))).session_token
        await new.open(grey_config("moved", resume=stream_pb2.Resume(session_token=token)))
        # It writes nothing meanwhile: grpc.aio's client hides the status behind INTERNAL when a write meets the end.
        with pytest.raises(Refused) as caught:
            await old.hear_all()
        assert (caught.value.code, caught.value.reasons) == (grpc.StatusCode.ABORTED, ["TAKEN_OVER"])
        await new.say(packets=[grey_packet(0)])
        assert (await new.finish()).analysed == 1


async def test_what_an_old_connection_still_says_is_not_the_sessions_any_more(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "past") as old, Wire(quick_server.address, "past") as new:
        token = (await old.open(grey_config("past"))).session_token
        await new.open(grey_config("past", resume=stream_pb2.Resume(session_token=token)))
        await old.say(packets=[grey_packet(0)])
        # Had the old one's packet been taken, this one would repeat its number and end the call.
        await new.say(packets=[grey_packet(0)])
        account = await new.finish()
        assert (account.packets_received, account.analysed) == (1, 1)


async def test_a_channel_has_one_stream_unless_it_is_taken_over(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "one") as first:
        name = (await first.open(grey_config("one"))).session
        await first.say(packets=[grey_packet(0)])
        await first.hear_verdicts(1)
        async with Wire(quick_server.address, "one") as second:
            with pytest.raises(Refused) as caught:
                await second.open(grey_config("one"))
            assert (caught.value.code, caught.value.reasons) == (grpc.StatusCode.ALREADY_EXISTS, ["CHANNEL_TAKEN"])
        async with Wire(quick_server.address, "one") as third:
            accepted = await third.open(grey_config("one", takeover=True))
            assert (accepted.epoch, accepted.state_restored) == (1, False)
            with pytest.raises(Refused) as caught:
                await first.hear_all()
            assert (caught.value.code, caught.value.reasons) == (grpc.StatusCode.ABORTED, ["TAKEN_OVER"])
            await third.say(packets=[grey_packet(0), grey_packet(1)])
            assert (await third.finish()).analysed == 2
    ended = await session_of(quick_server.address, "one", name.rpartition("/")[2])
    assert (ended.end_reason, ended.account.analysed) == ("TAKEN_OVER", 1)


async def test_a_client_that_never_reads_is_stopped(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "deaf") as camera:
        await camera.open(grey_config("deaf", policy=LIVE))
        for start in range(0, 1200, 10):
            await camera.say(packets=[grey_packet(number) for number in range(start, start + 10)])
            await asyncio.sleep(0.002)
        # The reason is the server's to tell: gRPC shows no status to who does not read.
        await until(lambda: state(quick_server, "deaf", DETACHED))
    figures = await asyncio.to_thread(lambda: quick_server.metrics)
    assert figures['vedette_calls_refused_total{reason="VERDICTS_NOT_ACKNOWLEDGED"}'] == 1
    session = await closed_account(quick_server, "deaf")
    assert 256 <= session.account.packets_received < 1200


async def test_a_session_can_be_taken_up_after_its_client_said_that_it_had_sent_all(
    quick_server: ServerProcess,
) -> None:
    """A cut may look like the end of a stream; a client that comes back with more is believed."""
    async with Wire(quick_server.address, "again") as first:
        token = (await first.open(grey_config("again"))).session_token
        await first.say(packets=[grey_packet(0), grey_packet(1)])
        assert (await first.finish()).analysed == 2
    resume = stream_pb2.Resume(session_token=token, next_verdict_index=2, next_sequence=3)
    async with Wire(quick_server.address, "again") as second:
        accepted = await second.open(grey_config("again", resume=resume))
        assert (accepted.state_restored, accepted.keyframe_needed, accepted.next_sequence) == (True, True, 2)
        await second.say(packets=[grey_packet(1, decode_only=True), grey_packet(2)])
        account = await second.finish()
        assert (account.packets_received, account.analysed, account.decode_only) == (3, 3, 1)


async def test_more_packets_after_the_end_ask_for_a_new_connection(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "late") as first:
        token = (await first.open(grey_config("late"))).session_token
        await first.say(packets=[grey_packet(0)])
        await first.finish()
    resume = stream_pb2.Resume(session_token=token, next_verdict_index=1, next_sequence=1)
    async with Wire(quick_server.address, "late") as second:
        await second.open(grey_config("late", resume=resume))
        await second.say(packets=[grey_packet(1)])
        with pytest.raises(Refused) as caught:
            await second.hear_all()
        # A code after which clients come back, now with one more packet.
        assert (caught.value.code, caught.value.reasons) == (grpc.StatusCode.UNAVAILABLE, ["INPUT_CLOSED"])


# -- a thousand connects -------------------------------------------------------------------------------


async def vanish(server: ServerProcess, channel: str, packets: int) -> None:
    """Connect, send a little, and go without a word."""
    async with Wire(server.address, channel) as camera:
        await camera.open(grey_config(channel, policy=LIVE if packets % 2 else 0))
        await camera.say(packets=[grey_packet(number) for number in range(packets)])
        if packets % 3:
            await camera.hear_verdicts(1)


async def vanish_often(server: ServerProcess, count: int, label: str) -> None:
    async def some(start: int) -> None:
        for number in range(start, count, 20):
            await vanish(server, f"{label}-{number % 200}-{number}", number % 7)

    await asyncio.gather(*(some(start) for start in range(20)))


@pytest.mark.timeout(180)
async def test_a_thousand_connects_leave_nothing_behind(gauges: Path) -> None:
    flags = ("--engine", "gauge", "--lanes", "1", "--max-batch", "4", "--tune-budget-s", "0", "--metrics-port", "0")
    dirs = ("--engines-dir", str(gauges), "--resume-window-s", "1", "--heartbeat-interval-s", "0.4")
    with ServerProcess(*flags, *dirs, "--forget-after-s", "0") as server:
        process = psutil.Process(server.process.pid)

        async def all_gone() -> bool:
            return (await asyncio.to_thread(lambda: server.metrics))["vedette_channels"] == 0

        # As many before as after: the allocator's first growth is no leak, and hides none.
        await vanish_often(server, 1000, "warm")
        await until(all_gone)
        threads, files = process.num_threads(), process.num_fds()

        # A leak grows every time; what the allocator keeps of a busy moment does not.
        grown = []
        for label in ("cold", "colder", "coldest"):
            before = process.memory_info().rss
            await vanish_often(server, 1000, label)
            await until(all_gone)
            grown.append(process.memory_info().rss - before)
        assert await slots_are_free(server)
        assert process.num_threads() <= threads + 2
        assert process.num_fds() <= files + 5
        # The accounts of the latest 4096 sessions are remembered, in a few kilobytes each.
        told = f"{[size // 1000 for size in grown]} bytes per session"
        assert sorted(grown)[1] < 1000 * 12_000, told
        assert min(grown) < 1000 * 6_000, told
        for channel in ("coldest-199-999", "coldest-0-0"):
            session = await closed_account(server, channel)
            assert session.end_reason == "CONNECTION_LOST"
            assert {entry.reason for entry in session.account.skipped} <= {
                SkipReason.SUPERSEDED,
                SkipReason.SESSION_LOST,
            }
