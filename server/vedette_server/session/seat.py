"""Hold a channel's decoder, and see to it that every packet it is fed gets one answer.

A decoder promises to answer each packet once. If one breaks that promise, by a bug of ours or of a library,
its channel's account would never close: so this keeps what is owed, and answers it when the decoder is gone.

One worker at a time calls it; it holds no lock.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from vedette_server.data.outcome import SkipReason
from vedette_server.decode.base import Decoded
from vedette_server.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_server.data.packet import Packet
    from vedette_server.decode.base import Decoder
    from vedette_server.session.inbox import Taken
    from vedette_server.trace import ChannelTrace

_log = logging.getLogger(__name__)


class DecoderSeat:
    """The decoder of one channel, opened when it is first needed.

    Args:
        open_decoder: Builds a fresh one.
        trace: Records what is decoded when; None: nobody does.
    """

    def __init__(self, open_decoder: Callable[[], Decoder], trace: ChannelTrace | None = None) -> None:
        self._open = open_decoder
        self._trace = trace
        self._decoder: Decoder | None = None
        # Packets that were fed and have no answer yet, those to be decoded only left out.
        self._owed: dict[int, Packet] = {}

    def feed(self, taken: Taken, answers: list[Decoded]) -> None:
        """Have the decoder drop and decode what was taken out of the inbox; ``answers`` gets what it says.

        A decoder that fails in a way nobody foresaw is replaced: what it owed is UNDECODABLE, and the next
        one starts at the next keyframe.

        Raises:
            RefusedError: The channel must end. ``answers`` holds what was answered before.
        """
        for packet, reason in taken.shed:
            self._feed(packet, reason, answers)
        if taken.packet is not None:
            started = 0.0 if self._trace is None else time.monotonic()
            self._feed(taken.packet, None, answers)
            if self._trace is not None:
                self._trace.work("decode", taken.packet.sequence, started, time.monotonic())

    def vacate(self, answers: list[Decoded]) -> None:
        """Flush the decoder and let it go; afterwards nothing is owed."""
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            try:
                self._credit(decoder.flush(), answers)
            except Exception:  # noqa: BLE001 - it goes anyway; what it owes is answered below
                _log.exception("decoder failed at its end")
            decoder.close()
        if self._owed:
            self._answer_owed(answers, "the decoder gave no answer")

    def _feed(self, packet: Packet, reason: SkipReason | None, answers: list[Decoded]) -> None:
        if not packet.decode_only:
            self._owed[packet.sequence] = packet
        try:
            decoder = self._decoder = self._decoder or self._open()
            given = decoder.decode(packet) if reason is None else decoder.drop(packet, reason)
        except RefusedError:
            raise
        except Exception:  # noqa: BLE001 - whatever one camera's bytes do to a decoder costs that camera some frames
            _log.exception("decoder failed")
            broken, self._decoder = self._decoder, None
            if broken is not None:
                broken.close()
            self._answer_owed(answers, "the decoder failed")
        else:
            self._credit(given, answers)

    def _credit(self, given: Sequence[Decoded], answers: list[Decoded]) -> None:
        for answer in given:
            packet = answer.packet
            if packet.decode_only or self._owed.pop(packet.sequence, None) is not None:
                answers.append(answer)
                continue
            _log.error("decoder answered packet %d twice", packet.sequence)
            if answer.picture is not None:
                answer.picture.close()

    def _answer_owed(self, answers: list[Decoded], detail: str) -> None:
        owed, self._owed = self._owed, {}
        _log.error("decoder left %d packets without an answer", len(owed))
        answers += [Decoded(packet, reason=SkipReason.UNDECODABLE, detail=detail) for packet in owed.values()]
