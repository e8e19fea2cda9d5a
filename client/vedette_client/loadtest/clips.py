"""What the cameras of a load test show: packets loaded once and shared by all who show the same."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from vedette_client.errors import OptionsError, SourceError
from vedette_client.scene.spec import parse_scene
from vedette_client.sources import SourceFormat, SourcePacket, open_source

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LoadClip:
    """A recording or one period of a scene, shown again and again at another rate.

    Attributes:
        form: What the packets contain; its ticks are stretched so that frames come at the wanted rate.
        packets: In decoding order, from a keyframe on.
        span: Ticks from one round to the next.
        seamless: The first packet continues the last one.
    """

    form: SourceFormat
    packets: tuple[SourcePacket, ...]
    span: int
    seamless: bool

    def packet(self, number: int, truth: object) -> SourcePacket:
        """Build the packet of that number, counted over all rounds.

        Args:
            number: From 0.
            truth: What is to travel with it.
        """
        turn, index = divmod(number, len(self.packets))
        packet, shift = self.packets[index], turn * self.span
        restarts = index == 0 and turn > 0 and not self.seamless
        return SourcePacket(
            data=packet.data,
            pts=None if packet.pts is None else packet.pts + shift,
            dts=None if packet.dts is None else packet.dts + shift,
            duration=packet.duration,
            keyframe=packet.keyframe,
            extradata=packet.extradata or (self.form.extradata or None if restarts else None),
            discontinuity=packet.discontinuity or restarts,
            truth=truth,
        )


def load_clip(spec: str, fps: float) -> LoadClip:
    """Load a source.

    Args:
        spec: A recording, stills, or a scene; scenes that do not say their rate are drawn for `fps`.
        fps: Frames per second at which it will be shown.

    Raises:
        OptionsError: There is no such source, or it is a live one.
        SourceError: It cannot be read.
    """
    if spec.startswith("synthetic:"):
        return _load_scene(spec, fps)
    try:
        source = open_source(spec, pace=False)
    except SourceError as error:
        raise OptionsError(str(error)) from error
    try:
        form = source.open()
        if source.live:
            raise OptionsError(
                f"{source.name}: live sources cannot be shown many times; a recording or a scene is wanted"
            )
        packets = _within_bounds(itertools.dropwhile(lambda one: not one.keyframe, source.packets()))
    finally:
        source.close()
    if not packets:
        raise SourceError(f"{source.name}: there is no keyframe to start at")
    return _at_rate(form, packets, fps, seamless=False)


def _load_scene(spec: str, fps: float) -> LoadClip:
    """Load one period of a scene, or all of one that ends earlier."""
    try:
        scene = parse_scene(spec.removeprefix("synthetic:"), fps=fps)
        source = open_source(spec, pace=False, fps=fps)
    except SourceError as error:
        raise OptionsError(str(error)) from error
    form = source.open()
    packets = _within_bounds(itertools.islice(source.packets(), scene.period_frames))
    source.close()
    return _at_rate(form, packets, fps, seamless=len(packets) == scene.period_frames)


def _within_bounds(packets: Iterable[SourcePacket]) -> list[SourcePacket]:
    """Take packets until they are too many bytes to keep."""
    taken: list[SourcePacket] = []
    size = 0
    for packet in packets:
        size += len(packet.data)
        if taken and size > _MAX_BYTES:
            break
        taken.append(replace(packet, due_s=None, capture_time_ns=None))
    return taken


def _at_rate(form: SourceFormat, packets: list[SourcePacket], fps: float, *, seamless: bool) -> LoadClip:
    """Give the clip another rate by stretching its ticks: so timestamps stay whole and in order."""
    times = [packet.pts for packet in packets if packet.pts is not None]
    count = len(packets)
    if len(times) > 1:
        span = round(Fraction(max(times) - min(times), len(times) - 1) * count)
    else:
        span = count * max(1, packets[0].duration or 1)
    tick = Fraction(count, max(1, span)) / Fraction(fps).limit_denominator(1001)
    stretched = replace(form, time_base=tick.limit_denominator(1_000_000), fps=fps, capture_clock=0)
    return LoadClip(stretched, tuple(packets), max(1, span), seamless)
