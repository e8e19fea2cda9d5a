"""Get one picture of a channel out of its ring, by decoding from the keyframe before it.

So nothing is kept of the pictures that pass, and whoever wants one pays for it: a snapshot costs the decoding of one
group of pictures at most, at the evidence workers' low priority; of two for a picture that is shown before the
keyframe that it follows (an open group of pictures: it refers to the group before).

Threads: one at a time per picture; any.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING

from vedette_server.decode.opening import open_decoder
from vedette_server.errors import EvidenceError, RefusedError, UndecodableError
from vedette_server.evidence.pixels import upright_bgr
from vedette_server.picture.letterbox import SQUARE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vedette_server.decode.base import Decoded, Decoder
    from vedette_server.decode.limits import PictureLimits
    from vedette_server.evidence.ring import Kept, PacketRing

# B pictures hold back what they refer to: so many packets behind it may be needed. H.264 and HEVC reorder 16 at most.
_BEHIND = 17
_BATCH = 16


class PictureFinder:
    """Decodes up to one packet of a ring, a bounded number of packets at a time.

    Args:
        ring: The channel's packets.
        index: The packet, by the ring's own count.
        limits: The largest picture.

    Raises:
        EvidenceError: The ring does not hold it any more.
    """

    def __init__(self, ring: PacketRing, index: int, limits: PictureLimits) -> None:
        self._packets = self._needed(ring, index)
        self._index = index
        self._limits = limits
        self._decoder: Decoder | None = None
        self._wanted: int | None = None
        self._aspect = SQUARE
        self.time_s = 0.0

    def step(self) -> NDArray[np.uint8] | None:
        """Decode some more; return the picture, `uint8 [h, w, 3]` BGR, upright, the caller's, once it is there.

        Raises:
            EvidenceError: It cannot be decoded.
        """
        for _ in range(_BATCH):
            kept = next(self._packets, None)
            try:
                picture = self._take([] if kept is None else self._decode(kept), kept is None)
            except (RefusedError, UndecodableError) as error:
                raise EvidenceError(f"the picture cannot be decoded: {error}") from error
            if picture is not None:
                return picture
            if kept is None:
                raise EvidenceError("the picture cannot be decoded")
        return None

    def close(self) -> None:
        """Let go of the decoder; may be called twice."""
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            decoder.close()

    def _needed(self, ring: PacketRing, index: int) -> Iterator[Kept]:
        first = ring.keyframe_before(index)
        packets = ring.read(first, index - first + 1 + _BEHIND)
        wanted = next((kept for kept in packets if kept.index == index), None)
        if wanted is None or not packets[0].keyframe:
            raise EvidenceError("the picture is not held any more")
        # Parameters or a stream that change behind it are none of its.
        behind = packets[index - packets[0].index + 1 :]
        same = [kept for kept in packets if kept.index <= index]
        same += takewhile(lambda kept: kept.generation == wanted.generation and not kept.gap, behind)
        return iter([*self._led_by(ring, packets[0], wanted), *same])

    @staticmethod
    def _led_by(ring: PacketRing, key: Kept, wanted: Kept) -> list[Kept]:
        """Return the group of pictures before, where the wanted picture refers to it."""
        pts, key_pts = wanted.packet.pts, key.packet.pts
        if key.gap or pts is None or key_pts is None or pts >= key_pts:
            return []
        first = ring.keyframe_before(key.index - 1)
        before = [kept for kept in ring.read(first, key.index - first) if kept.index < key.index]
        return before if before and all(kept.generation == wanted.generation for kept in before) else []

    def _decode(self, kept: Kept) -> Sequence[Decoded]:
        packet = kept.packet
        if self._decoder is None:
            self._decoder = open_decoder(replace(kept.fmt, extradata=kept.extradata), self._limits)
            self._aspect = kept.fmt.sample_aspect
        if kept.index == self._index:
            self._wanted, self.time_s = packet.sequence, kept.time_s
        if kept.parameters:
            packet = replace(packet, data=kept.parameters + packet.data)
        return self._decoder.decode(packet)

    def _take(self, answers: Sequence[Decoded], at_end: bool) -> NDArray[np.uint8] | None:
        if at_end and self._decoder is not None:
            answers = self._decoder.flush()
        found = None
        try:
            for answer in answers:
                if answer.picture is not None and answer.packet.sequence == self._wanted:
                    found = upright_bgr(answer.picture, self._aspect)
        finally:
            for answer in answers:
                if answer.picture is not None:
                    answer.picture.close()
        return found
