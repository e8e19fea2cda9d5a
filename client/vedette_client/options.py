"""What a caller may choose: of the analysis, of the connection, of its repair."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from google.protobuf import duration_pb2, field_mask_pb2

from vedette.v1 import media_pb2, stream_pb2
from vedette_client.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    from vedette_client.sources.base import SourceFormat

Polygon = tuple[tuple[float, float], ...]

_CHANNEL = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Policy(IntEnum):
    """What happens to a frame that finds the server busy."""

    LIVE = 1
    """The newest picture wins; older ones are skipped, never queued."""
    EVERY_FRAME = 2
    """Nothing is skipped; the sender is slowed."""


class AnalyzeFields(TypedDict, total=False):
    """The fields of `AnalyzeOptions` as keyword arguments."""

    engines: Sequence[str]
    policy: Policy
    max_fps: float | None
    max_age_s: float | None
    min_score: float | None
    iou: float | None
    classes: Sequence[str]
    regions: Sequence[Polygon]
    priority: int | None
    omit_skips: bool
    max_detections: int | None
    takeover: bool


@dataclass(frozen=True, slots=True)
class AnalyzeOptions:
    """What is wanted of one channel; None leaves the choice to the server or the engine.

    Attributes:
        engines: The engines to run on every frame, `name` or `name@version`.
        policy: What happens when the server is busy.
        max_fps: At most so many analysed frames per second.
        max_age_s: A live frame older than this is skipped as STALE.
        min_score: Lowest score of a reported detection, 0..1.
        iou: Boxes of one class that overlap by more than this are one, 0..1.
        classes: Labels to report; empty: all.
        regions: Polygons, normalised to the upright picture, outside which nothing is reported.
        priority: Weight among the channels that wait, 1..100.
        omit_skips: Skipped packets get no verdict of their own; they are counted in the account.
        max_detections: At most so many detections per engine and frame, 1..1000.
        takeover: End a stream that holds the channel now.
    """

    engines: Sequence[str] = ("person",)
    policy: Policy = Policy.LIVE
    max_fps: float | None = None
    max_age_s: float | None = None
    min_score: float | None = None
    iou: float | None = None
    classes: Sequence[str] = ()
    regions: Sequence[Polygon] = ()
    priority: int | None = None
    omit_skips: bool = False
    max_detections: int | None = None
    takeover: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.engines, str) or not self.engines:
            raise OptionsError(f"engines is {self.engines!r}; a list of one to eight names is wanted")
        _check_range("max_fps", self.max_fps, above=0.0)
        _check_range("max_age_s", self.max_age_s, above=0.0)
        _check_range("min_score", self.min_score, most=1.0)
        _check_range("iou", self.iou, most=1.0)
        _check_range("priority", self.priority, least=1, most=100)
        _check_range("max_detections", self.max_detections, least=1, most=1000)

    def to_update(self, names: Sequence[str]) -> stream_pb2.UpdateConfig:
        """Write the change of these fields in mid-stream."""
        paths = ["max_age" if name == "max_age_s" else name for name in names]
        update = stream_pb2.UpdateConfig(config=self._settings(), update_mask=field_mask_pb2.FieldMask(paths=paths))
        for field, _ in update.config.ListFields():
            if field.name not in paths:
                update.config.ClearField(field.name)  # type: ignore[arg-type]
        return update

    def to_wire(self, channel: str, video: SourceFormat) -> stream_pb2.StreamConfig:
        """Write the stream's first message, without `resume`.

        Raises:
            OptionsError: The channel's name is not allowed.
        """
        config = self._settings()
        config.channel = channel_name(channel)
        config.format.CopyFrom(format_to_wire(video))
        config.capture_clock = media_pb2.CaptureClock.ValueType(video.capture_clock)
        config.engines.extend(_engine_ref(name) for name in self.engines)
        config.takeover = self.takeover
        return config

    def _settings(self) -> stream_pb2.StreamConfig:
        """Write what can be changed in mid-stream."""
        config = stream_pb2.StreamConfig(
            policy=stream_pb2.DeliveryPolicy.ValueType(self.policy),
            max_fps=self.max_fps,
            min_score=self.min_score,
            iou=self.iou,
            classes=self.classes,
            regions=[_region(vertices) for vertices in self.regions],
            priority=self.priority,
            omit_skips=self.omit_skips,
            max_detections=self.max_detections,
        )
        if self.max_age_s is not None:
            config.max_age.CopyFrom(_duration(self.max_age_s))
        return config


UPDATABLE = frozenset(field.name for field in fields(AnalyzeOptions)) - {"engines", "takeover"}


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How to trust the server, and how to be known to it.

    Attributes:
        ca: PEM file of the authorities to trust; None: those that gRPC brings along.
        certificate: PEM file of the client's certificate chain, for mutual TLS.
        key: PEM file of its private key.
        server_name: The name to expect in the server's certificate instead of the address's.
    """

    ca: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise OptionsError("a client certificate and its key go together: give both or neither")

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Read the files: authorities, key, certificate.

        Raises:
            OptionsError: One of them cannot be read.
        """
        return _read(self.ca), _read(self.key), _read(self.certificate)


@dataclass(frozen=True, slots=True)
class ReconnectOptions:
    """How a lost connection is repaired.

    Attributes:
        initial_s: Wait before the first attempt, doubled after each.
        max_s: No wait is longer.
        jitter: Share of each wait that is drawn at random, 0..1.
        give_up_s: The stream ends when it made no progress for so long; 0: never reconnect.
        connect_s: How long a connection may take; the very first one with its retries.
        accept_s: How long the answer may take on a connection that stands: the server may have to load an engine.
    """

    initial_s: float = 0.1
    max_s: float = 5.0
    jitter: float = 0.5
    give_up_s: float = 120.0
    connect_s: float = 10.0
    accept_s: float = 60.0


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What one stream may hold in memory, and how it bundles.

    Attributes:
        keep_packets: Sent packets kept for a resume, in number.
        keep_bytes: Sent packets kept for a resume, in bytes.
        wait_packets: Packets that wait to be sent; beyond, EVERY_FRAME waits and LIVE drops.
        wait_bytes: The same in bytes.
        wait_s: A live packet does not wait longer than this to be sent.
        bundle_packets: Packets in one message, when several are ready.
        bundle_bytes: Bytes of packets in one message, when several are ready.
        queued_verdicts: Verdicts that the caller has not taken; beyond, reading pauses.
        ack_every: Verdicts after which an acknowledgement is sent.
        ack_s: No verdict waits longer for its acknowledgement.
    """

    keep_packets: int = 4096
    keep_bytes: int = 128 << 20
    wait_packets: int = 64
    wait_bytes: int = 16 << 20
    wait_s: float = 1.0
    bundle_packets: int = 32
    bundle_bytes: int = 256 << 10
    queued_verdicts: int = 4096
    ack_every: int = 32
    ack_s: float = 0.2

    def __post_init__(self) -> None:
        for field in fields(self):
            if (value := getattr(self, field.name)) <= 0:
                raise OptionsError(f"{field.name} is {value}; above 0 is wanted")


def channel_name(channel: str) -> str:
    """Make the resource name `channels/NAME` of a bare name; a resource name stays as it is.

    Raises:
        OptionsError: The name is not allowed.
    """
    bare = channel.removeprefix("channels/")
    if not _CHANNEL.fullmatch(bare):
        raise OptionsError(f"channel is {channel!r}; 1 to 128 of A-Z a-z 0-9 . _ - are allowed")
    return f"channels/{bare}"


def format_to_wire(video: SourceFormat) -> media_pb2.VideoFormat:
    """Write a source's format as the contract has it."""
    wire = media_pb2.VideoFormat(
        codec=media_pb2.Codec.ValueType(video.codec),
        extradata=video.extradata,
        time_base=_rational(video.time_base),
        width=video.width,
        height=video.height,
        pixel_format=media_pb2.PixelFormat.ValueType(video.pixel_format),
        strides_bytes=video.strides_bytes,
        rotation_degrees=video.rotation_degrees,
        color_space=media_pb2.ColorSpace.ValueType(video.color_space),
        color_range=media_pb2.ColorRange.ValueType(video.color_range),
    )
    if video.sample_aspect not in {0, 1}:
        wire.sample_aspect.CopyFrom(_rational(video.sample_aspect))
    return wire


def _check_range(
    name: str,
    value: float | None,
    *,
    above: float | None = None,
    least: float | None = 0.0,
    most: float | None = None,
) -> None:
    if value is None:
        return
    too_low = value <= above if above is not None else least is not None and value < least
    if too_low or (most is not None and value > most) or not math.isfinite(value):
        low = f"above {above:g}" if above is not None else f"at least {least:g}"
        high = f" and at most {most:g}" if most is not None else "" if math.isfinite(value) else " and finite"
        raise OptionsError(f"{name} is {value:g}; {low}{high} is wanted")


def _engine_ref(text: str) -> stream_pb2.EngineRef:
    name, _, version = text.partition("@")
    return stream_pb2.EngineRef(name=name, version=version)


def _region(vertices: Polygon) -> stream_pb2.RegionOfInterest:
    return stream_pb2.RegionOfInterest(vertices=[media_pb2.Point(x=x, y=y) for x, y in vertices])


def _rational(value: Fraction) -> media_pb2.Rational:
    return media_pb2.Rational(num=value.numerator, den=value.denominator)


def _duration(seconds: float) -> duration_pb2.Duration:
    nanos = round(seconds * 1e9)
    return duration_pb2.Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)


def _read(path: Path | str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise OptionsError(f"{path} cannot be read: {error.strerror}") from error
