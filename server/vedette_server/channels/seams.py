"""What the service of channels needs of the parts that run them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path


class Snapshots(Protocol):
    """Takes pictures of channels. Any thread; may block."""

    def take(self, channel: str, annotated: bool, max_width: int) -> tuple[bytes, float]:
        """Give the latest picture, masked where the channel says so.

        Args:
            channel: The bare name.
            annotated: With boxes, zones and lines drawn in.
            max_width: Widest picture, in pixels; 0: as it came.

        Returns:
            A JPEG, and when it was taken, seconds since the epoch.

        Raises:
            NotFoundError: There is none.
            UnavailableError: There is none yet, or it cannot be made now.
        """
        ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """A file of a recording.

    Attributes:
        path: The file, there while the context is open.
        size_bytes: Its length.
        sha256: Of it, 64 hexadecimal digits.
        transcoded: It is not the file that is kept.
        start_s: When its first picture was taken, seconds since the epoch.
        seek_s: Where in it the keyframe stands from which the time is shown, seconds from its start.
    """

    path: Path
    size_bytes: int
    sha256: str
    transcoded: bool
    start_s: float
    seek_s: float


class Recordings(Protocol):
    """Finds what was recorded. Any thread; may block, and long where it has to transcode."""

    def seek(
        self, channel: str, time_s: float, playable: bool, is_wanted: Callable[[], bool]
    ) -> AbstractContextManager[Recorded]:
        """Give the file that shows a time, or the next one behind it.

        Args:
            channel: The bare name.
            time_s: Seconds since the epoch.
            playable: What browsers play: transcoded where the camera sends something else.
            is_wanted: Tells whether somebody still waits for it; once False, transcoding may stop.

        Raises:
            NotFoundError: Nothing was recorded then or later.
            EvidenceError: It cannot be read or transcoded.
        """
        ...
