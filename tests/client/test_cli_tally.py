"""Pure parts of the command line: rates, ages, names."""

from __future__ import annotations

import io
import json
import re
import threading
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from support_load import load_plan
from vedette_client import AnalyzeOptions, Client, OptionsError, SessionInfo, SessionState, SkipReason
from vedette_client.account import Account
from vedette_client.cli import board
from vedette_client.cli.camera import Camera, State
from vedette_client.cli.jsonl import JsonLines
from vedette_client.cli.reach import reach
from vedette_client.cli.shots import name_of, shots, unique_names
from vedette_client.cli.stream import clip_paths
from vedette_client.cli.tally import WINDOW_S, Ages, Tally, told
from vedette_client.cli.timed import Due, TimedSource
from vedette_client.cli.watch import Looks
from vedette_client.errors import SourceError
from vedette_client.loadtest.report import plan_facts
from vedette_client.sources import SourceFormat, SourcePacket, open_source
from vedette_client.verdicts import Box, Detection, EngineResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=200), st.sampled_from([50.0, 95.0, 100.0]))
def test_a_percentile_of_the_ages_is_right_to_within_two_per_cent(ages, percent) -> None:
    kept = Ages()
    for age in ages:
        kept.add(age)
    exact = sorted(ages)[-(-len(ages) * int(percent) // 100) - 1]
    assert kept.percentile(percent) == pytest.approx(exact, rel=0.02)


def test_there_is_no_age_without_an_analysed_frame() -> None:
    assert Ages().percentile(50) is None
    assert Tally().recent_ages(0) is None


def analysed(*labels: str) -> Verdict:
    box = Box(0, 0, 1, 1)
    found = tuple(Detection(0, label, 1.0, box, box) for label in labels)
    return Verdict(0, 0, 0, None, results=(EngineResult("e", "1", 1, False, "b", found),))


def test_rates_are_those_of_the_last_seconds() -> None:
    tally = Tally()
    for tick in range(100):
        tally.add_sent(tick / 10)
        if tick % 2:
            tally.add_verdict(analysed("person"), 0.05, tick / 10)
        else:
            tally.add_verdict(Verdict(tick, tick, None, SkipReason.STALE), 0.1, tick / 10)
    assert tally.sent_fps(9.9) == pytest.approx(10, rel=0.05)
    assert tally.analysed_fps(9.9) == pytest.approx(5, rel=0.1)
    assert tally.sent_fps(9.9 + WINDOW_S + 1) == 0
    assert tally.skipped == {"STALE": 50}
    assert tally.recent_ages(9.9) == (0.05, 0.05)


def test_what_was_seen_last_is_told_in_words() -> None:
    tally = Tally()
    tally.add_verdict(analysed("person", "car", "person"), 0.1, 0.0)
    assert told(tally.objects) == "2 person 1 car"
    assert told(Counter({"RATE_LIMIT": 3})) == "3 rate_limit"
    assert told(Counter()) == "-"


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("clips/front door.mp4", "front-door"),
        ("synthetic:walkers?seed=3", "walkers"),
        ("rtsp://user:secret@cam7.local:554/stream/1", "cam7.local-stream-1"),
        ("/dev/video0", "video0"),
        ("webcam:1", "webcam-1"),
        ("...", "camera"),
    ],
)
def test_a_channel_is_called_after_its_source_but_never_after_its_password(spec, name) -> None:
    assert name_of(spec) == name


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["a.mp4", "x/a.mp4", "a-2.mp4", "synthetic:blobs", "ü"]) | st.text(max_size=200)))
def test_names_are_allowed_and_differ(specs) -> None:
    names = unique_names(specs)
    assert len(set(names)) == len(specs)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,128}", name) for name in names)


def test_a_camera_s_password_is_in_no_line_of_json_and_no_report() -> None:
    url = "rtsp://admin:pa/secret@cam/a?pwd=secret"
    output = io.StringIO()
    JsonLines(output, "a", url).judged(Verdict(0, 0, None, SkipReason.STALE), 0.0)
    assert json.loads(output.getvalue())["source"] == "rtsp://cam/a?pwd=***"
    assert "secret" not in name_of(url)
    assert plan_facts(replace(load_plan(), sources=(url,)))["sources"] == ["rtsp://cam/a?pwd=***"]


@pytest.mark.parametrize("names", [["a", "channels/a"], ["channels/a", "channels/a"]])
def test_one_channel_under_two_spellings_is_refused(names) -> None:
    with pytest.raises(OptionsError, match="the same channel twice"):
        shots(["synthetic:blobs", "synthetic:walkers"], names, AnalyzeOptions())


def test_a_resource_name_names_the_channel_and_its_clip(tmp_path) -> None:
    made = shots(["synthetic:blobs", "synthetic:walkers"], ["channels/a", "b"], AnalyzeOptions())
    assert [shot.channel for shot in made] == ["a", "b"]
    assert clip_paths(tmp_path / "o.mp4", [shot.channel for shot in made])[0] == tmp_path / "o-a.mp4"


def test_a_token_is_stripped_and_one_that_no_header_takes_is_refused_untold() -> None:
    assert reach("h:1", False, None, None, None, "open sesame\n").token == "open sesame"
    assert reach("h:1", False, None, None, None, " ").token is None
    for token in ("open\nsesame", "sésame"):
        with pytest.raises(OptionsError, match="the token holds") as caught:
            reach("h:1", False, None, None, None, token)
        assert "same" not in str(caught.value)
        with pytest.raises(OptionsError, match="the token holds"):
            Client("h:1", token=token)


def test_a_clip_is_named_after_its_channel_when_there_are_several(tmp_path) -> None:
    out = tmp_path / "o.mp4"
    assert clip_paths(None, ["a", "b"]) == [None, None]
    assert clip_paths(out, ["a"]) == [out]
    assert clip_paths(out, ["a", "b"]) == [tmp_path / "o-a.mp4", tmp_path / "o-b.mp4"]
    with pytest.raises(OptionsError):
        clip_paths(tmp_path / "o.mkv", ["a"])


def test_a_timed_source_says_when_packets_were_due_and_ends_in_time() -> None:
    source = TimedSource(open_source("synthetic:blobs?fps=10&width=64&height=64"), threading.Event(), 0.55)
    source.open()
    packets = list(source.packets())
    assert len(packets) == 6
    dues = [packet.truth for packet in packets]
    assert all(isinstance(due, Due) and due.truth is not None for due in dues)
    assert [due.at_s - dues[0].at_s for due in dues] == pytest.approx([n / 10 for n in range(6)])


def test_a_stopped_source_ends() -> None:
    stop = threading.Event()
    source = TimedSource(open_source("synthetic:blobs?width=64&height=64", pace=False), stop)
    source.open()
    for packet in source.packets():
        assert isinstance(packet, SourcePacket)
        stop.set()
    source.close()


class Away:
    """A camera that gave one packet and then went away, until it is closed."""

    name = "away"
    live = True

    def __init__(self) -> None:
        self.closed = threading.Event()

    def open(self) -> SourceFormat:
        return SourceFormat(codec=1, extradata=b"", time_base=Fraction(1, 10), width=2, height=2)

    def packets(self) -> Iterator[SourcePacket]:
        yield SourcePacket(b"", 0, 0, 1, keyframe=True)
        assert self.closed.wait(20), "nobody hung up"
        raise SourceError("the read was broken off")

    def close(self) -> None:
        self.closed.set()


@pytest.mark.parametrize("by", ["duration", "stop"])
def test_a_source_whose_camera_is_away_ends_in_time_too(by) -> None:
    stop = threading.Event()
    source = TimedSource(Away(), stop, 0.1 if by == "duration" else None)
    source.open()
    packets = source.packets()
    assert next(packets).keyframe
    if by == "stop":
        stop.set()
    assert list(packets) == []


def test_a_plain_output_tells_how_far_a_recording_is(monkeypatch) -> None:
    monkeypatch.setattr(board, "_PLAIN_EVERY_S", 0.0)
    out = io.StringIO()
    cameras = [
        Camera(shot, threading.Event())
        for shot in shots(["synthetic:blobs?seconds=8"] * 2, ["a", "b"], AnalyzeOptions())
    ]
    cameras[0].tally.position_s = 2.0
    cameras[1].state = State.FINISHED
    board.Board(cameras, Console(file=out), "t").refresh()
    assert "a: opening, at 2.0 of 8.0 s, " in out.getvalue()
    assert "b: finished, at 8.0 of 8.0 s, " in out.getvalue()


def test_looking_twice_at_a_session_gives_its_rate() -> None:
    def session(packets: int) -> SessionInfo:
        account = Account(packets=packets, analysed=packets - 1, skipped=Counter({SkipReason.STALE: 1}))
        return SessionInfo("channels/a/sessions/1", SessionState.CONNECTED, 0, None, "", account, 0)

    looks = Looks()
    looks.take([session(10)], 100.0)
    assert looks.fps == {}
    looks.take([session(40)], 102.0)
    assert looks.fps == {"channels/a/sessions/1": 15.0}
    assert looks.table("t").row_count == 1


def test_a_source_of_another_kind_of_error_stays_that_error() -> None:
    with pytest.raises(SourceError):
        TimedSource(open_source(__file__), threading.Event()).open()
