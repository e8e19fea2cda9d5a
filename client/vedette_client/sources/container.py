"""A recorded video as a camera: a file, or a recording behind an HTTP URL."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING

from vedette_client.errors import SourceError
from vedette_client.sources.clock import Clock
from vedette_client.sources.demux import Demuxer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vedette_client.sources.base import SourceFormat, SourcePacket


class ContainerSource:
    """A recording, sent packet by packet as it is.

    Args:
        url: Path or URL.
        pace: Packets are due by the recording's clock; False: as fast as they are taken.
        loop: Begin again at the end; time goes on.
        fps: So many packets per second, whatever the recording's clock says; None: by its clock.
        opener: Opens the container; a demuxer that is open already serves the first round.
    """

    live = False

    def __init__(
        self,
        url: str,
        *,
        pace: bool = True,
        loop: bool = False,
        fps: float | None = None,
        opener: Callable[[], Demuxer] | None = None,
    ) -> None:
        self.name = url
        self._pace = pace
        self._loop = loop
        self._fps = fps
        self._opener = opener or (lambda: Demuxer(url))
        self._demuxer: Demuxer | None = None
        self._closed = threading.Event()

    def open(self) -> SourceFormat:
        """Open the recording.

        Raises:
            SourceError: It cannot be opened as video that the server takes.
        """
        self._demuxer = self._opener()
        return self._demuxer.format

    def packets(self) -> Iterator[SourcePacket]:
        """Walk through the recording, once or for ever.

        Raises:
            SourceError: It was not opened, or reading failed half-way.
        """
        demuxer = self._demuxer
        if demuxer is None:
            raise SourceError(f"{self.name}: packets were asked for before it was opened")
        form = demuxer.format
        clock = Clock(form.time_base, form.fps, self._fps)
        extradata = form.extradata
        while demuxer is not None:
            given = 0
            for packet in _from_keyframe(demuxer.packets(), clock.rounds > 0):
                told = dataclasses.replace(packet)
                if given == 0 and clock.rounds > 0:
                    # The decoder ends where the last round ended: it must begin anew, with what the header says.
                    told.discontinuity = True
                    told.extradata = packet.extradata or (form.extradata if extradata != form.extradata else None)
                extradata = told.extradata or extradata
                given += 1
                yield clock.stamp(told, self._pace)
            demuxer.close()
            demuxer = self._begin_again(given)
            clock.begin_round()

    def close(self) -> None:
        """Let go of the file; may be called twice and from another thread."""
        self._closed.set()
        if self._demuxer is not None:
            self._demuxer.close()

    def _begin_again(self, given: int) -> Demuxer | None:
        """Open the recording once more, if it is to be looped and there was anything in it; else None."""
        if not self._loop or self._closed.is_set() or given == 0:
            return None
        self._demuxer = self._opener()
        if self._closed.is_set():  # meanwhile, by another thread that saw the old one
            self._demuxer.close()
            return None
        return self._demuxer


def _from_keyframe(packets: Iterator[SourcePacket], wait: bool) -> Iterator[SourcePacket]:
    """Leave out what comes before the first keyframe, if asked to; all of it stays when there is none."""
    held: list[SourcePacket] = []
    for packet in packets:
        if wait and not packet.keyframe:
            held.append(packet)
            continue
        if wait:
            wait = False
            held.clear()
        yield packet
    yield from held
