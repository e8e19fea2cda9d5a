"""Snapshots: masked before anything else, drawn into where it is wanted."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_collecting import Yard
from support_evidence import LIMITS, raw_pictures
from vedette_server.data.event import Event, EventKind, EventState, SeenObject
from vedette_server.data.rules import Line, WatchConfig, Zone
from vedette_server.decode.opening import open_decoder
from vedette_server.errors import EvidenceError
from vedette_server.evidence.drawing import Drawing, Labelled
from vedette_server.evidence.pixels import blacken, upright_bgr
from vedette_server.evidence.snapshot import Snapshot, drawing_of, take_snapshot

if TYPE_CHECKING:
    from pathlib import Path

LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
WHITE = np.full((240, 320, 3), 255, np.uint8)


def shown(snapshot: Snapshot) -> np.ndarray:
    assert snapshot.sha256 == hashlib.sha256(snapshot.jpeg).hexdigest()
    pixels = cv2.imdecode(np.frombuffer(snapshot.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape[:2] == (snapshot.height, snapshot.width)
    return pixels


def test_a_snapshot_shows_the_picture_and_leaves_it_alone() -> None:
    pixels = np.arange(240 * 320 * 3, dtype=np.uint32).reshape(240, 320, 3) % 3 * 60
    pixels = pixels.astype(np.uint8)
    before = pixels.copy()
    found = shown(take_snapshot(pixels, [LEFT_HALF], Drawing([Labelled((0.1, 0.1, 0.9, 0.9), "person")])))
    assert found.shape == (240, 320, 3)
    assert np.array_equal(pixels, before)


def test_what_is_hidden_is_black_and_the_rest_is_not() -> None:
    found = shown(take_snapshot(WHITE, [LEFT_HALF]))
    assert found[:, :152].max() <= 8
    assert found[:, 176:].min() >= 247


def test_what_is_hidden_stays_hidden_in_a_smaller_picture() -> None:
    found = shown(take_snapshot(WHITE, [LEFT_HALF], max_width=100))
    assert found.shape == (75, 100, 3)
    assert found[:, :46].max() <= 8


def test_a_smaller_picture_is_not_enlarged() -> None:
    assert shown(take_snapshot(WHITE, max_width=1000)).shape == (240, 320, 3)


def test_boxes_zones_and_lines_are_drawn_where_they_are() -> None:
    drawing = Drawing(
        [Labelled((0.25, 0.25, 0.75, 0.75), "person 0.9")],
        [Zone("door", ((0.1, 0.6), (0.2, 0.6), (0.2, 0.9)))],
        [Line("gate", ((0.9, 0.0), (0.9, 1.0)))],
    )
    plain, drawn = shown(take_snapshot(WHITE)), shown(take_snapshot(WHITE, (), drawing))
    changed = np.abs(plain.astype(int) - drawn).max(2) > 40
    assert changed[120, 78:82].any(), "left side of the box"
    assert changed[178:182, 160].any(), "its lower side"
    assert not changed[120, 120], "its inside"
    assert changed[120, 286:290].any(), "the line"
    assert changed[165, 62:66].any(), "the zone"
    assert changed[50:60, 80:130].mean() > 0.3, "the label"


WATCH = WatchConfig(zones=(Zone("hall", LEFT_HALF), Zone("yard", LEFT_HALF)), lines=(Line("kerb", LEFT_HALF[:2]),))
MANY = Event(
    "e1", "gate", EventKind.OCCUPANCY, "many", EventState.ACTIVE, 1.0, 2.0, place="hall", measures={"count": 7.0}
)


def test_where_no_single_object_caused_it_all_that_counted_are_drawn_and_their_number() -> None:
    seen = [SeenObject((x, 0.3, x + 0.1, 0.8), "person", 0.9) for x in (0.1, 0.5)]
    hides = SeenObject((0.8, 0.3, 0.9, 0.8), "car", 0.5, ago_s=0.44)
    drawing = drawing_of(replace(MANY, peak_score=0.9, box=seen[1].box, objects=(*seen, hides)), WATCH)
    assert [one.label for one in drawing.boxes] == ["person 0.90", "person 0.90", "car 0.4 s ago"]
    assert ([one.name for one in drawing.zones], drawing.lines) == (["3 in hall"], ()), "as many as there are boxes"
    plain, drawn = shown(take_snapshot(WHITE)), shown(take_snapshot(WHITE, (), drawing))
    for x1 in (0.1, 0.5, 0.8):
        for x in (x1, x1 + 0.1):
            side = slice(round(x * 319) - 1, round(x * 319) + 2)
            assert (np.abs(plain.astype(int) - drawn)[100:180, side].max((1, 2)) > 40).all(), f"a side at {x}"
    assert np.ptp(drawn[150, 255].astype(int)) < 40 < np.ptp(drawn[150, 159].astype(int)), "what is hidden is grey"


def test_each_picture_of_an_event_has_the_boxes_of_its_own_moment(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.stream(2)
    here, there = (SeenObject((x, 0.5, x + 0.3, 0.9), "person", 0.5) for x in (0.1, 0.6))
    event = yard.take(yard.event(kind=EventKind.OCCUPANCY, box=here.box, objects=(here,)))
    yard.workers.step()
    first = yard.pixels(yard.pieces()["annotated"].path)
    yard.stream(1)
    yard.over(event, peak_score=0.9, peak_sequence=yard.sequence - 1, objects=(here, there))
    yard.workers.step()
    second = yard.pixels(yard.pieces()["annotated"].path)
    sides = [round(x * 63) for one in (here, there) for x in (one.box[0], one.box[2])]
    assert [bool(first[34, x].min() < 150) for x in sides] == [True, True, False, False]
    assert [bool(second[34, x].min() < 150) for x in sides] == [True, True, True, True]


def test_where_one_object_caused_it_or_none_is_there_the_picture_says_so() -> None:
    one = replace(
        MANY, kind=EventKind.CROSS, place="kerb", label="person", peak_score=0.875, measures={"direction": 1.0}
    )
    drawing = drawing_of(replace(one, box=(0.1, 0.1, 0.2, 0.2)), WATCH)
    assert drawing == Drawing((Labelled((0.1, 0.1, 0.2, 0.2), "person 0.88"),), (), WATCH.lines)
    assert drawing_of(replace(MANY, measures={"count": 0.0}), WATCH) == Drawing(zones=(Zone("0 in hall", LEFT_HALF),))
    assert drawing_of(replace(MANY, measures={"absent_s": 9.0}), WATCH) == Drawing(zones=WATCH.zones[:1], lines=())


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.floats(-5, 5) | st.just(float("nan"))] * 4),
    st.text(max_size=60),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_whatever_is_drawn_a_snapshot_comes(
    box: tuple[float, float, float, float], label: str, width: int, height: int
) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    assert shown(take_snapshot(pixels, (), Drawing([Labelled(box, label)]))).shape == pixels.shape


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=6))
def test_every_pixel_whose_centre_is_hidden_is_black(corners: list[tuple[float, float]]) -> None:
    pixels = np.full((60, 80, 3), 200, np.uint8)
    blacken(pixels, [tuple(corners)])
    fine = np.zeros((60 * 8, 80 * 8), np.uint8)
    cv2.fillPoly(fine, [np.rint(np.array(corners) * (639, 479)).astype(np.int32)], (1,))
    # Any pixel that the area covers in part.
    covered = fine.reshape(60, 8, 80, 8).mean((1, 3)) > 0.3
    assert pixels[covered].max(initial=0) == 0


def test_what_is_no_picture_is_refused_in_words() -> None:
    for pixels in (np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(EvidenceError, match="must be uint8"):
            take_snapshot(pixels)
    with pytest.raises(EvidenceError, match="max_width 0"):
        take_snapshot(WHITE, max_width=0)


@pytest.mark.parametrize("turn", [0, 90])
def test_a_decoded_picture_is_upright_with_square_samples(turn: int) -> None:
    fmt, packets = raw_pictures()
    fmt = replace(fmt, rotation_degrees=turn, sample_aspect=Fraction(2))
    (decoded,) = open_decoder(fmt, LIMITS).decode(packets[9])
    assert decoded.picture is not None
    pixels = upright_bgr(decoded.picture, fmt.sample_aspect)
    assert pixels.shape == ((48, 128, 3) if turn == 0 else (128, 48, 3))
    assert (pixels == 180).all()
    decoded.picture.close()
