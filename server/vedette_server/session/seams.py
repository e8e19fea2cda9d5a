"""What a session meets: the pipeline, a connection, and the parts that it is built from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_server.data.config import ChannelConfig
    from vedette_server.data.packet import Packet
    from vedette_server.data.verdict import Verdict
    from vedette_server.decode.base import Decoded, Decoder
    from vedette_server.execute.client import InferenceClient
    from vedette_server.frame import Binding, Frame
    from vedette_server.metrics import ChannelMetrics
    from vedette_server.session.credits import CreditWindow
    from vedette_server.session.identity import Identity
    from vedette_server.session.inbox import Inbox
    from vedette_server.session.outgoing import Flow
    from vedette_server.session.session import Session
    from vedette_server.trace import ChannelTrace


class Scheduler(Protocol):
    """What a session needs of the pipeline."""

    def update(self, channel: Session) -> None:
        """Take over a channel's new priority and policy."""
        ...

    def remove(self, channel: Session) -> list[Frame]:
        """Let a channel go and return its frames that waited for their turn."""
        ...

    def rebind(self, channel: Session) -> None:
        """Take over what a channel is bound to now, for all frames whose turn has not come."""
        ...

    def wake(self, channel: Session) -> None:
        """Say that a channel has work."""
        ...

    def offer(self, frame: Frame) -> Frame | None:
        """Let a frame wait for its turn; return the one that it displaced, if any."""
        ...

    def pending(self, channel: Session) -> int:
        """Return how many of a channel's frames wait for their turn."""
        ...


class Listener(Protocol):
    """A connection that waits for news."""

    def news(self) -> None:
        """Say, from any thread, that `Session.outgoing` has something."""
        ...

    def displaced(self) -> None:
        """Say, from the event loop, that another connection took the session over."""
        ...


class Watcher(Protocol):
    """Who looks at all that passes through a session: the monitor of its channel."""

    @property
    def keeps_pictures(self) -> bool:
        """Whether verdicts are to bring their pictures along, still open; whoever looks does not close them."""
        ...

    def attached(self, config: ChannelConfig) -> None:
        """Take note that a client is connected; on the event loop."""
        ...

    def changed(self, config: ChannelConfig) -> None:
        """Take note of another configuration; on the event loop."""
        ...

    def packet(self, packet: Packet) -> None:
        """Take note of a packet that was let in, and set its `time_s`; quick, the session's lock is held."""
        ...

    def look(self, answers: Sequence[Decoded]) -> None:
        """Look at what was decoded, pictures open; may give an answer a reason why its picture is not analysed."""
        ...

    def judge(self, verdict: Verdict) -> None:
        """Look at a verdict before it is told: in presentation order, one at a time."""
        ...

    def told(self, verdict: Verdict, index: int | None) -> None:
        """Take note that a verdict was numbered, None: it was not; quick, the session's lock is held."""
        ...

    def ended(self, end_reason: str) -> None:
        """Take note that the session is over."""
        ...


@dataclass(frozen=True, slots=True)
class SessionParts:
    """What a session is built from.

    Attributes:
        inferences: What runs its engines at first.
        bind: Builds what frames are bound to from a configuration and what runs its engines; raises InvalidError
            where they do not fit.
        open_decoder: Builds a fresh decoder.
        open_inbox: Builds the inbox.
        open_credits: Builds a credit window from the next sequence and the packets and bytes that wait.
        max_unacknowledged: Verdicts that may wait for an acknowledgement.
        scheduler: The pipeline.
        metrics: The channel's figures.
        on_over: Called once, from any thread, when the session is over.
        trace: Records its frames' way; None: no trace is written.
        open_watcher: Gives who looks at the session; None: nobody does.
    """

    inferences: tuple[InferenceClient, ...]
    bind: Callable[[ChannelConfig, tuple[InferenceClient, ...]], Binding]
    open_decoder: Callable[[], Decoder]
    open_inbox: Callable[[], Inbox]
    open_credits: Callable[[int, int, int], CreditWindow]
    max_unacknowledged: int
    scheduler: Scheduler
    metrics: ChannelMetrics
    on_over: Callable[[Session], None]
    trace: ChannelTrace | None = None
    open_watcher: Callable[[Identity, ChannelConfig], Watcher] | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """How a connection finds the session.

    Attributes:
        epoch: Which connection of the session it is, from 1.
        next_sequence: The next packet that the session wants to judge.
        next_verdict_index: The next verdict that will be sent.
        keyframe_needed: The decoder holds nothing.
        restored: The session's state goes on.
        flow: The first credits.
    """

    epoch: int
    next_sequence: int
    next_verdict_index: int
    keyframe_needed: bool
    restored: bool
    flow: Flow | None
