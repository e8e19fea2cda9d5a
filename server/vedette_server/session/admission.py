"""Decide which of a decoder's answers go on to the engines, and settle the rest.

Pure code: the session's lock is held around every call.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from vedette_server.data.outcome import SkipReason
from vedette_server.frame import Frame
from vedette_server.session.judging import answer_verdict
from vedette_server.session.rate import RateLimiter

if TYPE_CHECKING:
    from vedette_server.data.config import ChannelConfig
    from vedette_server.data.packet import Packet
    from vedette_server.decode.base import Decoded
    from vedette_server.frame import Channel
    from vedette_server.session.books import Books


# Pictures over which the shortest way through the decoder is looked for: more than any group of B frames.
_REMEMBERED_LAGS = 32


class Admission:
    """Gives answers their places in presentation order, within the channel's `max_fps`.

    Args:
        books: The session's books.
        config: The configuration in effect.
    """

    def __init__(self, books: Books, config: ChannelConfig) -> None:
        self._books = books
        self._rate = RateLimiter(config.max_fps)
        # A float: exact to the microsecond for centuries, and thirty times as quick as a fraction.
        self._time_base = float(config.format.time_base)
        self._newest = 0
        self._lags: deque[int] = deque(maxlen=_REMEMBERED_LAGS)

    def fed(self, packet: Packet) -> None:
        """Take note of the packet that the decoder was given last."""
        self._newest = packet.sequence

    def set_max_fps(self, max_fps: float | None) -> None:
        """Change the limit."""
        self._rate.set(max_fps)

    def admit(self, channel: Channel, answer: Decoded, now: float, refuse: SkipReason | None) -> Frame | None:
        """Return the frame of an answer, or settle the answer.

        Args:
            channel: The session.
            answer: What the decoder said to one packet.
            now: Monotonic seconds.
            refuse: Why no picture goes on; None: they do.
        """
        packet, picture = answer.packet, answer.picture
        packet.data = b""
        if picture is not None:
            self._books.account.decode_picture()
        if packet.decode_only:
            if picture is not None:
                picture.close()
            return None
        place = self._books.open()
        reason = answer.reason or refuse
        if reason is None and picture is not None and not self._rate.admit(self._time_of(answer)):
            reason = SkipReason.RATE_LIMIT
        if reason is not None or picture is None:
            self._books.settle(place, answer_verdict(answer, reason or SkipReason.NO_FRAME))
            return None
        frame = Frame(
            channel=channel,
            place=place,
            packet=packet,
            picture=picture,
            pts=answer.pts,
            width=picture.width,
            height=picture.height,
            rotation_degrees=picture.rotation_degrees,
            offered_s=now,
            young=self._is_young(packet),
        )
        frame.times.receive_s = packet.taken_s - packet.received_s
        frame.times.decode_s = answer.decode_s
        return frame

    def _is_young(self, packet: Packet) -> bool:
        """Tell whether a picture came out of the decoder as soon as pictures of its stream do."""
        self._lags.append(self._newest - packet.sequence)
        return self._lags[-1] <= min(self._lags)

    def _time_of(self, answer: Decoded) -> float:
        """Seconds on the channel's own time line: presentation time, else receipt."""
        if answer.pts is None:
            return answer.packet.received_s
        return answer.pts * self._time_base
