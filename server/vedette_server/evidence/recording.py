"""Record a channel all the time, in segments, with an index to find a time in them.

The index stands beside the segments, one file per day, one line of JSON per segment: a line that a crash has cut short
is left out, and a segment without a line is read again. Of such a segment it is not known what was blackened in it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from bisect import bisect_right
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import av
from av.error import FFmpegError

from vedette_server.data.rules import EvidencePolicy
from vedette_server.errors import EvidenceError
from vedette_server.evidence.clip import open_sink
from vedette_server.evidence.disk import in_words
from vedette_server.evidence.remux import add_all, finish
from vedette_server.evidence.showing import kept_under
from vedette_server.evidence.store import day_of, safe_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from vedette_server.data.rules import Points
    from vedette_server.decode.limits import PictureLimits
    from vedette_server.evidence.remux import Sink
    from vedette_server.evidence.ring import Kept, PacketRing
    from vedette_server.evidence.store import Draft, EvidenceStore

_log = logging.getLogger(__name__)

INDEX_NAME = "recordings.jsonl"
PREFIX = "recording-"
_POLL_S = 0.5
_BATCH = 64
_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of a recording.

    Attributes:
        path: In the store.
        first_s: When its first picture was taken, seconds since the epoch.
        last_s: When its last one was.
        size_bytes: Its length.
        sha256: Of it, 64 hexadecimal digits.
        keyframes_s: When each of its keyframes was taken, ascending.
        policy: What was blackened in it, see `showing`; empty: not known.
    """

    path: str
    first_s: float
    last_s: float
    size_bytes: int
    sha256: str
    keyframes_s: tuple[float, ...]
    policy: str = ""


class RecordingIndex:
    """Finds times in the segments of one channel; any thread.

    Args:
        store: Where they are filed.
        channel: The channel's bare name.
    """

    def __init__(self, store: EvidenceStore, channel: str) -> None:
        self._store = store
        self._folder = store.root / safe_name(channel)
        self._lock = threading.Lock()
        self._segments = sorted(self._load(), key=lambda segment: segment.first_s)

    @property
    def segments(self) -> list[Segment]:
        """All that are kept, the oldest first."""
        with self._lock:
            return list(self._segments)

    def add(self, segment: Segment) -> None:
        """Write down a segment that was filed.

        Raises:
            EvidenceError: The index cannot be written; the segment is found again at the next start.
        """
        with self._lock:
            self._segments = [*(other for other in self._segments if other.path != segment.path), segment]
            self._segments.sort(key=lambda other: other.first_s)
        try:
            line = json.dumps(asdict(segment)).encode() + b"\n"
            self._store.disk.append(self._folder / day_of(segment.first_s) / INDEX_NAME, line)
        except OSError as error:
            raise EvidenceError(f"the index of a recording cannot be written: {in_words(error)}") from error

    def seek(self, time_s: float) -> tuple[Segment, float] | None:
        """Find the segment that shows a time, or the next one after it, and the keyframe to begin at.

        Returns:
            The segment, and how many seconds into it the keyframe at or before the time stands; None: nothing was
            recorded then or later.
        """
        with self._lock:
            position = bisect_right(self._segments, time_s, key=lambda segment: segment.first_s)
            if position and time_s <= self._segments[position - 1].last_s:
                position -= 1
            if position == len(self._segments):
                return None
            segment = self._segments[position]
        before = bisect_right(segment.keyframes_s, time_s)
        keyframe_s = segment.keyframes_s[max(before - 1, 0)] if segment.keyframes_s else segment.first_s
        return segment, max(keyframe_s - segment.first_s, 0.0)

    def forget(self, path: str) -> None:
        """Forget a segment whose file was removed; other paths are none of its."""
        with self._lock:
            self._segments = [segment for segment in self._segments if segment.path != path]
            day = path.split("/")[1] if path.count("/") == 2 else ""
            if not day or any(segment.path.split("/")[1] == day for segment in self._segments):
                return
        if any((self._folder / day).glob(f"{PREFIX}*.mp4")):
            # Of a channel that was made again: what its recorder from before has written down at last.
            return
        try:
            self._store.disk.remove(self._folder / day / INDEX_NAME)
        except OSError:
            # Its lines name files that are gone: they are left out when it is read.
            return

    def knows(self, path: str) -> bool:
        """Tell whether a file is one of its segments."""
        with self._lock:
            return any(segment.path == path for segment in self._segments)

    def _load(self) -> list[Segment]:
        found: dict[str, Segment] = {}
        for index in self._folder.glob(f"*/{INDEX_NAME}"):
            for line in index.read_bytes().splitlines():
                segment = _parse(line)
                if segment is not None and (self._store.root / segment.path).is_file():
                    found[segment.path] = segment
        for path in self._folder.glob(f"*/{PREFIX}*.mp4"):
            name = path.relative_to(self._store.root).as_posix()
            if name not in found and (segment := _reread(path, name)) is not None:
                found[name] = segment
        return list(found.values())


class Recorder:
    """Records one channel; a job of the `EvidenceWorkers`.

    Args:
        ring: The channel's packets.
        store: Where segments are filed.
        index: Where they are written down.
        channel: The channel's bare name.
        policy: What may be kept.
        hidden: What is blackened where the policy is MASKED.
        pictures: The largest picture.
        segment_s: A segment ends at the first keyframe after so long.
        max_gap_s: A channel that sends nothing for so long ends its segment.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        ring: PacketRing,
        store: EvidenceStore,
        index: RecordingIndex,
        channel: str,
        policy: EvidencePolicy,
        hidden: Sequence[Points],
        pictures: PictureLimits,
        segment_s: float = 60.0,
        max_gap_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring = ring
        self._store = store
        self._index = index
        self._channel = channel
        self._policy = policy
        self._hidden = tuple(hidden)
        self._pictures = pictures
        self._segment_s = segment_s
        self._max_gap_s = max_gap_s
        self._clock = clock
        self._next = ring.find_start(0.0, 0.0)
        self._sink: Sink | None = None
        self._draft: Draft | None = None
        self._held: list[Kept] = []
        self._first: Kept | None = None
        self._last_s = 0.0
        self._keyframes_s: list[float] = []
        self._came_s = clock()
        self._stopping = False
        self._cancelled = threading.Event()
        self.failures = 0

    def stop(self) -> None:
        """End the recording; the segment under way is completed. Any thread."""
        self._stopping = True

    def cancel(self) -> None:
        """End the recording, and keep nothing of the segment under way. Any thread."""
        self._stopping = True
        self._cancelled.set()

    def step(self) -> float | None:
        """Write the packets that came; a segment that fails is given up, the next keyframe begins another."""
        try:
            return self._step()
        except EvidenceError as error:
            # A full disk is tried again later.
            self._store.report(error)
        except Exception:  # noqa: BLE001 - whatever it is, the segments to come are not its fault
            _log.exception("a segment of a recording was given up")
        self.failures += 1
        self._give_up()
        return None if self._stopping or self._ring.closed else _RETRY_S

    def abort(self) -> None:
        """Complete the segment: the server stops."""
        if self._cancelled.is_set():
            self._give_up()
            return
        try:
            self._complete()
        except EvidenceError as error:
            self._store.report(error)
            self.failures += 1
            self._give_up()
        except Exception:  # noqa: BLE001 - the other clips are still to be completed
            _log.exception("a segment of a recording was given up")
            self._give_up()

    def _step(self) -> float | None:
        if self._cancelled.is_set():
            self._give_up()
            return None
        came = [kept for kept in self._ring.read(self._next, _BATCH) if kept.index >= self._next]
        if came:
            self._came_s = self._clock()
            for kept in came:
                self._take(kept)
            self._write()
            if len(came) == _BATCH:
                return 0.0
        over = self._stopping or self._ring.closed
        if over or self._clock() - self._came_s >= self._max_gap_s:
            self._complete()
        return None if over else _POLL_S

    def _take(self, kept: Kept) -> None:
        missing, self._next = kept.index > self._next, kept.index + 1
        first = self._first
        if first is not None and (missing or self._ends_before(kept, first)):
            self._complete()
        if self._first is None:
            if not kept.keyframe:
                return
            self._first = kept
        self._held.append(kept)
        self._last_s = max(self._last_s, kept.time_s)
        if kept.keyframe:
            self._keyframes_s.append(kept.time_s)

    def _ends_before(self, kept: Kept, first: Kept) -> bool:
        if kept.generation != first.generation:
            return True
        # A clock that was set back would put times into the index that cannot be found.
        back = kept.time_s < self._last_s - self._max_gap_s
        far = kept.time_s > self._last_s + self._max_gap_s
        return kept.keyframe and (kept.time_s - first.time_s >= self._segment_s or back or far)

    def _write(self) -> None:
        held, self._held = self._held, []
        first = self._first
        if not held or first is None:
            return
        if self._sink is None:
            name = f"{PREFIX}{round(first.time_s * 1000)}"
            self._draft = self._store.begin(self._channel, name, ".mp4", first.time_s)
            self._sink = open_sink(self._policy, self._draft.temporary, self._hidden, self._pictures)
        add_all(self._sink, held)

    def _complete(self) -> None:
        self._write()
        sink, draft, first = self._sink, self._draft, self._first
        if sink is None or draft is None or first is None:
            return
        finish(sink)
        if self._cancelled.is_set():
            self._give_up()
            return
        filed = self._store.commit(draft)
        if self._cancelled.is_set():
            # Meanwhile.
            self._reset()
            self._store.remove(filed.path)
            return
        segment = Segment(
            filed.path,
            first.time_s,
            self._last_s,
            filed.size_bytes,
            filed.sha256,
            tuple(sorted(self._keyframes_s)),
            kept_under(self._hidden if self._policy is EvidencePolicy.MASKED else ()),
        )
        self._reset()
        self._index.add(segment)

    def _give_up(self) -> None:
        if self._sink is not None:
            self._sink.close()
        if self._draft is not None:
            self._store.discard(self._draft)
        self._reset()

    def _reset(self) -> None:
        self._sink, self._draft, self._first = None, None, None
        self._held, self._keyframes_s, self._last_s = [], [], 0.0


def _parse(line: bytes) -> Segment | None:
    try:
        fields = json.loads(line)
        keyframes_s = tuple(float(at) for at in fields.pop("keyframes_s"))
        return Segment(**fields, keyframes_s=keyframes_s)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _reread(path: Path, name: str) -> Segment | None:
    """Make the line of a segment anew; its first picture's time is the file's."""
    try:
        stat = path.stat()
        with av.open(str(path)) as container:
            stamps = [
                (float(packet.pts * packet.time_base), packet.is_keyframe)
                for packet in container.demux(video=0)
                if packet.pts is not None
            ]
    except (FFmpegError, OSError, IndexError):
        return None
    if not stamps:
        return None
    keyframes_s = tuple(sorted(stat.st_mtime + at for at, key in stamps if key))
    # Hashed when it was filed; here it would only vouch for itself.
    return Segment(name, stat.st_mtime, stat.st_mtime + max(at for at, _ in stamps), stat.st_size, "", keyframes_s)
