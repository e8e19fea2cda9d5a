"""Give the file of a recording that shows a time; see `channels.seams.Recordings`."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from vedette_server.channels.seams import Recorded
from vedette_server.errors import NotFoundError
from vedette_server.evidence.showing import check_shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vedette_server.data.rules import WatchConfig
    from vedette_server.evidence.playable import Transcoder
    from vedette_server.evidence.recording import RecordingIndex, Segment
    from vedette_server.evidence.store import EvidenceStore


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RecordedFiles:
    """Finds what was recorded.

    Args:
        files: Where it lies.
        transcoder: Makes it playable.
        index_of: Gives a channel's index; None: the channel is not known.
        watch_of: Tells what is wanted of a channel now, and so what may be shown of it; None: it is not known.
    """

    def __init__(
        self,
        files: EvidenceStore,
        transcoder: Transcoder,
        index_of: Callable[[str], RecordingIndex | None],
        watch_of: Callable[[str], WatchConfig | None],
    ) -> None:
        self._files = files
        self._transcoder = transcoder
        self._index_of = index_of
        self._watch_of = watch_of

    @contextmanager
    def seek(self, channel: str, time_s: float, playable: bool, is_wanted: Callable[[], bool]) -> Iterator[Recorded]:
        """Give the file that shows a time, or the next one behind it.

        Raises:
            NotFoundError: Nothing was recorded then or later, or what was may not be shown any more.
            EvidenceError: It cannot be read or transcoded.
        """
        index = self._index_of(channel)
        found = None if index is None else index.seek(time_s)
        if found is None:
            message = f"nothing of channel {channel} was recorded at {_when(time_s)} or later"
            raise NotFoundError("NOT_RECORDED", message, channel=channel)
        segment, seek_s = found
        what = f"the recording of channel {channel} at {segment.first_s:.3f}"
        check_shown(what, channel, segment.policy, self._watch_of(channel))
        if not playable:
            yield self._kept(segment, seek_s)
            return
        with self._transcoder.playable(segment.path, is_wanted) as made:
            yield Recorded(made.path, made.size_bytes, made.sha256, made.transcoded, segment.first_s, seek_s)

    def _kept(self, segment: Segment, seek_s: float) -> Recorded:
        path = self._files.find(segment.path)
        return Recorded(path, segment.size_bytes, segment.sha256, False, segment.first_s, seek_s)


def _when(time_s: float) -> str:
    try:
        return f"{_EPOCH + timedelta(seconds=time_s):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:  # beyond the years that a calendar has
        return f"{time_s:.0f} s"
