"""A session among fakes: a scheduler without threads, a toy decoder, a client that resumes; every step is a call."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

from support_kinds import LetterKinds
from vedette_server.data.config import ChannelConfig, DeliveryPolicy, EngineRef
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.outcome import SkipReason
from vedette_server.data.packet import Packet
from vedette_server.data.verdict import EngineLabel, EngineOutcome
from vedette_server.decode.base import Decoded
from vedette_server.errors import PictureTooLargeError, RefusedError
from vedette_server.execute.client import Inference
from vedette_server.frame import Binding
from vedette_server.metrics import ChannelMetrics
from vedette_server.session.credits import CreditWindow
from vedette_server.session.identity import Identity
from vedette_server.session.inbox import Inbox, InboxLimits
from vedette_server.session.seams import SessionParts
from vedette_server.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vedette_server.execute.client import InferenceClient
    from vedette_server.frame import Frame
    from vedette_server.picture.letterbox import Letterbox
    from vedette_server.session.outgoing import Outgoing

LABEL = EngineLabel("toy", "1", "fake", "detector", ("thing",))
LIMITS = InboxLimits(max_packets=12, max_bytes=100_000, drop_disposable_after_s=5.0, jump_after_s=10.0)
WINDOW = 6
LIVE, EVERY_FRAME = DeliveryPolicy.LIVE, DeliveryPolicy.EVERY_FRAME


class ToyPicture:
    """A picture that knows whether it was let go."""

    width, height, rotation_degrees = 8, 6, 0

    def __init__(self) -> None:
        self.closed = False

    def letterbox_into(self, slot: NDArray[np.uint8], fit: Letterbox) -> None:
        assert not self.closed

    def source(self, fit: Letterbox) -> None:
        assert not self.closed

    def close(self) -> None:
        self.closed = True


class ToyDecoder:
    """Shows all but B pictures one packet late and starts at a keyframe; `!` breaks it, `W` is too wide."""

    def __init__(self, pictures: list[ToyPicture]) -> None:
        self._pictures = pictures
        self._held: list[Decoded] = []
        self._started = False
        self.closed = False

    def decode(self, packet: Packet) -> Sequence[Decoded]:
        assert not self.closed
        kind = packet.data[:1]
        if kind == b"!":
            raise RuntimeError("a bug in the decoder")
        if kind == b"W":
            self._held.append(Decoded(packet, reason=SkipReason.UNDECODABLE))
            raise PictureTooLargeError("PICTURE_TOO_LARGE", "too wide")
        self._started |= kind == b"K"
        if packet.discontinuity and kind != b"K":
            self._started = False
        if not self._started:
            return self._answer(packet, kind, Decoded(packet, reason=SkipReason.LOST_REFERENCE))
        picture = ToyPicture()
        self._pictures.append(picture)
        return self._answer(packet, kind, Decoded(packet, picture, pts=packet.pts))

    def drop(self, packet: Packet, reason: SkipReason) -> Sequence[Decoded]:
        kind = packet.data[:1]
        if kind != b"B":
            self._started = False
        return self._answer(packet, kind, Decoded(packet, reason=reason))

    def flush(self) -> Sequence[Decoded]:
        held, self._held = self._held, []
        self._started = False
        return held

    def close(self) -> None:
        self.closed = True
        for answer in self._held:
            if answer.picture is not None:
                answer.picture.close()

    def _answer(self, packet: Packet, kind: bytes, answer: Decoded) -> Sequence[Decoded]:
        if kind == b"B":
            return [answer]
        held, self._held = self._held, [answer]
        return held


class ToyEngine:
    """What runs the toy, or another version of it."""

    def __init__(self, version: str = "1") -> None:
        self.label = replace(LABEL, version=version)


class ToyReader:
    """Reads nothing out of results; `broken` makes it raise."""

    broken = False

    def read(self, engine_index: int, inference: Inference, frame: Frame) -> EngineOutcome:
        if self.broken:
            raise ValueError("cannot be read")
        assert frame.binding is not None
        return EngineOutcome(frame.binding.inferences[engine_index].label, inference.batch_size)


class ToyScheduler:
    """Remembers who has work; queues frames as the pipeline does."""

    def __init__(self) -> None:
        self.awake = False
        self.present = True
        self.queue: list[Frame] = []
        self.running: list[Frame] = []
        self.rebound = 0

    def update(self, channel: Session) -> None:
        if channel.config.policy is LIVE:
            stale, self.queue = self.queue[:-1], self.queue[-1:]
            for frame in stale:
                channel.skip(frame, SkipReason.SUPERSEDED)
        self.awake = True

    def rebind(self, channel: Session) -> None:
        self.rebound += 1

    def remove(self, channel: Session) -> list[Frame]:
        self.present = False
        frames, self.queue = self.queue, []
        return frames

    def wake(self, channel: Session) -> None:
        self.awake = True

    def offer(self, frame: Frame) -> Frame | None:
        if not self.present:
            return frame
        if frame.channel.config.policy is LIVE and self.queue:
            old, self.queue = self.queue[0], [frame]
            return old
        self.queue.append(frame)
        return None

    def pending(self, channel: Session) -> int:
        return len(self.queue)


class ToyListener:
    """A connection; `gone` once another one took its place."""

    def __init__(self) -> None:
        self.rung = 0
        self.gone = False

    def news(self) -> None:
        self.rung += 1

    def displaced(self) -> None:
        self.gone = True


class ToyWatcher:
    """Notes all that it is shown; skips pictures of packets that say `quiet`, and fails where it is told to."""

    keeps_pictures = False

    def __init__(self, fails_at: Container[int] = (), on_judge: Callable[[], None] = lambda: None) -> None:
        self.fails_at = fails_at
        self.on_judge = on_judge
        self.calls: list[str] = []
        self.judged: list[int] = []
        self.told_indices: dict[int, int | None] = {}
        self.quiet: set[int] = set()
        self.inside = 0

    def attached(self, config: ChannelConfig) -> None:
        self.calls.append("attached")

    def changed(self, config: ChannelConfig) -> None:
        self.calls.append("changed")

    def packet(self, packet: Packet) -> None:
        if not packet.decode_only:
            self.calls.append(f"packet {packet.sequence}")

    def look(self, answers: Sequence[Any]) -> None:
        for answer in answers:
            if answer.picture is not None and answer.packet.sequence in self.quiet and answer.reason is None:
                answer.reason = SkipReason.NO_MOTION
            if answer.packet.sequence in self.fails_at:
                raise RuntimeError("a watcher failed")

    def judge(self, verdict: Any) -> None:
        self.inside += 1
        assert self.inside == 1, "one at a time"
        self.on_judge()
        self.judged.append(verdict.packet.sequence)
        self.inside -= 1
        if verdict.packet.sequence in self.fails_at:
            raise RuntimeError("a watcher failed")

    def told(self, verdict: Any, index: int | None) -> None:
        self.told_indices[verdict.packet.sequence] = index
        if verdict.packet.sequence in self.fails_at:
            raise RuntimeError("a watcher failed")

    def ended(self, end_reason: str) -> None:
        self.calls.append(f"ended {end_reason}")


@dataclass
class Rig:
    """One session, its fakes, and a client of it."""

    policy: DeliveryPolicy = EVERY_FRAME
    omit_skips: bool = False
    first_verdict_index: int = 0
    rejoin_through: int | None = None
    now: float = 100.0
    overs: int = 0
    pictures: list[ToyPicture] = field(default_factory=list)
    decoders: list[ToyDecoder] = field(default_factory=list)
    closing: Any = None
    error: RefusedError | None = None
    listener: ToyListener | None = None
    sent: list[str] = field(default_factory=list)
    told: list[tuple[int, Any]] = field(default_factory=list)
    watcher: ToyWatcher | None = None

    def __post_init__(self) -> None:
        self.scheduler = ToyScheduler()
        self.reader: Any = ToyReader()
        self.metrics = ChannelMetrics("toy", "toy")
        video = VideoFormat(Codec.H264, time_base=Fraction(1, 10))
        self.config = ChannelConfig(
            "toy", video, (EngineRef("toy", "1"),), policy=self.policy, omit_skips=self.omit_skips
        )
        fake: Any = ToyEngine()
        inferences: tuple[InferenceClient, ...] = (fake,)
        parts = SessionParts(
            inferences=inferences,
            bind=lambda _, inferences: Binding(inferences, self.reader),
            open_decoder=self._open_decoder,
            open_inbox=partial(Inbox, LIMITS, self.policy, LetterKinds()),
            open_credits=lambda first, packets, size: CreditWindow(
                WINDOW, 50_000, next_sequence=first, waiting_packets=packets, waiting_bytes=size
            ),
            max_unacknowledged=64,
            scheduler=self.scheduler,
            metrics=self.metrics,
            on_over=self._on_over,
            open_watcher=None if self.watcher is None else self._watch,
        )
        self.session = Session(
            Identity("toy"),
            self.config,
            parts,
            first_verdict_index=self.first_verdict_index,
            rejoin_through=self.rejoin_through,
            clock=lambda: self.now,
        )

    def _watch(self, identity: Identity, config: ChannelConfig) -> Any:
        return self.watcher

    def _open_decoder(self) -> ToyDecoder:
        decoder = ToyDecoder(self.pictures)
        self.decoders.append(decoder)
        return decoder

    def _on_over(self, session: Session) -> None:
        self.overs += 1

    # -- the client ----

    def connect(self) -> Any:
        """Attach a new connection, as a client that resumes when it was connected before."""
        self.listener = ToyListener()
        known = self.session.epoch > 0
        return self.session.attach(
            self.listener, self.next_index if known else None, self.next_sequence if known else None
        )

    def disconnect(self) -> None:
        assert self.listener is not None
        self.session.detach(self.listener)
        self.listener = None

    @property
    def next_index(self) -> int:
        return self.told[-1][0] + 1 if self.told else self.first_verdict_index

    @property
    def next_sequence(self) -> int:
        return len(self.sent) + (self.rejoin_through or 0)

    def send(self, kind: str, **fields: Any) -> None:
        """Send the next packet for the first time."""
        sequence = self.next_sequence
        self.sent.append(kind)
        self.give(sequence, kind, **fields)

    def give(self, sequence: int, kind: str, **fields: Any) -> None:
        data = kind.encode().ljust(20, b".")
        packet = Packet(sequence, data, received_s=self.now, pts=sequence, keyframe=kind == "K", **fields)
        self.session.receive(packet)

    def hear(self, limit: int | None = None) -> Outgoing:
        """Take what the session has to tell."""
        news = self.session.outgoing(limit)
        self.told += news.verdicts
        self.closing = news.closing or self.closing
        self.error = news.error or self.error
        return news

    # -- the pipeline ----

    def work(self) -> None:
        """Let a worker do one step, if the session asked for one."""
        if self.scheduler.awake and self.scheduler.present:
            self.scheduler.awake = False
            self.scheduler.awake |= self.session.work()

    def run(self, *, error: str = "", stale: bool = False) -> None:
        """Let the engine answer the frame that waited longest."""
        if not self.scheduler.queue:
            return
        frame = self.scheduler.queue.pop(0)
        if stale:
            self.session.skip(frame, SkipReason.STALE)
            return
        frame.binding = self.session.binding
        frame.missing, frame.outcomes = 1, [None]
        frame.picture.close()
        self.scheduler.running.append(frame)
        if not error:
            self.finish()
        else:
            self.finish(error=error)

    def finish(self, *, error: str = "") -> None:
        """Let the engine end what it runs."""
        running, self.scheduler.running = self.scheduler.running, []
        for frame in reversed(running):  # as they please
            row: Any = None if error else object()
            self.session.infer(frame, 0, Inference(row, len(running), self.now, self.now, error))

    def settle_all(self) -> None:
        """Go on until nothing is left to do."""
        for _ in range(1000):
            self.work()
            self.run()
            if not (self.scheduler.awake and self.scheduler.present) and not self.scheduler.queue:
                return
        raise AssertionError("it never comes to rest")


def reasons(rig: Rig) -> dict[int, SkipReason | None]:
    """Tell the verdicts that the client heard."""
    return {verdict.packet.sequence: verdict.reason for _, verdict in rig.told}


def rig(**wishes: object) -> Rig:
    """Build a session with a connected client."""
    made = Rig(**wishes)  # type: ignore[arg-type]
    made.connect()
    return made


def stream(made: Rig, kinds: str) -> None:
    """Send packets one by one, and hear and acknowledge what becomes of them."""
    for kind in kinds:
        made.send(kind)
        made.settle_all()
        made.hear()
        if made.told:
            made.session.acknowledge(made.told[-1][0])
