"""Collect the evidence of one channel: its packets, and for each event a snapshot, the same with boxes, and a clip.

The policy decides what is kept at all: of a channel with NONE not even packets are held, of a MASKED one they are held
in memory only, until clip and snapshots are cut from them and masked. When it changes, nothing that was begun under the
one before is filed any more: an event that goes on then has no further evidence.

The first picture of an event is taken when it begins; one that shows it better replaces it, while the event goes on and
at its end, as far as the ring still holds it.

Threads: `feed` by one at a time, all else by any; what became of a piece is told on a worker's thread, or where it was
refused on that of `start`. One short lock, under which nothing is read or written.
"""

from __future__ import annotations

import copy
import logging
import threading
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakSet

from vedette_server.data.event import EventState, Evidence, EvidenceState
from vedette_server.data.rules import EvidencePolicy
from vedette_server.errors import EvidenceError
from vedette_server.evidence.choosing import Chosen, allowed_by
from vedette_server.evidence.clip import MEDIA_TYPE as VIDEO
from vedette_server.evidence.clip import ClipLimits, ClipWriter
from vedette_server.evidence.left import note_limits
from vedette_server.evidence.pixels import hidden
from vedette_server.evidence.recording import Recorder, RecordingIndex
from vedette_server.evidence.ring import PacketRing
from vedette_server.evidence.snapshot import MEDIA_TYPE as PICTURE
from vedette_server.evidence.snapshot import drawing_of
from vedette_server.evidence.snapshot_job import SnapshotJob, Wanted
from vedette_server.store.changes import EvidenceChange

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_server.data.channel import ChannelRecord, RecordingConfig
    from vedette_server.data.event import Event
    from vedette_server.data.format import VideoFormat
    from vedette_server.data.packet import Packet
    from vedette_server.data.rules import WatchConfig
    from vedette_server.decode.limits import PictureLimits
    from vedette_server.evidence.choosing import Allowed
    from vedette_server.evidence.clip import Clip
    from vedette_server.evidence.store import EvidenceStore
    from vedette_server.evidence.workers import EvidenceWorkers, Job

_log = logging.getLogger(__name__)

_PENDING_PICTURE = Evidence(EvidenceState.PENDING, media_type=PICTURE)
_PENDING_VIDEO = Evidence(EvidenceState.PENDING, media_type=VIDEO)
# A picture that shows the object by so much better replaces the one before, but not more often than every so often:
# decoding is dear.
_BETTER = 0.05
_RETAKE_S = 5.0
_CHANGED = "what may be kept of the channel was changed"


@dataclass(frozen=True, slots=True)
class EvidenceParts:
    """What evidence of all channels is made with.

    Attributes:
        store: Where files lie.
        workers: Who writes them.
        clips: How long clips are.
        pictures: The largest picture.
        ring_bytes: What the ring of a channel holds at most.
        on_change: Told what became of a piece, and which files that makes needless.
    """

    store: EvidenceStore
    workers: EvidenceWorkers
    clips: ClipLimits
    pictures: PictureLimits
    ring_bytes: int
    on_change: Callable[[EvidenceChange, tuple[str, ...]], None]


@dataclass(frozen=True, slots=True)
class Errand:
    """Something to be done for an event's evidence, and who is told in words that it was refused."""

    job: Job
    refused: Callable[[str], None]


@dataclass(slots=True)
class _Under:
    """An event whose evidence is under way; without a clip: it gets nothing more.

    Attributes:
        clip: Its clip.
        latest: Takes its latest picture.
        score: How well that shows it.
        taken_s: When that was wanted, on the event's time line.
        told: Took the picture that its event tells of; None: it tells of none yet.
        takes: So many pictures were wanted.
    """

    clip: ClipWriter | None
    latest: SnapshotJob | None
    score: float
    taken_s: float
    told: SnapshotJob | None = None
    takes: int = 1

    def revoke(self) -> None:
        """Let it get nothing more, and hold no packets."""
        self.clip = self.latest = self.told = None


class Collector:
    """The evidence of one channel.

    Args:
        record: The channel.
        parts: What it is made with.
    """

    def __init__(self, record: ChannelRecord, parts: EvidenceParts) -> None:
        self._channel = record.name
        self._parts = parts
        self._watch: WatchConfig = record.watch
        self._recording: RecordingConfig = record.recording
        # What is beyond the pre-roll is for pictures whose verdict comes late, and for what begins before it is told.
        self.ring = PacketRing(parts.clips.pre_s + 5.0, parts.ring_bytes)
        self.index = RecordingIndex(parts.store, record.name)
        self._session = ""
        self._lock = threading.Lock()
        self._under: dict[str, _Under] = {}
        # Those of events that are over, too: they are held by who steps them, and gone when they are done.
        self._jobs: WeakSet[ClipWriter | SnapshotJob] = WeakSet()
        self._recorder: Recorder | None = None
        self._begun = False
        note_limits(parts.store, record.name, record.retention)
        self._record()

    @property
    def keeps(self) -> bool:
        """Whether anything may be kept."""
        return self._watch.evidence is not EvidencePolicy.NONE

    @property
    def allowed(self) -> Allowed:
        """What may be kept and shown, and what is blackened first: goes with the packets that the ring holds."""
        with self._lock:
            return allowed_by(self._watch)

    def choose(self, sequence: int | None) -> Chosen | None:
        """Choose a picture that may be shown: that of a packet, or where it is not held the latest; None: none is.

        Chosen together with what may be shown: what came under one policy is never shown by another, and is not held
        any more once another holds.
        """
        with self._lock:
            index = None if sequence is None else self.ring.index_of(sequence)
            if index is not None:
                return Chosen(index, True, allowed_by(self._watch))
            latest = self.ring.latest()
            return None if latest is None else Chosen(latest.index, False, allowed_by(self._watch))

    def begin(self, fmt: VideoFormat, session: str = "") -> None:
        """Take the format of the packets that follow: those of a new session."""
        self.ring.begin(fmt)
        self._session = session
        self._begun = True

    def end(self) -> None:
        """Take note that the session is over: clips end with it."""
        self.ring.end()

    def feed(self, packet: Packet) -> None:
        """Keep a packet, in decoding order; `time_s` is set."""
        if not self._begun:
            return
        # Whoever decodes it lets its bytes go.
        own = copy.copy(packet)
        with self._lock:
            # Under the lock: none comes into the ring behind the change that emptied it.
            if self.keeps:
                self.ring.feed(own, time_s=packet.time_s)

    def prepare(self, event: Event, *, wanted: bool) -> tuple[Event, tuple[Errand, ...]]:
        """Say what is to be done for an event's evidence, and give the event with what is to be expected.

        What is to be done is begun with `start` once the event was handed to the store: what becomes of a piece must
        not be told before.

        Args:
            event: As it begins, goes on or ends.
            wanted: Whether its rule wants evidence.
        """
        with self._lock:
            under = self._under.get(event.event_id)
            over = event.state is EventState.ENDED
            if over:
                self._under.pop(event.event_id, None)
            if not (wanted and self.keeps):
                return event, ()
            if under is None:
                return self._first(event, over=over)
            if under.clip is None:
                return event, ()
            if over:
                under.clip.end(self._time_of(event, event.end_s or event.update_s))
            return event, self._again(event, under, over=over)

    def start(self, errands: Sequence[Errand]) -> None:
        """Begin what `prepare` said is to be done."""
        for errand in errands:
            try:
                self._parts.workers.submit(errand.job)
            except EvidenceError as error:
                errand.refused(str(error))

    def change(self, record: ChannelRecord) -> None:
        """Go by another configuration from now on; under another policy nothing of what is held is used any more."""
        with self._lock:
            if allowed_by(self._watch) != allowed_by(record.watch):
                for under in self._under.values():
                    under.revoke()
                for job in self._jobs:
                    job.cancel(_CHANGED)
                # First of all: nothing that came under the one policy is ever held under the other.
                self.ring.clear()
                self._stop_recording(keep=False)
            self._watch = record.watch
            if self._recording != record.recording:
                self._recording = record.recording
                self._stop_recording(keep=True)
            self._record()
        note_limits(self._parts.store, self._channel, record.retention)

    def close(self) -> None:
        """Take no packets any more; clips under way are completed."""
        with self._lock:
            self.ring.close()
            self._stop_recording(keep=True)

    def _clip(self, event: Event) -> ClipWriter:
        parts = self._parts
        start_s = self._time_of(event, event.start_s)
        clip = ClipWriter(
            self.ring,
            parts.store,
            self._channel,
            event.event_id,
            start_s,
            self._watch.evidence,
            hidden(self._watch),
            parts.pictures,
            parts.clips,
            partial(self._clipped, event.event_id),
        )
        self._jobs.add(clip)
        return clip

    def _first(self, event: Event, *, over: bool) -> tuple[Event, tuple[Errand, ...]]:
        """Begin the evidence of an event; the lock is held."""
        score = event.peak_score or 0.0
        clip = self._clip(event)
        pictures = self._snapshot(event, self._picture_of(event), 0, partial(self._taken, event.event_id, ()))
        if over:
            clip.end(self._time_of(event, event.end_s or event.update_s))
        else:
            self._under[event.event_id] = _Under(clip, pictures, score, event.update_s)
        errands = (
            Errand(clip, partial(self._refused, event.event_id, video=True)),
            Errand(pictures, partial(self._refused, event.event_id, video=False)),
        )
        expected = replace(event, clip=_PENDING_VIDEO, snapshot=_PENDING_PICTURE, annotated=_PENDING_PICTURE)
        return expected, errands

    def _again(self, event: Event, under: _Under, *, over: bool) -> tuple[Errand, ...]:
        """Take a better picture of an event, where there is one; the lock is held."""
        score = event.peak_score or 0.0
        latest = under.latest
        if latest is None or score - under.score < _BETTER:
            return ()
        if not over and event.update_s - under.taken_s < _RETAKE_S:
            return ()
        index = self._index_of(event, event.peak_sequence)
        if index is None:
            # The picture before is better than none.
            return ()
        if not latest.forgo() and latest.filed:
            # One that failed replaced nothing: the event still tells of the one before it.
            under.told = latest
        if under.told is None:
            # Nothing was told yet: whatever becomes of this one is.
            done, refused = (
                partial(self._taken, event.event_id, ()),
                partial(self._refused, event.event_id, video=False),
            )
        else:
            done = partial(self._retaken, event.event_id, under.told.filed)
            refused = partial(self._not_retaken, event.event_id)
        job = self._snapshot(event, index, under.takes, done)
        under.score, under.taken_s, under.latest = score, event.update_s, job
        under.takes += 1
        return (Errand(job, refused),)

    def _picture_of(self, event: Event) -> int | None:
        index = self._index_of(event, event.peak_sequence if event.peak_s is not None else event.sequence)
        if index is None and event.kind.of_camera:
            # Of a camera that sends nothing any more, or nothing sound: what it sent last.
            latest = self.ring.latest()
            index = None if latest is None else latest.index
        return index

    def _index_of(self, event: Event, sequence: int) -> int | None:
        """Find a packet of an event; None: it is not held, or may be another session's of the same number."""
        if event.session and self._session and event.session != self._session:
            return None
        return self.ring.index_of(sequence)

    def _snapshot(
        self, event: Event, index: int | None, take: int, on_done: Callable[[Evidence, Evidence], None]
    ) -> SnapshotJob:
        wanted = Wanted(self._channel, event.event_id, index, drawing_of(event, self._watch), hidden(self._watch), take)
        job = SnapshotJob(self.ring, self._parts.store, wanted, self._parts.pictures, on_done)
        self._jobs.add(job)
        return job

    def _time_of(self, event: Event, time_s: float) -> float:
        """Give a time of an event on the ring's line: that of a camera's health goes by receipt."""
        if not event.kind.of_camera:
            return time_s
        latest = self.ring.latest()
        return time_s if latest is None else time_s - latest.packet.received_wall_ns / 1e9 + latest.time_s

    def _refused(self, event_id: str, why: str, *, video: bool) -> None:
        failed = Evidence(EvidenceState.FAILED, media_type=VIDEO if video else PICTURE, detail=why)
        change = EvidenceChange(event_id, clip=failed) if video else EvidenceChange(event_id, failed, None, failed)
        self._parts.on_change(change, ())

    def _taken(self, event_id: str, instead_of: tuple[str, ...], plain: Evidence, annotated: Evidence) -> None:
        self._parts.on_change(EvidenceChange(event_id, snapshot=plain, annotated=annotated), instead_of)

    def _retaken(self, event_id: str, instead_of: tuple[str, ...], plain: Evidence, annotated: Evidence) -> None:
        if plain.state is EvidenceState.READY:
            self._taken(event_id, instead_of, plain, annotated)
        else:
            self._not_retaken(event_id, plain.detail)

    def _not_retaken(self, event_id: str, why: str) -> None:
        _log.info("a better picture could not be taken", extra={"event_id": event_id, "error": why})

    def _clipped(self, event_id: str, clip: Clip) -> None:
        self._parts.on_change(EvidenceChange(event_id, clip=clip.evidence), ())

    def _record(self) -> None:
        """Begin to record where that is wanted; the lock is held."""
        if self._recorder is not None or self.ring.closed or not (self._recording.enabled and self.keeps):
            return
        recorder = Recorder(
            self.ring,
            self._parts.store,
            self.index,
            self._channel,
            self._watch.evidence,
            hidden(self._watch),
            self._parts.pictures,
            self._recording.segment_s,
        )
        try:
            self._parts.workers.submit(recorder, lasting=True)
        except EvidenceError as error:
            # The server stops.
            _log.error("a recording cannot begin", extra={"channel": self._channel, "error": str(error)})
            return
        self._recorder = recorder

    def _stop_recording(self, *, keep: bool) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None and keep:
            recorder.stop()
        elif recorder is not None:
            recorder.cancel()
