"""One source on its way through one stream, and whoever listens to its packets and verdicts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from vedette_client.cli.tally import Tally
from vedette_client.cli.timed import Due, TimedSource
from vedette_client.errors import ClientError

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from vedette_client import Account, AnalyzeOptions, Client, Stream
    from vedette_client.sources import Source, SourceFormat, SourcePacket
    from vedette_client.verdicts import Verdict


class State(StrEnum):
    """Where a camera stands."""

    OPENING = "opening"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


class Listener(Protocol):
    """Takes what one camera sends and gets; called on the loop, must not block."""

    def opened(self, form: SourceFormat) -> None:
        """Begin: the source contains this."""
        ...

    def sent(self, sequence: int, packet: SourcePacket) -> None:
        """Take a packet that was sent, in decoding order."""
        ...

    def judged(self, verdict: Verdict, age_s: float) -> None:
        """Take a verdict, with its age since the packet was due."""
        ...

    async def close(self) -> None:
        """Finish; called once, also when the camera failed or was never opened."""
        ...


@dataclass(frozen=True, slots=True)
class Shot:
    """What is to be sent, and how it is called.

    Attributes:
        spec: The source as the command line names it.
        channel: Name of the channel.
        source: The source.
        options: What is wanted of it.
        length_s: How long it is; None when unknown or without an end.
        duration_s: End it after so long; None: at its own end.
    """

    spec: str
    channel: str
    source: Source
    options: AnalyzeOptions
    length_s: float | None = None
    duration_s: float | None = None


class Camera:
    """Sends one source and counts what comes back.

    Args:
        shot: What is to be sent.
        stop: Ends the source when set.
        listeners: Who else wants to know.

    Attributes:
        tally: What was counted.
        state: Where it stands.
        error: What it failed of.
        account: The closing account, on which client and server agree; None before the end.
        form: What the source contains; None before it runs.
        stream: Its stream; None before it runs.
    """

    def __init__(self, shot: Shot, stop: threading.Event, listeners: Sequence[Listener] = ()) -> None:
        self.shot = shot
        self.tally = Tally()
        self.state = State.OPENING
        self.error: ClientError | OSError | None = None
        self.account: Account | None = None
        self.form: SourceFormat | None = None
        self.stream: Stream | None = None
        self._stop = stop
        self._listeners = listeners
        self._first_pts: int | None = None

    async def run(self, client: Client) -> None:
        """Send it all and take every verdict; failures are kept in `error`."""
        try:
            await self._run(client)
            self.state = State.FINISHED
        except (ClientError, OSError) as error:
            self.error, self.state = error, State.FAILED
        finally:
            for listener in self._listeners:
                await self._close(listener)

    async def _run(self, client: Client) -> None:
        source = TimedSource(self.shot.source, self._stop, self.shot.duration_s)
        analysis = await client.start(source, self.shot.channel, self.shot.options, on_sent=self._sent)
        async with analysis:
            # Nothing is sent before this task waits again.
            self.stream, self.form, self.state = analysis.stream, analysis.stream.format, State.RUNNING
            for listener in self._listeners:
                listener.opened(self.form)
            while verdicts := await analysis.read():
                self._judged(verdicts)
            self.account = analysis.stream.account

    def _sent(self, sequence: int, packet: SourcePacket) -> None:
        self.tally.add_sent(time.monotonic())
        for listener in self._listeners:
            listener.sent(sequence, packet)

    def _judged(self, verdicts: Sequence[Verdict]) -> None:
        now_s = time.monotonic()
        for verdict in verdicts:
            age_s = now_s - _due_s(verdict, now_s)
            self.tally.add_verdict(verdict, age_s, now_s)
            self._move_to(verdict.pts)
            for listener in self._listeners:
                listener.judged(verdict, age_s)

    def _move_to(self, pts: int | None) -> None:
        if pts is None or self.form is None:
            return
        if self._first_pts is None:
            self._first_pts = pts
        self.tally.position_s = float((pts - self._first_pts) * self.form.time_base)

    async def _close(self, listener: Listener) -> None:
        try:
            await listener.close()
        except OSError as error:
            self.error, self.state = self.error or error, State.FAILED


def _due_s(verdict: Verdict, now_s: float) -> float:
    due = verdict.packet.truth if verdict.packet is not None else None
    return due.at_s if isinstance(due, Due) else now_s
