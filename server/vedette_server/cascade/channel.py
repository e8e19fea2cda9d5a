"""The second stage of one channel: looks closer at the objects that are followed, while their frames go on.

A verdict never waits for it. Objects that are due are cut out of the frame and handed to their engine, where crops of
all channels gather in the same batches as frames do; what it said is attached to the track and stands in all later
verdicts of it. Where the engine has no free slot nothing waits: the object stays due.

Threads: `look`, `attach` and `forget` are called by one thread at a time, in presentation order; the others by any.
Results come from the engines' threads. One short lock, held neither while pictures are cut nor while engines are
called.
"""

from __future__ import annotations

import logging
import math
import time
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from vedette_server.cascade.cutting import Cutter, enlarged
from vedette_server.cascade.reading import attached_of, read
from vedette_server.cascade.seat import StageSeat
from vedette_server.cascade.stage import MOST_SUBJECTS, Look, Stage
from vedette_server.errors import UndecodableError
from vedette_server.execute.client import Surface

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from fractions import Fraction

    from vedette_server.cascade.loading import StageLoader
    from vedette_server.cascade.reading import StageResult
    from vedette_server.cascade.stage import Turn
    from vedette_server.cascade.tallies import Tallies
    from vedette_server.data.channel import StageConfig
    from vedette_server.data.rules import Points
    from vedette_server.decode.base import Picture
    from vedette_server.execute.client import Inference, InferenceClient
    from vedette_server.picture.slots import Slot
    from vedette_server.post.detections import Attached, Detections

_log = logging.getLogger(__name__)

# So many looks of one stage of one channel may be under way: the rest of its engine's slots is for others.
MOST_UNDER_WAY = 8
# Who has not answered after so long hangs: the look counts no more, and its object is due again.
HANGS_S = 30.0
# Pictures are asked for so long before something is due, ...
LEAST_LEAD_S, MOST_LEAD_S = 0.5, 5.0
# ... or so many of the latest interval between frames, since they are asked for before earlier frames were judged.
_LEAD_FRAMES = 3.0


class Waker(Protocol):
    """What is to be told of slots and crops; the pipeline is one."""

    def slots_freed(self) -> None:
        """Say that an engine has free slots."""
        ...

    def jobs_ready(self) -> None:
        """Say that an engine has something to run, from a thread that may be none of the workers."""
        ...


class ChannelCascade:
    """The stages of one channel; made by `Cascades.open`.

    Args:
        channel: The channel's bare name.
        stages: Which engines look at what.
        loader: Loads them.
        tallies: Counts, and bounds what is under way in all.
        waker: Is told of crops that were handed over.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        channel: str,
        stages: Sequence[StageConfig],
        loader: StageLoader,
        tallies: Tallies,
        waker: Waker,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channel = channel
        self._loader = loader
        self._tallies = tallies
        self._waker = waker
        self._clock = clock
        self._lock = Lock()
        self._stages: tuple[Stage, ...] = ()
        self._attached: dict[str, Attached] = {}
        self._size: tuple[int, int] | None = None
        self._last_s = -math.inf
        self._wants = False
        self._closed = False
        self.change(stages)

    @property
    def wants_pictures(self) -> bool:
        """Whether the next frames' pictures are to be kept open for it; a glance without the lock."""
        return self._wants

    @property
    def under_way(self) -> int:
        """Looks that are under way."""
        with self._lock:
            return sum(len(stage.under_way) for stage in self._stages)

    def look(
        self,
        picture: Picture | None,
        sample_aspect: Fraction,
        detections: Detections,
        labels: Sequence[str],
        time_s: float,
        hidden: Sequence[Points] = (),
    ) -> None:
        """Have those looked at that are due, as far as there are slots.

        To be called for every analysed frame: what it shows decides, too, whether pictures are wanted next.

        Args:
            picture: The frame's picture, open; left so. None: it was not kept.
            sample_aspect: Width of a coded sample over its height, as the channel's format has it.
            detections: What was found, with `track_ids`: those without one are not looked at yet.
            labels: Names of the detector's classes, by class id.
            time_s: When the frame was taken, capture time.
            hidden: Areas that nobody may see, normalised to the upright picture.
        """
        if not self._stages:
            return
        now = self._clock()
        with self._lock:
            self._write_off(now)
            if picture is not None:
                self._size = picture.width, picture.height
            turns = self._turns(detections, labels, time_s)
            idle = [stage.seat for stage in self._stages if stage.seat.runs is None]
        for seat in idle:
            self._loader.ask(seat)
        if picture is None or not turns:
            return
        cutter = Cutter(picture, sample_aspect, hidden)
        begun = 0
        try:
            for turn in turns:
                begun += self._begin(turn, cutter, time_s)
        except UndecodableError as error:
            _log.debug("nothing can be cut out of a picture of %s: %s", self._channel, error)
        finally:
            if begun:
                self._waker.jobs_ready()

    def attach(self, detections: Detections) -> None:
        """Attach to each detection what is known of its track."""
        known = self._attached
        if known and detections.track_ids:
            attached = tuple(map(known.get, detections.track_ids))
            if any(attached):
                detections.attached = attached

    def results_of(self, track_id: str) -> tuple[StageResult, ...]:
        """Return what is known of a track, one result per stage that has one, in their order."""
        with self._lock:
            found = (stage.subjects.find(track_id) for stage in self._stages)
            return tuple(one.result for one in found if one is not None and one.result is not None)

    def forget(self, track_ids: Iterable[str]) -> None:
        """Forget tracks that ended."""
        if self._stages:
            with self._lock:
                self._forget(track_ids)

    def change(self, stages: Sequence[StageConfig]) -> None:
        """Look with other stages from now on; what stays keeps its engine, and its results where its labels stay."""
        with self._lock:
            if self._closed:
                return
            before = {stage.config.engine: stage for stage in self._stages}
            self._stages = tuple(self._staged(config, before.pop(config.engine, None)) for config in stages)
            self._drop_looks(before.values())
            self._attached = {}
            for stage in self._stages:
                for subject in stage.subjects:
                    self._tell(subject.track_id)
            self._wants = self._wants and bool(self._stages)
            seats = [stage.seat for stage in self._stages if stage.seat.runs is None]
        for stage in before.values():
            self._loader.let_go(stage.seat)
        for seat in seats:
            self._loader.ask(seat)

    def close(self) -> None:
        """Look no more; may be called twice. What is under way ends at its engine, and is for nobody."""
        with self._lock:
            stages, self._stages = self._stages, ()
            self._closed, self._wants, self._attached = True, False, {}
            self._drop_looks(stages)
        for stage in stages:
            self._loader.let_go(stage.seat)

    # -- inside; `_turns` to `_tell` with the lock held ------------------------------------------

    def _turns(self, detections: Detections, labels: Sequence[str], time_s: float) -> list[Turn]:
        """Choose whom to look at, and whether pictures are wanted next."""
        interval_s = time_s - self._last_s
        self._last_s = time_s
        turns: list[Turn] = []
        for stage in self._stages:
            turns += stage.turns(detections, labels, time_s, self._size)
            if len(stage.subjects) > MOST_SUBJECTS:
                self._forget([subject.track_id for subject in stage.subjects][: len(stage.subjects) - MOST_SUBJECTS])
        lead_s = min(max(_LEAD_FRAMES * interval_s, LEAST_LEAD_S), MOST_LEAD_S)
        self._wants = any(stage.due_s <= time_s + lead_s for stage in self._stages)
        return turns

    def _staged(self, config: StageConfig, before: Stage | None) -> Stage:
        """Make a stage, from the one that there was of its engine."""
        if before is None:
            return Stage(config, StageSeat(self._channel, config.engine))
        if before.config.labels != config.labels:
            self._drop_looks((before,))
            return Stage(config, before.seat)
        before.config = config
        return before

    def _forget(self, track_ids: Iterable[str]) -> None:
        track_ids = tuple(track_ids)
        for stage in self._stages:
            stage.subjects.forget(track_ids)
        for track_id in track_ids:
            self._attached.pop(track_id, None)

    def _write_off(self, now: float) -> None:
        """Wait no longer for looks that hang."""
        for stage in self._stages:
            for look in [look for look in stage.under_way if now - look.begun_s > HANGS_S]:
                self._settle(look)
                look.subject.failures += 1
                self._complain(look, "hung", f"no answer in {HANGS_S:g} s")

    def _drop_looks(self, stages: Iterable[Stage]) -> None:
        for stage in stages:
            for look in tuple(stage.under_way):
                self._settle(look)

    def _settle(self, look: Look) -> bool:
        """Take a look off those under way; return whether it was still awaited."""
        if not look.counted:
            return False
        look.counted = False
        del look.stage.under_way[look]
        look.subject.look = None
        self._tallies.give()
        return True

    def _complain(self, look: Look, what: str, why: str) -> None:
        self._tallies.count(look.engine.name, what)
        if not look.stage.complained:
            look.stage.complained = True
            _log.warning("second stage %s fails on %s: %s", look.engine.name, self._channel, why)

    def _tell(self, track_id: str) -> None:
        """Put together what detections of a track carry."""
        found = (stage.subjects.find(track_id) for stage in self._stages)
        attached = attached_of(one.result for one in found if one is not None and one.result is not None)
        if attached is not None:
            self._attached[track_id] = attached

    # -- looks, without the lock ----------------------------------------------------------------

    def _begin(self, turn: Turn, cutter: Cutter, time_s: float) -> bool:
        """Cut an object out and hand it over; return whether there was a slot for it.

        Raises:
            UndecodableError: The picture cannot be converted, nor can others be cut out of it.
        """
        stage, subject, corners = turn
        claim = self._claim(stage)
        if claim is None:
            self._tallies.count(stage.config.engine.name, "no_slot")
            return False
        inference, slot = claim
        look = Look(stage, subject, inference.label, time_s, self._clock())
        with self._lock:
            stage.under_way[look] = None
            subject.look, subject.begun_s = look, time_s
            if stage not in self._stages:
                self._settle(look)
        try:
            inference.fill(slot, cutter.cut(enlarged(corners, stage.config.margin)))
        except Exception as error:
            self._give_back(look, inference, slot, error)
            if isinstance(error, UndecodableError):
                raise
            _log.exception("an object could not be cut out")
            return False
        self._tallies.count(look.engine.name, "begun")
        inference.submit(Surface(slot, partial(self._done, look)))
        return True

    def _claim(self, stage: Stage) -> tuple[InferenceClient, Slot] | None:
        if len(stage.under_way) >= MOST_UNDER_WAY or not self._tallies.take():
            return None
        claim = stage.seat.acquire()
        if claim is None:
            self._tallies.give()
        return claim

    def _give_back(self, look: Look, inference: InferenceClient, slot: Slot, error: Exception) -> None:
        inference.release(slot)
        self._waker.slots_freed()
        with self._lock:
            self._settle(look)
            look.subject.failures += 1
            self._complain(look, "undecodable", f"{type(error).__name__}: {error}")

    def _done(self, look: Look, inference: Inference) -> None:
        """Take an engine's answer; from the engine's thread."""
        result, why = None, inference.error
        try:
            if inference.row is not None:
                result = read(look.engine, inference.row, look.time_s)
        except Exception as error:  # noqa: BLE001 - what cannot be read costs its object a result, not the lane
            why = str(error)
        with self._lock:
            # Of a stage or a channel that is gone none is awaited.
            if not (self._settle(look) and look.stage.subjects.holds(look.subject)):
                self._tallies.count(look.engine.name, "outlived")
            elif result is None:
                look.subject.failures += 1
                self._complain(look, "failed", why)
            else:
                look.subject.result, look.subject.failures = result, 0
                look.stage.complained = False
                self._tell(look.subject.track_id)
                self._tallies.count(look.engine.name, "done")
