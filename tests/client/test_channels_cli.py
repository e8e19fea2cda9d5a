"""`vedette channels`: what it says, what it writes, and how it ends."""

from __future__ import annotations

import io
import re
import tomllib
from typing import TYPE_CHECKING

import grpc
import pytest
from rich.console import Console

from support_watching import CLIP, JPEG, T0, Monitor, Says, serving
from vedette.v1 import channel_pb2
from vedette_client.channels_data import Channel, ChannelStatus, PullState
from vedette_client.channels_file import channels_to_toml
from vedette_client.cli.channels_pages import channels_table
from vedette_client.cli.main import run
from vedette_client.events_data import EventKind

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
    monitor.channels["channels/gate"].status.connected = False
    gate = vedette("channels", "list").out.splitlines()[2]
    assert re.split(r"\s{2,}", gate)[:2] == ["gate", "not streaming"]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 140, 160, 280])
def test_in_any_window_a_channels_name_and_state_stand_in_its_row(width: int) -> None:
    why = "connection refused by the camera at 10.0.0.7, which is asked again in half a minute and so on"
    waiting = ChannelStatus(
        frame_time_ns=T0 * 10**9,
        pull=PullState.WAITING,
        detail=why,
        faults=(EventKind.CAMERA_OFFLINE, EventKind.CAMERA_FROZEN, EventKind.CAMERA_DARK),
    )
    settings = {"zones": {"a": []}, "rules": [{}] * 12, "masks": [{}], "source": {}, "recording": {"enabled": True}}
    channels = [
        Channel("gate-3", settings, 12, status=waiting),
        Channel("a-very-long-name-of-a-channel", status=ChannelStatus(connected=True)),
    ]
    output = Console(width=width, file=io.StringIO(), highlight=False)
    output.print(channels_table(channels, "channels", width))
    lines = output.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 4
    assert max(map(len, lines)) <= width
    heads, gate, other = (re.split(r"\s{2,}|(?<=…) ", line.strip()) for line in lines[1:])
    assert heads[:2] == ["channel", "state"]
    assert (gate[0], gate[1][:8], gate[1][-1]) == ("gate-3", "waiting:", "…" if width < 280 else "n")
    assert (other[0][:16], other[1]) == ("a-very-long-name", "connected")
    assert not [head for head in heads if head.endswith("…")]
    assert ("latest picture" in heads, "revision" in heads) == (width >= 72, width >= 120)
    if width == 80:
        assert len(gate[1]) >= 20


def test_the_text_of_a_channel_does_not_steer_a_terminal_and_can_be_applied_again() -> None:
    name = "yard \x9b2J\u202e\x7f \x1b]0;x\x07 é\U000e0001"
    text = channels_to_toml({"gate": {"display_name": name}})
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert "é" in text
    assert tomllib.loads(text)["channels"][0]["display_name"] == name


@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--channel", "gate"]])
def test_a_file_without_channels_is_refused(more: list[str], vedette: Says, monitor: Monitor, file: Path) -> None:
    file.write_text("# nothing yet\n")
    said = vedette("channels", "apply", file, *more)
    assert (said.code, said.out, said.err) == (2, "", f"vedette channels: {file}: no channels in it\n")
    assert monitor.asked == []


@pytest.mark.parametrize("args", [["snapshot", "gate", "-o"], ["recording", "gate", "--at", "-1m", "-o"]])
def test_a_file_that_cannot_be_written_is_refused_before_anybody_is_asked(
    args: list[str], capsys, tmp_path: Path
) -> None:
    for place, why in ((tmp_path, "a folder is there"), (tmp_path / "no" / "f", f"there is no folder {tmp_path}/no")):
        assert run(["channels", *args, str(place), "--server", "127.0.0.1:1"]) == 2
        assert f"-o is {str(place)!r}; {why}; allowed: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_jpeg_gets_no_name_that_says_something_else(capsys, tmp_path: Path) -> None:
    args = ["channels", "snapshot", "gate", "-o"]
    place = str(tmp_path / "x.png")
    assert run([*args, place, "--server", "127.0.0.1:1"]) == 2
    why = "the picture is a JPEG; allowed: a name that ends in .jpg or .jpeg, or has no ending"
    assert f"{args[-1]} is {place!r}; {why}" in capsys.readouterr().err


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
    assert "begins 2026-09-2" in said.out
    assert "; the last keyframe before the time is 18.4 s into it" in said.out
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
