"""Truth out of files: what is read, what is left out and said, what is refused; and which footage it speaks of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from PIL import Image

from support_compare import classifier, detector, embedder
from vedette_engines.compare.finding import find_frames
from vedette_engines.compare.gates import gate_for, judge
from vedette_engines.compare.program import truth_of_program
from vedette_engines.compare.truth import Truth, TruthFrame, compare_with_truth
from vedette_engines.compare.truth_files import load_truth
from vedette_engines.errors import ImportInputError
from vedette_engines.footage.clips import find_clips
from vedette_engines.manifest import InputSpec, Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

LABELS = ("person", "fire hydrant", "dog")
COCO: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "a.png", "width": 32, "height": 32},
        {"id": 9, "file_name": "street.mp4", "frame": 4},
    ],
    "annotations": [
        {"image_id": 7, "category_id": 18, "bbox": [2, 4, 10, 20]},
        {"image_id": 9, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        {"image_id": 9, "category_id": 2, "bbox": [0, 0, 5, 5]},
    ],
    "categories": [{"id": 18, "name": "Fire_Hydrant"}, {"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}],
}
GOLDEN: dict[str, Any] = {
    "clip": "derived/street.mp4",
    "model": "nano.onnx",
    "conf": 0.3,
    "frames": [{"frame": 0, "det": [[1, 2, 3, 4, 0.9, "dog"]]}, {"frame": 1, "det": []}],
}


def written(path: Path, data: object) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def test_coco_is_read_with_crowds_frames_and_sizes(tmp_path: Path) -> None:
    truth = load_truth(written(tmp_path / "truth.json", COCO), LABELS)
    first, second = truth.frames
    assert first.boxes is not None
    assert second.boxes is not None
    assert (first.file, first.index, first.size) == ("a.png", 0, (32, 32))
    assert first.boxes.corners.tolist() == [[2, 4, 12, 24]]
    assert first.boxes.class_ids.tolist() == [1]
    assert (second.file, second.index, second.boxes.crowd.tolist()) == ("street.mp4", 4, [True])
    assert (truth.scope, truth.classes) == ("truth", frozenset({0, 1}))
    assert truth.notes == ("truth.json has labels that the engine has not, left out: bicycle",)


def test_detections_of_a_clip_tell_whether_a_program_made_them(tmp_path: Path) -> None:
    truth = load_truth(written(tmp_path / "truth.json", GOLDEN), LABELS)
    assert [(frame.file, frame.index) for frame in truth.frames] == [
        ("derived/street.mp4", 0),
        ("derived/street.mp4", 1),
    ]
    assert (truth.scope, truth.least_score, truth.classes) == ("reference", 0.3, frozenset({0, 1, 2}))
    drawn = {key: value for key, value in GOLDEN.items() if key not in {"model", "conf"}}
    drawn["frames"] = [{"frame": 0, "det": [[1, 2, 3, 4, "dog"]]}]
    truth = load_truth(written(tmp_path / "drawn.json", drawn), LABELS)
    assert (truth.scope, truth.least_score, truth.classes) == ("truth", 0.0, frozenset({2}))


def test_a_folder_of_them_is_one_truth_and_of_one_kind(tmp_path: Path) -> None:
    written(tmp_path / "one.json", GOLDEN)
    written(tmp_path / "two.json", {**GOLDEN, "clip": "yard.mp4", "conf": 0.4})
    truth = load_truth(tmp_path, LABELS)
    assert (len(truth.frames), truth.least_score) == (4, 0.4)
    written(tmp_path / "three.json", COCO)
    with pytest.raises(ImportInputError, match="give one kind"):
        load_truth(tmp_path, LABELS)


def test_a_table_names_labels_and_frames(tmp_path: Path) -> None:
    table = written(tmp_path / "t.csv", "file_name,frame,label\nstreet.mp4,3,dog\na/b.png,0,Person\nc.png,0,cat\n")
    truth = load_truth(table, LABELS)
    assert [(one.file, one.index, one.class_id) for one in truth.frames] == [("street.mp4", 3, 2), ("a/b.png", 0, 0)]
    assert "left out: cat" in truth.notes[0]
    bare = load_truth(written(tmp_path / "u.csv", "a.png,dog\n\nb.png,person\n"), LABELS)
    assert [one.class_id for one in bare.frames] == [2, 0]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("t.json", "{", "cannot be read as JSON"),
        ("t.json", [1], "is no truth; allowed is COCO's JSON"),
        (
            "t.json",
            {**COCO, "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}]},
            "image 1, which",
        ),
        ("t.json", {**COCO, "annotations": [{"image_id": 7, "category_id": 1}]}, "KeyError: 'bbox'"),
        ("t.json", {**COCO, "annotations": [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 1]}]}, "ValueError"),
        ("t.json", {**COCO, "images": [{"id": 7, "file_name": "a", "width": 0, "height": 1}]}, "is of image 9"),
        (
            "t.json",
            {**COCO, "categories": [{"id": i, "name": "sofa"} for i in (1, 2, 18)]},
            "none of its labels (sofa)",
        ),
        ("t.json", {**GOLDEN, "frames": [{"frame": 0, "det": [[1, 2, 3]]}]}, "a detection has 3 values"),
        ("t.json", {**GOLDEN, "frames": [{"frame": 0, "det": [[1, 2, 3, "x", 0.5, "dog"]]}]}, "could not convert"),
        ("t.csv", "a.png,dog,3,4\n", "line 1 has 4 values"),
        ("t.csv", "a.png,one,dog\n", "line 1 has frame 'one'"),
        ("t.csv", "file_name,label\n", "names no picture"),
        ("t.csv", "a.png,sofa\n", "none of its labels (sofa) is one of the engine's (person, fire hydrant, dog)"),
        ("nothing.json", None, "cannot be read as JSON"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(tmp_path: Path, name: str, data: object, said: str) -> None:
    path = tmp_path / name
    if data is not None:
        written(path, data)
    with pytest.raises(ImportInputError) as caught:
        load_truth(path, LABELS)
    assert said in str(caught.value)


def drawn(folder: Path, *names: str, size: tuple[int, int] = (32, 32), grey: int = 90) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", size, (grey + number,) * 3).save(folder / name)


def frames_of(*files: str) -> list[TruthFrame]:
    return [TruthFrame(file, 0, class_id=0) for file in files]


def test_a_picture_is_found_by_as_much_of_its_path_as_it_takes(tmp_path: Path) -> None:
    drawn(tmp_path / "cats", "1.png", "2.png")
    drawn(tmp_path / "dogs", "1.png", grey=10)
    clips = find_clips([tmp_path], "--validation")
    said: list[str] = []
    found = find_frames("t", frames_of("dogs/1.png", "2.png", "9.png"), clips, InputSpec(16, 16), 9, said.append)
    assert {(one.file, frame.sample.label) for one, frame in found} == {
        ("2.png", "cats/2.png"),
        ("dogs/1.png", "1.png/1.png"),
    }
    assert said == ["t: 1 of 3 frames are not in the footage (9.png)"]
    with pytest.raises(ImportInputError, match=r"t: 1\.png could be .*; name it by more of its path"):
        find_frames("t", frames_of("1.png"), clips, InputSpec(16, 16), 9, said.append)


def test_a_truth_about_other_footage_is_refused(tmp_path: Path) -> None:
    drawn(tmp_path / "cats", "1.png", "2.png")
    clips = find_clips([tmp_path], "--validation")
    with pytest.raises(ImportInputError, match=r"t speaks of x\.png; the footage has cats"):
        find_frames("t", frames_of("x.png"), clips, InputSpec(16, 16), 9, lambda _: None)


def test_frames_are_taken_evenly_from_all_that_are_known(tmp_path: Path) -> None:
    names = [f"{number:02}.png" for number in range(20)]
    drawn(tmp_path / "p", *names)
    clips = find_clips([tmp_path / "p"], "--validation")
    found = find_frames("t", frames_of(*names), clips, InputSpec(16, 16), 4, lambda _: None)
    assert [frame.index for _, frame in found] == [2, 7, 12, 17]


def test_frames_beyond_what_memory_has_room_for_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number}.png" for number in range(3)]
    drawn(tmp_path / "p", *names)
    clips = find_clips([tmp_path / "p"], "--validation")
    monkeypatch.setattr("vedette_engines.footage.frames.MAX_HELD_BYTES", 2 * 16 * 16 * 3)
    assert len(find_frames("t", frames_of(*names), clips, InputSpec(16, 16), 2, lambda _: None)) == 2
    with pytest.raises(ImportInputError, match="3 frames of 16x16 take"):
        find_frames("t", frames_of(*names), clips, InputSpec(16, 16), 9, lambda _: None)


def corner_finder(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """See one `a` in the upper left quarter of the input of every frame."""
    rows = np.zeros((len(frames), 8, 6), np.float32)
    rows[:, 0] = (0, 0, 8, 8, 0.9, 0)
    return rows


def test_boxes_are_compared_in_source_pixels_whatever_size_they_were_drawn_at(tmp_path: Path) -> None:
    drawn(tmp_path / "p", "a.png", "b.png", size=(64, 64))
    clips = find_clips([tmp_path / "p"], "--validation")
    data = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 640, "height": 640},
            {"id": 2, "file_name": "b.png"},
        ],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [-9, 0, 329, 320]},
            {"image_id": 2, "category_id": 1, "bbox": [0, 0, 32, 32]},
        ],
        "categories": [{"id": 1, "name": "a"}],
    }
    truth = load_truth(written(tmp_path / "t.json", data), ("a", "b", "c"))
    found = compare_with_truth(detector(), corner_finder, truth, clips)
    assert (found.figures["map50_95"], found.figures["precision"], found.figures["iou"]) == (1.0, 1.0, 1.0)
    assert judge(found, gate_for(Task.DETECTOR, truth.scope)) == ()


def test_what_the_truth_does_not_speak_of_is_not_false(tmp_path: Path) -> None:
    drawn(tmp_path / "p", "a.png", size=(64, 64))
    clips = find_clips([tmp_path / "p"], "--validation")

    def also_b(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows = corner_finder(frames)
        rows[:, 1] = (8, 8, 15, 15, 0.8, 1)
        return rows

    data = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 32, 32]}],
        "categories": [{"id": 1, "name": "a"}],
    }
    silent = load_truth(written(tmp_path / "t.json", data), ("a", "b", "c"))
    assert compare_with_truth(detector(), also_b, silent, clips).figures["precision"] == 1.0
    data["categories"].append({"id": 2, "name": "b"})
    speaking = load_truth(written(tmp_path / "u.json", data), ("a", "b", "c"))
    assert compare_with_truth(detector(), also_b, speaking, clips).figures["precision"] == 0.5


def test_frames_in_which_nothing_is_are_no_check(tmp_path: Path) -> None:
    drawn(tmp_path / "p", "a.png")
    clips = find_clips([tmp_path / "p"], "--validation")
    data = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    truth = load_truth(written(tmp_path / "t.json", data), ("a",))
    (reason,) = judge(
        compare_with_truth(detector(("a",)), corner_finder, truth, clips), gate_for(Task.DETECTOR, "truth")
    )
    assert "inconclusive: t.json sees nothing at all on these frames" in reason


def bright(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Say c1 of bright pictures and c0 of dark ones."""
    scores = np.full((len(frames), 8), 0.01, np.float32)
    scores[np.arange(len(frames)), (frames.mean(axis=(1, 2, 3)) > 100).astype(int)] = 0.93
    return scores


def constant(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    scores = np.full((len(frames), 8), 0.01, np.float32)
    scores[:, 1] = 0.93
    return scores


@pytest.mark.parametrize(("engine", "top1", "passes"), [(bright, 1.0, True), (constant, 0.4, False)])
def test_a_classifier_is_held_against_a_folder_per_label(
    engine: Callable[[NDArray[np.uint8]], NDArray[np.float32]], top1: float, passes: bool, tmp_path: Path
) -> None:
    drawn(tmp_path / "c0", "1.png", "2.png", "3.png", grey=20)
    drawn(tmp_path / "c1", "1.png", "2.png", grey=200)
    truth = load_truth(tmp_path, classifier().labels)
    clips = find_clips([tmp_path], "--validation")
    found = compare_with_truth(classifier(), engine, truth, clips)
    assert found.figures["top1"] == top1
    assert (judge(found, gate_for(Task.CLASSIFIER, "truth")) == ()) is passes


def flickering(path: Path, count: int = 8) -> Path:
    """Write a video whose frames are dark and bright in turns."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(count):
            picture = np.full((48, 64, 3), 220 if number % 2 else 20, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
    return path


def test_frames_of_a_video_go_by_their_number_for_tables_and_programs(tmp_path: Path) -> None:
    clips = find_clips([flickering(tmp_path / "street.mp4")], "--validation")
    table = written(tmp_path / "t.csv", "".join(f"derived/street.mp4,{i},c{i % 2}\n" for i in (0, 3, 4, 7)))
    drawn_by_people = load_truth(table, classifier().labels)
    seen = truth_of_program(lambda picture: int(picture.mean() > 100), "p", classifier(), clips, count=8)
    assert [frame.class_id for frame in seen.frames] == [0, 1] * 4
    for truth, count in ((drawn_by_people, 4), (seen, 8)):
        found = compare_with_truth(classifier(), bright, truth, clips)
        assert (found.frames, found.figures["top1"]) == (count, 1.0)
    late = load_truth(written(tmp_path / "u.csv", "street.mp4,99,c0\n"), classifier().labels)
    with pytest.raises(ImportInputError, match="none of the frames that it speaks of can be decoded"):
        compare_with_truth(classifier(), bright, late, clips)


def test_pictures_of_one_class_are_no_check_of_a_classifier(tmp_path: Path) -> None:
    drawn(tmp_path / "c1", "1.png", "2.png")
    truth = load_truth(tmp_path, classifier().labels)
    found = compare_with_truth(classifier(), constant, truth, find_clips([tmp_path], "--validation"))
    assert "all frames are of one class" in judge(found, gate_for(Task.CLASSIFIER, "truth"))[0]


def test_a_truth_of_another_task_is_refused(tmp_path: Path) -> None:
    drawn(tmp_path / "c1", "1.png")
    truth = load_truth(tmp_path, ("c1",))
    clips = find_clips([tmp_path], "--validation")
    with pytest.raises(ImportInputError, match="is a classifier's truth, the engine is a detector"):
        compare_with_truth(detector(), corner_finder, truth, clips)
    with pytest.raises(ImportInputError, match="the engine is a embedder"):
        compare_with_truth(embedder(), corner_finder, truth, clips)


def test_a_digest_changes_with_what_is_said(tmp_path: Path) -> None:
    one = load_truth(written(tmp_path / "one.json", GOLDEN), LABELS)
    same = load_truth(written(tmp_path / "same.json", GOLDEN), LABELS)
    assert one.digest == same.digest
    for other in ({**GOLDEN, "conf": 0.4}, {**GOLDEN, "frames": GOLDEN["frames"][:1]}):
        assert load_truth(written(tmp_path / "other.json", other), LABELS).digest != one.digest
    moved = json.loads(json.dumps(GOLDEN))
    moved["frames"][0]["det"][0][0] = 1.000001
    assert load_truth(written(tmp_path / "moved.json", moved), LABELS).digest != one.digest
    assert isinstance(one, Truth)
