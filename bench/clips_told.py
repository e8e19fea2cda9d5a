"""What a server told of a clip, compared with what is in it, and written down."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.clips_scenes import Scene, Span


@dataclass(frozen=True, slots=True)
class Told:
    """An event; times in seconds from the clip's beginning.

    Attributes:
        rule: That told it.
        kind: What kind.
        begin_s: When it began.
        end_s: When it was over.
        label: Of the object.
        score: The highest.
        tracks: Last parts of the tracks' ids.
        measures: What was measured.
        snapshot: Whether there is one.
        clip: Whether there is one.
        text: What it says of itself.
    """

    rule: str
    kind: str
    begin_s: float
    end_s: float
    label: str
    score: float | None
    tracks: tuple[str, ...]
    measures: dict[str, float]
    snapshot: str
    clip: str
    text: str


@dataclass(frozen=True, slots=True)
class Sighted:
    """What was seen in one frame: when, and the tracks of the persons, empty where one has none."""

    time_s: float
    tracks: tuple[str, ...]


def pair(truth: Sequence[Span], told: Sequence[float], later_s: float = 0.0) -> list[tuple[int, int]]:
    """Pair what happened with what was told of it, each at most once, the nearest first.

    Args:
        truth: What happened.
        told: When each event began, in seconds.
        later_s: What lasts may begin so much later.
    """
    near = sorted(
        (abs(span.begin_s - begin_s), i, j)
        for i, span in enumerate(truth)
        for j, begin_s in enumerate(told)
        if -span.tolerance_s <= begin_s - span.begin_s <= span.tolerance_s + (later_s if span.end_s else 0.0)
    )
    pairs: list[tuple[int, int]] = []
    for _, i, j in near:
        if all(i != one and j != other for one, other in pairs):
            pairs.append((i, j))
    return pairs


def judge(scene: Scene, told: Sequence[Told], frames: Sequence[Sighted], later_s: float = 0.0) -> dict[str, Any]:
    """Compare; return figures by rule, of the tracks, and all that was told."""
    rules = {
        one.name: _rule(one.truth, [event for event in told if event.rule == one.name], later_s) for one in scene.rules
    }
    totals = {key: sum(figures[key] for figures in rules.values()) for key in ("happened", "right", "missed", "false")}
    return {
        **totals,
        "rules": rules,
        "told again after the repeat": repeated(told, scene.repeat_s, frames[-1].time_s),
        **tracked(scene, frames),
        "events": [asdict(one) for one in told],
    }


def _rule(truth: Sequence[Span], told: Sequence[Told], later_s: float) -> dict[str, Any]:
    pairs = pair(truth, [one.begin_s for one in told], later_s)
    late = [told[j].begin_s - truth[i].begin_s for i, j in pairs]
    ends = [told[j].end_s - end_s for i, j in pairs if (end_s := truth[i].end_s) is not None]
    return {
        "happened": len(truth),
        "right": len(pairs),
        "missed": len(truth) - len(pairs),
        "false": len(told) - len(pairs),
        "late s, most": _most(late),
        "end off s, most": _most(ends),
    }


def _most(values: Sequence[float]) -> float | None:
    if not values:
        return None
    most: float = max(values, key=math.fabs)
    return round(most, 2)


def repeated(told: Sequence[Told], repeat_s: float, length_s: float) -> str:
    """Tell how many events of the first round were told likewise in the second: the same happened again."""
    again = [one for one in told if one.begin_s + repeat_s < length_s and one.begin_s < repeat_s]
    second = list(told)
    found = 0
    for one in again:
        for other in second:
            if (other.rule, other.kind) == (one.rule, one.kind) and abs(other.begin_s - one.begin_s - repeat_s) <= 0.25:
                second.remove(other)
                found += 1
                break
    return f"{found} of {len(again)}"


def tracked(scene: Scene, frames: Sequence[Sighted]) -> dict[str, Any]:
    """Count tracks, and persons that had none, frame by frame."""
    present = untracked = 0
    for frame in frames:
        there = [count for since_s, count in scene.persons if since_s <= frame.time_s][-1]
        present += there
        untracked += max(there - sum(map(bool, frame.tracks)), 0)
    ids = {track for frame in frames for track in frame.tracks if track}
    return {
        "stays of persons": scene.visits,
        "tracks": len(ids),
        "persons in all frames": present,
        "of these without a track": untracked,
    }


def tables(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the tables of all scenes, in Markdown."""
    return "\n".join(_scene(name, settings) for name, settings in figures.items())


def _scene(name: str, settings: Mapping[str, Any]) -> str:
    first = next(iter(settings.values()))
    lines = [f"### `{name}`, as it comes", "", "| rule | kind | happened | right | missed | false | late | end off |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    kinds = {event["rule"]: event["kind"] for event in first["events"]}
    for rule, one in first["rules"].items():
        shown = [
            one["happened"],
            one["right"],
            one["missed"],
            one["false"],
            one["late s, most"],
            one["end off s, most"],
        ]
        lines.append(f"| {rule} | {kinds.get(rule, '')} | {' | '.join('' if x is None else str(x) for x in shown)} |")
    lines += ["", f"Told again after the repeat: {first['told again after the repeat']}. Tracks: {first['tracks']} of "]
    lines[-1] += f"{first['stays of persons']} stays. Of {first['persons in all frames']} times that a person was in a "
    lines[-1] += f"frame {first['of these without a track']} had no track."
    lines += ["", f"### `{name}`, set otherwise", "", "| setting | right | missed | false | tracks | told again |"]
    lines.append("|---|---|---|---|---|---|")
    for knob, one in settings.items():
        cells = (f"{one['right']} of {one['happened']}", one["missed"], one["false"], one["tracks"])
        lines.append(f"| {' | '.join(map(str, (knob, *cells, one['told again after the repeat'])))} |")
    lines += ["", f"### `{name}`, as it comes: all events", "", "| begin | end | rule | tracks | what it says |"]
    lines.append("|---|---|---|---|---|")
    for event in first["events"]:
        tracks = " ".join(event["tracks"])
        lines.append(
            f"| {event['begin_s']:.2f} | {event['end_s']:.2f} | {event['rule']} | {tracks} | {event['text']} |"
        )
    return "\n".join([*lines, ""])
