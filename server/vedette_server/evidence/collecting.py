"""Collect the evidence of one channel: its packets, and for each event a snapshot, the same with boxes, and a clip.

The policy decides what is kept at all: of a channel with NONE not even packets are held, of a MASKED one they are held
in memory only, until clip and snapshots are cut from them and masked.

Threads: `feed` by one at a time, `prepare` by any; what became of a piece is told on a worker's thread.
"""

from __future__ import annotations

import copy
import logging
import threading
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from vedette_server.data.event import EventState, Evidence, EvidenceState
from vedette_server.data.rules import EvidencePolicy
from vedette_server.errors import EvidenceError
from vedette_server.evidence.clip import MEDIA_TYPE as VIDEO
from vedette_server.evidence.clip import ClipLimits, ClipWriter
from vedette_server.evidence.pixels import hidden
from vedette_server.evidence.recording import Recorder, RecordingIndex
from vedette_server.evidence.ring import PacketRing
from vedette_server.evidence.snapshot import MEDIA_TYPE as PICTURE
from vedette_server.evidence.snapshot import Drawing, Labelled
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
    from vedette_server.evidence.clip import Clip
    from vedette_server.evidence.store import EvidenceStore
    from vedette_server.evidence.workers import EvidenceWorkers, Job

_log = logging.getLogger(__name__)

_PENDING_PICTURE = Evidence(EvidenceState.PENDING, media_type=PICTURE)
_PENDING_VIDEO = Evidence(EvidenceState.PENDING, media_type=VIDEO)
# A picture that shows the object by so much better replaces the one that was taken first.
_BETTER = 0.05


@dataclass(frozen=True, slots=True)
class EvidenceParts:
    """What evidence of all channels is made with.

    Attributes:
        store: Where files lie.
        workers: Who writes them.
        clips: How long clips are.
        pictures: The largest picture.
        ring_bytes: What the ring of a channel holds at most.
        on_change: Told what became of a piece, on a worker's thread.
    """

    store: EvidenceStore
    workers: EvidenceWorkers
    clips: ClipLimits
    pictures: PictureLimits
    ring_bytes: int
    on_change: Callable[[EvidenceChange], None]


@dataclass(frozen=True, slots=True)
class Errand:
    """Something to be done for an event's evidence, and who is told in words that it was refused."""

    job: Job
    refused: Callable[[str], None]


@dataclass(slots=True)
class _Under:
    """An event whose evidence is under way: its clip, and what its snapshot shows."""

    clip: ClipWriter | None
    score: float


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
        self._lock = threading.Lock()
        self._under: dict[str, _Under] = {}
        self._recorder: Recorder | None = None
        self._begun = False
        self._record()

    @property
    def keeps(self) -> bool:
        """Whether anything may be kept."""
        return self._watch.evidence is not EvidencePolicy.NONE

    def begin(self, fmt: VideoFormat) -> None:
        """Take the format of the packets that follow: those of a new session."""
        self.ring.begin(fmt)
        self._begun = True

    def end(self) -> None:
        """Take note that the session is over: clips end with it."""
        self.ring.end()

    def feed(self, packet: Packet) -> None:
        """Keep a packet, in decoding order; `time_s` is set."""
        if self._begun and self.keeps:
            # Whoever decodes it lets its bytes go.
            self.ring.feed(copy.copy(packet), time_s=packet.time_s)

    def prepare(self, event: Event, *, wanted: bool) -> tuple[Event, tuple[Errand, ...]]:
        """Say what is to be done for an event's evidence, and give the event with what is to be expected.

        What is to be done is begun with `start` once the event was handed to the store: what becomes of a piece must
        not be told before.

        Args:
            event: As it begins, goes on or ends.
            wanted: Whether its rule wants evidence.
        """
        if not (wanted and self.keeps):
            return event, ()
        with self._lock:
            under = self._under.get(event.event_id)
            fresh = under is None
            if under is None:
                under = self._under[event.event_id] = _Under(None, event.peak_score or 0.0)
            better = (event.peak_score or 0.0) - under.score >= _BETTER
            over = event.state is EventState.ENDED
            if better and over:
                under.score = event.peak_score or 0.0
            if over:
                del self._under[event.event_id]
        errands: list[Errand] = []
        if fresh:
            under.clip = self._clip(event)
            errands.append(Errand(under.clip, partial(self._refused, event.event_id, video=True)))
            event = replace(event, clip=_PENDING_VIDEO)
        if fresh or (better and over):
            errands.append(Errand(self._snapshot(event), partial(self._refused, event.event_id, video=False)))
            event = replace(event, snapshot=_PENDING_PICTURE, annotated=_PENDING_PICTURE)
        if over and under.clip is not None:
            under.clip.end(self._time_of(event, event.end_s or event.update_s))
        return event, tuple(errands)

    def start(self, errands: Sequence[Errand]) -> None:
        """Begin what `prepare` said is to be done."""
        for errand in errands:
            try:
                self._parts.workers.submit(errand.job)
            except EvidenceError as error:
                errand.refused(str(error))

    def change(self, record: ChannelRecord) -> None:
        """Go by another configuration from now on; under another policy nothing of what is held is used any more."""
        before, self._watch = self._watch, record.watch
        if (before.evidence, hidden(before)) != (record.watch.evidence, hidden(record.watch)):
            with self._lock:
                clips = [under.clip for under in self._under.values() if under.clip is not None]
                self._under.clear()
            for clip in clips:
                clip.cancel("what may be kept of the channel was changed")
            self.ring.clear()
            self._stop_recording()
        if self._recording != record.recording:
            self._recording = record.recording
            self._stop_recording()
        self._record()

    def close(self) -> None:
        """Take no packets any more; clips under way are completed."""
        self.ring.close()
        self._stop_recording()

    def _clip(self, event: Event) -> ClipWriter:
        parts = self._parts
        start_s = self._time_of(event, event.start_s)
        return ClipWriter(
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

    def _snapshot(self, event: Event) -> SnapshotJob:
        sequence = event.peak_sequence if event.peak_s is not None else event.sequence
        index = self.ring.index_of(sequence)
        if index is None and event.kind.of_camera:
            # Of a camera that sends nothing any more, or nothing sound: what it sent last.
            latest = self.ring.latest()
            index = None if latest is None else latest.index
        return SnapshotJob(
            self.ring,
            self._parts.store,
            Wanted(self._channel, event.event_id, index, self._drawing(event), hidden(self._watch)),
            self._parts.pictures,
            partial(self._taken, event.event_id),
        )

    def _drawing(self, event: Event) -> Drawing:
        label = f"{event.label} {event.peak_score or 0.0:.2f}".strip()
        boxes = () if event.box is None else (Labelled(event.box, label),)
        return Drawing(
            boxes,
            tuple(zone for zone in self._watch.zones if zone.name == event.place),
            tuple(line for line in self._watch.lines if line.name == event.place),
        )

    def _time_of(self, event: Event, time_s: float) -> float:
        """Give a time of an event on the ring's line: that of a camera's health goes by receipt."""
        if not event.kind.of_camera:
            return time_s
        latest = self.ring.latest()
        return time_s if latest is None else time_s - latest.packet.received_wall_ns / 1e9 + latest.time_s

    def _refused(self, event_id: str, why: str, *, video: bool) -> None:
        failed = Evidence(EvidenceState.FAILED, media_type=VIDEO if video else PICTURE, detail=why)
        change = EvidenceChange(event_id, clip=failed) if video else EvidenceChange(event_id, failed, None, failed)
        self._parts.on_change(change)

    def _taken(self, event_id: str, plain: Evidence, annotated: Evidence) -> None:
        self._parts.on_change(EvidenceChange(event_id, snapshot=plain, annotated=annotated))

    def _clipped(self, event_id: str, clip: Clip) -> None:
        self._parts.on_change(EvidenceChange(event_id, clip=clip.evidence))

    def _record(self) -> None:
        if self._recorder is not None or not (self._recording.enabled and self.keeps):
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
            self._parts.workers.submit(recorder)
        except EvidenceError as error:
            _log.error("a recording cannot begin", extra={"channel": self._channel, "error": str(error)})
            return
        self._recorder = recorder

    def _stop_recording(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.stop()
