"""SinkService over real calls, before a real Deliverer on a real store."""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from support_sinks import Receiver, a_receiver
from support_store import an_event
from support_watch import TOKENS, bearer, refusal
from vedette.v1 import sink_pb2 as pb
from vedette.v1 import sink_pb2_grpc
from vedette_server.rpc.auth import Authenticator
from vedette_server.rpc.sink_service import SinkService
from vedette_server.settings import AuthSettings
from vedette_server.sinks.delivery import Deliverer
from vedette_server.sinks.file import load_sinks
from vedette_server.store.feed import EventFeed
from vedette_server.store.store import EventStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

Code = grpc.StatusCode
PAGE = Path(__file__).resolve().parents[2] / "docs" / "monitoring.md"
WAIT_S = 10.0
SINKS = """
[[sinks]]
name = "desk"
kind = "webhook"
url = "{url}"
unsigned = true
start = "earliest"
first_pause_s = 0.02
longest_pause_s = 0.05

[[sinks]]
name = "archive"
kind = "jsonl"
path = "events.jsonl"
start = "earliest"
"""


@dataclass
class Site:
    """A running server with sinks.

    Attributes:
        sinks: Stub of the SinkService.
        archive: What the jsonl sink writes.
    """

    store: EventStore
    feed: EventFeed
    service: SinkService
    sinks: Any
    archive: Path

    def keep(self, *names: str) -> None:
        for stored in self.store.append([an_event(name) for name in names]):
            self.feed.told(stored)

    async def listed(self) -> dict[str, pb.Sink]:
        return {one.name: one for one in (await self.sinks.ListSinks(pb.ListSinksRequest())).sinks}

    async def until(self, name: str, done: Callable[[pb.Sink], bool]) -> pb.Sink:
        async with asyncio.timeout(WAIT_S):
            while not done(found := (await self.listed())[name]):
                await asyncio.sleep(0.01)
        return found

    def replay(self, name: str = "desk", **more: Any) -> Any:
        return self.sinks.ReplayDeadLetters(pb.ReplayDeadLettersRequest(name=name), **more)


@asynccontextmanager
async def a_site(
    folder: Path, receiver: Receiver | None, tokens: Path | None = None, **more: Any
) -> AsyncIterator[Site]:
    """Serve sinks that deliver to a receiver; None: no sinks at all."""
    file = folder / "sinks.toml"
    file.write_text(SINKS.format(url="" if receiver is None else receiver.url))
    wanted = () if receiver is None else load_sinks(file, {})
    with EventStore(f"sqlite:///{folder}/events.db") as store:
        feed = EventFeed(store.end()[0])
        with Deliverer(wanted, store, feed, folder / "sinks") as deliverer:
            sinks = None if receiver is None else deliverer
            service = SinkService(sinks, Authenticator(AuthSettings(tokens)), **more)
            server = grpc.aio.server()
            sink_pb2_grpc.add_SinkServiceServicer_to_server(service, server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            try:
                async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                    stub = sink_pb2_grpc.SinkServiceStub(channel)
                    yield Site(store, feed, service, stub, folder / "events.jsonl")
            finally:
                await server.stop(0)
                service.close()
                service.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with a_receiver() as one:
        yield one


class Held:
    """A receiver's answer that waits until it is let go."""

    def __init__(self, receiver: Receiver) -> None:
        self.asked = threading.Event()
        self.let_go = threading.Event()
        receiver.answer = self

    def __call__(self, _request: object) -> tuple[int, dict[str, str]]:
        self.asked.set()
        self.let_go.wait(WAIT_S)
        return 204, {}

    async def begun(self) -> None:
        assert await asyncio.to_thread(self.asked.wait, WAIT_S)


def refuse(_request: object) -> tuple[int, dict[str, str]]:
    return 400, {}


async def test_sinks_are_listed_by_name_with_what_they_have_done(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answer = refuse
    async with a_site(tmp_path, receiver) as site:
        site.keep("a", "b", "c")
        archive = await site.until("archive", lambda one: one.delivered == 3)
        desk = await site.until("desk", lambda one: one.dead_letters == 3)
        listed = (await site.sinks.ListSinks(pb.ListSinksRequest())).sinks
    assert [(one.name, one.kind) for one in listed] == [("archive", "jsonl"), ("desk", "webhook")]
    assert (archive.failed, archive.dead_letters, archive.failing) == (0, 0, "")
    assert len(site.archive.read_text().splitlines()) == 3
    assert (desk.delivered, desk.failed, desk.dead_letters_lost) == (0, 3, 0)
    assert "400" in desk.failing


async def test_a_sink_that_is_down_says_why_and_how_far_it_is_behind(tmp_path: Path, receiver: Receiver) -> None:
    receiver.die()
    async with a_site(tmp_path, receiver) as site:
        site.keep("a", "b")
        desk = await site.until("desk", lambda one: bool(one.failing))
        assert (desk.lag, desk.dead_letters) == (2, 0)
        receiver.open()
        desk = await site.until("desk", lambda one: one.delivered == 2 and one.lag == 0)
        assert desk.failing == ""


async def test_what_was_refused_is_put_through_again_and_what_fails_again_is_kept(
    tmp_path: Path, receiver: Receiver
) -> None:
    refused = {"a", "b", "c"}
    receiver.answer = lambda request: (400 if request.json["name"].rpartition("/")[2] in refused else 204, {})
    async with a_site(tmp_path, receiver) as site:
        site.keep("a", "b", "c")
        await site.until("desk", lambda one: one.dead_letters == 3)
        refused -= {"a", "c"}
        replayed = await site.replay()
        assert (replayed.delivered, replayed.kept) == (2, 1)
        assert replayed.reason.endswith("answered 400 Bad Request")
        assert (await site.listed())["desk"].dead_letters == 1
    assert [one.json["name"].rpartition("/")[2] for one in receiver.requests] == ["a", "b", "c"] * 2


async def test_a_sink_replays_once_at_a_time_and_others_do_not_wait(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answer = refuse
    async with a_site(tmp_path, receiver) as site:
        site.keep("a")
        await site.until("desk", lambda one: one.dead_letters == 1)
        held = Held(receiver)
        first = site.replay()
        await held.begun()
        code, reason, words = await refusal(site.replay())
        assert (code, reason) == (Code.FAILED_PRECONDITION, "REPLAY_RUNNING")
        assert "'desk'" in words
        other = await site.replay("archive")
        assert (other.delivered, other.kept) == (0, 0)
        held.let_go.set()
        assert (await first).delivered == 1


async def test_a_replay_whose_caller_has_gone_goes_on_and_then_another_may_begin(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.answer = refuse
    async with a_site(tmp_path, receiver) as site:
        site.keep("a", "b")
        await site.until("desk", lambda one: one.dead_letters == 2)
        held = Held(receiver)
        gone = site.replay()
        await held.begun()
        gone.cancel()
        assert (await refusal(site.replay()))[1] == "REPLAY_RUNNING"
        held.let_go.set()
        await site.until("desk", lambda one: one.dead_letters == 0)
        async with asyncio.timeout(WAIT_S):
            while await refused_as_running(site):
                await asyncio.sleep(0.01)
    assert len(receiver.requests) == 4


async def refused_as_running(site: Site) -> bool:
    try:
        await site.replay()
    except grpc.aio.AioRpcError as error:
        assert error.code() is Code.FAILED_PRECONDITION
        return True
    return False


async def test_who_waits_for_a_replay_too_long_is_told_that_it_goes_on(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answer = refuse
    async with a_site(tmp_path, receiver, longest_replay_s=0.05) as site:
        site.keep("a")
        await site.until("desk", lambda one: one.dead_letters == 1)
        held = Held(receiver)
        code, reason, _words = await refusal(site.replay())
        assert (code, reason) == (Code.UNAVAILABLE, "REPLAY_GOES_ON")
        held.let_go.set()
        await site.until("desk", lambda one: one.dead_letters == 0)


async def test_a_server_that_drains_lets_nobody_wait_for_a_replay(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answer = refuse
    async with a_site(tmp_path, receiver) as site:
        site.keep("a")
        await site.until("desk", lambda one: one.dead_letters == 1)
        held = Held(receiver)
        waiting = site.replay()
        await held.begun()
        (thread,) = (one for one in threading.enumerate() if one.name == "replay-desk")
        assert thread.daemon, "a sink that hangs must not keep the process"
        site.service.drain()
        assert (await refusal(waiting))[:2] == (Code.UNAVAILABLE, "DRAINING")
        assert (await refusal(site.replay()))[:2] == (Code.UNAVAILABLE, "DRAINING")
        held.let_go.set()


async def test_a_sink_that_there_is_not_is_refused_with_those_that_there_are(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with a_site(tmp_path, receiver) as site:
        for name in ("", "desk ", "x" * 10_000):
            code, reason, words = await refusal(site.replay(name))
            assert (code, reason) == (Code.NOT_FOUND, "SINK_NOT_FOUND")
            assert words.endswith("there are: archive, desk")


async def test_a_server_without_sinks_lists_none_and_replays_nothing(tmp_path: Path) -> None:
    async with a_site(tmp_path, None) as site:
        assert await site.listed() == {}
        assert (await refusal(site.replay()))[1:] == (
            "SINK_NOT_FOUND",
            "sink 'desk': there is none; this server has none",
        )


async def test_only_who_may_administer_all_channels_is_let_in(tmp_path: Path, receiver: Receiver) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(TOKENS)
    async with a_site(tmp_path, receiver, tokens) as site:
        calls = (
            lambda metadata: site.sinks.ListSinks(pb.ListSinksRequest(), metadata=metadata),
            lambda metadata: site.replay(metadata=metadata),
        )
        for call in calls:
            assert (await refusal(call(())))[0] is Code.UNAUTHENTICATED
            for who in ("camera", "gate", "yard", "keeper"):
                assert (await refusal(call(bearer(who))))[0] is Code.PERMISSION_DENIED, who
            await call(bearer("head"))


def test_the_example_of_the_page_is_a_file_of_sinks(tmp_path: Path) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("\n## Sinks\n")[2].partition("\n## ")[0]
    example = re.search(r"```toml\n(.*?)```", section, re.DOTALL)
    assert example is not None
    file = tmp_path / "sinks.toml"
    file.write_text(example[1], encoding="utf-8")
    variables = dict.fromkeys(re.findall(r'_env = "(\w+)"', example[1]), "whsec_" + "A" * 32)
    assert [(one.name, one.kind) for one in load_sinks(file, variables)] == [
        ("desk", "webhook"),
        ("home", "mqtt"),
        ("archive", "jsonl"),
    ]
