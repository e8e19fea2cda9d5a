"""The sink that appends to a file."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from support_sinks import a_message
from support_store import an_event
from vedette_server.errors import SettingsError
from vedette_server.sinks.base import SinkError
from vedette_server.sinks.jsonl import JsonlSettings, JsonlSink, read_jsonl
from vedette_server.sinks.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class FullDisk:
    """Writes what there is room for."""

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes

    def __call__(self, descriptor: int, content: bytes) -> int:
        written = min(self.room_bytes, len(content))
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room_bytes -= written
        return os.write(descriptor, content[:written])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.fixture
def sink(path: Path) -> Iterator[JsonlSink]:
    one = JsonlSink(JsonlSettings(path))
    yield one
    one.close()
    one.close()


def records(path: Path) -> list[int]:
    return [json.loads(line)["record"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_message_is_a_line(sink: JsonlSink, path: Path) -> None:
    sink.deliver([a_message(1), a_message(2, an_event("b", detail="zwei\nZeilen\u2028"))])
    sink.deliver([a_message(3)])
    assert [json.loads(line)["record"] for line in path.read_bytes().split(b"\n")[:-1]] == [1, 2, 3]


def test_a_full_disk_leaves_no_half_line_and_passes(path: Path) -> None:
    disk = FullDisk(10**6)
    sink = JsonlSink(JsonlSettings(path), disk)
    sink.deliver([a_message(1)])
    disk.room_bytes = 700
    with pytest.raises(SinkError, match="No space left") as caught:
        sink.deliver([a_message(2), a_message(3)])
    assert caught.value.of_sink
    assert records(path) == [1]
    disk.room_bytes = 10**6
    sink.deliver([a_message(2), a_message(3)])
    assert records(path) == [1, 2, 3]
    sink.close()


def test_a_real_full_disk_is_told(tmp_path: Path) -> None:
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("there is no /dev/full")
    (tmp_path / "full").symlink_to("/dev/full")
    sink = JsonlSink(JsonlSettings(tmp_path / "full"))
    with pytest.raises(SinkError) as caught:
        sink.deliver([a_message(1)])
    assert caught.value.of_sink
    sink.close()


def test_half_a_line_that_a_crash_has_left_is_cut_off(path: Path) -> None:
    whole = a_message(1).body() + b"\n"
    for left in (whole + a_message(2).body()[:-9], whole + b'{"ver', a_message(2).body()[:40], b'{"', b""):
        path.write_bytes(left)
        sink = JsonlSink(JsonlSettings(path))
        sink.deliver([a_message(2)])
        sink.close()
        assert records(path) == ([1, 2] if left.startswith(whole) else [2])


def test_a_last_line_without_its_end_that_is_whole_or_not_ours_stays(path: Path) -> None:
    for left in (a_message(1).body(), b"a note of somebody", b'{"time": 1, "wh', a_message(1).body() + b"\nmore"):
        path.write_bytes(left)
        sink = JsonlSink(JsonlSettings(path))
        sink.deliver([a_message(2)])
        sink.close()
        assert path.read_bytes() == left + b"\n" + a_message(2).body() + b"\n"


def test_a_file_that_was_moved_away_is_begun_anew(sink: JsonlSink, path: Path) -> None:
    sink.deliver([a_message(1)])
    path.rename(path.with_name("moved"))
    sink.deliver([a_message(2)])
    path.unlink()
    sink.deliver([a_message(3)])
    assert records(path.with_name("moved")) == [1]
    assert records(path) == [3]


def test_a_file_is_put_aside_before_it_grows_too_large(path: Path) -> None:
    size = len(a_message(1).body()) + 1
    sink = JsonlSink(JsonlSettings(path, max_bytes=2 * size, keep=2))
    for number in range(1, 8):
        sink.deliver([a_message(number)])
    sink.close()
    assert records(path) == [7]
    assert records(path.with_name("events.jsonl.1")) == [5, 6]
    assert records(path.with_name("events.jsonl.2")) == [3, 4]
    assert not path.with_name("events.jsonl.3").exists()


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    sink = JsonlSink(JsonlSettings(tmp_path / "mount" / "events.jsonl"))
    with pytest.raises(SinkError, match="No such file") as caught:
        sink.deliver([a_message(1)])
    assert caught.value.of_sink
    (tmp_path / "mount").mkdir()
    sink.deliver([a_message(1)])
    sink.close()
    assert records(tmp_path / "mount" / "events.jsonl") == [1]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "path is missing"),
        ({"path": "."}, "a file; this is a folder"),
        ({"path": 3}, "path is 3; allowed: a path"),
        ({"path": "x", "max_bytes": -1}, "max_bytes is -1; allowed: a whole number"),
        ({"path": "x", "keep": True}, "keep is true; allowed: a whole number of 1..1000"),
    ],
)
def test_a_wrong_key_is_refused_with_its_name(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        read_jsonl(Table("sink", keys, tmp_path, {}))
