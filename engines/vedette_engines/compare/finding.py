"""Find the frames in the footage that a truth speaks of."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from vedette_engines.errors import ImportInputError
from vedette_engines.footage.frames import check_memory, read_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from vedette_engines.compare.truth import TruthFrame
    from vedette_engines.footage.clips import Clip
    from vedette_engines.footage.frames import FootageFrame
    from vedette_engines.manifest import InputSpec

# So many names are enough to see what was meant.
_SHOWN = 3


def find_frames(
    name: str,
    wanted: Sequence[TruthFrame],
    clips: Sequence[Clip],
    spec: InputSpec,
    count: int,
    say: Callable[[str], None],
) -> list[tuple[TruthFrame, FootageFrame]]:
    """Take frames of which the truth is known, evenly from all of them, letterboxed.

    A truth names files by name or path: a file of the footage is meant whose path ends alike, as far as it takes to
    tell it from others.

    Raises:
        ImportInputError: No frame of the footage is meant, a name could mean several files, a clip cannot be read.
    """
    files = _files(clips)
    found: dict[tuple[int, int], TruthFrame] = {}
    missing: list[str] = []
    for truth in wanted:
        place = _place(name, truth, files)
        if place is None:
            missing.append(truth.file)
        else:
            found[place] = truth
    if not found:
        have = _some(clip.name for clip in clips)
        raise ImportInputError(f"{name} speaks of {_some(missing) or 'no frame'}; the footage has {have}")
    if missing:
        say(f"{name}: {len(missing)} of {len(wanted)} frames are not in the footage ({_some(missing)})")
    places = sorted(found)
    taken = min(count, len(places))
    check_memory(taken, spec)
    chosen = [places[(2 * i + 1) * len(places) // (2 * taken)] for i in range(taken)]
    pairs = []
    for number, clip in enumerate(clips):
        indices = [index for clip_number, index in chosen if clip_number == number]
        frames = read_at(clip, indices, spec) if indices else []
        if len(frames) < len(indices):
            say(f"clip {clip.name}: {len(indices) - len(frames)} of {len(indices)} frames cannot be decoded")
        pairs += [(found[number, frame.index], frame) for frame in frames]
    if not pairs:
        raise ImportInputError(f"{name}: none of the frames that it speaks of can be decoded")
    return pairs


def _files(clips: Sequence[Clip]) -> dict[str, list[tuple[Path, int, int | None]]]:
    """By name: each file with its clip's number, and its place there if it is a picture."""
    files: dict[str, list[tuple[Path, int, int | None]]] = {}
    for number, clip in enumerate(clips):
        for index, path in enumerate(clip.pictures):
            files.setdefault(path.name, []).append((path, number, index))
        if not clip.pictures:
            files.setdefault(clip.path.name, []).append((clip.path, number, None))
    return files


def _place(
    name: str, truth: TruthFrame, files: Mapping[str, Sequence[tuple[Path, int, int | None]]]
) -> tuple[int, int] | None:
    """Find the one file that is meant: clip's number and frame's; None: there is none."""
    parts = PurePosixPath(truth.file.replace("\\", "/")).parts
    known = files.get(parts[-1], ()) if parts else ()
    if not known:
        return None
    alike = [_common_end(path.parts, parts) for path, _, _ in known]
    best = [one for one, length in zip(known, alike, strict=True) if length == max(alike)]
    if len(best) > 1:
        raise ImportInputError(
            f"{name}: {truth.file} could be {_some(str(path) for path, _, _ in best)}; name it by more of its path"
        )
    _, number, index = best[0]
    return number, truth.index if index is None else index


def _common_end(one: Sequence[str], other: Sequence[str]) -> int:
    length = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        length += 1
    return length


def _some(names: Iterable[str]) -> str:
    different = list(dict.fromkeys(names))
    more = f" and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
    return f"{', '.join(different[:_SHOWN])}{more}"
