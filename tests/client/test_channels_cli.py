"""`vedette channels`: what it says, what it writes, and how it ends."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import grpc
import pytest

from support_watching import CLIP, JPEG, T0, Monitor, Says, serving
from vedette.v1 import channel_pb2
from vedette_client.cli.main import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = """
[defaults]
time_zone = "Europe/Berlin"
[[channels]]
name = "gate"
zones = { yard = [[0.1, 0.2], [0.9, 0.2], [0.9, 0.9]] }
rules = [{ name = "in", kind = "enter", zone = "yard" }]
recording = { enabled = true }
[[channels]]
name = "shop"
source = { url = "rtsp://u:p@10.0.0.7/1", engines = ["person"] }
"""


@pytest.fixture
def monitor() -> Monitor:
    return Monitor()


@pytest.fixture
def vedette(monitor: Monitor, capsys, monkeypatch) -> Iterator[Says]:
    for name in ("VEDETTE_SERVER", "VEDETTE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with serving(monitor) as server:
        yield Says(capsys, server.address)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "channels.toml"
    path.write_text(FILE)
    return path


def test_a_file_is_applied_and_applied_again(vedette: Says, file: Path) -> None:
    said = vedette("channels", "apply", file)
    assert (said.code, said.out) == (0, "gate: created, revision 1\nshop: created, revision 1\n")
    file.write_text(FILE.replace("yard", "lawn"))
    assert vedette("channels", "apply", file).out == "gate: changed, revision 2\nshop: unchanged, revision 1\n"
    assert vedette("channels", "apply", file, "--channel", "shop").out == "shop: unchanged, revision 1\n"


def test_what_is_shown_can_be_applied_again(vedette: Says, file: Path, tmp_path: Path) -> None:
    vedette("channels", "apply", file)
    shown = vedette("channels", "show").out
    assert shown.startswith('# connected, revision 1\n[[channels]]\nname = "gate"\n')
    gate, shop = tomllib.loads(shown)["channels"]
    assert (gate["time_zone"], gate["rules"]) == ("Europe/Berlin", [{"name": "in", "kind": "enter", "zone": "yard"}])
    assert shop["source"] == {"url": "rtsp://u:p@10.0.0.7/1", "engines": ["person"]}
    (tmp_path / "again.toml").write_text(shown)
    assert "unchanged" in vedette("channels", "apply", tmp_path / "again.toml").out
    assert [one["name"] for one in tomllib.loads(vedette("channels", "show", "shop").out)["channels"]] == ["shop"]


def test_what_cannot_be_read_changes_nothing(vedette: Says, monitor: Monitor, file: Path) -> None:
    file.write_text(FILE.replace('kind = "enter"', 'kind = "entre"'))
    said = vedette("channels", "apply", file)
    assert said.code == 2
    assert "channel 'gate': rules.in.kind is 'entre'; allowed: enter, leave" in said.err
    assert monitor.asked == []


def test_trying_a_file_changes_nothing(vedette: Says, monitor: Monitor, file: Path) -> None:
    said = vedette("channels", "apply", file, "--dry-run")
    assert (said.code, said.out) == (0, f"{file}: 2 channels can be read: gate, shop\n")
    assert monitor.asked == []
    said = vedette("channels", "apply", file, "--channel", "yard")
    assert said.code == 2
    assert f"--channel is 'yard'; {file} has gate, shop" in said.err


def test_a_channel_that_is_refused_does_not_stop_the_others(vedette: Says, monitor: Monitor, file: Path) -> None:
    vedette("channels", "apply", file, "--channel", "gate")
    monitor.refuse["UpdateChannel"] = (grpc.StatusCode.FAILED_PRECONDITION, "CHANNEL_FROM_FILE", "it is of the file")
    said = vedette("channels", "apply", file)
    assert (said.code, said.out) == (1, "shop: created, revision 1\n")
    assert said.err == "vedette channels apply: gate: it is of the file (FAILED_PRECONDITION, CHANNEL_FROM_FILE)\n"


def test_the_list_tells_where_each_channel_stands(vedette: Says, monitor: Monitor, file: Path) -> None:
    assert vedette("channels", "list").out == "no channels\n"
    vedette("channels", "apply", file)
    status = monitor.channels["channels/shop"].status
    status.connected = False
    status.pull, status.detail = channel_pb2.PULL_STATE_WAITING, "connection refused"
    status.faults.append(20)  # type: ignore[arg-type]
    status.from_file = True
    monitor.channels["channels/gate"].status.frame_time.FromSeconds(T0)
    gate, shop = (re.split(r"\s{2,}", line.strip()) for line in vedette("channels", "list").out.splitlines()[2:])
    assert gate[:2] == ["gate", "connected"]
    assert gate[3:] == ["-", "1 zone, 1 rule, recording", "original", "call", "1"]
    assert shop == ["shop", "waiting: connection refused", "-", "offline", "source", "original", "file", "1"]
    assert "# source: waiting: connection refused\n# camera faults: camera_offline\n" in vedette("channels", "show").out


def test_channels_are_deleted(vedette: Says, file: Path) -> None:
    vedette("channels", "apply", file)
    assert vedette("channels", "delete", "gate", "shop").out == "gate: deleted\nshop: deleted\n"
    said = vedette("channels", "delete", "gate")
    assert said.code == 1
    assert "there is no channel 'channels/gate' (NOT_FOUND, CHANNEL_NOT_FOUND)" in said.err


def test_a_picture_and_a_recording_are_written(vedette: Says, monitor: Monitor, tmp_path: Path) -> None:
    said = vedette("channels", "snapshot", "gate", "-o", tmp_path / "s.jpg", "--annotated", "--max-width", 640)
    assert f"{len(JPEG)} bytes, taken 2026-09-2" in said.out
    assert (tmp_path / "s.jpg").read_bytes() == JPEG
    assert (monitor.asked[-1].annotated, monitor.asked[-1].max_width) == (True, 640)
    said = vedette("channels", "recording", "gate", "--at", "2026-09-21T14:13:20Z", "-o", tmp_path / "r.mp4")
    assert "the time is 18.4 s into it" in said.out
    assert monitor.asked[-1].time.seconds == T0
    assert (tmp_path / "r.mp4").read_bytes() == CLIP


def test_a_server_that_keeps_no_channels_is_told_once(capsys, file: Path) -> None:
    with serving(absent=True) as server:
        said = Says(capsys, server.address)("channels", "apply", file)
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "keeps no channels; it does when it is started with --state DIR or --channels FILE" in said.err


@pytest.mark.parametrize("command", ["list", "show", "apply", "delete", "snapshot", "recording"])
def test_every_option_tells_its_default(command: str, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert run(["channels", command, "--help"]) == 0
    page = capsys.readouterr().out
    options = [line for line in page.splitlines() if re.match(r"│\s+--", line) and "<bool>" not in line]
    assert options
    assert [line for line in options if "efault: " not in line and "required" not in line] == []
