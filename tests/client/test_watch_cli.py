"""`vedette watch --events`: news as a person and as a program read them."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from rich.table import Table
from rich.text import Text

import support_cli
from support_watching import PENDING, Monitor, Says, event, result, serving
from vedette.v1 import channel_pb2, event_pb2, watch_pb2
from vedette_client.cli.main import run
from vedette_client.cli.outcome import printable
from vedette_client.cli.terminal import console

if TYPE_CHECKING:
    from collections.abc import Iterator

COLOUR = "\x1b["


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VEDETTE_SERVER", "VEDETTE_TOKEN", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def watching(capsys: Any, *what: Any, **behaviour: Any) -> Iterator[Says]:
    monitor = Monitor(**behaviour)
    monitor.happen(*what)
    with serving(monitor) as server:
        yield Says(capsys, server.address)


def local(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S}"


def test_each_change_of_an_event_is_a_line_that_tells_it_all(capsys) -> None:
    offline = event(2, kind=20, rule="camera", place=None, label=None, track_ids=None, peak_score=None, measures=None)
    offline.MergeFrom(event_pb2.Event(detail="no packets for 10.2 s"))
    offline.ClearField("clip")
    many = event(3, track_ids=["cam:0000000000000000123", "b", "c"], clip=event_pb2.Evidence(state=PENDING))
    many.ClearField("end_time")
    many.state = event_pb2.EVENT_STATE_ACTIVE
    many.acknowledgement.user = "anna"
    many.measures["count"] = 5
    with watching(capsys, event(1), offline, many) as vedette:
        said = vedette("watch", "--events", "--since", "earliest", "--count", 3)
    assert said.code == 0
    entered, faulty, seen = (re.split(r"\s{2,}", line.strip()) for line in said.out.splitlines())
    assert entered[0].startswith(local(1_790_000_003.5))
    assert entered[0].split()[-1] == datetime.fromtimestamp(1_790_000_003).astimezone().strftime("%Z")
    assert entered[1:6] == ["gate", "ended", "enter", "yard-enter", "yard"]
    assert entered[6:] == ["person #t1", "4.5 s", "0.75", "unseen", "clip ready", "0001abcd"]
    assert faulty[2:6] == ["ended", "camera offline", "camera", "-"]
    assert faulty[-3:] == ["no clip", "0002abcd", "no packets for 10.2 s"]
    assert seen[2] == "active"
    assert seen[6:] == [
        *("person #cam:00000000000… +2", "4.5 s", "0.75", "seen by anna", "clip coming", "0003abcd", "count 5"),
    ]
    assert "to go on from here: --since 3" in said.err
    assert COLOUR not in said.out


def test_a_change_that_its_line_does_not_show_is_shown_to_programs_only(capsys) -> None:
    pictured = event(1)
    pictured.record = 2
    pictured.snapshot.state = PENDING
    over = event(1, clip=event_pb2.Evidence(state=PENDING))
    with watching(capsys, event(1), pictured, over) as vedette:
        lines = vedette("watch", "--events", "--since", "earliest", "--count", 2).out.splitlines()
        assert ["clip ready" in line for line in lines] == [True, False]
        said = vedette("watch", "--events", "--since", "earliest", "--count", 3, "--json")
    assert len(said.out.splitlines()) == 3


def test_a_change_that_was_seen_by_nobody_with_a_name_says_so(capsys) -> None:
    unnamed = event(1)
    unnamed.acknowledgement.note = "a cat"
    with watching(capsys, unnamed) as vedette:
        assert "  seen, unnamed  " in vedette("watch", "--events", "--since", "earliest", "--count", 1).out


def test_what_is_missing_is_told(capsys) -> None:
    slow = watch_pb2.Gap(reason=1, results=12, channel="channels/gate")  # type: ignore[arg-type]
    gone = watch_pb2.Gap(reason=2)  # type: ignore[arg-type]
    with watching(capsys, slow, gone) as vedette:
        lines = vedette("watch", "--events", "--since", "earliest", "--count", 2).out.splitlines()
    assert lines == [
        "-- 12 results are missing here of gate: read too slowly --",
        "-- something is missing here: older than what is kept --",
    ]


def test_results_are_lines_too(capsys) -> None:
    skipped = watch_pb2.ChannelResult(channel="channels/yard")
    skipped.verdict.skip.reason = 5  # type: ignore[assignment]
    with watching(capsys, event(1), result(7), result(8, label=""), skipped) as vedette:
        lines = vedette("watch", "--results", "--since", "earliest", "--count", 3).out.splitlines()
        assert [line.split("frame ")[1] for line in lines] == [
            "7  person 0.50 #t1",
            "8  nothing found",
            "0  skipped: no_motion",
        ]
        found = vedette("watch", "--results", "--found-only", "--channel", "gate", "--since", "earliest", "--count", 1)
        assert "frame 7" in found.out


def test_the_time_of_a_result_is_one_of_day_also_of_a_recording(capsys) -> None:
    recorded = result(7)
    recorded.verdict.times.receive_time.seconds = 1_790_000_003
    recorded.verdict.times.capture_time.nanos = 300_000_000
    with watching(capsys, recorded) as vedette:
        asked = ("watch", "--results", "--since", "earliest", "--count", 1)
        assert vedette(*asked).out.startswith(local(1_790_000_003.0))
        assert json.loads(vedette(*asked, "--json").out)["result"]["receive_time"] == "2026-09-21T14:13:23Z"


def test_programs_get_lines_of_json_with_the_offset(capsys) -> None:
    with watching(capsys, event(1), result(2), watch_pb2.Gap(results=3)) as vedette:
        said = vedette("watch", "--events", "--results", "--since", "earliest", "--count", 3, "--json")
    first, second, third = (json.loads(line) for line in said.out.splitlines())
    assert (first["offset"], second["offset"], third["offset"]) == ("1", "2", "3")
    assert (first["event"]["id"], first["event"]["kind"], first["event"]["duration_s"]) == (
        "0001abcdefghijklmnopqrstuv",
        "enter",
        2.5,
    )
    assert first["event"]["start_time"] == "2026-09-21T14:13:21Z"
    assert second["result"]["detections"][0]["track_id"] == "t1"
    assert third["gap"]["results"] == 3
    assert said.err == ""


def test_events_are_chosen_by_rule_kind_label_channel_and_whether_they_were_seen(capsys) -> None:
    with watching(
        capsys, event(1), event(2, kind=20, rule="camera"), event(3, "yard", kind=5, label="car"), event(4, "yard")
    ) as vedette:

        def found(*args: object) -> list[int]:
            said = vedette("watch", "--events", "--json", "--since", "earliest", *args)
            assert said.code == 0, said.err
            return [json.loads(line)["event"]["record"] for line in said.out.splitlines()]

        assert found("--kind", "camera", "--count", 1) == [2]
        assert found("--kind", "dwell", "--kind", "Camera-Offline", "--count", 2) == [2, 3]
        assert found("--label", "car", "--unseen", "--count", 1) == [3]
        assert found("--channel", "yard", "--rule", "yard-enter", "--count", 2) == [3, 4]


def test_a_lost_connection_is_told_and_repaired(capsys) -> None:
    monitor = Monitor()
    monitor.happen(event(1), event(2), event(3))
    monitor.cuts.append(2)
    with serving(monitor) as server:
        said = Says(capsys, server.address)("watch", "--events", "--since", "earliest", "--count", 3)
    assert [line.split()[-1] for line in said.out.splitlines()] == ["0001abcd", "0002abcd", "0003abcd"]
    assert "the connection was lost, trying again: the server goes away (UNAVAILABLE)" in said.err
    assert "connected again" in said.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--since", "earliest"], "--since is for news; give --events or --results"),
        (["--json"], "--json is for news"),
        (["--rule", "x"], "give --events, too"),
        (["--results", "--kind", "enter"], "give --events, too"),
        (["--events", "--once"], "--once and --every are for the table of sessions"),
        (["--events", "--kind", "rain"], "--kind is 'rain'; allowed: camera, enter, leave"),
        (["--events", "--channel", "a b"], "channel is 'a b'"),
    ],
)
def test_options_that_do_not_fit_are_refused(args: list[str], said: str, capsys) -> None:
    assert run(["watch", *args, "--server", "127.0.0.1:1"]) == 2
    assert said in capsys.readouterr().err


def test_what_keeps_a_watch_from_beginning_is_one_line(capsys) -> None:
    denied = (grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN", "the token may not watch gate")
    refuse = {"WatchChannels": denied, "GetChannel": denied}
    with watching(capsys, refuse=refuse) as vedette:
        said = vedette("watch", "--events", "--channel", "gate")
    assert (said.code, said.out) == (1, "")
    assert said.err == "vedette watch: the token may not watch gate (PERMISSION_DENIED, FORBIDDEN)\n"
    with serving(absent=True) as server:
        said = Says(capsys, server.address)("watch", "--events")
    assert said.code == 1
    assert "watches no channels; it does when it is started with --state DIR or --channels FILE" in said.err


def test_ctrl_c_ends_it_and_tells_where_to_go_on() -> None:
    monitor = Monitor()
    monitor.happen(event(1))
    with serving(monitor) as server:
        process = support_cli.start("watch", "--events", "--since", "earliest", "--server", server.address)
        assert process.stdout is not None
        assert "0001abcd" in process.stdout.readline()
        said = support_cli.interrupt(process)
    assert said.code == 130
    assert said.err == "vedette watch: to go on from here: --since 1\n"


def test_a_terminal_is_coloured_unless_it_is_not_wanted() -> None:
    monitor = Monitor()
    monitor.happen(event(1))
    with serving(monitor) as server:
        assert COLOUR + "33m" in on_a_terminal(server.address)
        plain = on_a_terminal(server.address, NO_COLOR="1")
    assert not re.search(r"\x1b\[(\d+;)*3\d", plain)
    assert "unseen" in plain


def on_a_terminal(address: str, **settings: str) -> str:
    ours, theirs = pty.openpty()
    code = "from vedette_client.cli.main import main; main()"
    args = ["watch", "--events", "--since", "earliest", "--count", "1", "--server", address]
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=support_cli.environment(TERM="xterm-256color", **settings),
        timeout=60,
        check=True,
    )
    os.close(theirs)
    text = b""
    try:
        while piece := os.read(ours, 4096):
            text += piece
    except OSError:  # that is how a terminal that nobody writes to ends
        pass
    os.close(ours)
    assert done.returncode == 0
    return text.decode()


def test_a_channel_that_is_not_known_is_told_and_watched_all_the_same(capsys) -> None:
    monitor = Monitor()
    monitor.happen(event(1), event(2, "yard"))
    monitor.channels["channels/gate"] = channel_pb2.Channel(name="channels/gate")
    with serving(monitor) as server:
        vedette = Says(capsys, server.address)
        names = ("--channel", "gate", "--channel", "yard", "--channel", "yard")
        watched = vedette("watch", "--events", *names, "--since", "earliest", "--count", 2, "--json")
        listed = vedette("events", "list", "--channel", "nosuch")
    assert (watched.code, len(watched.out.splitlines())) == (0, 2)
    assert watched.err == "vedette watch: channel 'yard' is not known yet\n"
    assert (listed.code, listed.out) == (0, "no events\n")
    assert listed.err == "vedette events list: channel 'nosuch' is not known yet\n"


def test_an_error_and_an_identity_do_not_steer_the_terminal_either(capsys) -> None:
    monitor = Monitor()
    nasty = event(1)
    nasty.name = "channels/gate/events/\x1b]0;owned\x07abcdefghijkl"
    monitor.happen(nasty)
    with serving(monitor) as server:
        vedette = Says(capsys, server.address)
        pages = [
            vedette("watch", "--events", "--since", "earliest", "--count", 1).out,
            vedette("events", "list").out,
            vedette("events", "ack", nasty.name).err,
        ]
        monitor.refuse["ListEvents"] = (grpc.StatusCode.PERMISSION_DENIED, "NO", "no \x1b]0;owned\x07 \x9b2J\u202e")
        pages.append(vedette("events", "list").err)
    assert all(pages)
    assert [page for page in pages if re.search("[\x1b\x07\x9b\u202e]", page)] == []


def test_whatever_is_put_into_a_table_does_not_steer_the_terminal(capsys) -> None:
    table = Table("\x1b]0;head\x07")
    table.add_row("a\x1b[2Jb\x9b", Text("c\x1bd", style="red"))
    console().print(table)
    console().print("two\nlines \x1b[1m")
    said = capsys.readouterr().out
    assert "a�[2Jb�" in said
    assert "two\nlines �[1m\n" in said
    assert "\x1b" not in said


def test_nothing_that_a_server_says_steers_the_terminal(capsys) -> None:
    assert printable("a\x1b[31m\nb\u202e\x07é") == "a�[31m�b��é"
    nasty = event(1, rule="\x1b]0;owned\x07", label="\x1b[2J", detail="\x1b[1m", kind=20)
    nasty.acknowledgement.user = "\x1b[5m"
    with watching(capsys, nasty) as vedette:
        pages = (
            vedette("watch", "--events", "--since", "earliest", "--count", 1).out,
            vedette("events", "list").out,
            vedette("events", "show", "0001").out,
            vedette("events", "list", "--json").out,
        )
    assert all("\x1b" not in page and "\x07" not in page for page in pages)
