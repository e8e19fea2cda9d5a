"""Take a stream's configuration apart into plain data, and put it together again.

A configuration is checked here, once, so that nobody behind has to; every refusal has a stable reason
and a message that names the field, its value and what is allowed. Pure functions, callable from any
thread; `rpc/convert.py` hands them on.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from vedette.v1 import media_pb2, stream_pb2
from vedette_server.data.config import ChannelConfig, DeliveryPolicy, EngineRef, Polygon
from vedette_server.data.format import Codec, ColorRange, ColorSpace, PixelFormat, VideoFormat
from vedette_server.errors import InvalidError, PictureTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from enum import IntEnum

    from google.protobuf.duration_pb2 import Duration

_CHANNEL = re.compile(r"channels/([A-Za-z0-9._-]{1,128})")
_NAME = re.compile(r"[A-Za-z0-9._+-]{1,128}")
_MAX_EXTRADATA_BYTES = 64 * 1024
_MAX_CLASSES = 4096
_MAX_LABEL_CHARS = 256
_MAX_REGIONS = 256
_MAX_REGION_NAME_CHARS = 256
# As long as the server's own default may be, `channels.max_age_s`.
_MAX_AGE_S = 86_400
_NS = 1_000_000_000

_E = TypeVar("_E", bound="IntEnum")


@dataclass(frozen=True, slots=True)
class ConfigDefaults:
    """What the server fills in or bounds where a configuration is silent.

    Attributes:
        max_age_s: Age above which a live frame is stale.
        max_width: Widest picture, pixels.
        max_height: Highest picture, pixels.
    """

    max_age_s: float = 2.0
    max_width: int = 8192
    max_height: int = 8192


def channel_from_wire(name: str) -> str:
    """Take the bare name out of `channels/{channel}`.

    Raises:
        InvalidError: INVALID_CHANNEL.
    """
    match = _CHANNEL.fullmatch(name)
    if match is None:
        _refuse("INVALID_CHANNEL", "channel", name, "channels/ and then 1 to 128 of A-Z a-z 0-9 . _ -")
    return match[1]


def config_from_wire(config: stream_pb2.StreamConfig, defaults: ConfigDefaults) -> ChannelConfig:
    """Check a configuration and take it apart.

    Raises:
        InvalidError: A field is not allowed to be what it is.
        PictureTooLargeError: The picture is over the server's limit.
    """
    optional = {attribute: read(config, defaults) for attribute, read in _UPDATABLE.values()}
    return ChannelConfig(
        channel=channel_from_wire(config.channel),
        format=_format(config.format, defaults),
        engines=_engines(config.engines),
        capture_clock=_capture_clock(config.capture_clock),
        **optional,
    )


def apply_update(current: ChannelConfig, update: stream_pb2.UpdateConfig, defaults: ConfigDefaults) -> ChannelConfig:
    """Take the masked fields of an update into a configuration; an absent field gets its default.

    Raises:
        InvalidError: The mask is empty or names what cannot change, or a new value is not allowed.
    """
    if not update.update_mask.paths:
        _refuse("INVALID_UPDATE_MASK", "update_mask", "", "one or more of " + ", ".join(_UPDATABLE))
    changes: dict[str, Any] = {}
    for path in update.update_mask.paths:
        if path not in _UPDATABLE:
            _refuse("INVALID_UPDATE_MASK", "update_mask", path, ", ".join(_UPDATABLE))
        attribute, read = _UPDATABLE[path]
        changes[attribute] = read(update.config, defaults)
    return dataclasses.replace(current, **changes)


def config_to_wire(config: ChannelConfig) -> stream_pb2.StreamConfig:
    """Put a configuration together, every default filled in."""
    wire = stream_pb2.StreamConfig(
        channel=f"channels/{config.channel}",
        engines=[stream_pb2.EngineRef(name=engine.name, version=engine.version) for engine in config.engines],
        classes=config.classes,
        priority=config.priority,
        omit_skips=config.omit_skips,
        max_detections=config.max_detections,
        max_fps=config.max_fps,
        min_score=config.min_score,
        iou=config.iou,
    )
    wire.policy = stream_pb2.DeliveryPolicy.ValueType(config.policy)
    wire.capture_clock = media_pb2.CaptureClock.ValueType(config.capture_clock)
    _format_to_wire(config.format, wire.format)
    set_duration(wire.max_age, config.max_age_s)
    for polygon in config.regions:
        vertices = wire.regions.add().vertices
        for x, y in polygon:
            vertices.add(x=x, y=y)
    return wire


def set_duration(wire: Duration, seconds: float) -> None:
    """Set a google.protobuf.Duration in place, to the nanosecond."""
    wire.seconds, wire.nanos = divmod(round(seconds * _NS), _NS)


def check_extradata(extradata: bytes) -> None:
    """Refuse a decoder configuration that is over the contract's limit.

    Raises:
        InvalidError: EXTRADATA_TOO_LARGE.
    """
    if len(extradata) > _MAX_EXTRADATA_BYTES:
        allowed = f"at most {_MAX_EXTRADATA_BYTES} bytes"
        _refuse("EXTRADATA_TOO_LARGE", "extradata", f"{len(extradata)} bytes", allowed)


def _refuse(reason: str, field: str, value: object, allowed: str) -> NoReturn:
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    raise InvalidError(reason, f"{field} is {shown}; allowed: {allowed}", field=field)


def _member(kind: type[_E], number: int, reason: str, field: str) -> _E:
    try:
        return kind(number)
    except ValueError:
        _refuse(reason, field, number, ", ".join(f"{member.name} ({member.value})" for member in kind))


def _engines(refs: Sequence[stream_pb2.EngineRef]) -> tuple[EngineRef, ...]:
    if not 1 <= len(refs) <= 8:
        _refuse("INVALID_ENGINES", "engines", len(refs), "1 to 8 engines")
    seen: set[str] = set()
    for ref in refs:
        if not _NAME.fullmatch(ref.name):
            _refuse("INVALID_ENGINES", "engines.name", ref.name, "1 to 128 of A-Z a-z 0-9 . _ + -")
        if ref.version and not _NAME.fullmatch(ref.version):
            _refuse("INVALID_ENGINES", "engines.version", ref.version, "empty, or 1 to 128 of A-Z a-z 0-9 . _ + -")
        if ref.name in seen:
            _refuse("INVALID_ENGINES", "engines.name", ref.name, "each name once")
        seen.add(ref.name)
    return tuple(EngineRef(ref.name, ref.version) for ref in refs)


def _capture_clock(number: int) -> int:
    if number not in media_pb2.CaptureClock.values():
        allowed = ", ".join(f"{name} ({value})" for name, value in media_pb2.CaptureClock.items())
        _refuse("INVALID_CAPTURE_CLOCK", "capture_clock", number, allowed)
    return number


# -- what the packets contain --


def _format(wire: media_pb2.VideoFormat, defaults: ConfigDefaults) -> VideoFormat:
    if not wire.codec:
        _refuse("UNKNOWN_CODEC", "format.codec", 0, ", ".join(codec.name for codec in Codec))
    codec = _member(Codec, wire.codec, "UNKNOWN_CODEC", "format.codec")
    check_extradata(wire.extradata)
    _check_size(wire, defaults)
    if wire.rotation_degrees not in {0, 90, 180, 270}:
        _refuse("INVALID_ROTATION", "format.rotation_degrees", wire.rotation_degrees, "0, 90, 180, 270")
    is_raw = codec is Codec.RAW
    return VideoFormat(
        codec=codec,
        extradata=wire.extradata,
        time_base=_fraction(wire, "time_base", Fraction(1, 90_000)),
        width=wire.width,
        height=wire.height,
        pixel_format=_pixel_format(wire) if is_raw else None,
        strides_bytes=tuple(wire.strides_bytes) if is_raw else (),
        rotation_degrees=wire.rotation_degrees,
        sample_aspect=_fraction(wire, "sample_aspect", Fraction(1)),
        color_space=_member(ColorSpace, wire.color_space, "INVALID_COLOR_SPACE", "format.color_space"),
        color_range=_member(ColorRange, wire.color_range, "INVALID_COLOR_RANGE", "format.color_range"),
    )


def _check_size(wire: media_pb2.VideoFormat, defaults: ConfigDefaults) -> None:
    for field, size, limit in (("width", wire.width, defaults.max_width), ("height", wire.height, defaults.max_height)):
        if size > limit:
            raise PictureTooLargeError(
                "PICTURE_TOO_LARGE",
                f"format.{field} is {size}; allowed: at most {limit} pixels",
                field=f"format.{field}",
            )


def _fraction(wire: media_pb2.VideoFormat, field: str, default: Fraction) -> Fraction:
    if not wire.HasField(field):  # type: ignore[arg-type]  # one of two names, both fields
        return default
    value: media_pb2.Rational = getattr(wire, field)
    if value.num <= 0 or value.den <= 0:
        shown = f"{value.num}/{value.den}"
        _refuse(f"INVALID_{field.upper()}", f"format.{field}", shown, "numerator and denominator above 0")
    return Fraction(value.num, value.den)


def _pixel_format(wire: media_pb2.VideoFormat) -> PixelFormat:
    """Check what a raw picture needs beyond a coded one: size, layout and strides."""
    for field, size in (("width", wire.width), ("height", wire.height)):
        if not size:
            _refuse("INVALID_RAW_FORMAT", f"format.{field}", 0, "above 0 for CODEC_RAW")
    pixel_format = _member(PixelFormat, wire.pixel_format, "INVALID_RAW_FORMAT", "format.pixel_format")
    rows = _row_bytes(pixel_format, wire.width)
    strides = wire.strides_bytes
    if strides and len(strides) != len(rows):
        allowed = f"none, or one for each of the {len(rows)} planes of {pixel_format.name}"
        _refuse("INVALID_STRIDES", "format.strides_bytes", list(strides), allowed)
    for stride, row in zip(strides, rows, strict=False):
        if stride < row:
            allowed = f"at least {', '.join(map(str, rows))} for {pixel_format.name} of width {wire.width}"
            _refuse("INVALID_STRIDES", "format.strides_bytes", list(strides), allowed)
    return pixel_format


def _row_bytes(pixel_format: PixelFormat, width: int) -> tuple[int, ...]:
    """Tell the bytes of one packed row, plane by plane."""
    half = (width + 1) // 2
    return {
        PixelFormat.BGR24: (3 * width,),
        PixelFormat.RGB24: (3 * width,),
        PixelFormat.GRAY8: (width,),
        PixelFormat.NV12: (width, 2 * half),
        PixelFormat.I420: (width, half, half),
    }[pixel_format]


def _format_to_wire(video: VideoFormat, wire: media_pb2.VideoFormat) -> None:
    wire.codec = media_pb2.Codec.ValueType(video.codec)
    wire.extradata = video.extradata
    wire.time_base.num, wire.time_base.den = video.time_base.as_integer_ratio()
    wire.width, wire.height = video.width, video.height
    wire.pixel_format = media_pb2.PixelFormat.ValueType(video.pixel_format or 0)
    wire.strides_bytes.extend(video.strides_bytes)
    wire.rotation_degrees = video.rotation_degrees
    wire.sample_aspect.num, wire.sample_aspect.den = video.sample_aspect.as_integer_ratio()
    wire.color_space = media_pb2.ColorSpace.ValueType(video.color_space)
    wire.color_range = media_pb2.ColorRange.ValueType(video.color_range)


# -- what may change in mid-stream --


def _policy(config: stream_pb2.StreamConfig, _: ConfigDefaults) -> DeliveryPolicy:
    return _member(DeliveryPolicy, config.policy or DeliveryPolicy.LIVE, "INVALID_POLICY", "policy")


def _max_fps(config: stream_pb2.StreamConfig, _: ConfigDefaults) -> float | None:
    if not config.HasField("max_fps"):
        return None
    if not (math.isfinite(config.max_fps) and config.max_fps > 0):
        _refuse("INVALID_MAX_FPS", "max_fps", config.max_fps, "above 0 and finite, or absent for no limit")
    return config.max_fps


def _max_age_s(config: stream_pb2.StreamConfig, defaults: ConfigDefaults) -> float:
    if not config.HasField("max_age"):
        return defaults.max_age_s
    seconds, nanos = config.max_age.seconds, config.max_age.nanos
    if not 0 <= seconds <= _MAX_AGE_S or not 0 <= nanos < _NS or not (seconds or nanos):
        allowed = f"above 0 s and below {_MAX_AGE_S + 1} s, or absent for the default"
        _refuse("INVALID_MAX_AGE", "max_age", f"{seconds} s and {nanos} ns", allowed)
    return (seconds * _NS + nanos) / _NS  # one rounding: 2.119 s stays 2.119


def _share(field: str) -> Callable[[stream_pb2.StreamConfig, ConfigDefaults], float | None]:
    """Make the reader of an optional field of 0..1."""

    def read(config: stream_pb2.StreamConfig, _: ConfigDefaults) -> float | None:
        if not config.HasField(field):  # type: ignore[arg-type]  # min_score or iou
            return None
        value: float = getattr(config, field)
        if not 0.0 <= value <= 1.0:
            _refuse(f"INVALID_{field.upper()}", field, value, "0 to 1, or absent for the engine's default")
        return value

    return read


def _count(field: str, default: int, highest: int) -> Callable[[stream_pb2.StreamConfig, ConfigDefaults], int]:
    """Make the reader of an optional field of 1..highest."""

    def read(config: stream_pb2.StreamConfig, _: ConfigDefaults) -> int:
        if not config.HasField(field):  # type: ignore[arg-type]  # priority or max_detections
            return default
        value: int = getattr(config, field)
        if not 1 <= value <= highest:
            _refuse(f"INVALID_{field.upper()}", field, value, f"1 to {highest}, or absent for {default}")
        return value

    return read


def _classes(config: stream_pb2.StreamConfig, _: ConfigDefaults) -> tuple[str, ...]:
    if len(config.classes) > _MAX_CLASSES:
        _refuse("INVALID_CLASSES", "classes", f"{len(config.classes)} labels", f"at most {_MAX_CLASSES}")
    for label in config.classes:
        if not 1 <= len(label) <= _MAX_LABEL_CHARS:
            _refuse("INVALID_CLASSES", "classes", label, f"labels of 1 to {_MAX_LABEL_CHARS} characters")
    return tuple(dict.fromkeys(config.classes))


def _regions(config: stream_pb2.StreamConfig, _: ConfigDefaults) -> tuple[Polygon, ...]:
    if len(config.regions) > _MAX_REGIONS:
        _refuse("INVALID_REGIONS", "regions", f"{len(config.regions)} regions", f"at most {_MAX_REGIONS}")
    polygons = []
    for region in config.regions:
        if len(region.name) > _MAX_REGION_NAME_CHARS:
            allowed = f"at most {_MAX_REGION_NAME_CHARS} characters"
            _refuse("INVALID_REGIONS", "regions.name", f"{len(region.name)} characters", allowed)
        polygon = tuple((point.x, point.y) for point in region.vertices)
        if not 3 <= len(polygon) <= 64:
            _refuse("INVALID_REGIONS", "regions.vertices", f"{len(polygon)} corners", "3 to 64 corners")
        for x, y in polygon:
            if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
                _refuse("INVALID_REGIONS", "regions.vertices", (x, y), "x and y from 0 to 1")
        polygons.append(polygon)
    return tuple(polygons)


def _omit_skips(config: stream_pb2.StreamConfig, _: ConfigDefaults) -> bool:
    return config.omit_skips


# Path in an update mask: attribute of ChannelConfig, and what reads and checks it.
_UPDATABLE: dict[str, tuple[str, Callable[[stream_pb2.StreamConfig, ConfigDefaults], Any]]] = {
    "max_fps": ("max_fps", _max_fps),
    "max_age": ("max_age_s", _max_age_s),
    "min_score": ("min_score", _share("min_score")),
    "iou": ("iou", _share("iou")),
    "classes": ("classes", _classes),
    "regions": ("regions", _regions),
    "priority": ("priority", _count("priority", 10, 100)),
    "omit_skips": ("omit_skips", _omit_skips),
    "max_detections": ("max_detections", _count("max_detections", 300, 1000)),
    "policy": ("policy", _policy),
}
