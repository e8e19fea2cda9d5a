"""Read `synthetic:KIND?option=value&...` and say which options there are."""

from __future__ import annotations

from dataclasses import dataclass, fields
from urllib.parse import parse_qsl

from vedette_client.errors import SourceError

KINDS = ("walkers", "blobs")
CODECS = ("h264", "hevc", "mpeg4", "vp9", "jpeg", "png", "raw")
PIXEL_FORMATS = ("bgr24", "rgb24", "gray8", "nv12", "i420")


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """A synthetic scene and how it is encoded; equal ones share their encoded pictures.

    Attributes:
        kind: What is to be seen.
        seed: Chooses one of the scenes of this kind.
        width: Pixels, even.
        height: Pixels, even.
        fps: Frames per second.
        count: How many objects.
        period_s: Seconds after which everything repeats without a seam.
        codec: How the pictures are coded.
        pixel_format: Layout of raw pictures.
        gop: At most so many frames from one keyframe to the next.
        bframes: At most so many B frames in a row.
        quality: 1 (worst) to 100 (best).
        seconds: How long it lasts; None: for ever.
    """

    kind: str
    seed: int = 0
    width: int = 640
    height: int = 360
    fps: float = 15.0
    count: int = 4
    period_s: float = 10.0
    codec: str = "h264"
    pixel_format: str = "bgr24"
    gop: int = 30
    bframes: int = 0
    quality: int = 60
    seconds: float | None = None

    @property
    def period_frames(self) -> int:
        """How many frames until everything repeats."""
        return max(1, round(self.period_s * self.fps))


# What may be said of each option: its type, and the lowest and highest value or the choices.
_NUMBERS: dict[str, tuple[type[int] | type[float], float, float]] = {
    "seed": (int, 0, 2**31 - 1),
    "width": (int, 64, 7680),
    "height": (int, 64, 4320),
    "fps": (float, 0.1, 240),
    "count": (int, 0, 24),
    "period_s": (float, 0.5, 60),
    "gop": (int, 1, 600),
    "bframes": (int, 0, 8),
    "quality": (int, 1, 100),
    "seconds": (float, 0.01, 1e9),
}
_CHOICES = {"codec": CODECS, "pixel_format": PIXEL_FORMATS}


def parse_scene(text: str, *, fps: float | None = None, seed: int | None = None) -> SceneSpec:
    """Read what follows `synthetic:`.

    Args:
        text: `KIND` or `KIND?option=value&...`.
        fps: Used where the text does not say.
        seed: Used where the text does not say.

    Raises:
        SourceError: An unknown kind or option, or a value that is not allowed.
    """
    kind, _, query = text.partition("?")
    if kind not in KINDS:
        raise SourceError(f"synthetic scene {kind!r} is unknown; there are {', '.join(KINDS)}")
    values: dict[str, int | float | str] = {}
    if fps is not None:
        values["fps"] = _number("fps", str(fps))
    if seed is not None:
        values["seed"] = _number("seed", str(seed))
    for key, value in parse_qsl(query, keep_blank_values=True):
        values[key] = _value(key, value)
    values.setdefault("count", 4 if kind == "blobs" else 3)
    for side in ("width", "height"):
        if int(values.get(side, 2)) % 2:
            raise SourceError(f"synthetic scene: {side}={values[side]} is not even")
    return SceneSpec(kind=kind, **values)  # type: ignore[arg-type]  # each was checked by its name


def _value(key: str, value: str) -> int | float | str:
    if key in _NUMBERS:
        return _number(key, value)
    if key not in _CHOICES:
        known = ", ".join(field.name for field in fields(SceneSpec) if field.name != "kind")
        raise SourceError(f"synthetic scene: option {key!r} is unknown; there are {known}")
    if value not in _CHOICES[key]:
        raise SourceError(f"synthetic scene: {key}={value!r} is not one of {', '.join(_CHOICES[key])}")
    return value


def _number(key: str, value: str) -> int | float:
    kind, low, high = _NUMBERS[key]
    try:
        number = kind(value)
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        what = "a whole number" if kind is int else "a number"
        raise SourceError(f"synthetic scene: {key}={value!r} is not {what} from {low:g} to {high:g}")
    return number
