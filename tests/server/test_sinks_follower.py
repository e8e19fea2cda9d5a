"""What a sink is given, in which order, how often, and what becomes of it when it fails."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_sinks import Bench
from support_store import an_event, ended
from vedette_server.data.event import EventKind, EventState
from vedette_server.errors import SettingsError
from vedette_server.sinks.base import SinkError
from vedette_server.sinks.settings import DeadBounds, Patience, Start, Wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_server.sinks.base import EventMessage

HOUR_S = 3600.0


def down(_group: Sequence[EventMessage]) -> tuple[SinkError, int]:
    return SinkError("nobody answers", of_sink=True), 0


def test_messages_come_in_the_order_of_the_chain(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.chain.add(an_event("a"), an_event("b", channel="door"), ended("a"))
    bench.run(1)
    assert bench.sink.numbers == [1, 2, 3]
    assert bench.lag == 0


def test_a_new_sink_begins_at_the_end_of_the_chain_also_when_it_is_killed_before_it_has_delivered(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, start=Start.LATEST)
    bench.chain.add(an_event("a"))
    bench.restart()
    bench.chain.add(an_event("b"))
    bench.restart()
    bench.run(1)
    assert bench.sink.numbers == [1, 2], "the chain was empty when the sink was new"


def test_a_sink_that_is_down_for_an_hour_gets_everything_in_order_and_is_not_hammered(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = down
    for minute in range(60):
        bench.chain.add(*(an_event(f"{minute}-{one}", channel=f"c{one}") for one in range(5)))
        bench.run(60)
    tries = bench.sink.tries
    assert 60 <= tries <= 130, "pauses grow to a minute, less what is left to chance"
    assert bench.follower.figures(300).failing == "nobody answers"
    assert bench.lag == 300
    bench.sink.answer = lambda _group: (None, 0)
    bench.run(61)
    assert sorted(bench.sink.numbers) == list(range(1, 301))
    for channel in range(5):
        mine = [one.number for one in bench.sink.taken if one.event.channel == f"c{channel}"]
        assert mine == sorted(mine)
    figures = bench.follower.figures(300)
    assert (figures.dead, figures.lag, figures.channels_behind, figures.failing) == (0, 0, 0, "")
    assert (figures.delivered, figures.failed) == (300, tries)


def test_a_message_that_fails_holds_back_its_channel_only(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = lambda group: (SinkError("500") if group[0].number == 1 else None, 0)
    bench.chain.add(an_event("a"), an_event("b", channel="door"), ended("a"), an_event("c", channel="door"))
    bench.run(0.1)
    assert bench.sink.numbers == [2, 4]
    assert bench.follower.figures(4).channels_behind == 1
    assert bench.lag == 2
    bench.sink.answer = lambda _group: (None, 0)
    bench.run(5)
    assert bench.sink.numbers == [2, 4, 1, 3]
    assert bench.lag == 0


def test_a_message_on_which_the_sink_hangs_does_not_stand_before_the_other_channels(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = lambda group: (SinkError("hangs", of_sink=True) if group[0].number == 1 else None, 0)
    bench.chain.add(*(an_event(f"{one}", channel=f"c{one}") for one in range(20)))
    bench.run(120)
    assert sorted(bench.sink.numbers) == list(range(2, 21))


@pytest.mark.parametrize("hanging", ["a", "b", "c"])
def test_channels_that_are_behind_take_turns(tmp_path: Path, hanging: str) -> None:
    bench = Bench(tmp_path, patience=Patience(max_age_s=1e9))
    bench.sink.answer = down
    bench.chain.add(*(an_event(name, channel=name) for name in "abc"))
    bench.run(30)
    bench.sink.answer = lambda group: down(group) if group[0].event.channel == hanging else (None, 0)
    bench.run(300)
    assert {one.event.channel for one in bench.sink.taken} == set("abc") - {hanging}


def test_channels_that_are_behind_are_tried_also_while_new_ones_fail_all_the_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = down
    bench.chain.add(an_event("first", channel="first"))
    bench.run(1)
    bench.sink.answer = lambda group: (None, 0) if group[0].event.channel == "first" else down(group)
    bench.chain.add(*(an_event(f"{one}", channel=f"c{one}") for one in range(200)))
    bench.run(HOUR_S)
    assert bench.sink.numbers == [1]


@pytest.mark.parametrize("idle_steps", [0, 1])
def test_what_comes_while_a_channel_is_behind_is_not_delivered_twice(tmp_path: Path, idle_steps: int) -> None:
    bench = Bench(tmp_path, most=4)
    bench.sink.answer = lambda _group: (SinkError("500"), 0)
    bench.chain.add(an_event("0"))
    bench.run(0.1)
    for _each in range(idle_steps):
        bench.follower.step()  # it is the other's turn to be first
    bench.sink.answer = lambda _group: (None, 0)
    bench.clock.pass_s(5)
    bench.chain.add(an_event("1"), an_event("2"))
    bench.run(5)
    assert bench.sink.numbers == [1, 2, 3]


def test_what_is_refused_for_good_becomes_a_dead_letter_and_the_channel_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = lambda group: (SinkError("400", permanent=True) if group[0].number == 2 else None, 0)
    bench.chain.add(an_event("a"), an_event("b"), an_event("c"))
    bench.run(1)
    assert bench.sink.numbers == [1, 3]
    (letter,) = bench.dead.letters()
    assert (letter.number, letter.reason, letter.event, letter.tries) == (2, "400", an_event("b"), 1)


def test_a_message_of_a_group_that_is_refused_takes_no_other_with_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, most=8)
    bench.sink.answer = lambda group: (
        SinkError("too large", permanent=True) if any(one.number == 5 for one in group) else None,
        0,
    )
    bench.chain.add(*(an_event(f"{one}") for one in range(20)))
    bench.run(1)
    assert [letter.number for letter in bench.dead.letters()] == [5]
    assert bench.sink.numbers == [number for number in range(1, 21) if number != 5]


def test_a_message_that_fails_while_others_are_taken_is_given_up_after_so_many_attempts(tmp_path: Path) -> None:
    bench = Bench(tmp_path, patience=Patience(max_attempts=3))
    bench.sink.answer = lambda group: (SinkError("500") if group[0].event.event_id == "bad" else None, 0)
    bench.chain.add(an_event("bad"), an_event("good"))
    for one in range(100):
        bench.chain.add(an_event(f"{one}", channel="door"))
        bench.run(2)
    assert [letter.event.event_id for letter in bench.dead.letters()] == ["bad"]
    assert next(bench.dead.letters()).tries == 4
    assert "good" in {one.event.event_id for one in bench.sink.taken}


def test_attempts_are_not_counted_while_the_sink_takes_nothing_at_all(tmp_path: Path) -> None:
    bench = Bench(tmp_path, patience=Patience(max_attempts=1))
    bench.sink.answer = lambda _group: (SinkError("500"), 0)
    bench.chain.add(an_event("a"), an_event("b", channel="door"))
    bench.run(HOUR_S)
    assert len(bench.dead) == 0
    bench.sink.answer = lambda _group: (None, 0)
    bench.run(61)
    assert sorted(bench.sink.numbers) == [1, 2]


def test_a_message_that_is_tried_for_too_long_is_given_up_also_over_a_restart(tmp_path: Path) -> None:
    bench = Bench(tmp_path, patience=Patience(max_age_s=HOUR_S))
    bench.sink.answer = lambda _group: (SinkError("500"), 0)
    bench.chain.add(an_event("a"), an_event("b"))
    bench.run(HOUR_S / 2)
    bench.restart()
    bench.run(HOUR_S / 2 + 61)
    assert [letter.event.event_id for letter in bench.dead.letters()] == ["a"]


def test_what_the_other_side_asks_for_is_waited_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = lambda _group: (SinkError("429", of_sink=True, retry_after_s=300), 0)
    bench.chain.add(an_event("a"))
    bench.run(299)
    assert bench.sink.tries == 1
    bench.sink.answer = lambda _group: (None, 0)
    bench.run(2)
    assert bench.sink.numbers == [1]


def test_a_fault_of_a_sink_counts_as_a_failure_and_ends_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    def faulty(_group: Sequence[EventMessage]) -> tuple[SinkError | None, int]:
        raise ZeroDivisionError

    bench.sink.answer = faulty
    bench.chain.add(an_event("a"))
    bench.run(1)
    assert "ZeroDivisionError" in bench.follower.figures(1).failing
    bench.sink.answer = lambda _group: (None, 0)
    bench.run(5)
    assert bench.sink.numbers == [1]


def test_a_kill_between_delivery_and_position_gives_doubles_and_no_gap(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.chain.add(*(an_event(f"{one}") for one in range(10)))
    bench.follower.step()
    bench.follower.step()
    before = len(bench.sink.taken)
    assert before
    bench.restart()
    bench.run(5)
    assert sorted(set(bench.sink.numbers)) == list(range(1, 11))
    bench.restart()
    count = len(bench.sink.taken)
    bench.run(5)
    assert len(bench.sink.taken) == count, "the position was kept"


def test_a_channel_that_is_behind_stays_so_over_a_restart(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = lambda group: (SinkError("500") if group[0].event.channel == "gate" else None, 0)
    bench.chain.add(an_event("a"), an_event("b", channel="door"), ended("a"))
    bench.run(3)
    bench.restart()
    bench.sink.answer = lambda _group: (None, 0)
    bench.run(3)
    assert bench.sink.numbers == [2, 1, 3], "what was delivered behind it is not delivered again"


def test_only_what_is_wanted_is_delivered(tmp_path: Path) -> None:
    wanted = Wanted(("g*",), ("yard",), (EventKind.ENTER,), (EventState.ACTIVE,), min_score=0.5)
    bench = Bench(tmp_path, wanted=wanted)
    bench.chain.add(
        an_event("1"),
        an_event("2", channel="door"),
        an_event("3", rule="other"),
        an_event("4", kind=EventKind.LEAVE),
        ended("5"),
        an_event("6", peak_score=0.4),
        an_event("7", peak_score=None),
    )
    bench.run(2)
    assert bench.sink.numbers == [1, 7]
    assert bench.lag == 0


def test_what_retention_removed_meanwhile_is_counted_as_a_gap(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path)
    bench.chain.add(*(an_event(f"{one}") for one in range(5)))
    bench.chain.emptied = {1, 2, 3}
    bench.run(1)
    assert bench.sink.numbers == [4, 5]
    assert bench.follower.figures(5).removed == 3
    assert "sink_gap" in caplog.text


def test_what_retention_removed_of_a_channel_that_is_behind_is_counted_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = lambda group: (SinkError("500") if group[0].event.channel == "gate" else None, 0)
    bench.chain.add(*(an_event(f"{one}", channel=("gate", "door")[one % 2]) for one in range(10)))
    bench.run(0.1)
    bench.chain.emptied = {1, 3, 5}
    bench.sink.answer = lambda _group: (None, 0)
    bench.run(5)
    assert bench.sink.numbers == [2, 4, 6, 8, 10, 7, 9]
    assert bench.follower.figures(10).removed == 3


def test_a_position_beyond_the_store_means_that_the_store_is_another(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.chain.add(an_event("a"), an_event("b"))
    bench.run(1)
    bench.chain.events = [an_event("other")]
    bench.restart()
    bench.run(1)
    assert bench.sink.taken[-1].event.event_id == "other"


@pytest.mark.parametrize("content", ["", "{}", '{"version": 2, "through": 1, "behind": {}}', '{"version": 1}', "[]"])
def test_a_position_that_is_not_one_is_refused(tmp_path: Path, content: str) -> None:
    bench = Bench(tmp_path)
    (tmp_path / "desk.position.json").write_text(content)
    with pytest.raises(SettingsError, match=r"desk\.position\.json.*remove it"):
        bench.restart()


def test_dead_letters_are_bounded_and_the_loss_of_the_oldest_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path, dead_bounds=DeadBounds(most=20))
    bench.sink.answer = lambda _group: (SinkError("400", permanent=True), 0)
    bench.chain.add(*(an_event(f"{one}") for one in range(50)))
    bench.run(1)
    kept = [letter.number for letter in bench.dead.letters()]
    assert kept == list(range(51 - len(kept), 51))
    assert 18 <= len(kept) <= 20
    figures = bench.follower.figures(50)
    assert figures.dead == 50
    assert figures.dead_letters == len(kept)
    assert figures.dead_letters_lost == 50 - len(kept)
    assert "dead_letters_lost" in caplog.text
    bench.restart()
    assert [letter.number for letter in bench.dead.letters()] == kept


def test_half_a_dead_letter_that_a_crash_has_left_costs_no_other(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = lambda _group: (SinkError("400", permanent=True), 0)
    bench.chain.add(an_event("a"), an_event("b"))
    bench.run(1)
    path = tmp_path / "desk.dead.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    bench.restart()
    bench.chain.add(an_event("c"))
    bench.run(1)
    bench.restart()
    assert [letter.event.event_id for letter in bench.dead.letters()] == ["a", "c"]


def test_where_a_dead_letter_cannot_be_kept_its_channel_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = lambda group: (SinkError("400", permanent=True) if group[0].number == 1 else None, 0)
    bench.chain.add(an_event("a"), an_event("b"))
    (tmp_path / "desk.dead.jsonl").mkdir()
    bench.run(10)
    assert bench.sink.numbers == []
    assert "dead letters cannot be kept" in bench.follower.figures(2).failing
    (tmp_path / "desk.dead.jsonl").rmdir()
    bench.run(61)
    assert [letter.number for letter in bench.dead.letters()] == [1]
    assert bench.sink.numbers == [2]


OUTCOMES = st.sampled_from(["ok"] * 6 + ["message", "sink", "refused", "torn", "kill", "kill-after"])


class _KilledError(BaseException):
    """The process ends here."""


class Misfortune:
    """Answers as a script says; notes how many messages had been given up when one was taken."""

    def __init__(self, bench: Bench, outcomes: list[str]) -> None:
        self._bench = bench
        self._script = iter(outcomes)
        self.given_up_before: dict[int, int] = {}
        bench.sink.answer = self.answer

    def answer(self, group: Sequence[EventMessage]) -> tuple[SinkError | None, int]:
        for index in range(len(group)):
            self.given_up_before[len(self._bench.sink.taken) + index] = len(self._bench.dead)
        outcome = next(self._script, "ok")
        if outcome == "kill-after":
            self._bench.sink.taken += group
        if outcome.startswith("kill"):
            raise _KilledError
        errors = {
            "message": SinkError("500"),
            "sink": SinkError("down", of_sink=True),
            "refused": SinkError("400", permanent=True),
            "torn": SinkError("lost", of_sink=True),
        }
        return errors.get(outcome), len(group) // 2 if outcome == "torn" else 0


@settings(max_examples=80, deadline=None)
@given(
    channels=st.lists(st.sampled_from("abc"), min_size=1, max_size=40),
    outcomes=st.lists(OUTCOMES, max_size=60),
    most=st.sampled_from([1, 3]),
)
def test_each_message_is_delivered_in_order_or_given_up_whatever_fails(
    channels: list[str], outcomes: list[str], most: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), most=most, patience=Patience(max_attempts=4))
        misfortune = Misfortune(bench, outcomes)
        for index, channel in enumerate(channels):
            bench.chain.add(an_event(f"{index}", channel=channel))
            if index % 3 == 0:
                _run_through_kills(bench, 0.7)
        for _round in range(100):
            _run_through_kills(bench, 61)
            if bench.lag == 0:
                break
        given_up = [letter.number for letter in bench.dead.letters()]
        assert set(bench.sink.numbers) | set(given_up) == set(range(1, len(channels) + 1))
        _assert_in_order(channels, bench.sink.taken, given_up, misfortune.given_up_before)


def _assert_in_order(
    channels: list[str], taken: list[EventMessage], given_up: list[int], given_up_before: dict[int, int]
) -> None:
    """When a message came, all earlier ones of its channel had come before, or had been given up."""
    seen: set[int] = set()
    for place, one in enumerate(taken):
        earlier = {n for n, channel in enumerate(channels, 1) if channel == one.event.channel and n < one.number}
        assert earlier <= seen | set(given_up[: given_up_before[place]]), "a later message came first"
        seen.add(one.number)


def _run_through_kills(bench: Bench, seconds: float) -> None:
    try:
        bench.run(seconds)
    except _KilledError:
        bench.restart()


def test_without_failures_and_kills_nothing_comes_twice(tmp_path: Path) -> None:
    bench = Bench(tmp_path, most=4)
    bench.chain.add(*(an_event(f"{one}", channel=f"c{one % 7}") for one in range(300)))
    bench.run(5)
    bench.follower.save()
    bench.restart()
    bench.run(5)
    assert Counter(bench.sink.numbers).most_common(1)[0][1] == 1
    assert len(bench.sink.numbers) == 300


def test_dead_letters_are_lines_that_other_programs_can_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = lambda _group: (SinkError("400", permanent=True), 0)
    bench.chain.add(an_event("a", detail="näher\nkommt"))
    bench.run(1)
    (line,) = (tmp_path / "desk.dead.jsonl").read_text().splitlines()
    content = json.loads(line)
    assert (content["number"], content["reason"], content["event"]["event_id"]) == (1, "400", "a")
