"""Read truth from files: COCO's JSON, this project's JSON of detections, and what pictures of a classifier show.

- COCO: `images` (`file_name`, and `frame` for one of a video), `annotations` (`bbox` as x, y, width, height),
  `categories`. https://cocodataset.org/#format-data
- Detections of a clip: `clip`, and `frames` with `frame` and `det`: x1, y1, x2, y2, score, label each. Where it tells
  the `model` that they are of, an engine must agree closely; `conf` is the score from which up they were written.
- A classifier: CSV of `file_name,label` or `file_name,frame,label`, or a folder with one sub-folder per label.

Labels go by their names, in which case, blanks, `_` and `-` do not matter.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.compare.detections import boxes_of
from vedette_engines.compare.truth import Truth, TruthFrame
from vedette_engines.errors import ImportInputError
from vedette_engines.footage.clips import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from vedette_engines.manifest import Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from vedette_engines.compare.detections import Boxes

_SHOWN = 5
_FRAME_KEYS = ("frame", "frame_index", "frame_id")


def load_truth(path: Path, labels: Sequence[str]) -> Truth:
    """Read truth from a file, or from a folder of such JSON files, or of one sub-folder per label.

    Args:
        path: The file or folder.
        labels: The engine's labels, by class id.

    Raises:
        ImportInputError: It is none of the formats, is wrong in itself, or names none of the engine's labels.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".json")
        return _joined(path, [load_truth(file, labels) for file in files]) if files else _folders(path, labels)
    if path.suffix.lower() == ".csv":
        return _table(path, labels)
    return _json(path, labels)


@dataclass(slots=True)
class _Names:
    """Finds class ids by label and notes which labels the engine does not have."""

    path: Path
    labels: Sequence[str]
    known: set[int] = field(default_factory=set)
    unknown: Counter[str] = field(default_factory=Counter)

    def find(self, label: object) -> int | None:
        wanted = _plain(str(label))
        for class_id, own in enumerate(self.labels):
            if _plain(own) == wanted:
                self.known.add(class_id)
                return class_id
        self.unknown[str(label)] += 1
        return None

    def notes(self) -> tuple[str, ...]:
        """Tell what was left out.

        Raises:
            ImportInputError: Everything was.
        """
        if not self.known and self.unknown:
            raise ImportInputError(
                f"{self.path}: none of its labels ({_some(self.unknown)}) is one of the engine's ({_some(self.labels)})"
            )
        if not self.unknown:
            return ()
        return (f"{self.path.name} has labels that the engine has not, left out: {_some(self.unknown)}",)


def _plain(label: str) -> str:
    return "".join(letter for letter in label.casefold() if letter not in " _-")


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return f"{', '.join(listed[:_SHOWN])}{more}"


def _json(path: Path, labels: Sequence[str]) -> Truth:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ImportInputError(f"{path}: cannot be read as JSON: {error}") from error
    names = _Names(path, labels)
    try:
        if isinstance(data, dict) and {"images", "annotations", "categories"} <= data.keys():
            return _coco(path, data, names)
        if isinstance(data, dict) and {"clip", "frames"} <= data.keys():
            return _detections(path, data, names)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise ImportInputError(f"{path}: an entry is not as it should be: {type(error).__name__}: {error}") from error
    raise ImportInputError(
        f"{path}: is no truth; allowed is COCO's JSON (images, annotations, categories), detections of a clip "
        "(clip, frames), a CSV of file_name,label, or a folder of one sub-folder per label"
    )


def _coco(path: Path, data: dict[str, Any], names: _Names) -> Truth:
    classes = {int(category["id"]): names.find(category["name"]) for category in data["categories"]}
    found: dict[int, list[tuple[list[float], int, bool]]] = {int(image["id"]): [] for image in data["images"]}
    for number, annotation in enumerate(data["annotations"]):
        image, class_id = int(annotation["image_id"]), classes[int(annotation["category_id"])]
        if image not in found:
            raise ImportInputError(f"{path}: annotation {number} is of image {image}, which is not among the images")
        x, y, width, height = map(float, annotation["bbox"])
        if class_id is not None:
            found[image].append(([x, y, x + width, y + height], class_id, bool(annotation.get("iscrowd", 0))))
    frames = tuple(_coco_frame(path, image, found[int(image["id"])]) for image in data["images"])
    return Truth(path.name, Task.DETECTOR, frames, frozenset(names.known), notes=names.notes())


def _coco_frame(path: Path, image: dict[str, Any], found: Sequence[tuple[list[float], int, bool]]) -> TruthFrame:
    index = next((int(image[key]) for key in _FRAME_KEYS if key in image), 0)
    size = (int(image["width"]), int(image["height"])) if "width" in image and "height" in image else None
    if size is not None and min(size) < 1:
        raise ImportInputError(f"{path}: image {image['id']} is {size[0]}x{size[1]}; allowed is 1x1 and up")
    boxes = _boxes(
        path,
        [corners for corners, _, _ in found],
        [1.0] * len(found),
        [class_id for _, class_id, _ in found],
        [crowd for _, _, crowd in found],
    )
    return TruthFrame(str(image["file_name"]), index, boxes, size=size)


def _detections(path: Path, data: dict[str, Any], names: _Names) -> Truth:
    frames = []
    for frame in data["frames"]:
        rows = [([float(value) for value in row[:4]], _score(row), names.find(row[-1])) for row in frame["det"]]
        kept = [(corners, score, class_id) for corners, score, class_id in rows if class_id is not None]
        boxes = _boxes(path, [row[0] for row in kept], [row[1] for row in kept], [row[2] for row in kept])
        frames.append(TruthFrame(str(data["clip"]), int(frame["frame"]), boxes))
    notes = names.notes()
    # Nobody lists the classes that were looked for: a program looks for all of its model's.
    classes = frozenset(range(len(names.labels))) if "model" in data else frozenset(names.known)
    return Truth(path.name, Task.DETECTOR, tuple(frames), classes, "model" in data, float(data.get("conf", 0.0)), notes)


def _score(row: Sequence[Any]) -> float:
    if len(row) not in {5, 6}:
        raise ImportInputError(f"a detection has {len(row)} values; allowed is x1, y1, x2, y2, score, label")
    return float(row[4]) if len(row) == 6 else 1.0


def _boxes(
    path: Path, corners: list[list[float]], scores: list[float], class_ids: list[int], crowd: list[bool] | None = None
) -> Boxes:
    table = np.asarray(corners, np.float64).reshape(-1, 4)
    if not (np.isfinite(table).all() and np.isfinite(scores).all()):
        raise ImportInputError(f"{path}: a box is {corners}; allowed are numbers")
    flags = None if crowd is None else np.asarray(crowd, np.bool_)
    return boxes_of(table, np.asarray(scores, np.float64), np.asarray(class_ids, np.int64), flags)


def _joined(path: Path, parts: Sequence[Truth]) -> Truth:
    """Make one of several; they must be of one kind, since one gate judges them."""
    if len({part.by_program for part in parts}) > 1:
        raise ImportInputError(f"{path}: holds both what people drew and what programs saw: give one kind")
    return Truth(
        path.name,
        parts[0].task,
        tuple(frame for part in parts for frame in part.frames),
        frozenset.intersection(*(part.classes for part in parts)),
        parts[0].by_program,
        max(part.least_score for part in parts),
        tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _table(path: Path, labels: Sequence[str]) -> Truth:
    names = _Names(path, labels)
    frames = []
    for number, row in enumerate(_rows(path), 1):
        if len(row) not in {2, 3}:
            raise ImportInputError(f"{path}: line {number} has {len(row)} values; allowed is file_name,label")
        if number == 1 and row[-1].casefold() in {"label", "class"} and row[0].casefold() in {"file_name", "file"}:
            continue
        if len(row) == 3 and not row[1].isdecimal():
            raise ImportInputError(f"{path}: line {number} has frame {row[1]!r}; allowed is a number from 0 up")
        class_id = names.find(row[-1])
        if class_id is not None:
            frames.append(TruthFrame(row[0], int(row[1]) if len(row) == 3 else 0, class_id=class_id))
    return _classes(path, frames, names)


def _rows(path: Path) -> Iterator[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for row in csv.reader(stream):
                if row:
                    yield [cell.strip() for cell in row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImportInputError(f"{path}: cannot be read as CSV: {error}") from error


def _folders(path: Path, labels: Sequence[str]) -> Truth:
    names = _Names(path, labels)
    frames = []
    for folder in sorted(entry for entry in path.iterdir() if entry.is_dir()):
        files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES]
        class_id = names.find(folder.name) if files else None
        if class_id is not None:
            frames += [TruthFrame(str(file.absolute()), 0, class_id=class_id) for file in files]
    return _classes(path, frames, names)


def _classes(path: Path, frames: Sequence[TruthFrame], names: _Names) -> Truth:
    notes = names.notes()
    if not frames:
        raise ImportInputError(f"{path}: names no picture; allowed is file_name,label, or a sub-folder per label")
    return Truth(path.name, Task.CLASSIFIER, tuple(frames), frozenset(names.known), notes=notes)
