"""A small server that keeps the contract of `StreamService`, for the client's tests.

Its codec is a toy with real references: a packet's bytes are `PTS:REF,REF;padding`, a picture is decoded when
all it refers to was decoded before, and pictures leave in presentation order, `delay` packets late. So a
decoder that starts in the wrong place shows itself.

It can cut a call after a number of messages in either direction, and forget everything when it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from vedette.v1 import analysis_pb2, session_pb2, session_pb2_grpc, stream_pb2, stream_pb2_grpc


@dataclass
class Toy:
    """The toy decoder: what it holds, and what it will still give out."""

    delay: int = 2
    have: set[int] = field(default_factory=set)
    keys: deque[int] = field(default_factory=lambda: deque(maxlen=2))
    heap: list[tuple[int, int, Any, bool]] = field(default_factory=list)
    order: itertools.count = field(default_factory=itertools.count)

    def feed(self, packet: stream_pb2.Packet) -> list[tuple[stream_pb2.Packet, bool]]:
        head, _, _ = packet.data.partition(b";")
        pts_text, _, refs_text = head.partition(b":")
        pts = int(pts_text)
        refs = [int(ref) for ref in refs_text.split(b",") if ref]
        if packet.keyframe:
            if len(self.keys) == 2:
                oldest = self.keys[1]
                self.have = {p for p in self.have if p >= oldest}
            self.keys.append(pts)
        good = all(ref in self.have for ref in refs)
        if good:
            self.have.add(pts)
        heapq.heappush(self.heap, (pts, next(self.order), packet, good))
        given = []
        while len(self.heap) > self.delay:
            given.append(heapq.heappop(self.heap)[2:])
        return given

    def flush(self) -> list[tuple[stream_pb2.Packet, bool]]:
        given = [entry[2:] for entry in sorted(self.heap, key=lambda e: e[:2])]
        self.heap.clear()
        return given


@dataclass
class FakeSession:
    """What the server remembers of one session."""

    name: str
    token: str
    channel: str
    config: stream_pb2.StreamConfig
    decoder: Toy
    next_sequence: int | None
    next_index: int
    epoch: int = 0
    ledger: deque[analysis_pb2.FrameVerdict] = field(default_factory=deque)
    account: session_pb2.Account = field(default_factory=session_pb2.Account)
    skipped: Counter[int] = field(default_factory=Counter)
    settled: set[int] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)
    partial: list[stream_pb2.Packet] = field(default_factory=list)
    finished: bool = False
    live: Any = None

    def take(self, packet: stream_pb2.Packet, reasons: dict[int, int]) -> None:
        if packet.last_fragment:
            self.partial.append(packet)
            assert packet.fragment_index == len(self.partial) - 1, "fragments out of order"
            if packet.fragment_index < packet.last_fragment:
                return
            whole = self.partial[0]
            whole.data = b"".join(part.data for part in self.partial)
            self.partial, packet = [], whole
        if self.next_sequence is None:
            self.next_sequence = packet.sequence
        assert packet.sequence == self.next_sequence, f"packet {packet.sequence} after {self.next_sequence - 1}"
        self.next_sequence += 1
        if packet.decode_only or packet.sequence in self.settled:
            packet.decode_only = True
            self.account.decode_only += 1
        elif packet.sequence not in self.seen:
            self.account.packets_received += 1
            self.account.bytes_received += len(packet.data)
            self.account.client_dropped += packet.client_dropped_before
        self.seen.add(packet.sequence)
        self.judge(self.decoder.feed(packet), reasons)

    def judge(self, given: list[tuple[stream_pb2.Packet, bool]], reasons: dict[int, int]) -> None:
        for packet, good in given:
            if packet.decode_only:
                continue
            assert packet.sequence not in self.settled, f"packet {packet.sequence} judged twice"
            self.settled.add(packet.sequence)
            reason = reasons.get(packet.sequence, 0 if good else analysis_pb2.SKIP_REASON_LOST_REFERENCE)
            if reason:
                self.skipped[reason] += 1
            else:
                self.account.analysed += 1
            if reason and self.config.omit_skips:
                continue
            verdict = analysis_pb2.FrameVerdict(verdict_index=self.next_index, sequence=packet.sequence)
            verdict.frame_pts = packet.pts
            if reason:
                verdict.skip.reason = reason  # type: ignore[assignment]
            else:
                verdict.picture.width, verdict.picture.height = 200, 100
                result = verdict.analysis.results.add(engine="toy", version="1", batch_size=1)
                found = result.detections.add(label=packet.data.partition(b";")[0].decode(), score=0.5)
                found.box.x_max = found.box.y_max = 0.5
            self.next_index += 1
            self.ledger.append(verdict)

    def settled_through(self) -> int:
        sequence = -1
        while sequence + 1 in self.settled:
            sequence += 1
        return sequence

    def closing(self) -> session_pb2.Account:
        account = session_pb2.Account()
        account.CopyFrom(self.account)
        account.verdicts = self.next_index
        account.packets_pending = account.packets_received - account.analysed - self.skipped.total()
        for reason, count in self.skipped.items():
            account.skipped.add(reason=reason, count=count)  # type: ignore[arg-type]
        return account


@dataclass
class Cut:
    """Break the call after so many messages in one direction, and forget the session if so wished."""

    direction: str  # "in" or "out"
    after: int
    forget: bool = False


class CutNowError(Exception):
    """The call is to break here."""


@dataclass
class Behaviour:
    """What a test wants of the server; changeable at any time."""

    window: int | None = None
    window_bytes: int | None = None
    delay: int = 2
    heartbeat_s: float = 5.0
    max_message_bytes: int = 1 << 20
    cuts: deque[Cut] = field(default_factory=deque)
    refuse: tuple[grpc.StatusCode, str, str] | None = None
    endpoint: str = ""
    drop_decoder: bool = False
    reasons: dict[int, int] = field(default_factory=dict)
    bundle: int = 1
    account_error: int = 0
    drain: asyncio.Event = field(default_factory=asyncio.Event)
    drain_endpoint: str = ""
    accept_after_s: float = 0.0  # as a server that loads the engine first
    stall: asyncio.Event | None = None  # reads nothing until it is set
    keyframe_request: bool = False
    rate_hint_fps: float | None = None


class FakeServer(stream_pb2_grpc.StreamServiceServicer, session_pb2_grpc.SessionServiceServicer):
    """The server; `async with FakeServer() as server` listens on `server.address`."""

    def __init__(self, behaviour: Behaviour | None = None, *, port: int = 0, credentials: Any = None) -> None:
        self.behaviour = behaviour or Behaviour()
        self.sessions: dict[str, FakeSession] = {}
        self.ended: list[FakeSession] = []
        self.acked = -1
        self.calls = 0
        self.messages_in = 0
        self.heartbeats = 0
        self.packets: list[stream_pb2.Packet] = []
        self.bundles: list[int] = []
        self.metadata: list[dict[str, Any]] = []
        self.configs: list[stream_pb2.StreamConfig] = []
        self._numbers = itertools.count()
        self._port = port
        self._credentials = credentials
        self._server: grpc.aio.Server | None = None
        self.address = ""

    async def __aenter__(self) -> FakeServer:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        self._server = grpc.aio.server(options=options)
        stream_pb2_grpc.add_StreamServiceServicer_to_server(self, self._server)
        session_pb2_grpc.add_SessionServiceServicer_to_server(self, self._server)
        where = f"127.0.0.1:{self._port}"
        if self._credentials:
            self._port = self._server.add_secure_port(where, self._credentials)
        else:
            self._port = self._server.add_insecure_port(where)
        self.address = f"127.0.0.1:{self._port}"
        await self._server.start()

    async def stop(self, *, forget: bool = False) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None
        if forget:
            self.sessions.clear()

    # --- SessionService --------------------------------------------------------------------------------

    async def GetSession(self, request: Any, context: Any) -> session_pb2.GetSessionResponse:  # noqa: N802
        for session in [*self.sessions.values(), *self.ended]:
            if session.name == request.name:
                return session_pb2.GetSessionResponse(session=self._tell(session))
        await self._abort(context, (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND", f"no session {request.name}"))
        raise AssertionError

    async def ListSessions(self, request: Any, context: Any) -> session_pb2.ListSessionsResponse:  # noqa: N802
        told = [self._tell(session) for session in [*self.sessions.values(), *self.ended]]
        start = int(request.page_token or 0)
        page = told[start : start + min(2, request.page_size or 2)]
        end = start + len(page)
        return session_pb2.ListSessionsResponse(sessions=page, next_page_token=str(end) if end < len(told) else "")

    def _tell(self, session: FakeSession) -> session_pb2.Session:
        state = session_pb2.SESSION_STATE_ENDED if session.finished else session_pb2.SESSION_STATE_CONNECTED
        return session_pb2.Session(name=session.name, state=state, account=session.closing())

    # --- StreamService ---------------------------------------------------------------------------------

    async def AnalyzeStream(self, _: Any, context: Any) -> None:  # noqa: N802
        self.calls += 1
        self.metadata.append(dict(context.invocation_metadata()))
        cut = self.behaviour.cuts.popleft() if self.behaviour.cuts else None
        call = _Call(self, context, cut)
        try:
            await call.run()
        except CutNowError:
            if cut is not None and cut.forget:
                self.sessions.clear()
            await self._abort(context, (grpc.StatusCode.UNAVAILABLE, "", "cut"))
        except AssertionError as error:
            await self._abort(context, (grpc.StatusCode.INVALID_ARGUMENT, "CONTRACT", str(error)))

    async def _abort(self, context: Any, why: tuple[grpc.StatusCode, str, str]) -> None:
        code, reason, message = why
        status = status_pb2.Status(code=code.value[0], message=message)
        if reason:
            detail = any_pb2.Any()
            detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="vedette", metadata={"key": "value"}))
            status.details.append(detail)
        assert code_pb2.Code.Name(status.code)
        await context.abort_with_status(rpc_status.to_status(status))


class _Call:
    """One call: a reader, and a sender of verdicts beside it."""

    def __init__(self, server: FakeServer, context: Any, cut: Cut | None) -> None:
        self.server = server
        self.behaviour = server.behaviour
        self.context = context
        self.cut = cut
        self.read_count = 0
        self.written = 0
        self.sent_index = 0
        self.bytes_taken = 0
        self.resume_sequence = 0
        self.half_closed = False
        self.news = asyncio.Event()
        self.flow_sent: tuple[Any, ...] = ()
        self.replies: deque[stream_pb2.AnalyzeStreamResponse] = deque()
        self.session: FakeSession
        self.task = asyncio.current_task()
        self.displaced = False

    async def run(self) -> None:
        first = await self.read()
        if first is None:
            return
        assert first.WhichOneof("control") == "config", "no config first"
        assert not first.packets, "packets in the first message"
        config = first.config
        self.server.configs.append(config)
        assert self.server.metadata[-1].get("x-vedette-channel") == config.channel, "the channel is not in the metadata"
        if self.behaviour.refuse:
            await self.server._abort(self.context, self.behaviour.refuse)
        await asyncio.sleep(self.behaviour.accept_after_s)
        await self.accept(config)
        sender = asyncio.create_task(self.send())
        reader = asyncio.create_task(self.receive())
        drainer = asyncio.create_task(self.watch_drain())
        try:
            done, _ = await asyncio.wait([sender, reader], return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            self.session.live = None
            for task in (sender, reader, drainer):
                task.cancel()
            await asyncio.gather(sender, reader, drainer, return_exceptions=True)

    async def accept(self, config: stream_pb2.StreamConfig) -> None:
        token = config.resume.session_token
        self.resume_sequence = config.resume.next_sequence
        held = next((s for s in self.server.sessions.values() if s.channel == config.channel), None)
        restored = token in self.server.sessions
        next_sequence: int | None = None
        if restored:
            session = self.server.sessions[token]
            next_sequence = self.restore(session, config)
        else:
            if held is not None and held.live is not None and not config.takeover:
                why = (grpc.StatusCode.ALREADY_EXISTS, "CHANNEL_TAKEN", f"{config.channel} has a stream")
                await self.server._abort(self.context, why)
            if held is not None:
                del self.server.sessions[held.token]
            number = next(self.server._numbers)
            session = FakeSession(
                f"{config.channel}/sessions/{number}",
                f"token-{number}-{id(self.server)}",
                config.channel,
                config,
                Toy(self.behaviour.delay),
                next_sequence=None if config.HasField("resume") else 0,
                next_index=config.resume.next_verdict_index,
            )
            next_sequence = config.resume.next_sequence
            self.server.sessions[session.token] = session
        self.session = session
        session.partial = []
        session.epoch += 1
        session.live = asyncio.current_task()
        self.sent_index = config.resume.next_verdict_index if restored else session.next_index
        accepted = stream_pb2.Accepted(
            session=session.name,
            session_token=session.token,
            epoch=session.epoch,
            next_sequence=next_sequence or 0,
            next_verdict_index=self.sent_index,
            keyframe_needed=not restored or self.behaviour.drop_decoder,
            state_restored=restored,
            config=config,
            endpoint=self.behaviour.endpoint,
        )
        accepted.config.ClearField("resume")
        accepted.limits.max_message_bytes = self.behaviour.max_message_bytes
        accepted.limits.max_unacknowledged_verdicts = 1000
        accepted.heartbeat_interval.FromMilliseconds(round(self.behaviour.heartbeat_s * 1000))
        accepted.flow.CopyFrom(self.flow())
        if self.behaviour.endpoint:
            session.live = None
            del self.server.sessions[session.token]
        try:
            await self.write(stream_pb2.AnalyzeStreamResponse(accepted=accepted))
        except BaseException:
            session.live = None
            raise

    def restore(self, session: FakeSession, config: stream_pb2.StreamConfig) -> int | None:
        next_sequence = session.next_sequence
        if session.live is not None:
            session.live.cancel()
            session.live = None
        while session.ledger and session.ledger[0].verdict_index < config.resume.next_verdict_index:
            session.ledger.popleft()
        if self.behaviour.drop_decoder:
            session.decoder = Toy(self.behaviour.delay)
            session.next_sequence = None
        return next_sequence

    def flow(self) -> stream_pb2.FlowControl:
        flow = stream_pb2.FlowControl(rate_hint_fps=self.behaviour.rate_hint_fps)
        if self.behaviour.window is not None:
            taken = self.session.next_sequence
            flow.send_through_sequence = (self.resume_sequence if taken is None else taken) + self.behaviour.window - 1
        if self.behaviour.window_bytes is not None:
            flow.send_through_bytes = self.bytes_taken + self.behaviour.window_bytes
        settled = self.session.settled_through()
        if settled >= 0:
            flow.settled_through_sequence = settled
        flow.keyframe_request = self.behaviour.keyframe_request
        return flow

    async def receive(self) -> None:
        while (message := await self.read()) is not None:
            if self.behaviour.stall is not None:
                await self.behaviour.stall.wait()
            assert message.ByteSize() <= self.behaviour.max_message_bytes, "the message is over the limit"
            self.take_control(message)
            if message.packets:
                self.server.bundles.append(len(message.packets))
            allowed = self.flow()
            for packet in message.packets:
                if allowed.HasField("send_through_sequence"):
                    assert packet.sequence <= allowed.send_through_sequence, "sent without credit"
                if allowed.HasField("send_through_bytes"):
                    assert self.bytes_taken + len(packet.data) <= allowed.send_through_bytes, "sent without bytes"
                self.bytes_taken += len(packet.data)
                self.server.packets.append(packet)
                self.session.take(packet, self.behaviour.reasons)
            if message.HasField("ack_verdicts"):
                self.take_ack(message.ack_verdicts.through_index)
            self.news.set()
        self.session.judge(self.session.decoder.flush(), self.behaviour.reasons)
        self.session.finished = True
        self.half_closed = True
        self.news.set()

    def take_ack(self, through: int) -> None:
        assert through < self.sent_index, "acknowledged what was not sent"
        self.server.acked = max(self.server.acked, through)
        while self.session.ledger and self.session.ledger[0].verdict_index <= through:
            self.session.ledger.popleft()

    def take_control(self, message: stream_pb2.AnalyzeStreamRequest) -> None:
        kind = message.WhichOneof("control")
        assert kind != "config", "config twice"
        if kind == "heartbeat":
            self.server.heartbeats += 1
        elif kind == "clock_sync":
            answer = stream_pb2.AnalyzeStreamResponse(clock_sync=message.clock_sync)
            base = message.clock_sync.client_send_time.ToNanoseconds() + 5_000_000_000
            answer.clock_sync.server_receive_time.FromNanoseconds(base)
            answer.clock_sync.server_send_time.FromNanoseconds(base)
            self.replies.append(answer)
        elif kind == "update_config":
            update = message.update_config
            for path in update.update_mask.paths:
                self.session.config.ClearField(path)  # type: ignore[arg-type]
            self.session.config.MergeFrom(update.config)
            answer = stream_pb2.AnalyzeStreamResponse()
            answer.config_updated.config.CopyFrom(self.session.config)
            answer.config_updated.from_sequence = self.session.next_sequence or 0
            self.replies.append(answer)

    async def watch_drain(self) -> None:
        await self.behaviour.drain.wait()
        notice = stream_pb2.AnalyzeStreamResponse()
        notice.drain.endpoint = self.behaviour.drain_endpoint
        notice.drain.grace.FromSeconds(5)
        self.replies.append(notice)
        self.news.set()

    async def send(self) -> None:
        while True:
            self.news.clear()
            while self.replies:
                await self.write(self.replies.popleft())
            flow = self.flow()  # what it says is settled must have been told before it is sent
            fresh = [v for v in self.session.ledger if v.verdict_index >= self.sent_index]
            for start in range(0, len(fresh), self.behaviour.bundle):
                part = fresh[start : start + self.behaviour.bundle]
                self.sent_index = part[-1].verdict_index + 1
                await self.write(stream_pb2.AnalyzeStreamResponse(verdicts=part))
            if flow != self.flow_sent and flow.ListFields():
                self.flow_sent = flow
                await self.write(stream_pb2.AnalyzeStreamResponse(flow=flow))
                continue
            if self.half_closed and self.sent_index == self.session.next_index:
                closing = self.session.closing()
                closing.analysed += self.behaviour.account_error
                await self.write(stream_pb2.AnalyzeStreamResponse(closing_account=closing))
                self.server.ended.append(self.session)
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.behaviour.heartbeat_s):
                    await self.news.wait()
                    continue
            await self.write(stream_pb2.AnalyzeStreamResponse(heartbeat=stream_pb2.Heartbeat()))

    async def read(self) -> stream_pb2.AnalyzeStreamRequest | None:
        if self.cut is not None and self.cut.direction == "in" and self.read_count >= self.cut.after:
            raise CutNowError
        message = await self.context.read()
        if message is grpc.aio.EOF:
            return None
        self.read_count += 1
        self.server.messages_in += 1
        return message  # type: ignore[no-any-return]

    async def write(self, message: stream_pb2.AnalyzeStreamResponse) -> None:
        if self.cut is not None and self.cut.direction == "out" and self.written >= self.cut.after:
            raise CutNowError
        self.written += 1
        await self.context.write(message)


class TcpProxy:
    """Forwards TCP to a server until it is told to cut, or to swallow everything like a dead link."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.swallow = False
        self.connections = 0
        self.address = ""

    async def __aenter__(self) -> TcpProxy:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection at once."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        swallow = self.swallow
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError:  # the server is away
            writer.transport.abort()
            return
        self._writers |= {writer, there_writer}
        doomed = _Link(swallow)
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink, doomed))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, link: _Link) -> None:
        try:
            while data := await source.read(65536):
                if self.swallow or link.dead:
                    link.dead = True  # a black hole stays one, also when new connections work again
                    continue
                sink.write(data)
                await sink.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            if not link.dead:
                sink.transport.abort()
                self._writers.discard(sink)


@dataclass
class _Link:
    dead: bool
