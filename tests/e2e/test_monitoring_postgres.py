"""A whole server on PostgreSQL: what a watcher saw is there after a kill, and a second server is refused."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest

from support_cli import vedette
from support_site import QUICK, SITE, complete, site, stream
from support_store import a_postgres
from vedette_client import Client, Event

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path

    from support_cli import Said
    from support_serving import ServerProcess


@pytest.fixture
def url() -> Iterator[str]:
    with a_postgres() as server:
        if server is None:
            pytest.skip("PostgreSQL is not installed: no initdb on PATH or in /usr/lib/postgresql")
        yield server.make_database("events")


async def seen_until_killed(
    server: ServerProcess, least: int, meanwhile: Coroutine[Any, Any, Said]
) -> tuple[dict[str, Event], Said]:
    """Watch a camera's events until there are so many and all else is done, and kill the server amid them."""
    seen: dict[str, Event] = {}
    enough = asyncio.Event()

    async def look(client: Client) -> None:
        async with client.watch(offset="earliest") as watch:
            async for news in watch:
                assert isinstance(news, Event)
                seen[news.name] = news
                if len(seen) >= least:
                    enough.set()

    async with Client(server.address) as client:
        tasks = [
            asyncio.create_task(look(client)),
            asyncio.create_task(stream(server.address, seconds=30.0, pace=True)),
        ]
        said, _enough = await asyncio.wait_for(asyncio.gather(meanwhile, enough.wait()), 30)
        await asyncio.to_thread(server.stop, signal.SIGKILL)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return seen, said


async def test_on_postgresql_what_a_watcher_saw_is_there_after_a_kill_and_a_second_server_is_refused(
    url: str, tmp_path: Path
) -> None:
    with site(tmp_path, SITE, "--store", url) as server:
        second = ("--state", tmp_path / "second", "--store", url, "--store-timeout-s", "0.2")
        other = asyncio.to_thread(vedette, "serve", "--port", "0", "--metrics-port", "off", *second, *QUICK)
        seen, refused = await seen_until_killed(server, 3, other)
        assert (refused.code, refused.out) == (2, "")
        assert "store.url: store postgresql" in refused.err
        assert "is used by another server" in refused.err
        assert "allowed: a database of its own for each" in refused.err
    with site(tmp_path, SITE, "--store", url) as server:
        async with Client(server.address) as client:
            kept = {event.name: event async for event in client.events.find()}
        assert seen.keys() <= kept.keys()
        assert all(kept[name].record >= event.record for name, event in seen.items())
        assert all(map(complete, kept.values())), "nothing is left open or pending"
        checked = await asyncio.to_thread(vedette, "events", "verify", "--files", "--server", server.address)
        assert checked.code == 0, checked.err
        assert "all is well" in checked.out
        assert server.stop() == 0
    assert not (tmp_path / "state" / "events.db").exists()
