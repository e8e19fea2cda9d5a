"""The seam between what is believed of a stream (`video.py`) and what turns its packets into pictures.

There are two behind it: FFmpeg on the CPU (`software.py`), and a GPU's decoder (`nvdec_backend.py`). Neither judges;
each carries a packet's `Pending` to its picture and says what it noticed.

Threads: that of the decoder it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_server.data.format import VideoFormat
    from vedette_server.decode.answers import Pending
    from vedette_server.decode.base import Picture
    from vedette_server.decode.bitstream.unit import AccessUnit


class BackendLostError(Exception):
    """A backend is of no use any more; what it held is lost.

    Args:
        why: In words.
        began: It had decoded something: later packets miss their references.
    """

    def __init__(self, why: str, *, began: bool) -> None:
        super().__init__(why)
        self.began = began


@dataclass(slots=True)
class Shown:
    """A picture that came out.

    Attributes:
        pending: The packet that it answers.
        picture: It.
        width: Its width in pixels, as coded.
        height: Its height in pixels, as coded.
        corrupt: The decoder itself calls it broken.
    """

    pending: Pending
    picture: Picture
    width: int
    height: int
    corrupt: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Where decoding begins, for whoever chooses a backend.

    Attributes:
        fmt: The stream's coding.
        extradata: Its decoder configuration now.
        data: The packet, with the parameter sets that came before it in front where the codec has none of its own.
        parameters: The parameter sets in the stream itself, oldest first, framed as packets are.
        unit: The packet's headers.
        reorders: The packet's times say that its picture is shown later than it is decoded: others come before it.
    """

    fmt: VideoFormat
    extradata: bytes
    data: bytes
    parameters: Sequence[bytes]
    unit: AccessUnit
    reorders: bool = False


class Backend(Protocol):
    """Decodes the packets of one stream."""

    @property
    def reorder_depth(self) -> int:
        """How many packets it holds back to sort their pictures."""
        ...

    @property
    def prompt(self) -> bool:
        """Whether a packet of a codec that never reorders gives its picture at once, or none."""
        ...

    @property
    def forgetful(self) -> bool:
        """Whether it forgets parameter sets when it is drained."""
        ...

    def suits(self, unit: AccessUnit) -> bool:
        """Tell whether it can go on with a packet that has all its references; if not, it is drained and left."""
        ...

    def feed(self, data: bytes, pending: Pending | None) -> tuple[list[Shown], str]:
        """Decode one packet.

        Args:
            data: Its bytes; without `pending`, parameter sets for what follows.
            pending: Comes back with its picture.

        Returns:
            The pictures that came out, in presentation order, and in words what went wrong.

        Raises:
            BackendLostError: It cannot go on.
        """
        ...

    def drain(self) -> list[Shown]:
        """Take out the pictures that are held back, and forget all references.

        Raises:
            BackendLostError: It cannot go on.
        """
        ...

    def renew(self) -> None:
        """Begin anew after damage, as if nothing had been fed."""

    def close(self) -> None:
        """Let go of everything; may be called twice. Pictures that were shown live on."""


class Chooser(Protocol):
    """Chooses what decodes a stream; one for each stream."""

    def choose(self, current: Backend, start: Start) -> Backend:
        """Choose where decoding begins anew; the current one is drained. Never raises.

        Returns:
            The current one, or another, new one.
        """
        ...

    def lost(self, backend: Backend, why: str, start: Start | None) -> Backend:
        """Replace a backend that was lost, and is closed. Never raises.

        Args:
            backend: It.
            why: In words.
            start: The packet at which it was to begin and did not; None: it was lost in mid-stream.
        """
        ...

    def close(self) -> None:
        """Tell that the stream is over; may be called twice."""
