"""Keep the packets that await their answer, and give the answers in presentation order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_server.data.outcome import SkipReason
from vedette_server.decode.base import Decoded

if TYPE_CHECKING:
    from vedette_server.data.packet import Packet
    from vedette_server.decode.base import Picture

MAX_PICTURES_LATER = 17
"""A picture that so many others have overtaken never comes: no codec holds back more than 16."""
MAX_PACKETS_LATER = 48
"""A packet that gave nothing while so many came after it gives nothing at all."""


@dataclass(slots=True, eq=False)
class Pending:
    """A packet that has no answer yet; travels through the decoder, as FFmpeg's opaque field of packet and frame.

    Attributes:
        packet: The packet; None once it is answered, so that a held picture does not hold its bytes.
        index: Its place in decoding order.
        place: Its place in presentation order: its PTS; without one, that of the packet before it.
        other_field: The packet with the first field of the frame of which this is the second.
        answer: The answer without a picture, once it is known.
        shown_before: How many pictures had come out when it was fed.
        decode_s: Seconds spent decoding it.
    """

    packet: Packet | None
    index: int
    place: int
    shown_before: int
    other_field: Pending | None = None
    answer: Decoded | None = None
    decode_s: float = 0.0


class AnswerQueue:
    """Orders the answers of one decoder.

    Pictures leave in the order in which the decoder shows them. An answer without a picture waits for
    its place among them: until a picture that is shown later comes out, or until none that is shown
    earlier can come any more, as the times of decoding tell (a picture is never shown before it is
    decoded), or, without those, the decoder's depth of reordering. A packet that never shows a picture
    is answered NO_FRAME after 17 later pictures or 48 later packets.
    """

    def __init__(self) -> None:
        self._pending: list[Pending] = []
        self._added = 0
        self._shown = 0
        self._place = 0
        self._timed = False
        self._newest_dts: int | None = None

    def add(self, packet: Packet) -> Pending:
        """Take in the next packet in decoding order."""
        if packet.pts is not None:
            self._place, self._timed = packet.pts, True
        elif not self._timed:
            self._place = self._added
        pending = Pending(packet, self._added, self._place, self._shown)
        self._added += 1
        if packet.dts is not None:
            self._newest_dts = packet.dts
        self._pending.append(pending)
        return pending

    def pair(self, second: Pending) -> None:
        """Take a packet for the second field of the frame that the packet before it began."""
        first = next((p for p in self._pending if p.index == second.index - 1), None)
        second.other_field = first

    def resolve(self, pending: Pending, reason: SkipReason, detail: str) -> None:
        """Answer a packet without a picture; the first answer stands."""
        if pending.packet is not None and pending.answer is None:
            pending.answer = Decoded(pending.packet, None, pending.packet.pts, reason, detail)

    def show(self, pending: Pending, picture: Picture) -> list[Decoded]:
        """Answer a packet with its picture, after the answers that come before it.

        A packet that has its answer keeps it: the picture is closed.
        """
        if pending.packet is None or pending.answer is not None:
            picture.close()
            return []
        self._shown += 1
        for other in self._pending:
            if other.other_field is pending or other is pending.other_field:
                self.resolve(other, SkipReason.NO_FRAME, "the other field of a frame that another packet shows")
        earlier = [p for p in self._pending if p.answer is not None and _is_before(p, pending)]
        answers = self._give(earlier)
        answers.append(Decoded(pending.packet, picture, pending.packet.pts, decode_s=pending.decode_s))
        self._pending.remove(pending)
        pending.packet = None
        return answers

    def settle(self, reorder_depth: int) -> list[Decoded]:
        """Give the answers whose place is certain now.

        Args:
            reorder_depth: How many packets the decoder holds back to sort them.
        """
        if not self._pending:
            return []
        for pending in self._pending:
            if pending.answer is None and self._is_overdue(pending):
                self.resolve(pending, SkipReason.NO_FRAME, "no picture came of it")
        waiting = [p for p in self._pending if p.answer is None]
        ready = [
            p
            for p in self._pending
            if p.answer is not None
            and self._nothing_earlier_follows(p, reorder_depth)
            and not any(_is_before(w, p) for w in waiting)
        ]
        return self._give(ready)

    def give_up(self, reason: SkipReason, detail: str, but: Pending | None = None) -> None:
        """Answer without a picture whatever has no answer yet: what would give it one is lost.

        Args:
            reason: Why there is none.
            detail: In words.
            but: A packet that keeps waiting.
        """
        for pending in self._pending:
            if pending is not but:
                self.resolve(pending, reason, detail)

    def finish(self) -> list[Decoded]:
        """Answer everything that is left."""
        for pending in self._pending:
            self.resolve(pending, SkipReason.NO_FRAME, "no picture came of it before the stream ended")
        return self._give(list(self._pending))

    def _give(self, chosen: list[Pending]) -> list[Decoded]:
        if not chosen:
            return []
        chosen.sort(key=_place)
        answers: list[Decoded] = []
        for pending in chosen:
            if pending.answer is not None:
                pending.answer.decode_s = pending.decode_s
                answers.append(pending.answer)
            pending.packet = None
            self._pending.remove(pending)
        return answers

    def _is_overdue(self, pending: Pending) -> bool:
        return (
            self._shown - pending.shown_before >= MAX_PICTURES_LATER or self._added - pending.index > MAX_PACKETS_LATER
        )

    def _nothing_earlier_follows(self, pending: Pending, reorder_depth: int) -> bool:
        later = self._added - 1 - pending.index
        if later >= MAX_PICTURES_LATER:
            return True
        pts = None if pending.packet is None else pending.packet.pts
        if pts is not None and self._newest_dts is not None:
            return self._newest_dts >= pts
        return later >= reorder_depth


def _is_before(one: Pending, other: Pending) -> bool:
    """Whether a packet's picture is shown before another's."""
    return _place(one) < _place(other)


def _place(pending: Pending) -> tuple[int, int]:
    return pending.place, pending.index
