"""Which session holds which channel, who may resume one, and what became of the rest.

Called from the event loop: a session that is over and one that a client comes back to are the same one,
and only what happens on one thread happens in one order. One lock guards the tables for those that read
them from other threads, and is not held while a session is called.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from vedette_server.data.outcome import SkipReason
from vedette_server.errors import ConflictError, DisplacedError, InvalidError, LimitError, NotFoundError
from vedette_server.session.ended import EndedSession
from vedette_server.session.identity import Identity
from vedette_server.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.data.config import ChannelConfig, EngineRef
    from vedette_server.session.seams import SessionParts

REMEMBERED_SESSIONS = 4096


def _names_the_same(config: ChannelConfig, session: Session) -> bool:
    """Whether a configuration names the engines of a session: a version that one of them leaves open fits any.

    A client that fixes the version which it was told was running means the engine that the session left open.
    """
    ours = session.config.engines
    return len(ours) == len(config.engines) and all(
        own.name == ref.name and (not ref.version or ref.version == own.version or _was_told(own, ref, session))
        for own, ref in zip(ours, config.engines, strict=True)
    )


def _was_told(own: EngineRef, ref: EngineRef, session: Session) -> bool:
    return not own.version and ref in session.bound.versions


class Registry:
    """The sessions of this process.

    Args:
        max_channels: Most channels that hold a session at once.
        resume_window_s: How long a session outlives its connection, and its end.
        on_taken: Called from the event loop when a session begins to hold its channel.
        on_gone: Called from the event loop when a session is over, and whether its channel is free now.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        max_channels: int,
        resume_window_s: float,
        on_taken: Callable[[Session], None],
        on_gone: Callable[[Session, bool], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_channels = max_channels
        self._resume_window_s = resume_window_s
        self._on_taken = on_taken
        self._on_gone = on_gone
        self._clock = clock
        self._lock = threading.Lock()
        self._holders: dict[str, Session] = {}
        self._resumable: dict[str, Session] = {}
        self._remembered: OrderedDict[str, Session | EndedSession] = OrderedDict()
        # Sessions that can no longer be resumed, until they are over.
        self._leaving: list[Session] = []

    def resumable(self, token: str, config: ChannelConfig) -> Session | None:
        """Return the session that a token resumes, or None when its state was lost.

        Raises:
            InvalidError: The token is another channel's, or the stream is not the one that was cut.
        """
        with self._lock:
            session = self._resumable.get(token)
        if session is None:
            return None
        if session.identity.channel != config.channel:
            raise InvalidError("RESUME_MISMATCH", f"resume.session_token is not one of channel {config.channel}")
        if session.config.format != config.format or not _names_the_same(config, session):
            raise InvalidError("RESUME_MISMATCH", "a resumed stream must keep its format and its engines")
        return session

    def check_free(self, channel: str, *, takeover: bool) -> None:
        """Make sure that a new session may take a channel.

        Raises:
            ConflictError: A connected session holds it.
            LimitError: All channels are taken.
        """
        with self._lock:
            holder = self._holders.get(channel)
            full = holder is None and len(self._holders) >= self._max_channels
        if holder is not None and holder.connected and not takeover:
            raise ConflictError(
                "CHANNEL_TAKEN",
                f"channel {channel} has a live stream; bring its session token, or set takeover",
                channel=channel,
            )
        if full:
            raise LimitError("TOO_MANY_CHANNELS", f"{self._max_channels} channels are connected; no more are allowed")

    def create(self, config: ChannelConfig, parts: SessionParts, resume: tuple[int, int] | None) -> Session:
        """Build a session for a channel; the one that held it ends.

        Args:
            config: The configuration in effect.
            parts: What it is built from.
            resume: The next verdict index and the next sequence of a client whose session was lost.
        """
        identity = Identity(config.channel)
        if resume is None:
            session = Session(identity, config, parts, clock=self._clock)
        else:
            verdict_index, sequence = resume
            session = Session(
                identity,
                config,
                parts,
                first_verdict_index=verdict_index,
                rejoin_through=sequence,
                clock=self._clock,
            )
        with self._lock:
            holder = self._holders.get(config.channel)
            self._holders[config.channel] = session
            self._resumable[identity.token] = session
            self._remembered[identity.name] = session
            self._trim()
        if holder is not None:
            self._forget_token(holder)
            holder.let_go()
            error = DisplacedError("TAKEN_OVER", f"another stream took channel {config.channel} over")
            holder.end("TAKEN_OVER", SkipReason.SESSION_LOST, error)
        self._on_taken(session)
        return session

    def over(self, session: Session) -> None:
        """Take note that a session is over; it can still be resumed to hear its last words."""
        if not session.over:
            # Its client came back with more, between the end and the news of it.
            return
        with self._lock:
            holder = self._holders.get(session.identity.channel)
            if holder is session:
                del self._holders[session.identity.channel]
        self._on_gone(session, holder in {None, session})

    def check_holder(self, session: Session, next_sequence: int) -> None:
        """Make sure, before a resumed session is attached, that it can have its channel if it needs it.

        A session that is over gives its channel up, and is taken up again by a client that has more to send.

        Args:
            session: The session.
            next_sequence: The first packet that its client never sent.

        Raises:
            ConflictError: Another session took the channel meanwhile.
            LimitError: All channels are taken.
        """
        channel = session.identity.channel
        if not session.needs_channel(next_sequence):
            return
        with self._lock:
            holder = self._holders.get(channel, session)
        if holder is not session:
            raise ConflictError("CHANNEL_TAKEN", f"another session took channel {channel} meanwhile", channel=channel)
        self.check_free(channel, takeover=True)

    def hold_again(self, session: Session) -> None:
        """Give a resumed session its channel back; `check_holder` has found it free."""
        if session.over:
            return
        with self._lock:
            self._holders[session.identity.channel] = session
        self._on_taken(session)

    def sweep(self) -> None:
        """End sessions whose client did not come back in time."""
        now = self._clock()
        with self._lock:
            sessions = list(self._resumable.values())
        for session in sessions:
            since = [moment for moment in (session.ended_s, session.detached_s) if moment is not None]
            if session.connected or not since or now - max(since) < self._resume_window_s:
                continue
            self._forget_token(session)
            session.end("CONNECTION_LOST", SkipReason.SESSION_LOST)
            session.let_go()
        self._slim()

    def get(self, channel: str, session_id: str) -> Session | EndedSession:
        """Find a session, also after its end; `-` means the channel's latest.

        Raises:
            NotFoundError: It is unknown or forgotten.
        """
        with self._lock:
            if session_id == "-":
                for session in reversed(self._remembered.values()):
                    if session.identity.channel == channel:
                        return session
            found = self._remembered.get(f"channels/{channel}/sessions/{session_id}")
        if found is None:
            raise NotFoundError("SESSION_NOT_FOUND", f"session {session_id} of channel {channel} is not known")
        return found

    def all(self) -> list[Session | EndedSession]:
        """Return the remembered sessions, newest first."""
        with self._lock:
            return list(reversed(self._remembered.values()))

    def holder(self, channel: str) -> Session | None:
        """Return the session that holds a channel; None: nobody does. Any thread."""
        return self._holders.get(channel)

    def remove(self, channel: str) -> None:
        """End the session that holds a channel: the channel was deleted."""
        holder = self._holders.get(channel)
        if holder is not None:
            error = NotFoundError("CHANNEL_DELETED", f"channel {channel} was deleted", channel=channel)
            holder.end("CHANNEL_DELETED", SkipReason.SESSION_LOST, error)

    @property
    def live(self) -> list[Session]:
        """The sessions that hold a channel."""
        with self._lock:
            return list(self._holders.values())

    def _forget_token(self, session: Session) -> None:
        with self._lock:
            if self._resumable.pop(session.identity.token, None) is not None:
                self._leaving.append(session)

    def _slim(self) -> None:
        """Keep of sessions that are over and done with no more than their accounts."""
        with self._lock:
            leaving, self._leaving = self._leaving, []
        for session in leaving:
            session.let_go()
        done = [session for session in leaving if session.ended_wall_s is not None and not session.connected]
        ended = [EndedSession.of(session) for session in done]
        with self._lock:
            self._leaving += [session for session in leaving if session not in done]
            for one in ended:
                if one.identity.name in self._remembered:
                    self._remembered[one.identity.name] = one

    def _trim(self) -> None:
        while len(self._remembered) > REMEMBERED_SESSIONS:
            name, session = next(iter(self._remembered.items()))
            if not session.over:
                # The oldest one still lives: look at it again when the next one comes.
                self._remembered.move_to_end(name)
                return
            del self._remembered[name]
