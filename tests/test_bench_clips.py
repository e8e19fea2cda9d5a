"""What was told of a clip is compared fairly with what is in it; the tables leave alone what a person wrote."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING

from bench import clips
from bench.clips_scenes import KNOBS, SCENES, WORKER, Ruled, Span, site
from bench.clips_told import Sighted, Told, judge, pair, repeated, tables, tracked

from vedette_server.channels.record_tree import record_from_tree
from vedette_server.channels.tree import Place
from vedette_server.monitor.check import check

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def told(begin_s: float, end_s: float = 0.0, rule: str = "in") -> Told:
    return Told(rule, "enter", begin_s, end_s or begin_s, "person", 0.9, ("1",), {}, "ready", "ready", "entered")


def test_each_thing_that_happened_is_told_once_by_the_nearest_event() -> None:
    truth = (Span(1.0), Span(1.4))
    assert sorted(pair(truth, [1.3, 0.9])) == [(0, 1), (1, 0)]
    assert pair(truth, [1.0, 1.05, 1.45]) == [(0, 0), (1, 2)]
    assert pair(truth, [2.0]) == []


def test_what_lasts_may_begin_as_much_later_as_it_is_set_to_but_moments_may_not() -> None:
    assert pair((Span(1.0, 5.0),), [2.9], 1.5) == [(0, 0)]
    assert pair((Span(1.0),), [2.9], 1.5) == []
    assert pair((Span(1.0, 5.0),), [0.2], 1.5) == []


def test_right_missed_and_false_add_up() -> None:
    scene = replace(WORKER, rules=(Ruled("in", "", (Span(1.0, 2.0), Span(5.0, 6.0))), Ruled("out", "")))
    figures = judge(scene, [told(1.2, 2.5), told(3.0), told(1.0, rule="out")], [Sighted(0.0, ("1",)), Sighted(9.0, ())])
    assert (figures["happened"], figures["right"], figures["missed"], figures["false"]) == (2, 1, 1, 2)
    assert (figures["rules"]["in"]["late s, most"], figures["rules"]["in"]["end off s, most"]) == (0.2, 0.5)
    assert "| in | enter | 2 | 1 | 1 | 1 | 0.2 | 0.5 |" in tables({"worker": {"as it comes": figures}})


def test_what_is_told_again_is_counted_where_it_can_be() -> None:
    assert repeated([told(1.0), told(9.1), told(4.0), told(8.5)], 8.0, 16.0) == "1 of 2"


def test_a_person_without_a_track_is_counted_in_each_frame() -> None:
    scene = replace(WORKER, persons=((0.0, 1), (1.0, 2)), visits=2)
    found = tracked(scene, [Sighted(0.0, ("1",)), Sighted(1.0, ("1", "")), Sighted(2.0, ("1", "2", "3"))])
    assert (found["tracks"], found["persons in all frames"], found["of these without a track"]) == (3, 5, 1)


def test_every_scene_with_every_setting_is_a_channel_that_can_be_judged() -> None:
    tree = tomllib.loads(site())["channels"]
    assert len(tree) == len(SCENES) * len(KNOBS)
    for one in tree:
        check(record_from_tree(one, Place("the benchmark")).watch, ("person", "backpack", "handbag", "suitcase"))


def test_what_a_person_wrote_around_the_tables_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "RESULTS", tmp_path)
    clips.write("one")
    page = tmp_path / "clips.md"
    page.write_text("# Seen\n\n" + page.read_text(encoding="utf-8") + "\nBy eye.\n", encoding="utf-8")
    clips.write("two")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Seen")
    assert text.endswith("By eye.\n")
    assert "two" in text
    assert "one" not in text
