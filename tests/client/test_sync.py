"""The blocking twin."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from support_fakeserver import Behaviour, FakeServer
from support_toyvideo import FORMAT, STILLS, ListSource, stills, video
from vedette_client import Policy, RefusedError, SourceError, StreamClosedError
from vedette_client.sync import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

EVERY = Policy.EVERY_FRAME


@contextmanager
def serving(behaviour: Behaviour | None = None) -> Iterator[FakeServer]:
    """Run a fake server on a loop in a thread of its own."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    servers: list[FakeServer] = []

    async def start() -> None:
        servers.append(FakeServer(behaviour))
        await servers[0].start()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(servers[0].stop())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield servers[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_a_source_is_analysed_without_asyncio() -> None:
    packets = video()
    with serving() as server, Client(server.address) as client:
        verdicts = list(client.analyze(ListSource(packets), "a", engines=["toy"], policy=EVERY))
    assert [v.pts for v in verdicts] == sorted(p.pts for p in packets if p.pts is not None)


def test_a_stream_is_sent_finished_and_read() -> None:
    with serving() as server, Client(server.address) as client, client.open("a", STILLS, policy=EVERY) as stream:
        for item in stills(10):
            stream.send(item)
        assert stream.update(max_fps=3.0).config.max_fps == 3.0
        account = stream.finish()
        assert [v.sequence for v in stream] == list(range(10))
        assert account.analysed == stream.account.analysed == 10
        assert client.session(stream.session_name).account.analysed == 10
        assert stream.session_name in {s.name for s in client.sessions()}


def test_leaving_the_loop_early_closes_the_source() -> None:
    source = ListSource(video(groups=50))
    with serving(Behaviour(window=8)) as server, Client(server.address) as client:
        for _ in client.analyze(source, "a", policy=EVERY):
            break
        assert source.closed


def test_errors_come_through() -> None:
    class Broken(ListSource):
        def open(self) -> object:  # type: ignore[override]
            raise OSError("no camera")

    with serving() as server, Client(server.address) as client:
        with pytest.raises(SourceError, match="no camera"):
            list(client.analyze(Broken([]), "a"))
        client.open("a", FORMAT)
        with pytest.raises(RefusedError, match="CHANNEL_TAKEN"):
            client.open("a", FORMAT)


def test_a_closed_client_leaves_no_thread_and_says_so() -> None:
    with serving() as server:
        client = Client(server.address)
        stream = client.open("a", FORMAT)
        client.close()
        client.close()
        stream.close()
        with pytest.raises(StreamClosedError, match="the client is closed"):
            client.open("a", FORMAT)
    assert not [t for t in threading.enumerate() if t.name == "vedette client"]
