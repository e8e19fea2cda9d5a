"""Client, server and metrics count alike, to the packet; and sessions can be asked for."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from support_middle import Cut, Middle
from support_streams import GREY_FORMAT, encoded, grey
from support_wire import Refused, Wire, grey_config, grey_packet, session_of
from vedette.v1 import session_pb2, session_pb2_grpc
from vedette_client import Client, Policy, ReconnectOptions, RefusedError, SkipReason
from vedette_client.sessions import SessionState

if TYPE_CHECKING:
    from support_serving import ServerProcess
    from vedette_client.account import Account
    from vedette_client.stream import Stream

QUICK = ReconnectOptions(initial_s=0.001, max_s=0.05, give_up_s=20.0)


async def agree(server: ServerProcess, channel: str, stream: Stream, account: Account) -> None:
    """Compare the client's account with the session's and with the metrics of its channel."""
    async with Client(server.address) as client:
        info = await client.session(stream.session_name)
    theirs = info.account
    assert (info.state, info.end_reason, info.pending) == (SessionState.ENDED, "FINISHED", 0)
    for name in ("packets", "bytes", "analysed", "skipped", "client_dropped", "verdicts", "decode_only"):
        assert getattr(account, name) == getattr(theirs, name), name
    assert account.packets == account.analysed + account.skipped.total()

    figures = await asyncio.to_thread(lambda: server.metrics)
    ours = {name: value for name, value in figures.items() if f'channel="{channel}"' in name}

    def total(family: str, *labels: str) -> float:
        chosen = [
            value for name, value in ours.items() if name.startswith(family + "{") and all(x in name for x in labels)
        ]
        return sum(chosen)

    assert total("vedette_packets_total") == account.packets
    assert total("vedette_packet_bytes_total") == account.bytes
    assert total("vedette_pictures_decoded_total") == theirs.pictures_decoded
    assert total("vedette_verdicts_total", 'outcome="analysed"') == account.analysed
    for reason in SkipReason:
        assert total("vedette_verdicts_total", f'reason="{reason.name}"') == account.skipped[reason], reason
    assert total("vedette_age_at_verdict_seconds_count") == account.analysed


RUNS: dict[str, tuple[Any, dict[str, Any]]] = {
    "recorded": (lambda: encoded("h264-b"), {"policy": Policy.EVERY_FRAME}),
    "live": (lambda: grey([5] * 120, fps=100), {}),
    "overloaded": (lambda: grey([5] * 150, fps=150), {"engines": ["slow"], "max_age_s": 0.05}),
    "rated": (lambda: grey([5] * 60), {"policy": Policy.EVERY_FRAME, "max_fps": 30}),
    "quiet": (lambda: grey([5] * 100, fps=100), {"max_fps": 10, "omit_skips": True}),
    "two": (lambda: grey([5] * 40), {"policy": Policy.EVERY_FRAME, "engines": ["gauge", "blobs"]}),
}


@pytest.mark.parametrize("run", RUNS)
async def test_client_server_and_metrics_agree(quick_server: ServerProcess, run: str) -> None:
    make, wishes = RUNS[run]
    async with Client(quick_server.address) as client:
        analysis = await client.start(make(), f"agree-{run}", **({"engines": ["gauge"]} | wishes))
        async for _ in analysis:
            pass
        account = await analysis.stream.finish()
        await agree(quick_server, f"agree-{run}", analysis.stream, account)


async def test_they_agree_after_cuts(quick_server: ServerProcess) -> None:
    dice = random.Random(5)
    for number in range(5):
        channel = f"agree-cut-{number}"
        async with Middle(quick_server.address) as middle, Client(middle.address, reconnect=QUICK) as client:
            middle.cuts = [Cut(dice.choice(("up", "down")), dice.randrange(1, 9)) for _ in range(4)]
            source = grey([5] * 120, fps=200)
            analysis = await client.start(source, channel, engines=["gauge"], policy=dice.choice(list(Policy)))
            async for _ in analysis:
                pass
            account = await analysis.stream.finish()
            assert middle.met
            await agree(quick_server, channel, analysis.stream, account)


async def test_many_kinds_of_streams_at_once_agree(quick_server: ServerProcess) -> None:
    async def one(number: int) -> None:
        make, wishes = list(RUNS.values())[number % len(RUNS)]
        channel = f"agree-mixed-{number}"
        async with Client(quick_server.address) as client:
            analysis = await client.start(make(), channel, **({"engines": ["gauge"]} | wishes))
            async for _ in analysis:
                pass
            await agree(quick_server, channel, analysis.stream, await analysis.stream.finish())

    await asyncio.gather(*(one(number) for number in range(12)))


async def test_packets_that_the_client_dropped_are_in_the_account(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "dropped") as camera:
        await camera.open(grey_config("dropped"))
        await camera.say(packets=[grey_packet(0), grey_packet(1, client_dropped_before=4)])
        await camera.say(packets=[grey_packet(2, client_dropped_before=2)])
        account = await camera.finish()
    assert (account.packets_received, account.client_dropped) == (3, 6)


async def test_a_packet_beyond_the_credits_is_in_the_account_and_in_the_metrics(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "beyond") as camera:
        await camera.open(grey_config("beyond"))
        await camera.say(packets=[grey_packet(number) for number in range(200)])
        with pytest.raises(Refused):
            await camera.hear_all()
    account = (await session_of(quick_server.address, "beyond")).account
    while account.packets_pending:
        account = (await session_of(quick_server.address, "beyond")).account
    skipped = Counter({entry.reason: entry.count for entry in account.skipped})
    assert skipped[SkipReason.OVERLOAD] == 1
    assert account.packets_received == account.analysed + skipped.total()
    figures = await asyncio.to_thread(lambda: quick_server.metrics)
    told = [value for name, value in figures.items() if name.startswith('vedette_packets_total{channel="beyond"')]
    assert told == [account.packets_received]


# -- SessionService ------------------------------------------------------------------------------------


async def ask(server: ServerProcess, method: str, request: Any) -> Any:
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = session_pb2_grpc.SessionServiceStub(channel)
        try:
            return await getattr(stub, method)(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            raise Refused(error) from None


async def some_sessions(server: ServerProcess, channel: str, count: int) -> list[str]:
    names = []
    for _ in range(count):
        async with Wire(server.address, channel) as camera:
            names.append((await camera.open(grey_config(channel))).session)
            await camera.finish()
    return names


async def test_sessions_are_listed_newest_first_page_by_page(quick_server: ServerProcess) -> None:
    names = await some_sessions(quick_server, "paged", 5)
    listed: list[str] = []
    request = session_pb2.ListSessionsRequest(parent="channels/paged", page_size=2)
    sizes = []
    while True:
        answer = await ask(quick_server, "ListSessions", request)
        sizes.append(len(answer.sessions))
        listed += [session.name for session in answer.sessions]
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert listed == names[::-1]
    assert sizes == [2, 2, 1]


async def test_the_sessions_of_all_channels_are_listed(quick_server: ServerProcess) -> None:
    first = await some_sessions(quick_server, "all-a", 1)
    second = await some_sessions(quick_server, "all-b", 1)
    answer = await ask(quick_server, "ListSessions", session_pb2.ListSessionsRequest(parent="channels/-", page_size=2))
    assert [session.name for session in answer.sessions] == [*second, *first]


async def test_the_latest_session_has_a_name_of_its_own(quick_server: ServerProcess) -> None:
    names = await some_sessions(quick_server, "latest", 2)
    assert (await session_of(quick_server.address, "latest")).name == names[1]
    assert (await session_of(quick_server.address, "latest", names[0].rpartition("/")[2])).name == names[0]


async def test_a_live_session_says_so(quick_server: ServerProcess) -> None:
    async with Client(quick_server.address) as client:
        stream = await client.open("living", GREY_FORMAT, engines=["gauge"])
        info = await client.session("channels/living/sessions/-")
        assert (info.state, info.end_time_ns, info.end_reason) == (SessionState.CONNECTED, None, "")
        await stream.finish()
        info = await client.session("channels/living/sessions/-")
        assert info.state is SessionState.ENDED
        assert info.end_time_ns is not None
        assert info.end_time_ns >= info.create_time_ns


BAD_ASKS = {
    "an unknown session": ("GetSession", {"name": "channels/a/sessions/x"}, "NOT_FOUND", "SESSION_NOT_FOUND"),
    "an unknown channel": ("GetSession", {"name": "channels/nobody/sessions/-"}, "NOT_FOUND", "SESSION_NOT_FOUND"),
    "a bad name": ("GetSession", {"name": "sessions/x"}, "INVALID_ARGUMENT", "INVALID_NAME"),
    "a bad parent": ("ListSessions", {"parent": "all"}, "INVALID_ARGUMENT", "INVALID_NAME"),
    "a page too large": (
        "ListSessions",
        {"parent": "channels/-", "page_size": 1001},
        "INVALID_ARGUMENT",
        "INVALID_PAGE_SIZE",
    ),
    "a negative page": (
        "ListSessions",
        {"parent": "channels/-", "page_size": -1},
        "INVALID_ARGUMENT",
        "INVALID_PAGE_SIZE",
    ),
    "a token of nobody's": (
        "ListSessions",
        {"parent": "channels/-", "page_token": "x"},
        "INVALID_ARGUMENT",
        "INVALID_PAGE_TOKEN",
    ),
}


@pytest.mark.parametrize("case", BAD_ASKS)
async def test_bad_questions_are_refused(quick_server: ServerProcess, case: str) -> None:
    method, fields, code, reason = BAD_ASKS[case]
    with pytest.raises(Refused) as caught:
        await ask(quick_server, method, getattr(session_pb2, f"{method}Request")(**fields))
    assert (caught.value.code.name, caught.value.reasons) == (code, [reason])


async def test_a_session_that_nobody_knows_is_refused_to_the_bundled_client(quick_server: ServerProcess) -> None:
    async with Client(quick_server.address) as client:
        with pytest.raises(RefusedError) as caught:
            await client.session("channels/nobody/sessions/-")
    assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "SESSION_NOT_FOUND")
