"""Follow the objects of one channel by time: which detection is of which object, frame after frame.

Detections that are sure are matched first, then the unsure ones with what is left (ByteTrack, Zhang et al. 2022,
arXiv:2110.06864); then those that may become tracks. What is said of a track between frames comes from `motion_model`
in seconds, which pairs are possible from `associate`.

Why not a library (`python -m bench tracking`, ten seeds of walkers, `bench/results/tracking.json`): in quality this is
on a par with the best, SORT and ByteTrack of `trackers` 2.6 (IDF1 0.81, 0.80, 0.75, 0.77 at 15 fps, with 20 % skipped,
at 5 fps, irregularly; they 0.83, 0.79, 0.76, 0.77; on other seeds they lead by up to 0.02), which know time, too, but
ask for `opencv-python` beside our headless one and, by `supervision`, for matplotlib; they keep no classes apart, count
their identities from 1 again, and cost twice as much for 50 objects. What counts frames (norfair; ByteTrack without
times) falls to 0.56 to 0.59 where times are irregular. edgefirst's, in Rust, costs 15 us, and reaches 0.45 at 5 fps.
`supervision` has no tracker any more.

It costs about 0.3 ms per frame with 10 objects (0.6 ms where an engine runs in between), 0.75 ms with 50, and 6 KiB
with 10.

Who is seen in part (behind a pillar, bit by bit) or together with another one keeps the size that is known of it: that
costs 0.01 to 0.02 of IDF1 on those walkers, whose boxes are never cut, and tells 0.97 instead of 0.80 of all crossings
of lines where boxes are (`python -m bench monitor`, `blobs`).

An identity is given out when a track is confirmed, not before, and is never taken back: what is shown counts, and only
what is confirmed is counted.

Threads: one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vedette_server.data.rules import TrackingConfig
from vedette_server.monitor.associate import costs, overlaps, pairs
from vedette_server.monitor.base import Tracked, TrackView
from vedette_server.monitor.motion_model import MotionModel, box_of, measured_of, refitted
from vedette_server.monitor.tracking_labels import Families

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vedette_server.monitor.base import Box
    from vedette_server.post.detections import Detections

# So many tracks at most: 300 detections, as many again that are lost. Beyond, those unseen for longest end.
MOST_TRACKS = 600
# A track that is not confirmed ends when it was not seen for so long and in so many frames.
_UNCONFIRMED_S, _UNCONFIRMED_FRAMES = 0.5, 2
# A low score continues a confirmed track only where it was seen in the frame before or this recently: a false alarm
# revives nothing.
_REVIVED_WITHIN_S = 1.0
# A detection of the family that overlaps a matched one so well is of the same object, called by another label.
_SAME = 0.7
# A part of a hidden object is of less than this share of its area, and its centre as far from the other's at most as
# this share of the way to its edge.
_SMALL, _WITHIN = 0.5, 1.0
# A track that was missed twice, and of which no more than this share is thought to be in the picture, has left it.
_HARDLY = 0.35
# After a time without frames longer than `max_lost_s`, what overlaps the last box so well stood still meanwhile; after
# so many times `max_lost_s` nobody knows.
_STOOD, _STOOD_FOR = 0.5, 10.0
# Whose size has been known for so long keeps it for a while where it is at once another: it is hidden in part, or taken
# together with another one; seconds.
_KNOWN_S, _KEPT_S = 0.7, 1.0
# Votes for a label are halved beyond, so that a track may change its mind after minutes.
_MOST_VOTES = 30.0


@dataclass(slots=True)
class _Track:
    """What is known of one object beside its motion.

    `missed` counts the frames since it was seen; `whole_s` is when it was last seen with the size that it has.
    """

    track_id: str
    family: int
    label: str
    label_number: int
    first_s: float
    votes: dict[str, float]
    last_s: float = 0.0
    box: Box = (0.0, 0.0, 0.0, 0.0)
    score: float = 0.0
    best_score: float = 0.0
    hits: int = 0
    missed: int = 0
    whole_s: float = 0.0
    confirmed: bool = False


@dataclass(frozen=True, slots=True)
class _Frame:
    """The detections of one frame as matching needs them."""

    time_s: float
    aspect: float
    measured: NDArray[np.float64]
    scores: list[float]
    names: list[str]
    numbers: NDArray[np.intp]
    families: NDArray[np.intp]
    boxes: list[list[float]]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.scores)

    def box(self, column: int) -> Box:
        """Return the box of a detection, normalised."""
        left, top, right, bottom = self.boxes[column]
        return left, top, right, bottom


class ChannelTracker:
    """The tracker of one channel, see `monitor.base.Tracker`.

    Args:
        config: How objects are followed.
        prefix: What all identities begin with: the session's bare name, or anything that no other tracker has.
        first_number: Number of the first track: a tracker that goes on where another with this prefix ended gets the
            other's `next_number`.
        sure_score: Detections from here on begin tracks and are matched first; others only continue tracks. May be set
            anew at any time.
    """

    def __init__(
        self, config: TrackingConfig | None = None, *, prefix: str, first_number: int = 1, sure_score: float = 0.4
    ) -> None:
        self._config = config or TrackingConfig()
        self._prefix = prefix
        self.next_number = first_number
        self.sure_score = sure_score
        self._families = Families()
        self._motion = MotionModel()
        self._tracks: list[_Track] = []
        self._time_s = -np.inf

    def change(self, config: TrackingConfig) -> None:
        """Follow by another configuration from now on; tracks go on, and what is confirmed stays so."""
        self._config = config

    def reset(self) -> tuple[str, ...]:
        """End all tracks; return those that were confirmed. Identities go on."""
        return self._drop([True] * len(self._tracks))

    def update(self, detections: Detections, labels: Sequence[str], time_s: float, aspect: float) -> Tracked:
        """Take one analysed frame, see `monitor.base.Tracker.update`."""
        frame = self._frame(detections, labels, max(time_s, self._time_s), aspect)
        ended = self._advance(frame)
        owners = self._match(frame)
        self._begin(frame, owners)
        ended += self._end(frame)
        # Those beyond the bound are not looked at.
        owners += [None] * (len(detections) - len(owners))
        return Tracked(
            tuple(owner.track_id if owner is not None and owner.confirmed else "" for owner in owners),
            tuple(self._view(row, track, aspect) for row, track in enumerate(self._tracks)),
            ended,
        )

    def _frame(self, detections: Detections, labels: Sequence[str], time_s: float, aspect: float) -> _Frame:
        class_ids = detections.class_ids[:MOST_TRACKS]
        names = [str(labels[class_id]) for class_id in class_ids.tolist()]
        numbers, families = self._families.of(labels, class_ids)
        return _Frame(
            time_s,
            aspect,
            measured_of(detections.boxes[:MOST_TRACKS], aspect),
            detections.scores[:MOST_TRACKS].tolist(),
            names,
            numbers,
            families,
            detections.boxes[:MOST_TRACKS].tolist(),
        )

    def _advance(self, frame: _Frame) -> tuple[str, ...]:
        """Let the time since the last frame pass; end what has been lost for too long."""
        elapsed_s = frame.time_s - self._time_s if self._tracks else 0.0
        self._time_s = frame.time_s
        longest_s = self._config.max_lost_s
        if elapsed_s < longest_s:
            self._motion.predict(elapsed_s)
            return self._drop([track.missed > 0 and frame.time_s - track.last_s >= longest_s for track in self._tracks])
        # Nobody looked for so long. What was there to the last, and is there now, stood still; the others are gone.
        if elapsed_s > longest_s * _STOOD_FOR or not len(frame):
            return self._drop([True] * len(self._tracks))
        alike = self._of("family")[:, None] == frame.families[None]
        stood = (alike & (overlaps(self._motion.means, frame.measured) >= _STOOD)).any(axis=1).tolist()
        gone = [track.missed > 0 or not there for track, there in zip(self._tracks, stood, strict=True)]
        ended = self._drop(gone)
        self._motion.stop()
        return ended

    def _match(self, frame: _Frame) -> list[_Track | None]:
        """Say which track each detection belongs to, and let the tracks know."""
        owners: list[_Track | None] = [None] * len(frame)
        for track in self._tracks:
            track.missed += 1
        if not self._tracks or not len(frame):
            return owners
        every = np.arange(len(self._tracks))
        gains = costs(
            self._motion.visible(frame.aspect),
            self._motion.expected(every),
            frame.measured,
            (self._of("family"), frame.families),
            (self._of("label_number"), frame.numbers),
        )
        sure = np.array(frame.scores) >= self.sure_score
        confirmed = np.array([track.confirmed for track in self._tracks])
        recent = np.array(
            [track.missed == 1 or frame.time_s - track.last_s <= _REVIVED_WITHIN_S for track in self._tracks]
        )
        free = np.ones(len(frame), np.bool_)
        matched: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
        left = np.ones(len(every), np.bool_)
        for tracks, candidates in ((confirmed, sure), (confirmed & recent, ~sure), (~confirmed, free)):
            rows, columns = np.flatnonzero(tracks & left), np.flatnonzero(candidates & free)
            chosen, taken = pairs(gains[rows[:, None], columns[None]])
            rows, columns = rows[chosen], columns[taken]
            left[rows], free[columns] = False, False
            matched.append((rows, columns))
        rows = np.concatenate([part[0] for part in matched])
        columns = np.concatenate([part[1] for part in matched])
        completed = self._motion.completed(rows, frame.measured[columns], frame.aspect)
        self._motion.correct(rows, self._refitted(rows, completed, frame.time_s))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            owners[column] = self._tracks[row]
            self._see(self._tracks[row], frame, column)
        return owners

    def _refitted(self, rows: NDArray[np.intp], measured: NDArray[np.float64], time_s: float) -> NDArray[np.float64]:
        """Let tracks keep their size for a while where they are seen with another one at once."""
        fitted, odd = refitted(self._motion.means[rows], measured)
        for index, row in enumerate(rows.tolist()):
            track = self._tracks[row]
            # Time in which nobody saw it does not count.
            kept = track.last_s - track.whole_s < _KEPT_S and track.whole_s - track.first_s >= _KNOWN_S
            if odd[index] and kept:
                continue
            odd[index], track.whole_s = False, time_s
        return np.where(odd[:, None], fitted, measured)

    def _see(self, track: _Track, frame: _Frame, column: int) -> None:
        """Let a track know of its detection."""
        score, label = frame.scores[column], frame.names[column]
        track.box, track.score, track.last_s, track.missed = frame.box(column), score, frame.time_s, 0
        track.best_score = max(track.best_score, score)
        track.hits += 1
        track.confirmed = track.confirmed or track.hits >= self._config.confirm_frames
        votes = track.votes
        votes[label] = votes.get(label, 0.0) + score
        if label != track.label and votes[label] > votes[track.label]:
            track.label, track.label_number = label, int(frame.numbers[column])
        if votes[label] > _MOST_VOTES:
            track.votes = {name: count / 2.0 for name, count in votes.items()}

    def _begin(self, frame: _Frame, owners: list[_Track | None]) -> None:
        """Begin tracks with sure detections that belong to none."""
        new = self._fresh(frame, owners)
        if not new:
            return
        self._motion.start(frame.measured[new])
        for column in new:
            number, self.next_number = self.next_number, self.next_number + 1
            track = _Track(
                f"{self._prefix}-{number}",
                int(frame.families[column]),
                frame.names[column],
                int(frame.numbers[column]),
                frame.time_s,
                {frame.names[column]: 0.0},
                whole_s=frame.time_s,
            )
            self._see(track, frame, column)
            self._tracks.append(track)
            owners[column] = track

    def _fresh(self, frame: _Frame, owners: list[_Track | None]) -> list[int]:
        """Choose the sure detections that show something else than those that belong to tracks, best first."""
        taken = np.array([owner is not None for owner in owners], np.bool_)
        candidates = [
            column for column, owner in enumerate(owners) if owner is None and frame.scores[column] >= self.sure_score
        ]
        if not candidates:
            return []
        part = self._hidden_parts(frame, candidates)
        candidates = [column for column, of_hidden in zip(candidates, part, strict=True) if not of_hidden]
        same = overlaps(frame.measured[candidates], frame.measured) >= _SAME
        same &= frame.families[candidates][:, None] == frame.families[None]
        new = []
        for column, doubled in zip(candidates, same, strict=True):
            if not (doubled & taken).any():
                taken[column] = True
                new.append(column)
        return new

    def _hidden_parts(self, frame: _Frame, columns: list[int]) -> list[bool]:
        """Say which detections show a small part of an object that is looked for right there: it comes into sight."""
        lost = [
            row
            for row, track in enumerate(self._tracks)
            if track.confirmed and track.missed and frame.time_s - track.last_s <= _REVIVED_WITHIN_S
        ]
        if not lost:
            return [False] * len(columns)
        small, large = frame.measured[columns], self._motion.means[lost]
        shares = small[:, 2:].prod(axis=1)[:, None] / np.maximum(large[:, 2:].prod(axis=1), 1e-12)[None]
        away = np.abs(small[:, None, :2] - large[None, :, :2])
        within = (away <= large[None, :, 2:] / 2.0 * _WITHIN).all(axis=2) & (shares < _SMALL)
        alike = np.array([self._tracks[row].family for row in lost])[None] == frame.families[columns][:, None]
        parts: list[bool] = (within & alike).any(axis=1).tolist()
        return parts

    def _end(self, frame: _Frame) -> tuple[str, ...]:
        """End tracks that are lost, were never sure or have left the picture, and those beyond the bound."""
        longest_s = self._config.max_lost_s
        means, visible = self._motion.means, self._motion.visible(frame.aspect)
        left = (visible[:, 2] * visible[:, 3] < means[:, 2] * means[:, 3] * _HARDLY).tolist()
        gone = []
        for row, track in enumerate(self._tracks):
            lost_s = frame.time_s - track.last_s
            doubted = not track.confirmed and track.missed >= _UNCONFIRMED_FRAMES and lost_s >= _UNCONFIRMED_S
            gone.append(track.missed > 0 and (lost_s >= longest_s or doubted or (track.missed > 1 and left[row])))
        excess = len(gone) - sum(gone) - MOST_TRACKS
        if excess > 0:
            order = sorted(range(len(gone)), key=lambda row: (self._tracks[row].confirmed, self._tracks[row].last_s))
            for row in [row for row in order if not gone[row]][:excess]:
                gone[row] = True
        return self._drop(gone)

    def _drop(self, gone: Sequence[bool]) -> tuple[str, ...]:
        """Forget tracks; return the identities of those that were confirmed."""
        if not any(gone):
            return ()
        ended = tuple(
            track.track_id for track, over in zip(self._tracks, gone, strict=True) if over and track.confirmed
        )
        rows = [row for row, over in enumerate(gone) if not over]
        self._motion.keep(np.array(rows, np.intp))
        self._tracks = [self._tracks[row] for row in rows]
        return ended

    def _of(self, attribute: str) -> NDArray[np.intp]:
        return np.array([getattr(track, attribute) for track in self._tracks], np.intp)

    def _view(self, row: int, track: _Track, aspect: float) -> TrackView:
        seen = track.missed == 0
        return TrackView(
            track.track_id,
            track.label,
            track.box if seen else box_of(self._motion.means[row], aspect),
            track.score if seen else 0.0,
            track.best_score,
            seen,
            track.confirmed,
            track.first_s,
            track.last_s,
        )
