"""EventService: what happened, its pictures, who has seen it, and whether all of it is as it was kept.

Lives on the event loop; the store and the disk are asked on threads, so many at once. A call that is cancelled lets
go of its turn, its file and its transcoding.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from vedette.v1 import event_pb2, event_pb2_grpc
from vedette_server.errors import InvalidError, LimitError, NotFoundError, StateError
from vedette_server.rpc import convert_event as convert
from vedette_server.rpc.auth import ANYONE, Permission
from vedette_server.rpc.convert_config import channel_from_wire
from vedette_server.rpc.pieces import PATIENCE_S, pieces, write
from vedette_server.rpc.status import ending
from vedette_server.rpc.steering import Hands
from vedette_server.store.querying import token_after
from vedette_server.watch.checking import Checking
from vedette_server.watch.listing import list_events
from vedette_server.watch.pictures import OpenClip, Pictures

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    import grpc

    from vedette_server.data.event import Event
    from vedette_server.data.rules import WatchConfig
    from vedette_server.evidence.playable import Transcoder
    from vedette_server.evidence.store import EvidenceStore
    from vedette_server.rpc.auth import Authenticator, Principal
    from vedette_server.rpc.sendable import SendableEvents
    from vedette_server.store.feed import EventFeed
    from vedette_server.store.querying import EventFilter, Page
    from vedette_server.store.store import EventStore

    Context = grpc.aio.ServicerContext[Any, Any]

P = ParamSpec("P")
R = TypeVar("R")

ALL_CHANNELS = "channels/-"
DEFAULT_PAGE = 100
LARGEST_PAGE = 1000
MOST_PAGE_BYTES = 2 << 20
MAX_USER_CHARS = 256
MAX_NOTE_CHARS = 4096
LOOKERS, LOOKS_WAITING = 4, 256
NOTERS, NOTES_WAITING = 2, 64
READERS, READS_WAITING = 4, 64
# A transcode waits for its turn on its thread.
TRANSCODERS, TRANSCODES_WAITING = 4, 16
CHECKERS, CHECKS_WAITING = 1, 3
MOST_CLIPS = 64
PROGRESS_EVERY_S = 1.0

_log = logging.getLogger(__name__)


class EventService(event_pb2_grpc.EventServiceServicer):
    """Finds events, and takes note of who has seen them.

    Args:
        store: The events.
        feed: Told of acknowledgements.
        evidence: Their files.
        transcoder: Makes clips playable.
        authenticator: Knows who may do what.
        watch_of: Tells what is wanted of a channel, by its bare name, and so what of its pictures may be shown; None:
            it is not known, and nothing is.
        sendable: Puts events on the wire.
        patience_s: So long a client may take to read one piece of a clip.
    """

    def __init__(
        self,
        store: EventStore,
        feed: EventFeed,
        evidence: EvidenceStore,
        transcoder: Transcoder,
        authenticator: Authenticator,
        watch_of: Callable[[str], WatchConfig | None],
        sendable: SendableEvents,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._store = store
        self._feed = feed
        self._evidence = evidence
        self._pictures = Pictures(store, evidence, transcoder, watch_of)
        self._authenticator = authenticator
        self._sendable = sendable
        self._patience_s = patience_s
        self._looks = Hands("looking at events", LOOKERS, LOOKS_WAITING)
        # Apart: they wait for the database's lock, which reading does not need.
        self._notes = Hands("acknowledging events", NOTERS, NOTES_WAITING)
        self._reads = Hands("reading evidence", READERS, READS_WAITING)
        self._transcodes = Hands("transcoding clips", TRANSCODERS, TRANSCODES_WAITING)
        self._checks = Hands("checking events", CHECKERS, CHECKS_WAITING)
        self._clips = 0

    def close(self) -> None:
        """Begin nothing more; may be called twice."""
        for hands in (self._looks, self._notes, self._reads, self._transcodes, self._checks):
            hands.close()

    async def ListEvents(  # noqa: N802 - the contract's name
        self, request: event_pb2.ListEventsRequest, context: Context
    ) -> event_pb2.ListEventsResponse:
        """List events, the newest first."""
        async with ending(context):
            principal, channels = self._let_list(request.parent, context)
            wanted = convert.filter_from_wire(request.filter, channels)
            size = _page_size(request.page_size)
            page = await self._looks.run(
                list_events, self._store, wanted, size, request.page_token, _watches(principal)
            )
            return self._page_to_wire(page, wanted)

    async def GetEvent(  # noqa: N802 - the contract's name
        self, request: event_pb2.GetEventRequest, context: Context
    ) -> event_pb2.GetEventResponse:
        """Get one event."""
        async with ending(context):
            event_id = self._let(request.name, Permission.WATCH, context)[1]
            event, record = await self._looks.run(self._get, request.name, event_id)
            return event_pb2.GetEventResponse(event=self._sendable.get(event, record))

    async def AcknowledgeEvent(  # noqa: N802 - the contract's name
        self, request: event_pb2.AcknowledgeEventRequest, context: Context
    ) -> event_pb2.AcknowledgeEventResponse:
        """Take note that somebody has seen an event."""
        async with ending(context):
            principal, event_id = self._let(request.name, Permission.ACKNOWLEDGE, context)
            # Whoever is ANYONE has no token, and no name but what they say.
            token = "" if principal is ANYONE else principal.name
            user = request.user or token
            _check_text("user", user, MAX_USER_CHARS)
            _check_text("note", request.note, MAX_NOTE_CHARS)
            event, record = await self._notes.run(self._acknowledge, request.name, event_id, user, request.note, token)
            _log.info("event acknowledged", extra={"event_name": request.name, "user": user, "by": principal.name})
            return event_pb2.AcknowledgeEventResponse(event=self._sendable.get(event, record))

    async def GetEventSnapshot(  # noqa: N802 - the contract's name
        self, request: event_pb2.GetEventSnapshotRequest, context: Context
    ) -> event_pb2.GetEventSnapshotResponse:
        """Fetch a snapshot."""
        async with ending(context):
            event_id = self._let(request.name, Permission.WATCH, context)[1]
            event = (await self._looks.run(self._get, request.name, event_id))[0]
            jpeg, sha256 = await self._reads.run(self._pictures.snapshot, event, annotated=request.annotated)
            return event_pb2.GetEventSnapshotResponse(jpeg=jpeg, sha256=sha256)

    # grpc.aio also takes a coroutine that writes through the context; the stubs know generators only. A generator
    # would not see the write that it waits for, and so could not end it.
    async def GetEventClip(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # noqa: N802
        self, request: event_pb2.GetEventClipRequest, context: Context
    ) -> None:
        """Send a clip in pieces."""
        async with ending(context):
            event_id = self._let(request.name, Permission.WATCH, context)[1]
            if self._clips >= MOST_CLIPS:
                raise LimitError("TOO_MANY_CLIPS", f"{self._clips} clips are being fetched; allowed: {MOST_CLIPS}")
            self._clips += 1
            try:
                event = (await self._looks.run(self._get, request.name, event_id))[0]
                clip = await self._open_clip(event, playable=request.playable)
                try:
                    await self._send_clip(clip, context)
                finally:
                    clip.close()
            finally:
                self._clips -= 1

    async def GetChainHead(  # noqa: N802 - the contract's name
        self,
        request: event_pb2.GetChainHeadRequest,  # noqa: ARG002 - it is empty
        context: Context,
    ) -> event_pb2.GetChainHeadResponse:
        """Give the signed head of the chain."""
        async with ending(context):
            self._authenticator.authorize(context.invocation_metadata() or (), Permission.ADMINISTER, "")
            head = await self._looks.run(_keyed, self._store.head)
            return event_pb2.GetChainHeadResponse(head=convert.head_to_wire(head))

    async def VerifyEvents(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # noqa: N802
        self, request: event_pb2.VerifyEventsRequest, context: Context
    ) -> None:
        """Check the chain and the files of evidence; what was found is told in the last message, all of it."""
        async with ending(context):
            self._authenticator.authorize(context.invocation_metadata() or (), Permission.ADMINISTER, "")
            head = convert.head_from_wire(request.head) if request.HasField("head") else None
            checking = Checking(self._store, self._evidence, head, with_files=request.files)
            running = asyncio.wrap_future(self._checks.submit(_keyed, checking.run))
            try:
                told = (-1, -1)
                while not running.done():
                    await asyncio.wait([running], timeout=PROGRESS_EVERY_S)
                    if not running.done() and told != (told := (checking.records, checking.files)):
                        progress = event_pb2.VerifyEventsResponse(records=told[0], files=told[1])
                        await write(context, progress, self._patience_s)
                findings = await running
            finally:
                checking.stop()
                running.cancel()
            await write(
                context,
                event_pb2.VerifyEventsResponse(
                    records=checking.records, files=checking.files, findings=findings, done=True
                ),
                self._patience_s,
            )

    def _let_list(self, parent: str, context: Context) -> tuple[Principal, tuple[str, ...] | None]:
        """Let a list pass; give who asks, and the channels that the store is to look for, None: all."""
        metadata = context.invocation_metadata() or ()
        if parent == ALL_CHANNELS:
            principal = self._authenticator.authorize(metadata, Permission.WATCH, None)
            return principal, principal.named_channels()
        channel = channel_from_wire(parent)
        return self._authenticator.authorize(metadata, Permission.WATCH, channel), (channel,)

    def _let(self, name: str, permission: Permission, context: Context) -> tuple[Principal, str]:
        """Let a call for one event pass; give who asks, and the event's identity."""
        channel, event_id = convert.event_from_name(name)
        return self._authenticator.authorize(context.invocation_metadata() or (), permission, channel), event_id

    def _get(self, name: str, event_id: str) -> tuple[Event, int]:
        """Get an event and its latest record; blocks. Under another channel's name there is none."""
        stored = self._store.get(event_id)
        if stored.event is None or convert.event_name(stored.event.channel, event_id) != name:
            raise NotFoundError("EVENT_NOT_FOUND", f"event {event_id!r}: there is none, or it was removed")
        return stored.event, stored.number

    def _acknowledge(self, name: str, event_id: str, user: str, note: str, token: str) -> tuple[Event, int]:
        event, _ = self._get(name, event_id)
        stored = self._store.acknowledge(event_id, user, note, token=token)
        self._feed.told(stored)
        return stored.event or event, stored.number

    async def _open_clip(self, event: Event, *, playable: bool) -> OpenClip:
        """Open a clip on a thread; when nobody waits for it any more, what was opened is closed."""
        unwanted = threading.Event()
        hands = self._transcodes if playable else self._reads
        opening = hands.submit(self._pictures.clip, event, playable=playable, is_wanted=lambda: not unwanted.is_set())
        try:
            return await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            unwanted.set()
            opening.add_done_callback(_close_opened)
            raise

    async def _send_clip(self, clip: OpenClip, context: Context) -> None:
        first = event_pb2.GetEventClipResponse()
        info = first.info
        info.media_type, info.size_bytes, info.sha256 = clip.media_type, clip.size_bytes, clip.sha256
        info.transcoded = clip.transcoded
        convert.set_time(info.start_time, clip.start_s)
        await write(context, first, self._patience_s)
        async for piece in pieces(lambda most: self._reads.run(clip.read, most), clip.size_bytes, "the clip"):
            await write(context, event_pb2.GetEventClipResponse(data=piece), self._patience_s)

    def _page_to_wire(self, page: Page, wanted: EventFilter) -> event_pb2.ListEventsResponse:
        """Put a page together; it ends before it would be larger than clients take by default."""
        wire = event_pb2.ListEventsResponse(next_page_token=page.next_token)
        size_bytes = 0
        for number, stored in enumerate(page.events):
            if stored.event is None:
                continue
            event = self._sendable.find(stored.event, stored.number, trail=False)
            if event is None:
                continue
            size_bytes += event.ByteSize()
            if size_bytes > MOST_PAGE_BYTES and wire.events:
                wire.next_page_token = token_after(page.events[number - 1], wanted)
                break
            wire.events.append(event)
        return wire


def _close_opened(opening: Future[OpenClip]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _watches(principal: Principal) -> Callable[[str], bool]:
    return lambda channel: principal.may(Permission.WATCH, channel)


def _keyed(call: Callable[[], R]) -> R:
    """Ask what needs the key; that there is none is not the client's fault."""
    try:
        return call()
    except InvalidError as error:
        raise StateError(error.reason, error.message) from error


def _check_text(field: str, text: str, most: int) -> None:
    if len(text) > most:
        raise InvalidError(f"INVALID_{field.upper()}", f"{field} has {len(text)} characters; allowed: at most {most}")


def _page_size(asked: int) -> int:
    if not 0 <= asked <= LARGEST_PAGE:
        raise InvalidError("INVALID_PAGE_SIZE", f"page_size is {asked}; allowed: 0 ({DEFAULT_PAGE}) to {LARGEST_PAGE}")
    return asked or DEFAULT_PAGE
