"""One source from its first call to its end: call, hand its packets on, call again when it was lost.

A recording that breaks off half-way, as one behind HTTP may, is opened again and goes on where it was: its packets are
counted. At its end it has finished, or begins again.

Runs on the channel's own thread, and ends soon after it is interrupted: at the latest when the read that is on has had
its timeout.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

from vedette_server.data.config import DeliveryPolicy
from vedette_server.errors import RefusedError, VedetteError
from vedette_server.pull.address import check_url
from vedette_server.pull.backoff import Backoff
from vedette_server.pull.delivery import Delivery
from vedette_server.pull.errors import SourceError
from vedette_server.pull.secrets import shown_url
from vedette_server.pull.source import Source
from vedette_server.pull.status import PullState, PullStatus
from vedette_server.pull.timeline import Pacer

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from vedette_server.data.channel import SourceConfig
    from vedette_server.data.packet import Packet
    from vedette_server.pull.desk import Desk
    from vedette_server.pull.options import PullOptions

_log = logging.getLogger(__name__)

# Engines may be slow with what a recording left behind; one that is to be called differently does not wait so long.
_FINISH_S = 300.0
_END_S = 10.0
# A recording that gives nothing new in so many tries in a row will not get better.
_FRUITLESS = 3


class Pull:
    """Calls one source until it is interrupted, or the recording has ended.

    Args:
        name: The channel's bare name.
        source: What to call, and how it is analysed.
        desk: Where sessions come from.
        options: Timeouts and limits.
        interrupted: Set when it is to end.
        tell: Takes note of where it stands.

    Attributes:
        delivery: Delivers to the channel's session.
    """

    def __init__(
        self,
        name: str,
        source: SourceConfig,
        desk: Desk,
        options: PullOptions,
        interrupted: threading.Event,
        tell: Callable[[PullStatus], None],
    ) -> None:
        self.delivery = Delivery(name, source.stream, desk, options)
        self._name = name
        self._source = source
        self._options = options
        self._interrupted = interrupted
        self._tell = tell
        self._backoff = Backoff(options.first_wait_s, options.longest_wait_s, options.good_stretch_s)
        self._live = source.stream.policy is DeliveryPolicy.LIVE
        # Of this try: when packets began, and the schedule of those that are paced; monotonic seconds.
        self._began_s: float | None = None
        self._pacer: Pacer | None = None
        # Of a recording: which it is, packets sent of this round, the last keyframe among them, and tries without any.
        self._extent: tuple[int | None, int] | None = None
        self._sent = self._keyframe = self._fruitless = 0

    def run(self) -> None:
        """Pull until interrupted, or to the recording's end."""
        detail = ""
        try:
            while not self._interrupted.is_set():
                self._tell(PullStatus(PullState.CONNECTING, detail))
                finished, detail = self._try()
                if finished or self._fruitless >= _FRUITLESS:
                    self._finish()
                    self._tell(PullStatus(PullState.FINISHED, detail))
                    return
                if not self._interrupted.is_set():
                    self._wait(detail)
        finally:
            self.delivery.end(_END_S)

    def _finish(self) -> None:
        """Let the session judge what it holds."""
        line = self.delivery.line
        if line is not None:
            line.finish()
            line.wait_until_over(_FINISH_S, self._interrupted)
        self.delivery.end(_END_S)

    def _wait(self, detail: str) -> None:
        self.delivery.lose()
        stretch_s = 0.0 if self._began_s is None else time.monotonic() - self._began_s
        wait_s = self._backoff.wait_s(stretch_s)
        _log.info("channel %s: %s: %s; next try in %.1f s", self._name, shown_url(self._source.url), detail, wait_s)
        self._tell(PullStatus(PullState.WAITING, detail))
        self._interrupted.wait(wait_s)

    def _try(self) -> tuple[bool, str]:
        """Pull until it ends; return whether a recording is at its end, and else why it failed, in words."""
        self._began_s = self._pacer = None
        try:
            while not self._interrupted.is_set():
                if self._round():
                    return True, ""
        except RefusedError as error:
            return False, f"{error.message} ({error.reason})"
        except VedetteError as error:
            return False, str(error)
        except Exception as error:  # noqa: BLE001 - see below
            # One camera must not take its channel's thread along: it is called again like any that failed.
            _log.exception("channel %s: pulling failed", self._name)
            return False, f"unforeseen {type(error).__name__}"
        return False, ""

    def _round(self) -> bool:
        """Open the source and hand on what it gives; return whether a recording is at its end for good.

        Raises:
            SourceError: The camera is gone.
            RefusedError: The session has ended, or there can be none.
        """
        address = check_url(self._source.url, self._options.folders)
        self.delivery.prepare()
        with contextlib.closing(Source(address, self._options, prefer_tcp=self._source.prefer_tcp)) as source:
            if self._interrupted.is_set():
                return False
            skipped = self._join(source)
            for number, packet in enumerate(source.packets()):
                if self._interrupted.is_set():
                    return False
                if number >= skipped and not self._hand_on(packet):
                    return False
                self._count(number, packet)
            if self._interrupted.is_set():
                return False
            if not source.ends:
                raise SourceError("the camera sent nothing" if self._began_s is None else "the camera hung up")
            return self._round_over()

    def _join(self, source: Source) -> int:
        """Have a session; return how many packets of a recording to leave out, since they were sent."""
        same = source.ends and self._sent > 0 and source.extent == self._extent
        self._extent = source.extent
        restored = self.delivery.join(source.format, recorded=source.ends, exact=same)
        if source.ends:
            self._fruitless += 1
        if not same:
            self._sent = self._keyframe = 0
        elif not restored:
            self._sent = self._keyframe
        if self._live and (source.ends or source.bursts) and (self._pacer is None or not restored):
            self._pacer = Pacer(self.delivery.time_base, source.fps)
        return self._sent

    def _hand_on(self, packet: Packet) -> bool:
        """Hand a packet on when it is due; False: interrupted before."""
        self.delivery.place(packet)
        if self._pacer is not None and self._interrupted.wait(self._pacer.wait_s(packet, time.monotonic())):
            return False
        if not self.delivery.send(packet, self._interrupted):
            return False
        if self._began_s is None:
            self._began_s = time.monotonic()
            self._tell(PullStatus(PullState.STREAMING))
        return True

    def _count(self, number: int, packet: Packet) -> None:
        if number >= self._sent:
            self._fruitless = 0
            self._sent = number + 1
        if packet.keyframe:
            self._keyframe = number

    def _round_over(self) -> bool:
        """Begin a recording again, if that is wanted; return whether it is not.

        Raises:
            SourceError: There was nothing in it.
        """
        if self._sent == 0:
            raise SourceError("there is no picture in it")
        self._sent = self._keyframe = 0
        return not self._source.loop
