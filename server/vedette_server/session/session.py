"""One channel's session: packets in, verdicts out.

Owns the channel's intake, decoder and books. The edge calls it from the event loop, a pipeline worker calls `work` (one
at a time), lanes call `infer`. One lock guards the state; it is never held while the pipeline, the decoder or the
listener is called.

A session outlives its connection: it goes on with what it has received, and keeps its verdicts until they are
acknowledged. It is over when its input has ended and every packet has its verdict.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, ClassVar

from vedette_server.data.config import DeliveryPolicy
from vedette_server.data.outcome import SkipReason
from vedette_server.errors import LimitError, RefusedError
from vedette_server.session.admission import Admission
from vedette_server.session.advice import Advice
from vedette_server.session.books import Books
from vedette_server.session.bound import Bound
from vedette_server.session.intake import Intake
from vedette_server.session.judging import frame_verdict, note, read_outcome
from vedette_server.session.offering import Offering
from vedette_server.session.outgoing import Outgoing
from vedette_server.session.releasing import Releasing
from vedette_server.session.seams import Attachment
from vedette_server.session.seat import DecoderSeat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_server.data.config import ChannelConfig
    from vedette_server.data.packet import Packet
    from vedette_server.data.verdict import Verdict
    from vedette_server.decode.base import Decoded
    from vedette_server.execute.client import Inference, InferenceClient
    from vedette_server.frame import Binding, Frame
    from vedette_server.session.accounts import AccountSnapshot
    from vedette_server.session.identity import Identity
    from vedette_server.session.seams import Listener, SessionParts


class Session:
    """The state of one channel's session.

    Args:
        identity: Its names.
        config: The configuration in effect.
        parts: What it is built from.
        first_verdict_index: Where numbering goes on when an earlier server's state was lost.
        rejoin_through: The client's next sequence in that case: its first packet may be any up to it.
        clock: Monotonic seconds.

    Attributes:
        bound: What its frames are bound to.
        detached_s: When its connection was lost, monotonic seconds; None while connected.
        ended_s: When it was over, monotonic seconds; None before.
        ended_wall_s: The same, seconds since the epoch.
        end_reason: Why it ended, UPPER_SNAKE; empty before.
    """

    waits: ClassVar = True

    def __init__(
        self,
        identity: Identity,
        config: ChannelConfig,
        parts: SessionParts,
        *,
        first_verdict_index: int = 0,
        rejoin_through: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.identity = identity
        self.config = config
        self.epoch = 0
        self.detached_s: float | None = None
        self.ended_s: float | None = None
        self.ended_wall_s: float | None = None
        self.end_reason = ""
        self._parts = parts
        self.bound = Bound(parts.bind, config, parts.inferences)
        self._clock = clock
        self._lock = threading.Lock()
        self._intake = Intake(parts.open_inbox(), parts.open_credits, config.policy, rejoin_through)
        self._watcher = watcher = parts.open_watcher(identity, config) if parts.open_watcher else None
        self._books = Books(parts.metrics, parts.max_unacknowledged, first_verdict_index, clock, parts.trace)
        self._releasing = Releasing(self._lock, self._books, watcher)
        self._books.omit_skips = config.omit_skips
        self._seat = DecoderSeat(parts.open_decoder, parts.trace)
        self._admission = Admission(self._books, config)
        self._offering = Offering(self._lock, self._admission, parts, watcher, clock)
        self._advice = Advice(self._intake, self._books)
        self._listener: Listener | None = None
        self._flushing = self._drained = False
        self._ending: SkipReason | None = None
        self._error: RefusedError | None = None
        # On this connection: the client has sent all, and was told all.
        self._half_closed = self._told_over = False

    def attach(self, listener: Listener, next_verdict_index: int | None, next_sequence: int | None) -> Attachment:
        """Give the session a connection; one that it had is displaced.

        Args:
            listener: The new connection.
            next_verdict_index: The first verdict that a resuming client lacks; None for a new session.
            next_sequence: The first packet that a resuming client never sent; None for a new session.

        Raises:
            InvalidError: The client claims verdicts that were never numbered.
        """
        with self._lock:
            restored = self.epoch > 0
            if restored and next_verdict_index is not None:
                self._books.rewind(next_verdict_index)
            old, self._listener = self._listener, listener
            self.epoch += 1
            self.detached_s = None
            self._half_closed = self._told_over = False
            self._advice.restart()
            self._books.telling = True
            if restored and self._ending is None:
                if self._intake.closed:
                    self._take_up_again(next_sequence or 0)
                self._intake.reconnect()
            attachment = Attachment(
                epoch=self.epoch,
                next_sequence=self._intake.next_sequence,
                next_verdict_index=self._books.ledger.send_cursor,
                keyframe_needed=self._intake.rejoining or not restored,
                restored=restored,
                flow=self._advice.flow(self.config, self._clock()),
            )
        if old is not None and old is not listener:
            old.displaced()
        if self._watcher is not None:
            self._watcher.attached(self.config)
        return attachment

    def detach(self, listener: Listener) -> None:
        """Take the session's connection away, unless another one has taken its place."""
        with self._lock:
            if self._listener is listener:
                self._listener = None
                self.detached_s = self._clock()

    def receive(self, packet: Packet, client_dropped: int = 0) -> None:
        """Take a packet in.

        Raises:
            InvalidError: Its sequence is not the next one, or the input has ended.
            LimitError: It goes beyond the credits, or verdicts were not acknowledged.
        """
        size = len(packet.data)
        with self._lock:
            if self._ending is not None:
                return
            self._intake.check(packet)
            if self._watcher is not None:
                self._watcher.packet(packet)
            self._books.receive(packet, size, client_dropped)
            try:
                self._books.check_acknowledged()
                self._intake.put(packet, size)
            except LimitError:
                # It was booked, so it must be judged, too.
                self._intake.refuse()
                self._books.refuse([packet], SkipReason.OVERLOAD)
                raise
        self._parts.scheduler.wake(self)

    def acknowledge(self, through_index: int) -> None:
        """Let go of verdicts that the client has.

        Raises:
            InvalidError: A verdict that was never numbered is acknowledged.
        """
        with self._lock:
            self._books.acknowledge(through_index)
            self._intake.acknowledged(through_index)

    def update(self, config: ChannelConfig) -> int:
        """Take over a changed configuration; return the first sequence that it holds for.

        Raises:
            InvalidError: What runs its engines cannot serve it; nothing has changed.
        """
        with self._lock:
            self.bound.change(config, self.bound.now.inferences)
            self.config = config
            self._admission.set_max_fps(config.max_fps)
            self._books.omit_skips = config.omit_skips
            self._advice.due |= self._intake.set_policy(config.policy, self._books.ledger.send_cursor)
            from_sequence = self._intake.high_water
        if self._watcher is not None:
            self._watcher.changed(config)
        self._parts.scheduler.rebind(self)
        self._parts.scheduler.update(self)
        self._ring()
        return from_sequence

    def rebind(self, inferences: tuple[InferenceClient, ...]) -> None:
        """Run the engines elsewhere from the next frame on whose turn comes; any thread may call it.

        Raises:
            InvalidError: They cannot serve the configuration; nothing has changed.
        """
        with self._lock:
            self.bound.change(self.config, inferences)
        self._parts.scheduler.rebind(self)

    def finish(self) -> None:
        """Take note that the client has sent all: decode what is left, then close the account."""
        with self._lock:
            self._half_closed = self._intake.closed = True
        self._parts.scheduler.wake(self)
        self._ring()

    def end(self, end_reason: str, skip: SkipReason, error: RefusedError | None = None) -> None:
        """End the session now: what has no verdict gets ``skip``.

        Args:
            end_reason: UPPER_SNAKE, for the books.
            skip: The reason in the verdicts.
            error: What the connection is told.
        """
        with self._lock:
            if self._ending is not None or self.over:
                return
            self._ending = skip
            self._error = error
            self.end_reason = end_reason
        self._parts.scheduler.wake(self)

    def let_go(self) -> None:
        """Keep verdicts for nobody: the session will not be resumed."""
        with self._lock:
            if self._listener is None:
                self._books.let_go()

    def outgoing(self, limit: int | None = None) -> Outgoing:
        """Return what is to be told now, at most ``limit`` verdicts of it."""
        with self._lock:
            news = Outgoing(self._books.ledger.unsent(limit), self._advice.flow(self.config, self._clock()))
            # A client that came back may have more to send than the session thought: it says when it has not.
            told_all = self._books.all_sent and (self._half_closed or self._ending is not None)
            # Not before the end was noted: who was told must find it so when it asks.
            if self.ended_s is not None and told_all and not self._told_over:
                self._told_over = True
                news.closing = self._books.account.snapshot()
                news.error = self._error
            return news

    @property
    def binding(self) -> Binding:
        """What frames run on whose turn comes now."""
        return self.bound.now

    @property
    def over(self) -> bool:
        """Whether the input has ended and every packet has its verdict."""
        return self._drained and self._books.account.closed

    def needs_channel(self, next_sequence: int) -> bool:
        """Whether a client that comes back with this packet next has more to send, or the session more to judge."""
        return self._ending is None and (not self.over or next_sequence > self._intake.high_water)

    @property
    def connected(self) -> bool:
        """Whether a client is connected."""
        return self._listener is not None

    @property
    def account(self) -> AccountSnapshot:
        """The totals so far."""
        with self._lock:
            return self._books.account.snapshot()

    @property
    def depths(self) -> tuple[int, int]:
        """Packets that wait for a decoder, and verdicts that wait for an acknowledgement."""
        with self._lock:
            return len(self._intake.inbox), self._books.ledger.unacknowledged

    def work(self) -> bool:
        """Decode one packet, flush, or wind up; tell whether there is more to do."""
        with self._lock:
            if self._drained and self._ending is None:
                return False
            ending = self._ending
            taken = None if ending is not None else self._intake.take(self._clock())
            if taken is not None:
                self._advice.keyframe_request |= taken.keyframe_request
                self._flushing = taken.packet is None and self._intake.closed
                if taken.packet is not None:
                    self._admission.fed(taken.packet)
        if taken is None:
            self._wind_up(ending or SkipReason.SESSION_LOST)
            return False
        answers: list[Decoded] = []
        try:
            self._seat.feed(taken, answers)
        except RefusedError as error:
            self._take_answers(answers)
            self.end(error.reason, SkipReason.UNDECODABLE, error)
            return True
        if self._flushing:
            self._seat.vacate(answers)
        self._take_answers(answers)
        if self._flushing:
            self._flushed()
            return False
        with self._lock:
            return bool(len(self._intake.inbox)) or self._intake.closed or self._ending is not None

    def skip(self, frame: Frame, reason: SkipReason, detail: str = "") -> None:
        """Settle a frame that is not analysed."""
        frame.picture.close()
        self._settle(frame.place, frame_verdict(frame, reason, detail))

    def infer(self, frame: Frame, engine_index: int, inference: Inference) -> None:
        """Take one engine's result; settle the frame with the last of them."""
        started = self._clock()
        outcome, failure = read_outcome(engine_index, inference, frame)
        with self._lock:
            last = note(frame, engine_index, outcome, failure, inference, (started, self._clock()), self._parts.trace)
        if last:
            reason = SkipReason.ENGINE_ERROR if frame.failure else None
            self._settle(frame.place, frame_verdict(frame, reason, frame.failure))

    def _take_up_again(self, next_sequence: int) -> None:
        """Reopen the input of a client that came back; the lock is held.

        It will say again when it has sent all. A decoder that was flushed, or is being flushed now, is spent:
        then more packets must begin at a keyframe.
        """
        if not (self._flushing or self._drained):
            self._intake.closed = False
        elif next_sequence > self._intake.high_water:
            self._intake.reopen()
            self._drained = False
            self.ended_s = self.ended_wall_s = None
            self.end_reason = ""

    def _take_answers(self, answers: Sequence[Decoded], refuse: SkipReason | None = None) -> None:
        settled = self._offering.take(self, answers, refuse)
        # A glance: whoever missed a wish sees it with the next packet.
        if settled or self._advice.keyframe_request or self.config.policy is DeliveryPolicy.EVERY_FRAME:
            self._ring()
        if self._releasing.drain():
            self._told()

    def _flushed(self) -> None:
        with self._lock:
            self._flushing = False
            # A client that came back meanwhile has reopened the input: then a new decoder goes on.
            self._drained = self._intake.closed
        self._close_if_over()

    def _wind_up(self, skip: SkipReason) -> None:
        """Let go of everything that still waits."""
        answers: list[Decoded] = []
        self._seat.vacate(answers)
        self._take_answers(answers, refuse=skip)
        for frame in self._parts.scheduler.remove(self):
            self.skip(frame, skip)
        with self._lock:
            self._books.refuse(self._intake.inbox.drain(), skip)
            self._drained = True
        self._releasing.drain()
        self._close_if_over()

    def _settle(self, place: int, verdict: Verdict) -> None:
        with self._lock:
            self._books.settle(place, verdict)
        self._releasing.drain()
        self._told()

    def _told(self) -> None:
        self._ring()
        self._close_if_over()

    def _ring(self) -> None:
        if (listener := self._listener) is not None:
            listener.news()

    def _close_if_over(self) -> None:
        with self._lock:
            if not self.over or self.ended_s is not None:
                return
            self.ended_s = self._clock()
            self.ended_wall_s = time.time()
            self.end_reason = self.end_reason or "FINISHED"
        self._ring()
        if self._watcher is not None:
            self._watcher.ended(self.end_reason)
        self._parts.on_over(self)
