"""`vedette demo`, short."""

from __future__ import annotations

import re

import av

import support_cli


def test_the_demo_shows_four_cameras_writes_a_clip_and_stops_its_server(tmp_path) -> None:
    said = support_cli.vedette("demo", "--seconds", "5", "--engine", "blobs", "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert said.out.count("agrees") == 4
    assert "server stopped, exit code 0" in said.out
    hits, objects = map(int, re.search(r"(\d+) of (\d+) objects were found", said.out).groups())
    assert objects > 0
    assert hits >= 0.9 * objects
    with av.open(str(tmp_path / "out" / "demo.mp4")) as clip:
        assert sum(1 for _ in clip.decode(video=0)) >= 40
    assert (tmp_path / "out" / "server.log").exists()
    counts = [int(count) for count in re.findall(r"(\d+) (?:cross|dwell|occupancy)", said.out)]
    assert sum(counts) >= 3
    assert "checked, all fit" in said.out
    assert (tmp_path / "out" / "event.jpg").read_bytes().startswith(b"\xff\xd8")
    with av.open(str(tmp_path / "out" / "event.mp4")) as clip:
        assert sum(1 for _ in clip.decode(video=0)) >= 15


def test_ctrl_c_ends_the_demo_and_its_server(tmp_path) -> None:
    process = support_cli.start("demo", "--seconds", "0", "--engine", "blobs", "--out", tmp_path)
    head = process.stdout.readline()  # says where the server is once it serves
    pid = int(re.search(r"process (\d+)", head).group(1))
    said = support_cli.interrupt(process)
    assert said.code == 130
    assert "Traceback" not in said.err
    assert "server stopped, exit code 0" in said.out
    assert support_cli.is_gone(pid)


def test_a_server_that_cannot_start_is_told_in_one_line(tmp_path) -> None:
    said = support_cli.vedette("demo", "--engine", "no-such-engine", "--out", tmp_path)
    assert said.code in {1, 2}
    assert said.err.count("\n") == 1
    assert "no-such-engine" in said.err
