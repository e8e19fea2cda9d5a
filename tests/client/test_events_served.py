"""`vedette watch`, `events` and `channels` against a real server that monitors a channel."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tomllib
from typing import TYPE_CHECKING

import av
import pytest

from support_site import SITE, site, stream, until
from support_watching import Says
from vedette_client import Client, EventFilter, EventKind, EventState, EvidenceState, RefusedError
from vedette_client.channels_file import read_channels_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from vedette_client import Event

CAMERA = """
[[channels]]
name = "cam"
gate = "motion"
[channels.zones]
yard = [[0.1, 0.2], [0.9, 0.2], [0.9, 0.9]]
[[channels.rules]]
name = "in"
kind = "enter"
zone = "yard"
[channels.source]
url = "rtsp://viewer:hush@127.9.9.9:9/stream"
engines = ["blobs"]
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with site(tmp_path_factory.mktemp("site"), SITE, "--source-host", "127.9.9.9") as server:
        asyncio.run(filled(server.address))
        yield server.address


async def filled(address: str) -> None:
    def settled(events: Mapping[str, Event]) -> bool:
        states = {(one.state, one.clip.state, one.snapshot.state) for one in events.values()}
        return states == {(EventState.ENDED, EvidenceState.READY, EvidenceState.READY)}

    await stream(address, seconds=4.0)
    async with Client(address) as client:
        await until(settled, client)


@pytest.fixture
def vedette(served: str, capsys, monkeypatch) -> Says:
    monkeypatch.delenv("VEDETTE_TOKEN", raising=False)
    return Says(capsys, served)


def test_what_was_watched_is_what_is_listed(vedette: Says) -> None:
    listed = [json.loads(line) for line in vedette("events", "list", "--json", "--limit", 1000).out.splitlines()]
    assert {one["kind"] for one in listed} >= {"enter", "inside"}
    said = vedette("watch", "--events", "--json", "--since", "earliest", "--count", len(listed))
    assert {json.loads(line)["event"]["name"] for line in said.out.splitlines()} <= {one["name"] for one in listed}
    assert len(vedette("events", "list").out.splitlines()) == len(listed) + 2


def test_an_event_is_shown_acknowledged_and_its_evidence_fetched(vedette: Says, tmp_path: Path) -> None:
    event = json.loads(vedette("events", "list", "--json", "--kind", "enter", "--limit", 1).out)
    short = event["id"][:8]
    assert vedette("events", "ack", short, "--note", "a blob", "--user", "anna").code == 0
    page = vedette("events", "show", short, "--snapshot", tmp_path / "e.jpg").out
    assert "anna" in page
    assert "a blob" in page
    assert vedette("events", "clip", short, "-o", tmp_path / "e.mp4").code == 0
    assert hashlib.sha256((tmp_path / "e.mp4").read_bytes()).hexdigest() == event["clip"]["sha256"]
    with av.open(str(tmp_path / "e.mp4")) as clip:
        assert sum(1 for _ in clip.decode(video=0)) > 10
    assert (tmp_path / "e.jpg").read_bytes().startswith(b"\xff\xd8")
    assert vedette("events", "list", "--unseen", "--kind", "enter", "--json").out.count(event["id"]) == 0


def test_an_export_verifies_and_a_forged_head_does_not(vedette: Says, tmp_path: Path) -> None:
    out, head = tmp_path / "e.jsonl", tmp_path / "head.json"
    said = vedette("events", "export", "-o", out, "--head", head, "--with-evidence", tmp_path / "files", "--trails")
    assert said.code == 0, said.err
    assert "all is well" in vedette("events", "verify", "--head", out, "--files").out
    forged = json.loads(head.read_text()) | {"hash": "ab" * 32}
    head.write_text(json.dumps(forged))
    said = vedette("events", "verify", "--head", head)
    assert said.code == 1
    assert "is not signed with its key" in said.out
    assert "the chain was written anew" in said.out


def test_a_channel_goes_to_the_server_and_back_with_its_password_hidden(vedette: Says, tmp_path: Path) -> None:
    (tmp_path / "cam.toml").write_text(CAMERA)
    assert vedette("channels", "apply", tmp_path / "cam.toml").out == "cam: created, revision 1\n"
    shown = vedette("channels", "show", "cam").out
    (tmp_path / "shown.toml").write_text(shown)
    wanted = read_channels_file(tmp_path / "cam.toml", {})["cam"]
    wanted["source"]["url"] = "rtsp://viewer:***@127.9.9.9:9/stream"
    assert {key: value for key, value in tomllib.loads(shown)["channels"][0].items() if key != "name"} == wanted
    assert vedette("channels", "apply", tmp_path / "shown.toml").out == "cam: unchanged, revision 1\n"
    assert "cam" in vedette("channels", "list").out
    assert vedette("channels", "delete", "cam").code == 0
    refused = vedette("channels", "delete", "yard")
    assert (refused.code, "file of channels" in refused.err) == (1, True)


def test_the_server_refuses_what_makes_no_sense_in_its_own_words(vedette: Says, tmp_path: Path) -> None:
    crossing = CAMERA.replace("[0.9, 0.9]]", "[0.9, 0.9], [0.5, 0.0]]")
    (tmp_path / "cam.toml").write_text(crossing)
    said = vedette("channels", "apply", tmp_path / "cam.toml")
    assert (said.code, said.out) == (1, "")
    assert "zones.yard" in said.err
    (tmp_path / "cam.toml").write_text(CAMERA.replace("127.9.9.9", "127.0.0.1"))
    said = vedette("channels", "apply", tmp_path / "cam.toml")
    assert (said.code, said.out) == (1, "")
    assert "host '127.0.0.1' may not be called; allowed are those of monitor.source_hosts" in said.err


async def test_the_library_finds_by_time_kind_and_state(served: str) -> None:
    async with Client(served) as client:
        every = await client.events.list("yard")
        middle = sorted(one.start_time_ns for one in every)[len(every) // 2]
        early = await client.events.list("yard", EventFilter(end_time_ns=middle))
        assert {one.name for one in early} == {one.name for one in every if one.start_time_ns < middle}
        entered = await client.events.list(wanted=EventFilter(kinds=[EventKind.ENTER], states=[EventState.ENDED]))
        assert {one.name for one in entered} == {one.name for one in every if one.kind is EventKind.ENTER}
        with pytest.raises(RefusedError) as refused:
            await client.events.get("yard/aaaaaaaaaaaaaaaaaaaaaaaaaa")
        assert refused.value.code == "NOT_FOUND"
        assert (await client.channels.snapshot("yard")).jpeg.startswith(b"\xff\xd8")
