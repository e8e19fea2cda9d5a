"""Write the clip of one event from its channel's ring, while the event may still go on.

A clip begins at the keyframe at or before its pre-roll and ends behind its post-roll. It reads the ring as packets
come, so what it holds in memory is the ring's. New parameters of the stream (size, codec) end the file early: one MP4
track has one set of them; what a clip lacks is told in `Clip.detail`. Packets that the ring dropped before they were
read are a gap in the file, told as well; it goes on with the next keyframe.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vedette_server.data.event import Evidence, EvidenceState
from vedette_server.data.rules import EvidencePolicy
from vedette_server.errors import EvidenceError
from vedette_server.evidence.encode import MaskedSink
from vedette_server.evidence.remux import RemuxSink, add_all, finish
from vedette_server.evidence.showing import kept_under

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from vedette_server.data.rules import Points
    from vedette_server.decode.limits import PictureLimits
    from vedette_server.evidence.remux import Sink
    from vedette_server.evidence.ring import Kept, PacketRing
    from vedette_server.evidence.store import Draft, EvidenceStore

_log = logging.getLogger(__name__)

MEDIA_TYPE = "video/mp4"
_POLL_S = 0.2
# Within a session times fall by no more than this: pictures are shown in another order than they are sent in.
_REORDERED_S = 2.0
_BATCH = 256
# Masked pictures are decoded and encoded: other clips wait for so many at a time.
_MASKED_BATCH = 12


@dataclass(frozen=True, slots=True)
class ClipLimits:
    """How long clips are.

    Attributes:
        pre_s: Before the event.
        post_s: After it.
        max_s: From the clip's first picture on; a longer event's clip ends there.
        idle_s: A channel that sends nothing for so long ends its clips.
    """

    pre_s: float = 5.0
    post_s: float = 5.0
    max_s: float = 120.0
    idle_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Clip:
    """What became of a clip.

    Attributes:
        evidence: As it stands in the event.
        path: In the store; empty when there is none.
        start_s: When its first picture was taken.
        end_s: When its last one was.
        keyframes_s: When each of its keyframes was taken.
    """

    evidence: Evidence
    path: str = ""
    start_s: float = 0.0
    end_s: float = 0.0
    keyframes_s: tuple[float, ...] = ()


def open_sink(policy: EvidencePolicy, path: Path, hidden: Sequence[Points], limits: PictureLimits) -> Sink:
    """Open what writes a file as a channel's policy wants it.

    Raises:
        EvidenceError: The channel keeps nothing.
    """
    if policy is EvidencePolicy.NONE:
        raise EvidenceError("the channel keeps no evidence")
    return RemuxSink(path, limits) if policy is EvidencePolicy.ORIGINAL else MaskedSink(path, hidden, limits)


class ClipWriter:
    """Writes one clip; a job of the `EvidenceWorkers`.

    Args:
        ring: The channel's packets.
        store: Where the clip is filed.
        channel: The channel's bare name.
        event_id: The event.
        at_s: When it began, seconds since the epoch.
        policy: What may be kept.
        hidden: What is blackened where the policy is MASKED.
        pictures: The largest picture.
        limits: How long the clip is.
        on_done: Told once what became of it, on a worker's thread.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        ring: PacketRing,
        store: EvidenceStore,
        channel: str,
        event_id: str,
        at_s: float,
        policy: EvidencePolicy,
        hidden: Sequence[Points],
        pictures: PictureLimits,
        limits: ClipLimits,
        on_done: Callable[[Clip], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring = ring
        self._store = store
        self._name = (channel, event_id)
        self._policy = policy
        self._hidden = tuple(hidden)
        self._pictures = pictures
        self._limits = limits
        self._on_done = on_done
        self._clock = clock
        self._lock = threading.Lock()
        self._end_s: float | None = None
        self._cancelled = ""
        self._next = ring.find_start(at_s, limits.pre_s)
        self._batch = _MASKED_BATCH if policy is EvidencePolicy.MASKED else _BATCH
        self._sink: Sink | None = None
        self._draft: Draft | None = None
        self._first: Kept | None = None
        self._last_s = 0.0
        self._keyframes_s: list[float] = []
        self._detail: list[str] = []
        self._came_s = clock()
        self._told = False

    def end(self, at_s: float) -> None:
        """Say when the event was over; the clip goes on for the post-roll. Again: the later time holds. Any thread."""
        with self._lock:
            end_s = at_s + self._limits.post_s
            self._end_s = end_s if self._end_s is None else max(end_s, self._end_s)

    def cancel(self, why: str) -> None:
        """Keep nothing of it, unless it was told already; why is told. Any thread."""
        with self._lock:
            self._cancelled = self._cancelled or why

    def step(self) -> float | None:
        """Write the packets that came; see `Job`."""
        try:
            return self._step()
        except EvidenceError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the event must not wait for its clip for ever
            _log.exception("a clip was given up")
            self._fail(EvidenceError(f"{type(error).__name__}: {error}"))
        return None

    def abort(self) -> None:
        """Complete the file with what there is: the server stops."""
        try:
            self._check()
            self._detail.append("the server stopped before its end")
            self._finish()
        except EvidenceError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - the other clips are still to be completed
            _log.exception("a clip was given up")
            self._fail(EvidenceError(f"{type(error).__name__}: {error}"))

    def _check(self) -> None:
        if self._cancelled:
            raise EvidenceError(self._cancelled)

    def _step(self) -> float | None:
        self._check()
        came = self._ring.read(self._next, self._batch)
        fresh = [kept for kept in came if kept.index >= self._next]
        if not fresh:
            return self._wait()
        self._came_s = self._clock()
        wanted = self._wanted(fresh)
        if wanted:
            add_all(self._opened(wanted[0]), wanted)
        if len(wanted) < len(fresh):
            self._finish()
            return None
        return 0.0 if len(fresh) == self._batch else _POLL_S

    def _wait(self) -> float | None:
        if self._ring.closed or self._ring.over:
            self._finish()
            return None
        if self._clock() - self._came_s >= self._limits.idle_s:
            self._detail.append(f"the channel sent nothing for {self._limits.idle_s:g} s")
            self._finish()
            return None
        return _POLL_S

    def _wanted(self, fresh: Sequence[Kept]) -> list[Kept]:
        """Choose the packets that belong to the clip: all, or those before its end."""
        if fresh[0].index > self._next and self._first is not None:
            self._detail.append(f"{fresh[0].index - self._next} packets are missing: the disk was too slow")
            fresh = [replace(fresh[0], gap=True), *fresh[1:]]
        with self._lock:
            end_s = self._end_s
        wanted = []
        for kept in fresh:
            if self._first is None:
                self._first = kept
            if self._is_behind(kept, self._first, end_s):
                break
            self._next = kept.index + 1
            self._last_s = max(self._last_s, kept.time_s)
            if kept.keyframe:
                self._keyframes_s.append(kept.time_s)
            wanted.append(kept)
        return wanted

    def _is_behind(self, kept: Kept, first: Kept, end_s: float | None) -> bool:
        if kept.generation != first.generation:
            self._detail.append("it ends where the stream's parameters changed")
            return True
        if kept.gap and kept is not first and kept.time_s < self._last_s - _REORDERED_S:
            self._detail.append("it ends where another session began with an earlier time")
            return True
        if end_s is not None and kept.decode_s > end_s and kept is not first:
            return True
        if kept.time_s - first.time_s > self._limits.max_s:
            self._detail.append(f"it ends after {self._limits.max_s:g} s, the longest that a clip may be")
            return True
        return False

    def _opened(self, first: Kept) -> Sink:
        if self._sink is None:
            self._draft = self._store.begin(*self._name, ".mp4", first.time_s)
            self._sink = open_sink(self._policy, self._draft.temporary, self._hidden, self._pictures)
        return self._sink

    def _finish(self) -> None:
        """Complete the file and file it."""
        sink, draft, first = self._sink, self._draft, self._first
        if sink is None or draft is None or first is None:
            raise EvidenceError("; ".join(["no packet came that a clip can begin with", *self._detail]))
        finish(sink)
        self._check()
        filed = self._store.commit(draft)
        self._draft = None
        with self._lock:
            # Against who cancels at this moment.
            kept = not self._cancelled
        if not kept:
            self._store.remove(filed.path)
            self._check()
        detail = "; ".join(self._detail)
        policy = kept_under(self._hidden if self._policy is EvidencePolicy.MASKED else ())
        evidence = Evidence(EvidenceState.READY, filed.size_bytes, filed.sha256, MEDIA_TYPE, detail, filed.path, policy)
        self._tell(Clip(evidence, filed.path, first.time_s, self._last_s, tuple(self._keyframes_s)))

    def _fail(self, error: EvidenceError) -> None:
        self._store.report(error)
        if self._sink is not None:
            self._sink.close()
        if self._draft is not None:
            self._store.discard(self._draft)
        self._tell(Clip(Evidence(EvidenceState.FAILED, media_type=MEDIA_TYPE, detail=str(error))))

    def _tell(self, clip: Clip) -> None:
        if not self._told:
            self._told = True
            self._on_done(clip)
