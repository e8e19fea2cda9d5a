"""`vedette sinks`, and `client.sinks`, against a real server that delivers its events."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from support_serving import ServerProcess
from support_sinks import Receiver, a_receiver
from support_site import QUICK, SITE, all_complete, site, stream, until
from support_watching import Says, serving
from vedette_client import Client, RefusedError, Replayed, Sink
from vedette_client.cli import terminal
from vedette_client.cli.sinks_pages import sinks_notes, sinks_table, state_text
from vedette_client.sinks import Sinks as AsyncSinks
from vedette_client.sync import Client as BlockingClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAIT_S = 20.0
SINKS = """
[[sinks]]
name = "desk"
kind = "webhook"
url = "{url}"
unsigned = true
first_pause_s = 0.05
longest_pause_s = 0.1

[[sinks]]
name = "archive"
kind = "jsonl"
path = "events.jsonl"

[[sinks]]
name = "unmounted"
kind = "jsonl"
path = "missing/events.jsonl"
"""


class Served:
    """A server with three sinks, one of which refuses until it is told otherwise.

    Attributes:
        messages: So many messages each sink gets.
    """

    def __init__(self, folder: Path, address: str, receiver: Receiver) -> None:
        self.archive = folder / "events.jsonl"
        self.address = address
        self.receiver = receiver
        self.messages = 0

    def until(self, done: Callable[[dict[str, Sink]], bool]) -> dict[str, Sink]:
        deadline_s = time.monotonic() + WAIT_S
        with BlockingClient(self.address) as client:
            while not done(found := {one.name: one for one in client.sinks.list()}):
                assert time.monotonic() < deadline_s, found
                time.sleep(0.05)
        return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("site")
    with a_receiver() as receiver:
        receiver.answer = lambda _request: (400, {})
        (folder / "sinks.toml").write_text(SINKS.format(url=receiver.url))
        with site(folder, SITE, "--sinks", str(folder / "sinks.toml")) as server:
            asyncio.run(filled(server.address))
            found = Served(folder, server.address, receiver)
            settled = found.until(lambda sinks: sinks["archive"].lag == 0 == sinks["desk"].lag)
            found.messages = settled["archive"].delivered
            yield found


async def filled(address: str) -> None:
    await stream(address, seconds=2.0)
    async with Client(address) as client:
        await until(all_complete(1), client)


@pytest.fixture
def vedette(served: Served, capsys, monkeypatch) -> Says:
    monkeypatch.delenv("VEDETTE_TOKEN", raising=False)
    return Says(capsys, served.address)


def rows(text: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


def test_the_list_says_how_each_sink_does(vedette: Says, served: Served) -> None:
    said = vedette("sinks", "list")
    title, heads, *found = rows(said.out)
    count = str(served.messages)
    assert said.code == 0
    assert title[0].startswith("sinks of 127.0.0.1:")
    assert heads == ["name", "kind", "delivered", "failed", "behind", "dead letters", "state"]
    archive, desk, unmounted, *_notes = found
    assert archive == ["archive", "jsonl", count, "0", "0", "0", "up to date"]
    assert desk == ["desk", "webhook", "0", count, "0", count, "failing"]
    assert (*unmounted[:3], unmounted[6]) == ("unmounted", "jsonl", "0", "failing")
    failing, gave_up, missing = said.out.splitlines()[5:]
    place = served.receiver.url.removesuffix("hook")
    assert failing == f"desk: failing: {place}***: answered 400 Bad Request"
    assert gave_up == f"desk: gave up {count}; put them through again: vedette sinks replay desk"
    assert missing.startswith("unmounted: failing: file ")
    assert missing.endswith("missing/events.jsonl: No such file or directory")
    assert len(served.archive.read_text().splitlines()) == served.messages > 0


def test_a_replay_that_is_refused_again_ends_with_one_and_then_all_is_taken(vedette: Says, served: Served) -> None:
    count = served.messages
    said = vedette("sinks", "replay", "desk")
    assert (said.code, said.out) == (1, f"desk: 0 delivered, {count} kept\n")
    place = served.receiver.url.removesuffix("hook")
    assert said.err == f"vedette sinks replay: desk: {count} failed again: {place}***: answered 400 Bad Request\n"
    served.receiver.answer = lambda _request: (204, {})
    before = len(served.receiver.requests)
    said = vedette("sinks", "replay", "desk")
    assert (said.code, said.out, said.err) == (0, f"desk: {count} delivered, 0 kept\n", "")
    again = [one.json["record"] for one in served.receiver.requests[before:]]
    assert again == sorted(again)
    archived = [json.loads(line) for line in served.archive.read_text().splitlines()]
    assert again == [one["record"] for one in archived]
    desk = served.until(lambda sinks: sinks["desk"].dead_letters == 0)["desk"]
    assert (desk.kind, desk.delivered, desk.failing) == ("webhook", count, "")


def test_a_sink_without_dead_letters_says_so(vedette: Says) -> None:
    said = vedette("sinks", "replay", "archive")
    assert (said.code, said.out) == (0, "archive: no dead letters\n")


def test_a_sink_that_there_is_not_is_refused_with_those_that_there_are(vedette: Says) -> None:
    said = vedette("sinks", "replay", "dusk")
    assert (said.code, said.out) == (1, "")
    words = "sink 'dusk': there is none; there are: archive, desk, unmounted"
    assert said.err == f"vedette sinks: {words} (NOT_FOUND, SINK_NOT_FOUND)\n"


def test_what_is_missing_on_the_command_line_ends_with_two(vedette: Says) -> None:
    assert vedette("sinks", "replay").code == 2


async def test_the_library_lists_and_replays(served: Served) -> None:
    async with Client(served.address) as client:
        assert [one.name for one in await client.sinks.list()] == ["archive", "desk", "unmounted"]
        assert await client.sinks.replay("archive") == Replayed(0, 0)
        with pytest.raises(RefusedError) as refused:
            await client.sinks.replay("dusk")
        assert (refused.value.code, refused.value.reason) == ("NOT_FOUND", "SINK_NOT_FOUND")


def test_the_blocking_client_replays_too(served: Served) -> None:
    with BlockingClient(served.address) as client:
        assert client.sinks.replay("archive") == Replayed(0, 0)


def test_a_server_that_monitors_nothing_says_what_it_wants(capsys) -> None:
    with serving(absent=True) as server:
        said = Says(capsys, server.address)("sinks", "list")
    assert said.code == 1
    assert "--sinks FILE" in said.err


def test_a_server_without_sinks_says_so(tmp_path: Path, capsys) -> None:
    with ServerProcess("--state", str(tmp_path / "state"), *QUICK) as server:
        said = Says(capsys, server.address)("sinks", "list")
    assert (said.code, said.out) == (0, "no sinks\n")


@pytest.mark.parametrize(
    ("fields", "words", "notes"),
    [
        ({}, "up to date", []),
        ({"lag": 3}, "catching up", []),
        ({"lag": 3, "failing": "down"}, "failing", ["desk: failing: down"]),
        (
            {"dead_letters": 2},
            "up to date",
            ["desk: gave up 2; put them through again: vedette sinks replay desk"],
        ),
        (
            {"dead_letters": 2, "dead_letters_lost": 7},
            "up to date",
            [
                "desk: gave up 2; put them through again: vedette sinks replay desk",
                "desk: lost 7 for good: there were too many to be kept",
            ],
        ),
        ({"failing": "a\x1b[2Jb"}, "failing", ["desk: failing: a\N{REPLACEMENT CHARACTER}[2Jb"]),
    ],
)
def test_a_state_is_told_in_words_and_the_rest_below_the_worst_first(
    fields: dict[str, int], words: str, notes: list[str]
) -> None:
    sink = Sink("desk", "mqtt", **fields)  # type: ignore[arg-type]
    assert state_text(sink).plain == words
    assert [one.plain for one in sinks_notes([sink])] == notes


def test_on_eighty_columns_no_row_and_no_address_is_broken(vedette: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    address = "https://desk.example/***: answered 503 Service Unavailable, and so on and so on until the line is over"
    sinks = [Sink("name-of-a-sink" * 4, "webhook", 123_456, 1_234, 12_345, 1_234, 0, address), Sink("b", "mqtt")]

    async def listed(_self: object) -> list[Sink]:
        return sinks

    monkeypatch.setattr(AsyncSinks, "list", listed)
    monkeypatch.setattr(terminal, "console", lambda **_about: Console(width=80, highlight=False))
    lines = vedette("sinks", "list").out.splitlines()
    assert len(lines) == 2 + len(sinks) + 3
    assert [len(row) for row in rows("\n".join(lines[1:4]))] == [7, 7, 7]
    assert lines[2].startswith("name-of-a-sink")
    assert lines[2].split()[1:] == ["webhook", "123456", "1234", "0", "12345", "failing"]
    assert lines[4] == f"{'name-of-a-sink' * 4}: failing: {address}"


def test_a_figure_that_calls_for_somebody_stands_out() -> None:
    table = sinks_table([Sink("a", "mqtt"), Sink("b", "mqtt", dead_letters=1)], "sinks")
    letters = list(table.columns[5].cells)
    assert [str(cell.style) for cell in letters] == ["dim", "red"]  # type: ignore[union-attr]
