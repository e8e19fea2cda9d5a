"""What a sink did not take: kept, put through again, forgotten."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from support_sinks import ScriptedSink
from support_store import an_event
from vedette_server.errors import UnavailableError
from vedette_server.sinks import dead_letters
from vedette_server.sinks.attempts import Attempts
from vedette_server.sinks.base import SinkError
from vedette_server.sinks.dead_letters import DeadLetter, DeadLetters
from vedette_server.sinks.delivery import Deliverer
from vedette_server.sinks.figures import Counts, Replayed
from vedette_server.sinks.replaying import SETTLE_S, Replaying
from vedette_server.sinks.settings import DeadBounds, SinkSettings
from vedette_server.store.feed import EventFeed
from vedette_server.store.store import EventStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vedette_server.sinks.base import EventMessage
    from vedette_server.sinks.line import Line


class Dead:
    """A file of dead letters, a sink, and a clock in our hands."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "desk.dead.jsonl"
        self.sink = ScriptedSink()
        self.now_s = 0.0
        self.open()

    def open(self) -> None:
        self.letters = DeadLetters(self.path, DeadBounds())

    def add(self, *names: str, number: int | None = None) -> None:
        for name in names:
            event = an_event(name, channel=f"c{name}")
            self.letters.add(DeadLetter(number or len(self.letters) + 1, event, "no", 1, 0.0))

    def replaying(self) -> Replaying:
        attempts = Attempts("desk", self.sink, self.letters, Counts(), lambda _event: None)
        return Replaying(self.letters, attempts, lambda: self.now_s)

    def replay(self) -> Replayed:
        one = self.replaying()
        while one.step():
            pass
        one.finish()
        return one.result.result(0)

    @property
    def names(self) -> list[str]:
        return [one.event.event_id for one in self.letters.letters()]

    @property
    def names_on_disk(self) -> list[str]:
        return [one.event.event_id for one in DeadLetters(self.path, DeadBounds()).letters()]


@pytest.fixture
def dead(tmp_path: Path) -> Dead:
    return Dead(tmp_path)


def test_a_number_of_a_store_that_was_replaced_takes_no_other_letter_with_it(dead: Dead) -> None:
    dead.add("old", "new", number=5)
    dead.sink.answer = lambda group: (SinkError("500") if group[0].event.event_id == "old" else None, 0)
    assert dead.replay().delivered == 1
    assert dead.names == dead.names_on_disk == ["old"]


def test_a_letter_that_is_kept_already_is_not_kept_twice(dead: Dead) -> None:
    dead.add("a", "a", number=5)
    dead.open()
    dead.add("a", number=5)
    assert dead.names == ["a"]


def test_a_replay_writes_the_file_once_and_reads_each_letter_once(dead: Dead, monkeypatch: pytest.MonkeyPatch) -> None:
    dead.add(*(f"{one}" for one in range(300)))
    written, read = [], []
    write, decode = dead_letters.write_pieces, dead_letters._letter

    def counted(path: Path, pieces: Any) -> None:
        written.append(path)
        write(path, pieces)

    monkeypatch.setattr(dead_letters, "write_pieces", counted)
    monkeypatch.setattr(dead_letters, "_letter", lambda line: read.append(line) or decode(line))
    assert dead.replay() == Replayed(300, 0)
    assert (len(written), len(read)) == (1, 300)
    assert dead.path.read_bytes() == b""


def test_of_a_long_replay_a_crash_repeats_a_few_seconds_only(dead: Dead) -> None:
    dead.add(*"abcd")
    one = dead.replaying()
    assert one.step()
    assert dead.names_on_disk == list("abcd"), "not written each time"
    dead.now_s = SETTLE_S
    assert one.step()
    assert dead.names_on_disk == list("cd")
    assert one.step()
    one.cancel("the server closes")
    assert dead.names_on_disk == ["d"]
    with pytest.raises(UnavailableError, match="the server closes"):
        one.result.result(0)


def test_what_is_given_up_during_a_replay_is_kept(dead: Dead) -> None:
    dead.add("a", "b")
    one = dead.replaying()
    assert one.step()
    dead.add("a", number=1)
    dead.add("c", number=9)
    assert dead.names == dead.names_on_disk == ["b", "a", "c"]
    while one.step():
        pass
    one.finish()
    assert (one.result.result(0).delivered, dead.names_on_disk) == (2, ["a", "c"])


def test_letters_that_cannot_be_removed_end_the_replay_with_the_reason(dead: Dead) -> None:
    dead.add("a")
    (dead.path.parent / "desk.dead.jsonl.new").mkdir()
    with pytest.raises(UnavailableError, match="cannot be removed: Is a directory"):
        dead.replay()
    assert dead.names_on_disk == ["a"]


def test_a_file_that_somebody_changed_is_read_anew(dead: Dead) -> None:
    dead.add("a", "b", "c")
    lines = dead.path.read_bytes().splitlines(keepends=True)
    dead.path.write_bytes(b"".join(lines[1:]))
    with pytest.raises(UnavailableError, match="cannot be read"):
        dead.replay()
    dead.add("d", number=9)
    assert dead.names == dead.names_on_disk == ["b", "c", "d"]
    dead.path.unlink()
    dead.add("e", number=10)
    assert dead.names == dead.names_on_disk == ["e"]


def test_a_last_line_without_its_end_is_not_written_into(dead: Dead) -> None:
    dead.add("a", "b")
    dead.path.write_bytes(dead.path.read_bytes()[:-1])
    dead.open()
    dead.add("c", number=9)
    assert dead.names == dead.names_on_disk == ["a", "b", "c"]


def test_only_the_owner_may_look_at_what_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "sinks"
    folder.mkdir(mode=0o755)
    sink = ScriptedSink()
    sink.answer = lambda _group: (SinkError("no", permanent=True), 0)
    settings = SinkSettings("desk", "test", lambda _context: sink)
    with EventStore(f"sqlite:///{tmp_path}/events.db") as store:
        feed, until_s = EventFeed(store.end()[0]), time.monotonic() + 10
        with Deliverer([settings], store, feed, folder) as deliverer:
            for stored in store.append([an_event("a")]):
                feed.told(stored)
            while not deliverer.figures()["desk"].dead:
                assert time.monotonic() < until_s
                time.sleep(0.01)
    modes = {one.name: one.stat().st_mode & 0o777 for one in [folder, *folder.iterdir()]}
    assert modes == {"sinks": 0o700, "desk.dead.jsonl": 0o600, "desk.position.json": 0o600}


def test_who_asks_for_a_replay_when_one_has_just_ended_gets_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    finish = Replaying.finish

    def looked_at(self: Replaying) -> None:
        # Whoever is told the result finds none going on.
        self.result.add_done_callback(lambda _one: seen.append(line._replaying))
        finish(self)

    monkeypatch.setattr(Replaying, "finish", looked_at)
    with EventStore(f"sqlite:///{tmp_path}/events.db") as store:
        settings = SinkSettings("desk", "test", lambda _context: ScriptedSink())
        with Deliverer([settings], store, EventFeed(store.end()[0]), tmp_path / "sinks") as deliverer:
            line: Line = deliverer._lines["desk"]
            assert deliverer.replay("desk") == Replayed(0, 0)
    assert seen == [None]


def test_a_replay_that_a_sink_ends_counts_all_that_is_left(dead: Dead) -> None:
    dead.add(*"abc")

    def answer(group: Sequence[EventMessage]) -> tuple[SinkError | None, int]:
        return (SinkError("down", of_sink=True) if group[0].event.event_id == "b" else None), 0

    dead.sink.answer = answer
    assert dead.replay() == Replayed(1, 2, "down")
    assert dead.names_on_disk == ["b", "c"]
