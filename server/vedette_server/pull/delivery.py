"""Deliver a camera's packets to its session, over breaks and from one session to the next.

A camera that comes back finds its session: its tracks live on, and the first packet says that something is missing.
Where the session is lost, or cannot go on with what comes now (another codec), a new one begins. Times are those of
the session's first connection, whatever a camera's clock does when it starts again.

Capture times: a camera's packets are stamped as they arrive. A recording's picture times count from the moment at which
its session began, so that rules see the recording's time however fast it is read.

Runs on the channel's own thread.
"""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from vedette_server.data.config import ChannelConfig
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.pull.describing import continues
from vedette_server.pull.timeline import TimeLine

if TYPE_CHECKING:
    import threading

    from vedette_server.data.channel import SourceStream
    from vedette_server.data.packet import Packet
    from vedette_server.pull.desk import Desk
    from vedette_server.pull.line import Line
    from vedette_server.pull.options import PullOptions

# The contract's CaptureClock.
_CLOCK_CLIENT, _CLOCK_FILE = 2, 3
# A channel that changes waits no longer for what its last session still holds.
_END_S = 10.0
_NO_TICKS = Fraction(1, 90_000)


class Delivery:
    """Delivers to one channel.

    Args:
        name: The channel's bare name.
        stream: How it is analysed.
        desk: Where sessions come from.
        options: Limits.

    Attributes:
        line: The connection to the session; None before the first, and between two.
    """

    def __init__(self, name: str, stream: SourceStream, desk: Desk, options: PullOptions) -> None:
        self.line: Line | None = None
        self._name = name
        self._stream = stream
        self._desk = desk
        self._options = options
        self._form: VideoFormat | None = None
        self._times = TimeLine(_NO_TICKS)
        self._recorded = False
        # Of a recording: wall time, nanoseconds, and ticks of its first picture.
        self._zero: tuple[int, int] | None = None
        self._latest_s: float | None = None
        # What the next packet has to tell.
        self._extradata: bytes | None = None
        self._broken = False
        self._left_out = 0

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick of what was placed."""
        return self._times.time_base

    def prepare(self) -> None:
        """Load the engines before the camera is called: it would be kept waiting.

        Raises:
            RefusedError: There is no such engine.
            EngineError: One cannot be loaded.
        """
        if self.line is None:
            # What the packets will be is not known yet, and does not matter here.
            self._desk.prepare(self._config(VideoFormat(Codec.H264), recorded=False))

    def join(self, form: VideoFormat, *, recorded: bool, exact: bool) -> bool:
        """Have a session for packets of this format; return whether it is the one there was.

        Args:
            form: Their format.
            recorded: They are a recording's.
            exact: They go on precisely where the last ones stopped.

        Raises:
            RefusedError: The channel is taken, or the server cannot do what is wanted.
            EngineError: An engine cannot be loaded.
        """
        if self._stream.rotation_degrees:
            form = replace(form, rotation_degrees=self._stream.rotation_degrees)
        if not self._restore(form):
            self._begin(form, recorded=recorded)
            return False
        if not exact:
            gap_s = 0.0 if recorded or self._latest_s is None else time.monotonic() - self._latest_s
            self._times.join(form.time_base, gap_s)
            self._broken = True
            self._extradata = form.extradata or None
        return True

    def place(self, packet: Packet) -> None:
        """Give a packet its times in the session."""
        self._times.place(packet)

    def send(self, packet: Packet, interrupted: threading.Event) -> bool:
        """Hand a packet on that was placed, once there is room for it; False: interrupted before.

        Raises:
            RefusedError: The session has ended, or bears no more.
        """
        line = self.line
        if line is None:
            raise RuntimeError("a packet was sent before a session was joined")
        size = len(packet.data)
        if size > self._options.max_packet_bytes:
            self._left_out += 1
            self._broken = True
            return True
        if not line.wait_for_room(size, interrupted):
            return False
        packet.capture_wall_ns = self._capture_ns(packet)
        packet.discontinuity |= self._broken
        packet.extradata = packet.extradata or self._extradata
        line.send(packet, self._left_out)
        self._broken, self._extradata, self._left_out = False, None, 0
        self._latest_s = time.monotonic()
        return True

    def lose(self) -> None:
        """Hang up: the camera is gone, its session is kept for a while."""
        if self.line is not None:
            self.line.leave()

    def end(self, timeout_s: float) -> None:
        """Say that this was all, wait until it is judged, and hang up."""
        line = self.line
        if line is None:
            return
        line.finish()
        # A session that was hung up on tells nobody: it comes to its end alone.
        if not line.left:
            line.wait_until_over(timeout_s)
            line.leave()
        self.line = None

    def _restore(self, form: VideoFormat) -> bool:
        """Go on with the session there is, if it can go on with what comes."""
        line = self.line
        if line is None or self._form is None:
            return False
        if line.over or not continues(self._form, form):
            self.end(_END_S)
            return False
        if line.left:
            self.line = self._desk.resume(line)
        return self.line is not None

    def _begin(self, form: VideoFormat, *, recorded: bool) -> None:
        self.line = self._desk.begin(self._config(form, recorded=recorded))
        self._form = form
        self._times = TimeLine(form.time_base)
        self._recorded = recorded
        self._zero = self._extradata = None
        self._broken = False

    def _config(self, form: VideoFormat, *, recorded: bool) -> ChannelConfig:
        stream = self._stream
        config = ChannelConfig(
            channel=self._name,
            format=form,
            engines=stream.engines,
            policy=stream.policy,
            max_fps=stream.max_fps,
            max_age_s=self._options.max_age_s if stream.max_age_s is None else stream.max_age_s,
            min_score=stream.min_score,
            iou=stream.iou,
            classes=stream.classes,
            regions=stream.regions,
            priority=stream.priority,
            # Nobody reads them one by one; they are counted all the same.
            omit_skips=True,
            capture_clock=_CLOCK_FILE if recorded else _CLOCK_CLIENT,
        )
        return config if stream.max_detections is None else replace(config, max_detections=stream.max_detections)

    def _capture_ns(self, packet: Packet) -> int:
        now_ns = time.time_ns()
        ticks = packet.pts if packet.pts is not None else packet.dts
        if not self._recorded or ticks is None:
            return now_ns
        if self._zero is None:
            self._zero = now_ns, ticks
        zero_ns, zero = self._zero
        return zero_ns + round((ticks - zero) * self._times.time_base * 1_000_000_000)
