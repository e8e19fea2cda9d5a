from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_boxed import assert_same_graph, boxed, boxed_model, overlap, resizes_with_axes
from vedette_engines.making import blobs
from vedette_engines.runners.opening import open_engine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from vedette_engines.runners.base import Lane

COLOURS = {0: (0, 0, 255), 1: (0, 255, 0), 2: (255, 0, 0)}  # BGR of red, green, blue
Truth = list[tuple[int, "NDArray[np.float64]"]]


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    with open_engine(boxed("blobs")) as engine:
        lane = engine.open_lane()
        yield lane
        lane.close()


def draw(width: int, height: int, seed: int, count: int = 8) -> tuple[NDArray[np.uint8], Truth]:
    """Draw a scene as the engine expects it, 16:9, and tell its squares in the engine's pixels."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.integers(40, 111, (4, 7), np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    picture = np.repeat(np.asarray(ground, np.uint8)[:, :, None], 3, axis=2)
    scale = blobs.WIDTH / width
    gap = int(4 / scale)
    taken: Truth = []
    while len(taken) < count:
        side = int(rng.integers(-(-height // 16), height // 6))
        x, y = rng.integers(gap, (width - side - gap, height - side - gap))
        box = np.array([x, y, x + side, y + side])
        if any(np.all(box[:2] < b[2:] + gap) and np.all(b[:2] < box[2:] + gap) for _, b in taken):
            continue
        colour = int(rng.integers(3))
        picture[y : y + side, x : x + side] = COLOURS[colour]
        taken.append((colour, box))
    return picture, [(colour, box * scale) for colour, box in taken]


def letterboxed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize a 16:9 picture to the engine's width, with a grey bar below."""
    slot = np.full((blobs.HEIGHT, blobs.WIDTH, 3), 114, np.uint8)
    slot[:90] = cv2.resize(picture, (blobs.WIDTH, 90), interpolation=cv2.INTER_LINEAR)
    return slot


def through_h264(pictures: Sequence[NDArray[np.uint8]], crf: int) -> list[NDArray[np.uint8]]:
    """Encode with halved chroma and decode."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(15), options={"crf": str(crf), "preset": "veryfast"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def assert_found(rows: NDArray[np.float32], truth: Truth) -> None:
    """Check that each square is found, in its colour, and that nothing else is."""
    rows = rows[rows[:, 4] >= boxed("blobs").manifest.defaults.min_score]
    boxes = np.array([box for _, box in truth])
    for colour, box in truth:
        overlaps = overlap(box, rows) if len(rows) else np.zeros(1)
        assert overlaps.max() >= 0.7, f"square {box} of colour {colour}: best overlap {overlaps.max():.2f}"
        assert rows[overlaps.argmax(), 5] == colour
    for row in rows:
        assert overlap(row, boxes).max() >= 0.7, f"found {row}, where nothing is"


def test_the_committed_graph_is_what_its_script_makes() -> None:
    assert_same_graph(boxed_model("blobs"), blobs.build())
    assert boxed("blobs").manifest.provenance == blobs.describe().provenance


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(0, 12), st.sampled_from([(160, 90), (320, 180), (640, 360), (1280, 720)]))
def test_every_square_is_found_and_nothing_else(lane: Lane, seed: int, count: int, size: tuple[int, int]) -> None:
    picture, truth = draw(*size, seed, count)

    rows = lane.run([letterboxed(picture)])[0]

    if truth:
        assert_found(rows, truth)
    else:
        assert rows[:, 4].max() < boxed("blobs").manifest.output.score_floor


@pytest.mark.parametrize("size", [(320, 180), (640, 360), (1280, 720)])
@pytest.mark.parametrize("crf", [23, 32])
def test_every_square_is_found_after_video_coding(lane: Lane, size: tuple[int, int], crf: int) -> None:
    scenes = [draw(*size, seed) for seed in range(20)]

    for decoded, (_, truth) in zip(through_h264([p for p, _ in scenes], crf), scenes, strict=True):
        assert_found(lane.run([letterboxed(decoded)])[0], truth)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_square_of_any_side_is_placed_to_half_a_pixel(lane: Lane, data: st.DataObject) -> None:
    side = data.draw(st.integers(6, 16))
    x, y = (data.draw(st.integers(4, length - 4 - side)) for length in (blobs.WIDTH, blobs.HEIGHT))
    colour = data.draw(st.sampled_from(sorted(COLOURS)))
    frame = np.full((blobs.HEIGHT, blobs.WIDTH, 3), 80, np.uint8)
    frame[y : y + side, x : x + side] = COLOURS[colour]

    first, second = lane.run([frame])[0][:2]

    np.testing.assert_allclose(first[:4], [x, y, x + side, y + side], atol=0.5)
    assert first[5] == colour
    assert first[4] == 1.0
    assert second[4] == 0.0


@pytest.mark.parametrize("value", [0, 255, COLOURS[0], COLOURS[1], COLOURS[2], None])
def test_a_picture_outside_the_scene_gives_sound_rows(lane: Lane, value: int | tuple[int, ...] | None) -> None:
    frame = np.random.default_rng(7).integers(0, 256, (blobs.HEIGHT, blobs.WIDTH, 3), np.uint8)
    if value is not None:
        frame[...] = value

    rows = lane.run([frame])[0]

    assert np.all(np.isfinite(rows))
    assert np.all((rows[:, 4] >= 0) & (rows[:, 4] <= 1))
    assert np.all(np.isin(rows[:, 5], range(len(blobs.LABELS))))


def test_candidates_stand_by_falling_score(lane: Lane) -> None:
    picture, _ = draw(640, 360, seed=3)
    (decoded,) = through_h264([picture], crf=35)

    assert np.all(np.diff(lane.run([letterboxed(decoded)])[0][:, 4]) <= 0)


def test_more_squares_than_rows_fill_all_rows(lane: Lane) -> None:
    frame = np.full((blobs.HEIGHT, blobs.WIDTH, 3), 80, np.uint8)
    for y in range(4, 90, 12):
        for x in range(4, 150, 12):
            frame[y : y + 6, x : x + 6] = COLOURS[0]

    rows = lane.run([frame])[0]

    assert rows[-1, 4] >= boxed("blobs").manifest.output.score_floor


def test_a_batch_gives_what_its_frames_give_one_by_one(lane: Lane) -> None:
    frames = [letterboxed(draw(640, 360, seed)[0]) for seed in range(5)]
    alone = [lane.run([frame])[0].copy() for frame in frames]

    np.testing.assert_array_equal(lane.run(frames), np.stack(alone))


def test_tensorrts_parser_has_nothing_to_refuse() -> None:
    assert resizes_with_axes(boxed_model("blobs")) == []
