"""EventService and WatchService on loopback, before a real store in SQLite and a real folder of evidence."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from support_store import BEGIN_S
from vedette.v1 import event_pb2_grpc, watch_pb2, watch_pb2_grpc
from vedette_server.data.event import Evidence, EvidenceState
from vedette_server.data.packet import Packet
from vedette_server.data.rules import WatchConfig
from vedette_server.data.verdict import EngineLabel, EngineOutcome, Verdict
from vedette_server.evidence.playable import Transcoder
from vedette_server.evidence.store import EvidenceStore
from vedette_server.post.detections import Detections
from vedette_server.rpc.auth import Authenticator
from vedette_server.rpc.bell import Bell
from vedette_server.rpc.event_service import EventService
from vedette_server.rpc.sendable import SendableEvents
from vedette_server.rpc.watch_service import WatchService
from vedette_server.settings import AuthSettings
from vedette_server.store.feed import EventFeed
from vedette_server.store.store import EventStore
from vedette_server.watch.hub import ResultHub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path

    from vedette_server.data.event import Event
    from vedette_server.data.outcome import SkipReason
    from vedette_server.store.changes import Change

WAIT_S = 20.0
LABEL = EngineLabel("person", "1", "none", "detector", ("person", "car"))

TOKENS = """
[[tokens]]
name = "camera"
token = "camera-secret"
channels = ["*"]
permissions = ["publish"]

[[tokens]]
name = "gate desk"
token = "gate-secret"
channels = ["gate*"]
permissions = ["watch"]

[[tokens]]
name = "yard desk"
token = "yard-secret"
channels = ["yard"]
permissions = ["watch", "acknowledge"]

[[tokens]]
name = "gate keeper"
token = "keeper-secret"
channels = ["gate*"]
permissions = ["watch", "administer"]

[[tokens]]
name = "head"
token = "head-secret"
channels = ["*"]
permissions = ["watch", "administer"]
"""


def bearer(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {name}-secret"),)


@dataclass
class Site:
    """A running server of events.

    Attributes:
        events: Stub of the EventService.
        watches: Stub of the WatchService.
    """

    store: EventStore
    feed: EventFeed
    evidence: EvidenceStore
    hub: ResultHub
    service: EventService
    watching: WatchService
    channel: grpc.aio.Channel
    watched: dict[str, WatchConfig | None]
    sendable: SendableEvents
    events: Any = field(init=False)
    watches: Any = field(init=False)

    def __post_init__(self) -> None:
        self.events = event_pb2_grpc.EventServiceStub(self.channel)
        self.watches = watch_pb2_grpc.WatchServiceStub(self.channel)

    def keep(self, *changes: Change) -> int:
        """Keep changes, as the writer does: commit, then tell; gives the number of the last."""
        stored = self.store.append(changes)
        for one in stored:
            self.feed.told(one)
        return stored[-1].number

    def put(self, event: Event, data: bytes, suffix: str = ".jpg", media_type: str = "image/jpeg") -> Evidence:
        """Keep a file of an event."""
        filed = self.evidence.put(event.channel, event.event_id, suffix, event.start_s, data)
        return Evidence(EvidenceState.READY, filed.size_bytes, filed.sha256, media_type, path=filed.path)

    def allow(self, channel: str, watch: WatchConfig | None) -> None:
        """Say what is wanted of a channel; None: it is not known. All others are known and keep the original."""
        self.watched[channel] = watch

    def watch(self, *channels: str, metadata: Any = (), **more: Any) -> Any:
        """Watch channels by their bare names; none: all."""
        names = [f"channels/{channel}" for channel in channels or ("-",)]
        return self.watches.WatchChannels(watch_pb2.WatchChannelsRequest(channels=names, **more), metadata=metadata)


@asynccontextmanager
async def a_site(folder: Path, tokens: Path | None = None, **watching: Any) -> AsyncIterator[Site]:
    """Serve a store in a folder; what is there already stays."""
    bell = Bell(asyncio.get_running_loop())
    authenticator = Authenticator(AuthSettings(tokens))
    with EventStore(f"sqlite:///{folder}/events.db", clock=lambda: BEGIN_S + 3600) as store:
        feed = EventFeed(store.end()[0])
        evidence = EvidenceStore(folder / "evidence", min_free_bytes=1)
        hub = ResultHub(bell, room=watching.pop("room", 256))
        patience = {"patience_s": watching["patience_s"]} if "patience_s" in watching else {}
        watched: dict[str, WatchConfig | None] = {}

        def watch_of(name: str) -> WatchConfig | None:
            return watched.get(name, WatchConfig())

        sendable, transcoder = SendableEvents(), Transcoder(evidence)
        service = EventService(store, feed, evidence, transcoder, authenticator, watch_of, sendable, **patience)
        watch = WatchService(hub, store, feed, authenticator, bell, sendable, **({"heartbeat_s": 0.2} | watching))
        server = grpc.aio.server()
        event_pb2_grpc.add_EventServiceServicer_to_server(service, server)
        watch_pb2_grpc.add_WatchServiceServicer_to_server(watch, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Site(store, feed, evidence, hub, service, watch, channel, watched, sendable)
        finally:
            watch.close()
            service.close()
            await server.stop(0)


async def refusal(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str, str]:
    """Await a call that must fail; tell its code, its one reason and its words."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    rich = rpc_status.from_call(caught.value)
    assert rich is not None
    assert len(rich.details) == 1
    info = error_details_pb2.ErrorInfo()
    assert rich.details[0].Unpack(info)
    return caught.value.code(), info.reason, caught.value.details() or ""


async def drained(call: Any) -> list[Any]:
    """Read a stream to its end."""
    responses: list[Any] = []
    while (response := await call.read()) is not grpc.aio.EOF:
        responses.append(response)
    return responses


async def read(call: Any) -> Any:
    """Read the next message of a stream."""
    response = await asyncio.wait_for(call.read(), WAIT_S)
    assert response is not grpc.aio.EOF, "the stream is over"
    return response


async def news(call: Any, count: int, kind: str = "event") -> list[Any]:
    """Read until there were so many messages of a kind, and give those; heartbeats between them are passed over."""
    found: list[Any] = []
    while len(found) < count:
        response = await read(call)
        if response.WhichOneof("news") == kind:
            found.append(response)
        else:
            assert response.WhichOneof("news") == "heartbeat", response
    return found


async def begun(call: Any) -> str:
    """Wait until a watch has begun; give the offset from which it watches."""
    (first,) = await news(call, 1, "heartbeat")
    return str(first.offset)


def a_verdict(sequence: int = 0, found: int = 1, reason: SkipReason | None = None, detail: str = "") -> Verdict:
    """A verdict with so many persons in it."""
    if reason is not None:
        return Verdict(Packet(sequence, b""), reason=reason, detail=detail)
    boxes = np.tile(np.array([0.1, 0.2, 0.3, 0.4], np.float32), (found, 1))
    detections = Detections(
        boxes, np.full(found, 0.5, np.float32), np.zeros(found, np.int32), np.zeros((found, 0), np.float32), False
    )
    return Verdict(Packet(sequence, b""), pts=sequence, results=(EngineOutcome(LABEL, 1, detections),))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
