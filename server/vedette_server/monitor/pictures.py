"""The latest picture of a channel, for who asks for one; see `channels.seams.Snapshots`."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from vedette_server.errors import EvidenceError, NotFoundError, UnavailableError
from vedette_server.evidence.drawing import Drawing, Labelled
from vedette_server.evidence.picturing import PictureFinder
from vedette_server.evidence.snapshot import take_snapshot

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vedette_server.decode.limits import PictureLimits
    from vedette_server.evidence.collecting import Collector
    from vedette_server.evidence.ring import PacketRing
    from vedette_server.monitor.channel import ChannelMonitor
    from vedette_server.monitor.monitors import Monitors

# As it came, but what a JPEG can hold.
_WIDEST = 65_500


class LatestPictures:
    """Takes pictures out of channels' rings. Any thread; takes as long as decoding a group of pictures does.

    Args:
        monitors: The channels that are known.
        limits: The largest picture.
    """

    def __init__(self, monitors: Monitors, limits: PictureLimits) -> None:
        self._monitors = monitors
        self._limits = limits

    def take(self, channel: str, annotated: bool, max_width: int) -> tuple[bytes, float]:
        """Give the latest picture; annotated, the latest that was analysed.

        Raises:
            NotFoundError: The channel was never made, or is deleted: nothing is held of it.
            UnavailableError: There is no picture yet, none may be shown, or it cannot be decoded.
        """
        monitor = self._monitors.get(channel)
        if monitor is None:
            message = f"channel {channel} was never made, or is deleted: no picture is held of it"
            raise NotFoundError("CHANNEL_NOT_FOUND", message, channel=channel)
        collector = monitor.collector
        if collector is None or not collector.keeps:
            raise UnavailableError("NO_PICTURE", f"no picture may be shown of channel {channel}", channel=channel)
        try:
            return self._take(monitor, collector, annotated, max_width)
        except EvidenceError as error:
            raise UnavailableError("NO_PICTURE", f"channel {channel}: {error}", channel=channel) from error

    def _take(
        self, monitor: ChannelMonitor, collector: Collector, annotated: bool, max_width: int
    ) -> tuple[bytes, float]:
        ring, watch = collector.ring, monitor.record.watch
        seen = monitor.seen if annotated else None
        chosen = collector.choose(None if seen is None else seen[0])
        if chosen is None:
            raise EvidenceError("no picture came yet")
        boxes: tuple[Labelled, ...] = ()
        if seen is not None and chosen.wanted:
            boxes = tuple(Labelled(track.box, f"{track.label} {track.score:.2f}") for track in seen[1] if track.seen)
        pixels, time_s = self._decode(ring, chosen.index)
        drawing = Drawing(boxes, watch.zones, watch.lines) if annotated else None
        jpeg = take_snapshot(pixels, chosen.allowed[1], drawing, max_width=max_width or _WIDEST).jpeg
        if collector.allowed != chosen.allowed:
            raise EvidenceError("what may be shown was changed just now")
        return jpeg, time_s

    def _decode(self, ring: PacketRing, index: int) -> tuple[NDArray[np.uint8], float]:
        with closing(PictureFinder(ring, index, self._limits)) as finder:
            while (pixels := finder.step()) is None:
                pass
            return pixels, finder.time_s
