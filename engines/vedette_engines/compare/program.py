"""Take as truth what a program of the user's own sees: the one that is known to run the model as it should.

`--reference module:function` names a function of one picture, `uint8 [height, width, 3]`, BGR, as it came. A
detector's returns boxes `[n, 4]` as x1, y1, x2, y2 in pixels of the picture, scores `[n]` and classes `[n]`, numbers
or labels, NMS done, as a tuple or as a mapping with these names; all down to the engine's `min_score`, since what the
engine reports and the program does not counts as false. A classifier's returns its scores `[C]`, or the class
as a number or label.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.compare.agreement import least_score
from vedette_engines.compare.detections import boxes_of
from vedette_engines.compare.truth import FRAMES, Truth, TruthFrame
from vedette_engines.errors import ImportInputError
from vedette_engines.footage.frames import read_at, read_footage
from vedette_engines.manifest import InputSpec, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from vedette_engines.compare.detections import Boxes
    from vedette_engines.footage.clips import Clip
    from vedette_engines.footage.frames import FootageFrame
    from vedette_engines.manifest import Manifest

    Program = Callable[[NDArray[np.uint8]], Any]

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
# Pictures as they came are large: so much is held at a time.
_HELD_BYTES = 1 << 28


def load_program(name: str, search_path: Path | None = None) -> Program:
    """Import the user's function; its code runs.

    Args:
        name: `module:function`.
        search_path: Folder in which the module is looked for first; None: the current one.

    Raises:
        ImportInputError: There is no such function.
    """
    if not _NAME.fullmatch(name):
        raise ImportInputError(f"--reference is {name!r}; allowed is module:function")
    module_name, _, way = name.partition(":")
    root = (search_path or Path()).absolute()
    before = list(sys.path)
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        found: Any = importlib.import_module(module_name)
        for part in way.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        raise ImportInputError(f"--reference {name}: there is no module {error.name!r} (looked in {root})") from error
    except AttributeError as error:
        raise ImportInputError(f"--reference {name}: {error}") from error
    except Exception as error:  # the user's code
        raise ImportInputError(f"--reference {name}: importing it fails: {_told(error)}") from error
    finally:
        sys.path[:] = before
    if not callable(found):
        raise ImportInputError(f"--reference {name}: is a {type(found).__name__}; wanted is a function of one picture")
    program: Program = found
    return program


def truth_of_program(
    program: Program,
    name: str,
    manifest: Manifest,
    clips: Sequence[Clip],
    *,
    count: int = FRAMES,
    say: Callable[[str], None] = lambda _: None,
) -> Truth:
    """Let a program see `count` frames of the footage and take what it says as truth.

    Args:
        program: The function.
        name: How messages call it.
        manifest: The engine's, for its labels.
        clips: The footage.
        count: Frames to take, spread over all clips.
        say: Takes what is being done.

    Raises:
        ImportInputError: It fails, returns something else, or the footage cannot be read.
    """
    if manifest.task is Task.EMBEDDER:
        raise ImportInputError(f"--reference {name}: an embedder has no truth; leave it out")
    chosen = read_footage(clips, manifest.input, count, say)
    say(f"{len(chosen)} frames through {name}")
    reader = _Reader(name, manifest)
    frames = tuple(
        reader.frame(frame, _called(program, name, frame, picture)) for frame, picture in _pictures(chosen, clips)
    )
    return Truth(
        name,
        manifest.task,
        frames,
        frozenset(range(len(manifest.labels))),
        by_program=True,
    )


def _pictures(
    chosen: Sequence[FootageFrame], clips: Sequence[Clip]
) -> Iterator[tuple[FootageFrame, NDArray[np.uint8]]]:
    """Read the frames once more as they came, few at a time: an input of a picture's own size changes nothing."""
    for clip in clips:
        own = [frame for frame in chosen if frame.clip == clip]
        while own:
            width, height = own[0].source_width, own[0].source_height
            held = max(1, _HELD_BYTES // (width * height * 3))
            alike = [frame for frame in own if (frame.source_width, frame.source_height) == (width, height)][:held]
            whole = read_at(clip, [frame.index for frame in alike], InputSpec(width, height))
            by_index = {frame.index: frame.sample.pixels for frame in whole}
            yield from ((frame, by_index[frame.index]) for frame in alike if frame.index in by_index)
            done = {frame.index for frame in alike}
            own = [frame for frame in own if frame.index not in done]


def _called(program: Program, name: str, frame: FootageFrame, picture: NDArray[np.uint8]) -> Any:
    try:
        return program(picture)
    except Exception as error:  # the user's code
        raise ImportInputError(f"--reference {name}: fails on {frame.sample.label}: {_told(error)}") from error


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


class _Reader:
    """Reads what a program returned.

    Args:
        name: How messages call the program.
        manifest: The engine's.
    """

    def __init__(self, name: str, manifest: Manifest) -> None:
        self._name = name
        self._task = manifest.task
        self._labels = {label: number for number, label in enumerate(manifest.labels)}
        self._least = least_score(manifest)

    def frame(self, frame: FootageFrame, result: Any) -> TruthFrame:
        """Turn the result for one frame into truth."""
        source = frame.clip.pictures[frame.index] if frame.clip.pictures else frame.clip.path
        index = 0 if frame.clip.pictures else frame.index
        if self._task is Task.DETECTOR:
            return TruthFrame(str(source), index, self._boxes(frame, result))
        return TruthFrame(str(source), index, class_id=self._class_of(frame, result))

    def _boxes(self, frame: FootageFrame, result: Any) -> Boxes:
        try:
            parts = [result[key] for key in ("boxes", "scores", "classes")] if isinstance(result, Mapping) else result
            boxes, scores, classes = parts
            corners = np.asarray(boxes, np.float64).reshape(-1, 4)
            values = np.asarray(scores, np.float64).reshape(-1)
            listed = np.asarray(classes).reshape(-1).tolist()
        except (TypeError, ValueError, KeyError) as error:
            raise self._wrong(frame, f"{type(result).__name__}, {error}") from error
        if not len(corners) == len(values) == len(listed):
            raise self._wrong(frame, f"{len(corners)} boxes, {len(values)} scores, {len(listed)} classes")
        if not (np.isfinite(corners).all() and np.isfinite(values).all()):
            raise self._wrong(frame, "NaN or an infinity")
        class_ids = np.asarray([self._number(frame, one) for one in listed], np.int64)
        kept = values >= self._least
        return boxes_of(corners[kept], values[kept], class_ids[kept])

    def _class_of(self, frame: FootageFrame, result: Any) -> int:
        values = np.asarray(result)
        if values.size == len(self._labels) and values.size > 1 and values.dtype.kind == "f":
            return int(values.reshape(-1).argmax())
        if values.size != 1:
            raise self._wrong(frame, f"{values.size} values of {values.dtype}")
        return self._number(frame, values.reshape(-1).tolist()[0])

    def _number(self, frame: FootageFrame, one: Any) -> int:
        if isinstance(one, str):
            if one not in self._labels:
                raise self._wrong(frame, f"the label {one!r}, which the engine does not have")
            return self._labels[one]
        if one != int(one) or not 0 <= one < len(self._labels):
            raise self._wrong(frame, f"class {one}; the engine has 0..{len(self._labels) - 1}")
        return int(one)

    def _wrong(self, frame: FootageFrame, what: str) -> ImportInputError:
        wanted = (
            "boxes [n, 4], scores [n], classes [n]"
            if self._task is Task.DETECTOR
            else f"{len(self._labels)} scores, or one class"
        )
        return ImportInputError(f"--reference {self._name}: returned {what} for {frame.sample.label}; wanted: {wanted}")
