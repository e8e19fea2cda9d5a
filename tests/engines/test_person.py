from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np
import pytest

from support_boxed import assert_same_graph, boxed, boxed_model, overlap, resizes_with_axes
from vedette_engines.making import person
from vedette_engines.making.reference import OpenCvPeople, OpenedPerson, largest_difference
from vedette_engines.runners.opening import open_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from vedette_engines.runners.base import Lane

ASSETS = Path(__file__).parents[3] / "shared" / "assets"
SHAPE = (person.HEIGHT, person.WIDTH, 3)
MOST = 0.01

needs_assets = pytest.mark.skipif(not ASSETS.is_dir(), reason="needs ../shared/assets")


@pytest.fixture(scope="module")
def opened() -> OpenedPerson:
    bundle = boxed("person")
    return OpenedPerson(bundle.path_of(bundle.manifest.files[0]))


@pytest.fixture(scope="module")
def opencv() -> OpenCvPeople:
    return OpenCvPeople()


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    with open_engine(boxed("person")) as engine:
        lane = engine.open_lane()
        yield lane
        lane.close()


def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)


def clouds() -> NDArray[np.uint8]:
    """Smooth colours: small gradients in every direction."""
    coarse = np.random.default_rng(1).integers(0, 256, (9, 16, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, SHAPE[1::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def figures() -> NDArray[np.uint8]:
    """Plain shapes on a plain ground: exact edges, and large areas without any gradient."""
    picture = np.full(SHAPE, 30, np.uint8)
    cv2.rectangle(picture, (40, 60), (90, 250), (0, 0, 255), -1)
    cv2.circle(picture, (200, 90), 40, (250, 240, 10), -1)
    cv2.ellipse(picture, (330, 160), (35, 110), 15, 0, 360, (90, 200, 90), -1)
    cv2.line(picture, (400, 280), (500, 10), (255, 255, 255), 5)
    return picture


def frames_of(clip: str, every: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode every so-manieth frame of a clip, letterboxed."""
    with av.open(str(ASSETS / "clips" / clip)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % every == 0:
                yield index, np.asarray(cv2.resize(frame.to_ndarray(format="bgr24"), SHAPE[1::-1]), np.uint8)


def test_the_committed_graph_is_what_its_script_makes() -> None:
    assert_same_graph(boxed_model("person"), person.build(person.coefficients_of_opencv()))
    assert boxed("person").manifest.provenance == person.describe().provenance


@pytest.mark.parametrize("draw", [noise, clouds, figures])
def test_every_windows_score_is_opencvs(opened: OpenedPerson, opencv: OpenCvPeople, draw: object) -> None:
    assert largest_difference(opened, opencv, draw()) <= MOST  # type: ignore[operator]


@needs_assets
@pytest.mark.parametrize(
    "clip",
    [
        "intel_worker-zone-detection_h264_pingpong4.mp4",
        "intel_classroom_h264_pingpong4.mp4",
        "intel_store-aisle_1080p_h264.mp4",
        "intel_one-by-one-person-detection.mp4",
    ],
)
def test_every_windows_score_is_opencvs_on_real_frames(opened: OpenedPerson, opencv: OpenCvPeople, clip: str) -> None:
    differences = [largest_difference(opened, opencv, frame) for _, frame in frames_of(clip, every=66)]

    assert max(differences) <= MOST


def test_the_comparison_can_fail(opened: OpenedPerson, opencv: OpenCvPeople) -> None:
    class Off(OpenCvPeople):
        def window_scores(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
            scores = super().window_scores(picture)
            scores[1, 1] += 0.05
            return scores

    assert largest_difference(opened, Off(), figures()) > MOST


def test_the_pictures_of_the_pyramid_are_opencvs_to_one_grey_level(opened: OpenedPerson) -> None:
    frame = clouds()
    for scale, (picture, _) in zip(person.SCALES, opened.look(frame), strict=True):
        theirs = cv2.resize(frame, (scale.width, scale.height), interpolation=cv2.INTER_LINEAR_EXACT)
        assert np.abs(picture.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("draw", [noise, clouds, figures])
def test_the_candidates_are_the_best_windows_by_falling_score(opened: OpenedPerson, lane: Lane, draw: object) -> None:
    frame = draw()  # type: ignore[operator]
    svm = np.sort(np.concatenate([scores.ravel() for _, scores in opened.look(frame)]))[::-1]

    rows = lane.run([frame])[0].astype(np.float64)

    recovered = person.OPERATING_POINT + np.log(rows[:, 4] / (1 - rows[:, 4])) / person.SLOPE
    np.testing.assert_allclose(recovered, svm[: person.CANDIDATES], atol=1e-3)
    assert np.all(np.diff(rows[:, 4]) <= 1e-6)  # the runtime's sigmoid is that exact, and no more
    assert np.all(rows[:, 5] == 0)


def test_a_candidates_box_is_its_window_without_the_margin(opened: OpenedPerson, lane: Lane) -> None:
    frame = clouds()
    scores = [scores for _, scores in opened.look(frame)]
    index = int(np.argmax([part.max() for part in scores]))
    row, column = np.unravel_index(scores[index].argmax(), scores[index].shape)
    factor = person.WIDTH / person.SCALES[index].width
    x, y = (column * 8 - person.PADDING) * factor, (row * 8 - person.PADDING) * factor

    x1, y1, x2, y2 = lane.run([frame])[0][0, :4]

    inside = np.clip(
        [x + 0.16 * 64 * factor, y + 0.09 * 128 * factor, x + 0.84 * 64 * factor, y + 0.93 * 128 * factor],
        0,
        [person.WIDTH, person.HEIGHT] * 2,
    )
    np.testing.assert_allclose(
        [x1, y1, x2, y2], inside, atol=3.0
    )  # sizes are rounded to cells: the sides differ by 1 %


def test_boxes_stay_within_the_input(lane: Lane) -> None:
    rows = lane.run([noise()])[0]

    assert rows[:, :4].min() >= 0
    assert np.all(rows[:, [0, 2]] <= person.WIDTH)
    assert np.all(rows[:, [1, 3]] <= person.HEIGHT)


def test_a_picture_without_anything_has_no_person(lane: Lane) -> None:
    rows = lane.run([np.full(SHAPE, 114, np.uint8)])[0]

    assert np.isfinite(rows).all()
    assert rows[:, 4].max() < boxed("person").manifest.output.score_floor


def test_a_batch_gives_what_its_frames_give_one_by_one(lane: Lane) -> None:
    frames = [noise(), clouds(), figures()]
    alone = [lane.run([frame])[0].copy() for frame in frames]

    together = lane.run(frames)

    # Scores that are equal to rounding may change places: compare the scores, not who has them.
    np.testing.assert_allclose(together[:, :, 4], np.stack(alone)[:, :, 4], atol=1e-5)
    np.testing.assert_allclose(together[:, 0], np.stack(alone)[:, 0], atol=1e-4)


def test_tensorrts_parser_has_nothing_to_refuse() -> None:
    assert resizes_with_axes(boxed_model("person")) == []


@needs_assets
def test_it_finds_most_persons_at_the_level_of_the_street_and_little_else(lane: Lane) -> None:
    clip = "intel_worker-zone-detection_h264_pingpong4.mp4"
    golden = json.loads((ASSETS / "golden" / f"{clip}.json").read_text())["frames"]
    factor = person.WIDTH / 480
    found = there = right = reported = 0
    for index, frame in frames_of(clip, every=9):
        rows = lane.run([frame])[0]
        rows = rows[rows[:, 4] >= boxed("person").manifest.defaults.min_score]
        persons = [np.array(entry[:4]) * factor for entry in golden[index]["det"] if entry[5] == "person"]
        there += len(persons)
        found += sum(bool(len(rows)) and overlap(box, rows).max() >= 0.4 for box in persons)
        reported += len(rows)
        right += sum(any(overlap(row, np.array([box])).max() >= 0.4 for box in persons) for row in rows)

    assert found / there >= 0.6
    assert right / reported >= 0.8
