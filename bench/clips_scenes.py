"""What is to be judged in two real clips, and what is in them by eye, every third frame of them.

A person does not step over a line at one moment: what is said here is good to about a third of a second. Times are
seconds from the clip's beginning. Both clips run forwards and backwards, twice: whatever happens in the
first quarter happens mirrored in the second, and both happen once more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# Of a moment, and of the beginning of what lasts, this much off is still right: a person takes as long to step over
# a line, and comes into a picture as slowly; and eyes are no better.
TOLERANCE_S = 0.5


@dataclass(frozen=True, slots=True)
class Span:
    """When something happened; moments have no end."""

    begin_s: float
    end_s: float | None = None
    tolerance_s: float = TOLERANCE_S


@dataclass(frozen=True, slots=True)
class Ruled:
    """A rule as the file of channels has it, and when it should tell something.

    Attributes:
        name: Of the rule.
        text: Its keys but the name.
        truth: When.
    """

    name: str
    text: str
    truth: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """A clip, what is drawn over it, and what is judged.

    Attributes:
        name: Short.
        clip: The file's name.
        shapes: Zones and lines as the file of channels has them.
        rules: What is judged.
        persons: How many persons are to be seen from when on, to the next.
        visits: Stays of persons in the picture: so many tracks would be ideal.
        repeat_s: After so long everything happens once more.
    """

    name: str
    clip: str
    shapes: str
    rules: tuple[Ruled, ...]
    persons: tuple[tuple[float, int], ...]
    visits: int
    repeat_s: float


@dataclass(frozen=True, slots=True)
class Knob:
    """A way to set what can be set.

    Attributes:
        name: Short.
        rule: Keys added to every rule that bears them.
        tracking: Keys of the channel's tracking.
        shapes: Other shapes, by scene.
        max_fps: Frames analysed per second; None: all.
        later_s: What lasts begins so much later, as it is set.
    """

    name: str
    rule: str = ""
    tracking: str = ""
    shapes: dict[str, str] = field(default_factory=dict)
    max_fps: float | None = None
    later_s: float = 0.0


def spans(*times: tuple[float, float], tolerance_s: float = TOLERANCE_S) -> tuple[Span, ...]:
    return tuple(Span(begin_s, end_s, tolerance_s) for begin_s, end_s in times)


def moments(*times: float) -> tuple[Span, ...]:
    return tuple(Span(time_s) for time_s in times)


BAGS = 'kind = "left"\nat_least_s = 3\nlabels = ["backpack", "handbag", "suitcase"]'
PERSON = 'labels = ["person"]'

# One man. He comes in at the bottom, cut off by it, crosses the tape on the floor and stands still behind it; then all
# of it backwards. What is beyond the tape, from him, is the zone.
WORKER = Scene(
    "worker",
    "intel_worker-zone-detection_h264_pingpong4.mp4",
    "[channels.zones]\n"
    "marked = [[0.0, 1.0], [0.25, 1.0], [0.515, 0.47], [0.25, 0.3], [0.0, 0.5]]\n"
    "right = [[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]]\n"
    "[channels.lines]\n"
    "tape = [[0.25, 1.0], [0.515, 0.47]]\n",
    (
        Ruled("over-tape", f'kind = "cross"\nline = "tape"\n{PERSON}', moments(2.1, 6.4, 10.6, 14.9)),
        Ruled("in-marked", f'kind = "enter"\nzone = "marked"\n{PERSON}', moments(2.1, 10.6)),
        Ruled("out-marked", f'kind = "leave"\nzone = "marked"\n{PERSON}', moments(6.4, 14.9)),
        Ruled("at-work", f'kind = "inside"\nzone = "marked"\n{PERSON}', spans((2.1, 6.4), (10.6, 14.9))),
        Ruled("loiter", f'kind = "dwell"\nzone = "marked"\nat_least_s = 3\n{PERSON}', spans((5.1, 6.4), (13.6, 14.9))),
        Ruled(
            "nobody-right",
            f'kind = "absence"\nzone = "right"\nat_least_s = 3\n{PERSON}',
            spans((3.4, 8.1), (11.9, 16.6)),
        ),
        Ruled(
            "backwards",
            f'kind = "wrong_way"\nzone = ""\nallowed_degrees = 330\n{PERSON}',
            # Where he turns he hardly moves for more than a second: when he begins to walk back is a matter of opinion.
            spans((5.6, 8.5), (14.1, 17.0), tolerance_s=1.0),
        ),
        Ruled("two", f'kind = "occupancy"\nat_least = 2\n{PERSON}'),
        Ruled("left-bag", BAGS),
    ),
    ((0.0, 1),),
    1,
    8.52,
)

# A man stands at the table, a woman in green at the shelf; a woman in brown comes in at the bottom, hides the one in
# green but for head and arm, and stands between them; then all of it backwards. What she hides is what makes it hard.
STORE = Scene(
    "store",
    "intel_store-aisle-detection_h264_pingpong4.mp4",
    "[channels.zones]\n"
    "aisle = [[0.55, 0.6], [0.72, 0.6], [0.97, 1.0], [0.5, 1.0]]\n"
    "left-aisle = [[0.0, 0.4], [0.33, 0.4], [0.2, 1.0], [0.0, 1.0]]\n"
    "[channels.lines]\n"
    "shelf = [[0.78, 0.75], [0.78, 1.0]]\n",
    (
        Ruled(
            "crossed",
            f'kind = "cross"\nline = "shelf"\n{PERSON}',
            moments(0.6, 2.4, 5.6, 7.4, 8.6, 10.4, 13.7, 15.5),
        ),
        # Who is there when it begins has entered: that is how the rule is meant.
        Ruled("came", f'kind = "enter"\nzone = "aisle"\n{PERSON}', moments(0.1, 0.1, 1.4, 9.4)),
        Ruled("went", f'kind = "leave"\nzone = "aisle"\n{PERSON}', moments(6.7, 14.7)),
        Ruled(
            "here",
            f'kind = "inside"\nzone = "aisle"\n{PERSON}',
            spans((0.1, 16.1), (0.1, 16.1), (1.4, 6.7), (9.4, 14.7)),
        ),
        Ruled(
            "loiter",
            f'kind = "dwell"\nzone = "aisle"\nat_least_s = 3\n{PERSON}',
            spans((3.1, 16.1), (3.1, 16.1), (4.4, 6.7), (12.4, 14.7)),
        ),
        Ruled("three", f'kind = "occupancy"\nzone = "aisle"\nat_least = 3\n{PERSON}', spans((1.4, 6.7), (9.4, 14.7))),
        Ruled(
            "crowd",
            f'kind = "crowd"\nzone = "aisle"\nat_least = 3\ndistance = 0.2\n{PERSON}',
            spans((1.4, 6.7), (9.4, 14.7)),
        ),
        Ruled("empty", f'kind = "absence"\nzone = "left-aisle"\nat_least_s = 5\n{PERSON}', spans((5.0, 16.1))),
        Ruled("left-bag", BAGS),
    ),
    ((0.0, 2), (1.3, 3), (6.8, 2), (9.3, 3), (14.8, 2)),
    4,
    8.04,
)
SCENES = (WORKER, STORE)

KNOBS = (
    Knob("as it comes"),
    Knob("min_time_s = 1.5", rule="min_time_s = 1.5", later_s=1.5),
    Knob(
        "a zone up to the shoulders",
        shapes={"store": STORE.shapes.replace("[[0.55, 0.6], [0.72, 0.6], ", "[[0.48, 0.45], [0.95, 0.45], ")},
    ),
    Knob("hysteresis = 0.05", rule="hysteresis = 0.05"),
    Knob("min_score = 0.7", rule="min_score = 0.7"),
    Knob("confirm_frames = 8", tracking="confirm_frames = 8"),
    Knob("max_fps = 5", max_fps=5.0),
)
# Rules that have no use for a key.
_LASTS_ALREADY = ('"absence"', '"dwell"', '"left"')


def channel_of(scene: Scene, knob: Knob) -> str:
    """Name the channel of a scene with a setting."""
    return f"{scene.name}-{KNOBS.index(knob)}"


def site() -> str:
    """Write the file of channels: each scene with each setting."""
    return "\n".join(_channel(scene, knob) for scene in SCENES for knob in KNOBS)


def _channel(scene: Scene, knob: Knob) -> str:
    parts = [f'[[channels]]\nname = "{channel_of(scene, knob)}"']
    parts += [f"[channels.tracking]\n{knob.tracking}"] if knob.tracking else []
    parts.append(knob.shapes.get(scene.name, scene.shapes))
    for rule in scene.rules:
        bears = not any(word in rule.text for word in _LASTS_ALREADY)
        parts.append(f'[[channels.rules]]\nname = "{rule.name}"\n{rule.text}\n{knob.rule if bears else ""}')
    return "\n".join(parts) + "\n"
