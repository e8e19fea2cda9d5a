"""Objects are looked at when they are due, results stay with their track, and nothing leaks whatever fails."""

from __future__ import annotations

import logging
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from support_cascade import LABELS, SHADES, Bench, Box, ShadeEngine, picture_of, said, seen, show, stage
from support_engines import eventually
from vedette_server.cascade import channel as channel_module
from vedette_server.cascade.reading import MOST_CLASSES, attached_of, read
from vedette_server.cascade.stage import MOST_SUBJECTS
from vedette_server.data.outcome import SkipReason
from vedette_server.data.verdict import EngineLabel
from vedette_server.errors import UndecodableError

LEFT: Box = (0.1, 0.2, 0.3, 0.8)
RIGHT: Box = (0.6, 0.2, 0.8, 0.8)
SMALL: Box = (0.4, 0.4, 0.5, 0.55)


def test_a_result_stands_in_all_later_frames_of_its_track():
    engine = ShadeEngine()
    bench = Bench(engine)
    cascade = bench.open(stage())
    first = show(cascade, [("a", 5, LEFT), ("b", 2, RIGHT)], 1.0)
    assert first.attached == ()
    engine.finish_all()
    later = show(cascade, [("b", 2, LEFT), ("c", 3, RIGHT), ("a", 5, SMALL)], 1.1)
    (b, none, a) = later.attached
    assert none is None
    assert a.attributes == (("shade", "shade 5", pytest.approx(0.9)),)
    assert b.attributes == (("shade", "shade 2", pytest.approx(0.9)),)
    assert cascade.results_of("a")[0].time_s == 1.0
    assert cascade.results_of("c") == ()


def test_an_embedding_has_the_length_one():
    engine = ShadeEngine("looks", task="embedder")
    cascade = Bench(engine).open(stage("looks"))
    show(cascade, [("a", 5, LEFT)], 1.0)
    engine.finish_all()
    (attached,) = show(cascade, [("a", 5, LEFT)], 1.1).attached
    assert attached.attributes == ()
    assert attached.embedding.tolist() == np.eye(SHADES)[5].tolist()


def test_a_classifier_and_an_embedder_are_attached_together():
    engines = ShadeEngine(), ShadeEngine("looks", task="embedder")
    cascade = Bench(*engines).open(stage("looks"), stage())
    show(cascade, [("a", 5, LEFT)], 1.0)
    engines[0].finish_all()
    (attached,) = show(cascade, [("a", 5, LEFT)], 1.1).attached
    assert attached.embedding is None
    engines[1].finish_all()
    (attached,) = show(cascade, [("a", 5, LEFT)], 1.2).attached
    assert (len(attached.attributes), len(attached.embedding)) == (1, SHADES)
    assert [result.engine.name for result in cascade.results_of("a")] == ["looks", "shade"]


def test_a_track_is_looked_at_again_when_its_interval_is_over_and_not_before():
    engine = ShadeEngine()
    cascade = Bench(engine).open(stage(refresh_s=2.0))
    looks = []
    for tick in range(60):
        time_s = 100 + tick / 10
        show(cascade, [("a", 5, LEFT)], time_s)
        if engine.waiting:
            looks.append(round(time_s - 100, 1))
        engine.finish_all()
    assert looks == [0.0, 2.0, 4.0]


def test_a_look_that_is_under_way_is_not_begun_again():
    engine = ShadeEngine()
    cascade = Bench(engine).open(stage(refresh_s=0.0))
    for tick in range(5):
        show(cascade, [("a", 5, LEFT)], float(tick))
    assert len(engine.waiting) == 1
    engine.finish_all()
    show(cascade, [("a", 5, LEFT)], 6.0)
    assert len(engine.waiting) == 1


def test_what_is_not_confirmed_or_of_another_label_or_tiny_is_not_looked_at():
    engine = ShadeEngine()
    cascade = Bench(engine).open(stage(labels=("car",)))
    show(cascade, [("a", 5, LEFT)], 1.0, class_id=0)
    show(cascade, [("", 5, LEFT)], 1.1, class_id=1)
    show(cascade, [("b", 5, (0.5, 0.5, 0.55, 0.9))], 1.2, class_id=1)
    assert not engine.waiting
    show(cascade, [("c", 5, LEFT)], 1.3, class_id=1)
    assert len(engine.waiting) == 1


def test_where_nothing_is_followed_nothing_is_looked_at():
    engine = ShadeEngine()
    cascade = Bench(engine).open(stage(labels=LABELS))
    picture, detections = picture_of([(5, LEFT)]), seen(("a", LEFT))
    detections.track_ids = ()
    cascade.look(picture, Fraction(1), detections, LABELS, 1.0)
    cascade.attach(detections)
    assert not engine.waiting
    assert detections.attached == ()


def test_results_stay_with_their_track_when_objects_cross():
    engine = ShadeEngine()
    cascade = Bench(engine).open(stage(refresh_s=0.0))
    for tick in range(21):
        at = tick / 25
        one: Box = (at, 0.1, at + 0.15, 0.45)
        other: Box = (0.8 - at, 0.5, 0.95 - at, 0.9)
        show(cascade, [("one", 6, one), ("other", 1, other)], tick / 10)
        if tick % 3 == 2:
            # Answered when both are elsewhere already.
            engine.finish_all()
            assert (said(cascade, "one"), said(cascade, "other")) == ("shade 6", "shade 1")


def test_those_never_seen_come_first_then_the_clearest():
    engine = ShadeEngine(slots=1)
    cascade = Bench(engine).open(stage(refresh_s=1.0))
    looked = []
    for tick in range(4):
        show(cascade, [("small", 1, SMALL), ("large", 2, LEFT), ("edge", 3, (0.85, 0.0, 1.0, 0.5))], 1 + tick / 100)
        engine.finish_all()
        looked.append(tuple(track for track in ("small", "large", "edge") if said(cascade, track)))
    assert looked == [("large",), ("large", "edge"), ("small", "large", "edge"), ("small", "large", "edge")]
    show(cascade, [("small", 1, SMALL), ("large", 2, LEFT), ("new", 3, SMALL)], 9.0)
    engine.finish_all()
    assert said(cascade, "new") == "shade 3"


def test_of_many_with_few_slots_everyone_has_a_turn():
    engine = ShadeEngine(slots=1)
    cascade = Bench(engine).open(stage(refresh_s=0.1))
    last: dict[str, float] = {}
    objects = [(f"t{n}", n, (n / 8, 0.1, n / 8 + 0.1, 0.2 + n / 10)) for n in range(7)]
    for tick in range(120):
        show(cascade, objects, tick / 10)
        engine.finish_all()
        for track, _, _ in objects:
            for result in cascade.results_of(track):
                last[track] = result.time_s
    assert min(last.values()) > 9.0


def test_without_a_free_slot_nothing_waits_and_the_track_stays_due():
    engine = ShadeEngine(slots=1)
    bench = Bench(engine)
    cascade = bench.open(stage())
    show(cascade, [("a", 5, LEFT), ("b", 2, RIGHT)], 1.0)
    assert len(engine.waiting) == 1
    assert bench.cascades.tallies["shade"].no_slot == 1
    show(cascade, [("a", 5, LEFT), ("b", 2, RIGHT)], 1.1)
    engine.finish_all()
    show(cascade, [("a", 5, LEFT), ("b", 2, RIGHT)], 1.2)
    engine.finish_all()
    assert (said(cascade, "a"), said(cascade, "b")) == ("shade 5", "shade 2")


def test_what_is_under_way_is_bounded_per_channel_and_in_all():
    engine = ShadeEngine(slots=100)
    bench = Bench(engine, most_under_way=10)
    objects = [(f"t{n}", n % 8, (n / 20, 0.1, n / 20 + 0.1, 0.9)) for n in range(18)]
    one, other = bench.open(stage()), bench.open(stage(), channel="yard")
    show(one, objects, 1.0)
    assert one.under_way == channel_module.MOST_UNDER_WAY
    show(other, objects, 1.0)
    assert bench.cascades.under_way == 10
    engine.finish_all()
    assert bench.cascades.under_way == 0


def test_a_frame_with_nothing_due_or_no_free_slot_is_not_converted():
    engine = ShadeEngine(slots=1)
    cascade = Bench(engine).open(stage(refresh_s=10.0))
    picture = picture_of([(5, LEFT)])
    picture.broken = True
    cascade.look(picture, Fraction(1), seen(("", LEFT)), LABELS, 1.0)
    show(cascade, [("a", 5, LEFT)], 1.1)
    # Its one slot is taken.
    cascade.look(picture, Fraction(1), seen(("b", LEFT)), LABELS, 1.2)
    assert engine.filled == 1


def test_pictures_are_wanted_only_when_something_may_soon_be_due():
    engine = ShadeEngine()
    bench = Bench(engine)
    cascade = bench.open(stage(refresh_s=3.0, labels=("person",)))
    assert not cascade.wants_pictures
    show(cascade, [], 0.0)
    assert not cascade.wants_pictures
    show(cascade, [("", 5, LEFT)], 0.1, class_id=1)
    assert not cascade.wants_pictures
    show(cascade, [("", 5, LEFT)], 0.2)
    assert cascade.wants_pictures
    show(cascade, [("a", 5, LEFT)], 0.3)
    engine.finish_all()
    wanted = []
    for tick in range(4, 35):
        # As a monitor that gives no picture where none is wanted.
        given = picture_of([(5, LEFT)]) if cascade.wants_pictures else None
        cascade.look(given, Fraction(1), seen(("a", LEFT)), LABELS, tick / 10)
        wanted.append(cascade.wants_pictures)
    assert not any(wanted[:20])
    assert wanted[-5:] == [True] * 4 + [False]
    assert len(engine.waiting) == 1


def test_a_margin_shows_more_of_the_picture():
    engine = ShadeEngine()
    cascade = Bench(engine).open(stage(margin=0.5))
    show(cascade, [("a", 7, (0.4, 0.4, 0.6, 0.6))], 1.0)
    (surface,) = engine.waiting
    shown = surface.slot.pixels
    # Twice as wide: the object fills the middle, its surroundings the rim.
    assert shown[6, 8].tolist() == [240] * 3
    assert shown[3, 0].tolist() == [90, 40, 30]
    engine.finish_all()


def test_a_forgotten_track_leaves_nothing_and_its_answer_is_for_nobody():
    engine = ShadeEngine()
    bench = Bench(engine)
    cascade = bench.open(stage())
    show(cascade, [("a", 5, LEFT), ("b", 2, RIGHT)], 1.0)
    engine.finish()
    cascade.forget(["a", "b", "never seen"])
    engine.finish_all()
    assert cascade.results_of("a") == cascade.results_of("b") == ()
    assert show(cascade, [("x", 1, SMALL)], 1.1).attached == ()
    assert bench.cascades.tallies["shade"].outlived == 1


def test_tracks_that_nobody_forgets_do_not_grow_without_bound():
    engine = ShadeEngine(slots=8)
    cascade = Bench(engine).open(stage())
    for number in range(MOST_SUBJECTS + 50):
        show(cascade, [(f"t{number}", 5, LEFT)], float(number))
        engine.finish_all()
    assert cascade.results_of("t49") == ()
    assert said(cascade, "t60") == "shade 5"
    assert len(cascade._attached) == MOST_SUBJECTS


def test_a_failing_engine_costs_results_only_and_is_tried_ever_less_often(caplog):
    engine = ShadeEngine()
    bench = Bench(engine)
    cascade = bench.open(stage(refresh_s=0.0))
    looks = []
    with caplog.at_level(logging.WARNING):
        for tick in range(200):
            show(cascade, [("a", 5, LEFT)], tick / 10)
            if engine.waiting:
                looks.append(tick / 10)
                engine.finish(error="out of memory")
    assert looks == [0.0, 1.0, 3.0, 7.0, 15.0]
    assert bench.cascades.tallies["shade"].failed == 5
    assert [record.message for record in caplog.records] == ["second stage shade fails on gate: out of memory"]
    for time_s in (40.0, 40.1):
        show(cascade, [("a", 5, LEFT)], time_s)
        engine.finish_all()
        assert cascade.results_of("a")[0].time_s == time_s


@pytest.mark.parametrize("task", ["classifier", "embedder"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_an_answer_that_says_nothing_is_a_failure(task, value):
    engine = ShadeEngine(task=task)
    bench = Bench(engine)
    cascade = bench.open(stage())
    show(cascade, [("a", 5, LEFT)], 1.0)
    engine.finish(row=np.full(SHADES, value, np.float32))
    sound = task == "classifier" and value == 0.0
    assert bench.cascades.tallies["shade"].failed == (0 if sound else 1)
    assert bool(cascade.results_of("a")) == sound


def test_an_engine_that_hangs_is_waited_for_no_longer_than_a_while(caplog):
    engine = ShadeEngine()
    bench = Bench(engine)
    cascade = bench.open(stage(refresh_s=0.5))
    show(cascade, [("a", 5, LEFT)], 1.0)
    bench.now += channel_module.HANGS_S + 1
    show(cascade, [("a", 5, LEFT)], 32.0)
    assert cascade.under_way == 1
    assert len(engine.waiting) == 2
    assert bench.cascades.tallies["shade"].hung == 1
    assert "no answer in 30 s" in caplog.text
    # What comes too late is for nobody, and counts nothing twice.
    engine.finish()
    assert cascade.results_of("a") == ()
    engine.finish()
    assert said(cascade, "a") == "shade 5"
    assert bench.cascades.under_way == 0


@pytest.mark.parametrize("error", [UndecodableError("broken"), ValueError("a bug")])
def test_a_picture_that_cannot_be_cut_gives_its_slot_back(error):
    engine = ShadeEngine()
    bench = Bench(engine)
    cascade = bench.open(stage())
    engine.fill_error = error
    show(cascade, [("a", 5, LEFT), ("b", 2, RIGHT)], 1.0)
    assert (engine.slots.in_use, bench.cascades.under_way, len(engine.waiting)) == (0, 0, 0)
    assert bench.waking.freed == bench.cascades.tallies["shade"].undecodable
    assert bench.waking.ready == 0
    engine.fill_error = None
    show(cascade, [("a", 5, LEFT), ("b", 2, RIGHT)], 3.0)
    engine.finish_all()
    assert (said(cascade, "a"), said(cascade, "b")) == ("shade 5", "shade 2")


def test_the_pipeline_is_told_once_per_frame_that_crops_wait():
    engine = ShadeEngine()
    bench = Bench(engine)
    cascade = bench.open(stage())
    show(cascade, [("a", 5, LEFT), ("b", 2, RIGHT)], 1.0)
    assert bench.waking.ready == 1


# -- engines that come, change and go ---------------------------------------------------------------


def test_until_its_engine_is_loaded_frames_go_on_without_results():
    engine = ShadeEngine()
    bench = Bench(engine)
    held = bench.house.hold()
    cascade = bench.cascades.open("gate", [stage()])
    assert show(cascade, [("a", 5, LEFT)], 1.0).attached == ()
    assert not cascade.wants_pictures
    held.set()
    bench.settle()
    show(cascade, [("a", 5, LEFT)], 1.1)
    engine.finish_all()
    assert said(cascade, "a") == "shade 5"


def test_an_engine_that_hangs_while_it_loads_keeps_no_other_waiting():
    bench = Bench(ShadeEngine(), ShadeEngine("looks", task="embedder"))
    held = bench.house.hold()
    first = bench.cascades.open("gate", [stage()])
    other = bench.cascades.open("yard", [stage("looks")])
    eventually(lambda: bool(bench.house.guests))
    show(other, [("a", 5, LEFT)], 1.0)
    assert other.under_way == 1
    held.set()
    bench.settle()
    first.close()


def test_an_engine_that_cannot_be_loaded_is_told_once_and_tried_again(caplog):
    bench = Bench(ShadeEngine())
    bench.house.broken.add("shade")
    one, other = bench.open(stage()), bench.open(stage(), channel="yard")
    for tick in range(20):
        show(one, [("a", 5, LEFT)], float(tick))
        show(other, [("a", 5, LEFT)], float(tick))
    bench.settle()
    assert bench.house.loads == 1
    assert bench.cascades.failure(stage().engine) == "shade is broken"
    bench.now += 31
    show(one, [("a", 5, LEFT)], 21.0)
    bench.settle()
    assert bench.house.loads == 2
    assert caplog.text.count("second stage without its engine: shade: shade is broken") == 1
    bench.house.broken.clear()
    bench.now += 31
    show(one, [("a", 5, LEFT)], 22.0)
    show(other, [("a", 5, LEFT)], 22.0)
    bench.settle()
    assert len(bench.house.guests) == 2
    assert bench.cascades.failure(stage().engine) == ""


def test_a_stage_whose_version_is_gone_is_seated_anew():
    engine = ShadeEngine()
    bench = Bench(engine)
    cascade = bench.open(stage())
    (seat,) = bench.house.guests
    seat.end("ENGINE_UNLOADED", SkipReason.SESSION_LOST)
    show(cascade, [("a", 5, LEFT)], 1.0)
    assert not engine.waiting
    bench.settle()
    show(cascade, [("a", 5, LEFT)], 1.1)
    assert (len(engine.waiting), bench.house.loads) == (1, 2)
    engine.finish_all()


def test_a_detector_takes_no_seat():
    bench = Bench(ShadeEngine(task="detector"))
    cascade = bench.open(stage())
    show(cascade, [("a", 5, LEFT)], 1.0)
    assert not bench.house.guests
    assert "a detector; allowed: a classifier or an embedder" in bench.cascades.failure(stage().engine)


def test_after_a_swap_all_objects_are_looked_at_by_the_new_version():
    old, new = ShadeEngine(), ShadeEngine(version="2")
    bench = Bench(old)
    cascade = bench.open(stage(refresh_s=1000.0))
    show(cascade, [("a", 5, LEFT), ("b", 2, RIGHT)], 1.0)
    old.finish()
    bench.house.swap(new)
    # What is under way ends on the old version.
    old.finish()
    assert {cascade.results_of(track)[0].engine.version for track in "ab"} == {"1"}
    show(cascade, [("a", 5, LEFT), ("b", 2, RIGHT)], 1.1)
    assert (len(old.waiting), len(new.waiting)) == (0, 2)
    new.finish_all()
    show(cascade, [("a", 5, LEFT), ("b", 2, RIGHT)], 1.2)
    assert not new.waiting
    assert {cascade.results_of(track)[0].engine.version for track in "ab"} == {"2"}
    assert (old.slots.in_use, new.slots.in_use) == (0, 0)


def test_a_changed_stage_keeps_engine_and_results_and_others_lose_theirs():
    engines = ShadeEngine(), ShadeEngine("looks", task="embedder")
    bench = Bench(*engines)
    cascade = bench.open(stage(), stage("looks"))
    show(cascade, [("a", 5, LEFT)], 1.0)
    for engine in engines:
        engine.finish_all()
    cascade.change([stage(refresh_s=60.0, margin=0.2)])
    bench.settle()
    assert bench.house.loads == 2
    assert len(bench.house.guests) == 1
    (attached,) = show(cascade, [("a", 5, LEFT)], 5.0).attached
    assert attached.embedding is None
    assert attached.attributes
    assert not engines[0].waiting
    cascade.change([stage(labels=("person",))])
    assert show(cascade, [("a", 5, LEFT)], 5.1).attached == ()
    assert len(engines[0].waiting) == 1
    cascade.change([])
    assert not bench.house.guests
    assert (cascade.wants_pictures, bench.cascades.under_way) == (False, 0)
    engines[0].finish_all()
    assert cascade.results_of("a") == ()


def test_a_closed_cascade_lets_its_engines_go_and_answers_are_for_nobody():
    engine = ShadeEngine()
    bench = Bench(engine)
    cascade = bench.open(stage())
    show(cascade, [("a", 5, LEFT)], 1.0)
    cascade.close()
    cascade.close()
    assert not bench.house.guests
    assert bench.cascades.under_way == 0
    engine.finish_all()
    assert show(cascade, [("a", 5, LEFT)], 2.0).attached == ()
    cascade.change([stage()])
    bench.settle()
    assert not bench.house.guests


def test_a_channel_that_closes_while_its_engine_loads_takes_no_seat():
    bench = Bench(ShadeEngine())
    held = bench.house.hold()
    cascade = bench.cascades.open("gate", [stage()])
    cascade.close()
    held.set()
    bench.settle()
    bench.cascades.close()
    assert not bench.house.guests


@pytest.mark.parametrize("moment", ["choosing", "joining"])
def test_a_channel_that_closes_while_it_takes_its_seat_leaves_it(moment):
    bench = Bench(ShadeEngine())
    held = bench.house.hold()
    cascade = bench.cascades.open("gate", [stage()])
    setattr(bench.house, moment, cascade.close)
    held.set()
    bench.settle()
    assert not bench.house.guests
    assert not cascade.wants_pictures


@pytest.mark.parametrize("stages", [(), (stage(labels=("person",)),)])
def test_a_stage_that_changes_while_an_object_is_cut_out_gets_no_answer_of_before(stages):
    engine = ShadeEngine()
    bench = Bench(engine)
    cascade = bench.open(stage())
    looks = 0

    def tick() -> None:
        # Once when hung looks are looked for, once when a look begins.
        nonlocal looks
        looks += 1
        if looks == 2:
            cascade.change(stages)

    bench.ticking = tick
    show(cascade, [("a", 5, LEFT)], 1.0)
    assert looks == 2
    assert bench.cascades.under_way == 0
    engine.finish_all()
    assert cascade.results_of("a") == ()
    assert (engine.slots.in_use, bench.cascades.tallies["shade"].outlived) == (0, 1)


# -- what engines say -------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40))
def test_the_best_classes_are_told_best_first(scores):
    label = EngineLabel("e", "1", "", "classifier", tuple(f"c{n}" for n in range(len(scores))))
    classes = read(label, np.array(scores, np.float32), 0.0).classes
    assert 1 <= len(classes) <= MOST_CLASSES
    told = [score for _, score in classes]
    assert told == sorted(scores, reverse=True)[: len(told)]
    assert all(scores[int(name[1:])] == score for name, score in classes)
    assert len({name for name, _ in classes}) == len(classes)


@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=40).filter(
        lambda v: max(map(abs, v)) > 1e-9
    )
)
def test_an_embedding_keeps_its_direction(values):
    label = EngineLabel("e", "1", "", "embedder", ())
    vector = read(label, np.array(values, np.float32), 0.0).embedding
    assert vector is not None
    assert float(np.linalg.norm(vector.astype(np.float64))) == pytest.approx(1.0, abs=1e-5)
    expected = np.array(values) / np.linalg.norm(values)
    np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_nothing_said_is_nothing_attached():
    assert attached_of([]) is None


# -- anything may happen ----------------------------------------------------------------------------

TRACKS = [f"t{n}" for n in range(SHADES)]
STAGES = [
    (),
    (stage(),),
    (stage(refresh_s=0.0),),
    (stage(labels=("person",)), stage("looks", refresh_s=0.3)),
    (stage("looks"), stage("none")),
]


class Chaos(RuleBasedStateMachine):
    """Frames, answers, failures, swaps, changes and ends of two channels, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.engines = [ShadeEngine(slots=3), ShadeEngine("looks", task="embedder", slots=3)]
        self.bench = Bench(*self.engines, most_under_way=4)
        self.cascades = [self.bench.open(stage(), channel=name) for name in ("gate", "yard")]
        self.time_s = 100.0

    @rule(
        number=st.integers(0, 1),
        tracks=st.lists(st.sampled_from(range(SHADES)), unique=True, max_size=5),
        passed_s=st.sampled_from([0.0, 0.1, 1.0, 40.0]),
        hidden=st.booleans(),
    )
    def frame(self, number: int, tracks: list[int], passed_s: float, hidden: bool) -> None:
        self.time_s += passed_s
        self.bench.now += passed_s
        cascade = self.cascades[number]
        if hidden:
            cascade.look(None, Fraction(1), seen((TRACKS[0], LEFT)), LABELS, self.time_s)
            return
        places = [(TRACKS[shade], shade, (place / 5, 0.1, place / 5 + 0.15, 0.9)) for place, shade in enumerate(tracks)]
        found = show(cascade, places, self.time_s)
        for track, attached in zip(tracks, found.attached, strict=bool(found.attached)):
            if attached is not None:
                assert all(value == f"shade {track}" for _, value, _ in attached.attributes)
                assert attached.embedding is None or int(np.argmax(attached.embedding)) == track

    @rule(number=st.integers(0, 1), error=st.sampled_from(["", "", "failed"]))
    def answer(self, number: int, error: str) -> None:
        if self.engines[number].waiting:
            self.engines[number].finish(error=error)

    @rule(number=st.integers(0, 1), error=st.sampled_from([None, UndecodableError("no"), RuntimeError("no")]))
    def break_filling(self, number: int, error: Exception | None) -> None:
        self.engines[number].fill_error = error

    @rule(number=st.integers(0, 1), tracks=st.lists(st.sampled_from(TRACKS), max_size=4))
    def end_tracks(self, number: int, tracks: list[str]) -> None:
        self.cascades[number].forget(tracks)
        assert all(self.cascades[number].results_of(track) == () for track in tracks)

    @rule(number=st.integers(0, 1), stages=st.sampled_from(STAGES))
    def change(self, number: int, stages: tuple) -> None:
        self.cascades[number].change(stages)
        self.bench.settle()

    @rule(number=st.integers(0, 1))
    def close(self, number: int) -> None:
        self.cascades[number].close()
        self.cascades[number] = self.bench.open(stage(), channel="anew")

    @precondition(lambda self: not self.engines[0].waiting)
    @rule()
    def swap(self) -> None:
        old = self.engines[0]
        assert old.slots.in_use == 0
        self.engines[0] = ShadeEngine(version=str(int(old.label.version) + 1), slots=3)
        self.bench.house.swap(self.engines[0])

    @invariant()
    def slots_are_those_of_crops_under_way(self) -> None:
        for engine in self.engines:
            assert engine.slots.in_use == len(engine.waiting)
        assert sum(cascade.under_way for cascade in self.cascades) == self.bench.cascades.under_way <= 4

    def teardown(self) -> None:
        for cascade in self.cascades:
            cascade.close()
        assert self.bench.cascades.under_way == 0
        assert not self.bench.house.guests
        for engine in self.engines:
            engine.finish_all()
            assert engine.slots.in_use == 0
        for tally in self.bench.cascades.tallies.values():
            # What hung and was answered later is counted as both.
            assert (
                tally.done + tally.failed + tally.outlived
                <= tally.begun
                <= (tally.done + tally.failed + tally.outlived + tally.hung)
            )
        self.bench.cascades.close()


TestChaos = Chaos.TestCase
TestChaos.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
