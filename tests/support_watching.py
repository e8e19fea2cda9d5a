"""A small server that keeps the contract of `EventService`, `WatchService` and `ChannelService`, for tests.

What happens is a log of messages; an offset is the number of those that lie before it. It can cut a watch after a
number of messages, fall silent, and lie about what it sends.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from vedette.v1 import channel_pb2, channel_pb2_grpc, event_pb2, event_pb2_grpc, watch_pb2, watch_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

T0 = 1_790_000_000  # 2026-09-21 14:13:20 UTC
JPEG = b"\xff\xd8 a picture \xff\xd9"
CLIP = bytes(range(256)) * 1000
PIECE = 100_000
READY, PENDING = event_pb2.EVIDENCE_STATE_READY, event_pb2.EVIDENCE_STATE_PENDING

_NUMBERS = {code.name: code.value[0] for code in grpc.StatusCode}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def evidence(data: bytes, media_type: str) -> event_pb2.Evidence:
    return event_pb2.Evidence(state=READY, size_bytes=len(data), sha256=sha256(data), media_type=media_type)


def event(number: int, channel: str = "gate", **fields: Any) -> event_pb2.Event:
    """An event of its own for each number, ended unless said otherwise."""
    made = event_pb2.Event(
        name=f"channels/{channel}/events/{number:04d}abcdefghijklmnopqrstuv",
        kind=event_pb2.EVENT_KIND_ENTER,
        rule="yard-enter",
        state=event_pb2.EVENT_STATE_ENDED,
        place="yard",
        label="person",
        track_ids=[f"t{number}"],
        peak_score=0.75,
        measures={"dwell_s": 4.5},
        snapshot=evidence(JPEG, "image/jpeg"),
        annotated_snapshot=evidence(JPEG + b"!", "image/jpeg"),
        clip=evidence(CLIP, "video/mp4"),
        engine_version="engines/person/versions/1",
        session=f"channels/{channel}/sessions/s1",
        sequence=number,
        record=number,
    )
    made.start_time.FromSeconds(T0 + number)
    made.update_time.FromMilliseconds((T0 + number) * 1000 + 2500)
    made.end_time.FromMilliseconds((T0 + number) * 1000 + 2500)
    made.box.x_max = made.box.y_max = 0.5
    for name, value in fields.items():
        made.ClearField(name)  # type: ignore[arg-type]
        if value is not None:
            made.MergeFrom(event_pb2.Event(**{name: value}))
    return made


def news(what: Any) -> watch_pb2.WatchChannelsResponse:
    """A message of the log."""
    kind = {event_pb2.Event: "event", watch_pb2.ChannelResult: "result", watch_pb2.Gap: "gap"}[type(what)]
    return watch_pb2.WatchChannelsResponse(**{kind: what})


def result(sequence: int, channel: str = "gate", label: str = "person") -> watch_pb2.ChannelResult:
    made = watch_pb2.ChannelResult(channel=f"channels/{channel}", session=f"channels/{channel}/sessions/s1")
    made.verdict.sequence = made.verdict.verdict_index = sequence
    made.verdict.picture.width, made.verdict.picture.height = 200, 100
    engine = made.verdict.analysis.results.add(engine="person", version="1", batch_size=1)
    if label:
        found = engine.detections.add(label=label, score=0.5, track_id="t1")
        found.box.x_max = found.box.y_max = 0.5
    return made


@dataclass
class Monitor:
    """What the server knows and how it behaves; changeable at any time.

    Attributes:
        events: Its events, by name.
        log: All that happened.
        channels: Its channels, by name.
        cuts: Watches to break, the next one first: after so many messages.
        cut_code: With which status they break.
        silent: Watches say nothing, not even that they live.
        without_offsets: Their messages have no offset.
        refuse: Calls that are refused: code, reason, message, by method.
        clip: What a clip is.
        clip_info: What is said of it; None: the truth.
        end_clip_early: Bytes after which the clip's call ends in good order.
        findings: What a check finds, message by message.
        nameless: It has no tokens: who acknowledges without a name is nobody.
        asked: All requests.
    """

    events: dict[str, event_pb2.Event] = field(default_factory=dict)
    log: list[watch_pb2.WatchChannelsResponse] = field(default_factory=list)
    channels: dict[str, channel_pb2.Channel] = field(default_factory=dict)
    cuts: deque[int] = field(default_factory=deque)
    cut_code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    silent: bool = False
    without_offsets: bool = False
    refuse: dict[str, tuple[grpc.StatusCode, str, str]] = field(default_factory=dict)
    clip: bytes = CLIP
    clip_info: event_pb2.ClipInfo | None = None
    end_clip_early: int | None = None
    jpeg_hash: str | None = None
    findings: list[list[str]] = field(default_factory=lambda: [[]])
    nameless: bool = False
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    asked: list[Any] = field(default_factory=list)
    watches: int = 0

    def happen(self, *what: Any) -> None:
        """Take note of what happened; call it on the server's loop, or before it runs."""
        for one in what:
            self.log.append(news(one))
            if isinstance(one, event_pb2.Event):
                self.events[one.name] = one

    def head(self, length: int | None = None) -> event_pb2.ChainHead:
        made = event_pb2.ChainHead(length=len(self.events) if length is None else length, hash="ab" * 32)
        made.sign_time.FromNanoseconds(T0 * 10**9 + 123_456_789)
        text = f"vedette-chain-head-v1\n{made.length}\n{made.hash}\n{made.sign_time.ToNanoseconds()}"
        made.signature = self.key.sign(text.encode())
        made.public_key = self.key.public_key().public_bytes_raw()
        return made

    async def admit(self, request: Any, context: Any) -> None:
        self.asked.append(request)
        method = type(request).__name__.removesuffix("Request")
        if method in self.refuse:
            await end(context, *self.refuse[method])


async def end(context: Any, code: grpc.StatusCode, reason: str, message: str) -> None:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="vedette.v1"))
    status = status_pb2.Status(code=_NUMBERS[code.name], message=message, details=[detail])
    await context.abort_with_status(rpc_status.to_status(status))


class _Events(event_pb2_grpc.EventServiceServicer):
    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    async def ListEvents(self, request: Any, context: Any) -> event_pb2.ListEventsResponse:  # noqa: N802
        await self.monitor.admit(request, context)
        found = [one for one in self.monitor.events.values() if _fits(one, request.parent, request.filter)]
        found.sort(key=lambda one: (one.start_time.ToNanoseconds(), one.name), reverse=True)
        start = int(request.page_token or 0)
        size = min(request.page_size or 100, 1000)
        page = found[start : start + size]
        more = str(start + size) if start + size < len(found) else ""
        return event_pb2.ListEventsResponse(events=page, next_page_token=more)

    async def _find(self, request: Any, context: Any) -> event_pb2.Event:
        await self.monitor.admit(request, context)
        found = self.monitor.events.get(request.name)
        if found is None:
            await end(context, grpc.StatusCode.NOT_FOUND, "EVENT_NOT_FOUND", f"there is no event {request.name!r}")
            raise AssertionError
        return found

    async def GetEvent(self, request: Any, context: Any) -> event_pb2.GetEventResponse:  # noqa: N802
        found = event_pb2.Event()
        found.CopyFrom(await self._find(request, context))
        for step in range(3):
            point = found.trail.add()
            point.time.FromSeconds(T0 + step)
            point.point.x = point.point.y = step / 10
        return event_pb2.GetEventResponse(event=found)

    async def AcknowledgeEvent(self, request: Any, context: Any) -> event_pb2.AcknowledgeEventResponse:  # noqa: N802
        found = await self._find(request, context)
        if self.monitor.nameless and found.HasField("acknowledgement") and not request.user:
            return event_pb2.AcknowledgeEventResponse(event=found)
        found.acknowledgement.user = request.user or ("" if self.monitor.nameless else "desk")
        found.acknowledgement.note = request.note
        found.acknowledgement.token = "" if self.monitor.nameless else "front desk"
        found.acknowledgement.time.FromSeconds(T0 + 60)
        return event_pb2.AcknowledgeEventResponse(event=found)

    async def GetEventSnapshot(self, request: Any, context: Any) -> event_pb2.GetEventSnapshotResponse:  # noqa: N802
        await self._find(request, context)
        jpeg = JPEG + b"!" * request.annotated
        return event_pb2.GetEventSnapshotResponse(jpeg=jpeg, sha256=self.monitor.jpeg_hash or sha256(jpeg))

    async def GetEventClip(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = await self._find(request, context)
        if found.clip.state == PENDING:
            await end(context, grpc.StatusCode.UNAVAILABLE, "CLIP_PENDING", "the clip is being written")
        info = self.monitor.clip_info or event_pb2.ClipInfo(
            media_type="video/mp4",
            size_bytes=len(self.monitor.clip),
            sha256=sha256(self.monitor.clip),
            transcoded=request.playable,
        )
        data = self.monitor.clip[: self.monitor.end_clip_early]
        yield event_pb2.GetEventClipResponse(info=info)
        for start in range(0, len(data), PIECE):
            yield event_pb2.GetEventClipResponse(data=data[start : start + PIECE])

    async def GetChainHead(self, request: Any, context: Any) -> event_pb2.GetChainHeadResponse:  # noqa: N802
        await self.monitor.admit(request, context)
        return event_pb2.GetChainHeadResponse(head=self.monitor.head())

    async def VerifyEvents(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.monitor.admit(request, context)
        count = len(self.monitor.findings)
        for number, findings in enumerate(self.monitor.findings, start=1):
            done = number == count
            records = len(self.monitor.events) * number // count
            yield event_pb2.VerifyEventsResponse(
                records=records, files=records * 3 if request.files else 0, findings=findings, done=done
            )


class _Watching(watch_pb2_grpc.WatchServiceServicer):
    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    async def WatchChannels(self, request: Any, context: Any) -> Any:  # noqa: N802
        monitor = self.monitor
        monitor.watches += 1
        await monitor.admit(request, context)
        cut = monitor.cuts.popleft() if monitor.cuts else None
        at = {"": len(monitor.log), "earliest": 0}.get(request.offset)
        at = int(request.offset) if at is None else at
        sent = 0
        first = True
        while True:
            while monitor.silent:
                await asyncio.sleep(0.01)
            if sent == cut:
                await end(context, monitor.cut_code, "GONE", "the server goes away")
            if first:
                message = watch_pb2.WatchChannelsResponse(offset=str(at))
                message.heartbeat.time.FromSeconds(T0)
                first = False
            elif at < len(monitor.log):
                message = watch_pb2.WatchChannelsResponse()
                message.CopyFrom(monitor.log[at])
                at += 1
                message.offset = str(at)
                if not _wanted(message, request):
                    continue
            else:
                await asyncio.sleep(0.005)
                continue
            if monitor.without_offsets:
                message.offset = ""
            yield message
            sent += 1


class _Channels(channel_pb2_grpc.ChannelServiceServicer):
    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    async def _find(self, name: str, context: Any) -> channel_pb2.Channel:
        found = self.monitor.channels.get(name)
        if found is None:
            await end(context, grpc.StatusCode.NOT_FOUND, "CHANNEL_NOT_FOUND", f"there is no channel {name!r}")
            raise AssertionError
        return found

    def _keep(self, channel: channel_pb2.Channel, revision: int) -> channel_pb2.Channel:
        kept = channel_pb2.Channel()
        kept.CopyFrom(channel)
        kept.revision = revision
        kept.create_time.FromSeconds(T0)
        kept.update_time.FromSeconds(T0 + revision)
        kept.status.connected = True
        self.monitor.channels[kept.name] = kept
        return kept

    async def CreateChannel(self, request: Any, context: Any) -> channel_pb2.CreateChannelResponse:  # noqa: N802
        await self.monitor.admit(request, context)
        if request.channel.name in self.monitor.channels:
            await end(context, grpc.StatusCode.ALREADY_EXISTS, "CHANNEL_EXISTS", f"{request.channel.name} exists")
        return channel_pb2.CreateChannelResponse(channel=self._keep(request.channel, 1))

    async def GetChannel(self, request: Any, context: Any) -> channel_pb2.GetChannelResponse:  # noqa: N802
        await self.monitor.admit(request, context)
        return channel_pb2.GetChannelResponse(channel=await self._find(request.name, context))

    async def ListChannels(self, request: Any, context: Any) -> channel_pb2.ListChannelsResponse:  # noqa: N802
        await self.monitor.admit(request, context)
        names = sorted(self.monitor.channels)
        start = int(request.page_token or 0)
        size = min(request.page_size or 100, 1000)
        page = [self.monitor.channels[name] for name in names[start : start + size]]
        more = str(start + size) if start + size < len(names) else ""
        return channel_pb2.ListChannelsResponse(channels=page, next_page_token=more)

    async def UpdateChannel(self, request: Any, context: Any) -> channel_pb2.UpdateChannelResponse:  # noqa: N802
        await self.monitor.admit(request, context)
        now = await self._find(request.channel.name, context)
        if request.channel.revision not in {0, now.revision}:
            await end(context, grpc.StatusCode.ABORTED, "CHANNEL_CHANGED", f"the revision is {now.revision}")
        changed = channel_pb2.Channel()
        changed.CopyFrom(now)
        kept = {"name", "revision", "create_time", "update_time", "status"}
        paths = list(request.update_mask.paths) or [f.name for f in changed.DESCRIPTOR.fields if f.name not in kept]
        for path in paths:
            changed.ClearField(path)  # type: ignore[arg-type]
            given = channel_pb2.Channel()
            given.CopyFrom(request.channel)
            for other in given.DESCRIPTOR.fields:
                if other.name != path:
                    given.ClearField(other.name)  # type: ignore[arg-type]
            changed.MergeFrom(given)
        if changed == now:
            return channel_pb2.UpdateChannelResponse(channel=now)
        return channel_pb2.UpdateChannelResponse(channel=self._keep(changed, now.revision + 1))

    async def DeleteChannel(self, request: Any, context: Any) -> channel_pb2.DeleteChannelResponse:  # noqa: N802
        await self.monitor.admit(request, context)
        await self._find(request.name, context)
        del self.monitor.channels[request.name]
        return channel_pb2.DeleteChannelResponse()

    async def GetSnapshot(self, request: Any, context: Any) -> channel_pb2.GetSnapshotResponse:  # noqa: N802
        await self.monitor.admit(request, context)
        answer = channel_pb2.GetSnapshotResponse(jpeg=JPEG)
        answer.time.FromSeconds(T0)
        return answer

    async def GetRecording(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.monitor.admit(request, context)
        info = event_pb2.ClipInfo(media_type="video/mp4", size_bytes=len(CLIP), sha256=sha256(CLIP))
        info.start_time.FromSeconds(request.time.seconds - 20)
        first = channel_pb2.GetRecordingResponse(info=info, data=CLIP[:1000])
        first.seek.FromMilliseconds(18_400)
        yield first
        yield channel_pb2.GetRecordingResponse(data=CLIP[1000:])


def _fits(one: event_pb2.Event, parent: str, wanted: event_pb2.EventFilter) -> bool:
    channel = one.name.partition("/events/")[0]
    if parent not in {"channels/-", channel}:
        return False
    until = one.end_time if one.HasField("end_time") else one.update_time
    checks = (
        not wanted.HasField("start_time") or until.ToNanoseconds() >= wanted.start_time.ToNanoseconds(),
        not wanted.HasField("end_time") or one.start_time.ToNanoseconds() < wanted.end_time.ToNanoseconds(),
        not wanted.rules or one.rule in wanted.rules,
        not wanted.kinds or one.kind in wanted.kinds,
        not wanted.states or one.state in wanted.states,
        not wanted.labels or one.label in wanted.labels,
        not wanted.unacknowledged or not one.HasField("acknowledgement"),
    )
    return all(checks)


def _wanted(message: watch_pb2.WatchChannelsResponse, request: watch_pb2.WatchChannelsRequest) -> bool:
    what = message.WhichOneof("news")
    if what == "event":
        parents = list(request.channels)
        return request.events and any(_fits(message.event, parent, request.filter) for parent in parents)
    if what == "result":
        mine = "channels/-" in request.channels or message.result.channel in request.channels
        found = any(one.detections for one in message.result.verdict.analysis.results)
        return request.results and mine and (found or not request.found_only)
    return True


class MonitorServer:
    """The three services on loopback; `without` leaves services out."""

    def __init__(self, monitor: Monitor | None = None, *, absent: bool = False) -> None:
        self.monitor = monitor or Monitor()
        self.address = ""
        self._absent = absent
        self._server: Any = None

    async def start(self) -> None:
        self._server = grpc.aio.server()
        if not self._absent:
            event_pb2_grpc.add_EventServiceServicer_to_server(_Events(self.monitor), self._server)
            watch_pb2_grpc.add_WatchServiceServicer_to_server(_Watching(self.monitor), self._server)
            channel_pb2_grpc.add_ChannelServiceServicer_to_server(_Channels(self.monitor), self._server)
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(0)

    async def __aenter__(self) -> MonitorServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


@contextmanager
def serving(monitor: Monitor | None = None, *, absent: bool = False) -> Iterator[MonitorServer]:
    """Run the server on a loop in a thread of its own, for what blocks."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    server = MonitorServer(monitor, absent=absent)

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(server.start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(server.stop())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


class Says:
    """Runs `vedette` here, against a server."""

    def __init__(self, capsys: Any, address: str) -> None:
        self._capsys = capsys
        self._address = address

    def __call__(self, *args: object) -> Said:
        from vedette_client.cli.main import run  # noqa: PLC0415

        # What other tests' calls left behind is told when it is collected: not beside what is said here.
        gc.collect()
        self._capsys.readouterr()
        code = run([*map(str, args), "--server", self._address])
        found = self._capsys.readouterr()
        return Said(code, found.out, found.err)
