"""`vedette stream` and `vedette watch` against a real server."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import av
import pytest

import support_cli
from support_serving import ServerProcess
from support_sources import write_clip

if TYPE_CHECKING:
    from pathlib import Path

BLOBS = "synthetic:blobs?count=3&fps=20"
KEYS = {
    *("channel", "source", "sequence", "index", "time_s", "outcome", "reason", "detail", "age_ms", "picture"),
    *("concealed", "times_us", "request_id", "results"),
}


@pytest.fixture(scope="module")
def server():
    with ServerProcess("--engine", "blobs", "--tune-budget-s", "0") as process:
        yield process


def stream(server: ServerProcess, *args: str | Path) -> support_cli.Said:
    return support_cli.vedette("stream", *args, "--server", server.address, "--engine", "blobs")


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_packet_of_a_file_gets_its_line_of_json(server, tmp_path) -> None:
    clip = write_clip(tmp_path / "yard cam.mp4", frames=24)
    file = tmp_path / "verdicts.jsonl"
    said = stream(server, clip, "--policy", "every-frame", "--no-pace", "--jsonl", file)
    assert said.code == 0, said.err
    verdicts = lines(file.read_text())
    assert sorted(one["sequence"] for one in verdicts) == list(range(24))
    assert [one["index"] for one in verdicts] == list(range(24))
    assert {one["outcome"] for one in verdicts} == {"analysed"}
    assert all(one.keys() == KEYS for one in verdicts)
    assert {one["channel"] for one in verdicts} == {"yard-cam"}
    assert [one["time_s"] for one in verdicts] == sorted(one["time_s"] for one in verdicts)
    assert "agrees" in said.out
    assert "yard-cam" in said.out


def test_json_on_standard_output_leaves_the_table_to_standard_error(server) -> None:
    said = stream(server, BLOBS, "--duration", "1", "--jsonl", "-", "--channel", "yard")
    verdicts = lines(said.out)
    assert len(verdicts) == 20
    assert "agrees" in said.err
    found = [found for one in verdicts for result in one["results"] for found in result["detections"]]
    assert {found["label"] for found in found} <= {"red", "green", "blue"}
    for one in found:
        assert 0 <= one["box"][0] < one["box"][2] <= 1
        assert one["box_px"][2] == pytest.approx(one["box"][2] * 640, abs=0.01)


def test_each_of_several_sources_gets_a_channel_and_a_clip_of_its_own(server, tmp_path) -> None:
    out = tmp_path / "seen.mp4"
    said = stream(server, BLOBS, f"{BLOBS}&seed=2", "--duration", "1", "--annotate", out)
    assert said.code == 0, said.err
    assert not out.exists()
    for name in ("seen-blobs.mp4", "seen-blobs-2.mp4"):
        with av.open(str(tmp_path / name)) as clip:
            assert sum(1 for _ in clip.decode(video=0)) == 20
    assert said.out.count("agrees") == 2


def test_a_source_that_fails_does_not_stop_the_others(server, tmp_path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is no video at all" * 100)
    said = stream(server, broken, BLOBS, "--duration", "1")
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert said.err.startswith("vedette stream: broken: ")
    assert said.out.count("agrees") == 1


def test_an_engine_that_is_not_there_is_told_in_one_line(server) -> None:
    said = support_cli.vedette("stream", BLOBS, "--server", server.address, "--engine", "no-such-engine")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "no-such-engine" in said.err


def test_ctrl_c_ends_the_sources_and_still_closes_the_accounts(server) -> None:
    process = support_cli.start("stream", BLOBS, "--server", server.address, "--engine", "blobs", "--channel", "cut")
    while not any("cut " in line for line in sessions(server)):
        assert process.poll() is None
        time.sleep(0.1)
    said = support_cli.interrupt(process)
    assert said.code == 130
    assert "Traceback" not in said.err
    assert "agrees" in said.out


def test_a_channel_that_is_deleted_is_told_also_when_the_others_go_on_until_ctrl_c(tmp_path) -> None:
    with ServerProcess("--engine", "blobs", "--tune-budget-s", "0", "--state", str(tmp_path / "state")) as server:
        names = ("--channel", "gone", "--channel", "kept")
        process = support_cli.start(
            "stream", BLOBS, BLOBS, *names, "--server", server.address, "--engine", "blobs", "--jsonl", "-"
        )
        assert process.stdout is not None
        seen: set[str] = set()
        while seen != {"gone", "kept"}:
            seen.add(json.loads(process.stdout.readline())["channel"])
        file = tmp_path / "channels.toml"
        file.write_text('[[channels]]\nname = "gone"\n')
        for command in (("apply", file), ("delete", "gone")):
            assert support_cli.vedette("channels", *command, "--server", server.address).code == 0
        quiet = 0
        while quiet < 40:  # so many pictures of the other one
            quiet = 0 if json.loads(process.stdout.readline())["channel"] == "gone" else quiet + 1
        said = support_cli.interrupt(process)
    assert said.code == 130
    told = "gone: channel gone was deleted (NOT_FOUND, CHANNEL_DELETED)"
    assert f"vedette stream: {told}" in said.err


def sessions(server: ServerProcess, *args: str) -> list[str]:
    said = support_cli.vedette("watch", "--once", "--server", server.address, *args)
    assert said.code == 0, said.err
    return said.out.splitlines()


def test_watching_shows_what_became_of_a_channels_packets(server) -> None:
    stream(server, BLOBS, "--duration", "1", "--channel", "watched", "--max-fps", "5")
    row = next(line for line in sessions(server, "--channel", "watched") if line.startswith("watched"))
    assert "ended" in row
    _, _, _, received, _, analysed, skipped, pending, *reasons = row.split()
    assert (int(received), int(pending)) == (20, 0)
    assert int(analysed) + int(skipped) == 20
    assert "rate_limit" in reasons


def test_ctrl_c_ends_watching(server) -> None:
    process = support_cli.start("watch", "--server", server.address, "--every", "0.2")
    time.sleep(2.5)  # there is nothing it tells when it is up
    said = support_cli.interrupt(process)
    assert said.code == 130
    assert "Traceback" not in said.err
