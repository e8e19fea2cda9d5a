"""ChannelService: the channels that are known, their latest pictures and their recordings.

Lives on the event loop; the catalogue, the disk and whoever takes pictures are asked on threads, so many at once. A
call that is cancelled lets go of its turn, its file and its transcoding; a change that has begun is made all the same.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vedette.v1 import channel_pb2, channel_pb2_grpc
from vedette_server.data.rules import EvidencePolicy
from vedette_server.errors import InvalidError, LimitError, NotFoundError, StateError
from vedette_server.rpc.auth import Permission
from vedette_server.rpc.convert import channel_from_wire
from vedette_server.rpc.convert_channel import record_from_wire, record_to_wire, status_to_wire
from vedette_server.rpc.convert_event import set_time, time_from_wire
from vedette_server.rpc.convert_rules import seconds_to_wire
from vedette_server.rpc.pieces import PATIENCE_S, pieces, write
from vedette_server.rpc.status import ending
from vedette_server.rpc.steering import Hands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future
    from io import BufferedReader

    import grpc

    from vedette_server.channels.catalogue import ChannelCatalogue
    from vedette_server.channels.seams import Recorded, Recordings, Snapshots
    from vedette_server.channels.status import ChannelStatusView
    from vedette_server.data.channel import ChannelRecord
    from vedette_server.rpc.auth import Authenticator, Principal

    Context = grpc.aio.ServicerContext[Any, Any]

DEFAULT_PAGE = 100
LARGEST_PAGE = 1000
# A page ends with the channel that passes this: below what clients take by default.
PAGE_BYTES = 2 << 20
LOOKERS, LOOKS_WAITING = 2, 256
CHANGERS, CHANGES_WAITING = 1, 64
PHOTOGRAPHERS, PICTURES_WAITING = 4, 64
READERS, READS_WAITING = 4, 64
# A transcode waits for its turn on its thread.
TRANSCODERS, TRANSCODES_WAITING = 2, 16
MOST_RECORDINGS = 64

_NAME = re.compile(r"channels/[A-Za-z0-9._-]{1,128}")

_log = logging.getLogger(__name__)


class ChannelService(channel_pb2_grpc.ChannelServiceServicer):
    """Shows and changes channels.

    Args:
        catalogue: The channels that were made.
        authenticator: Knows who may watch and who may administer which.
        status: Tells where a channel stands, also one that was never made but streams; None: it does not know it. Any
            thread, quick.
        snapshots: Takes pictures.
        recordings: Finds what was recorded.
        forget: Called on a thread when a channel was deleted: its stream ends.
        streamed: Bare names of the channels that stream, or did, whether they were made or not. Any thread, quick.
        patience_s: So long a client may take to read one piece of a recording.
    """

    def __init__(
        self,
        catalogue: ChannelCatalogue,
        authenticator: Authenticator,
        status: Callable[[str], ChannelStatusView | None],
        snapshots: Snapshots,
        recordings: Recordings,
        forget: Callable[[str], None],
        *,
        streamed: Callable[[], Iterable[str]] = tuple,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._catalogue = catalogue
        self._authenticator = authenticator
        self._status = status
        self._snapshots = snapshots
        self._recordings = recordings
        self._forget = forget
        self._streamed = streamed
        self._patience_s = patience_s
        self._looks = Hands("looking at channels", LOOKERS, LOOKS_WAITING)
        self._changes = Hands("changing channels", CHANGERS, CHANGES_WAITING)
        self._pictures = Hands("taking pictures", PHOTOGRAPHERS, PICTURES_WAITING)
        self._reads = Hands("reading recordings", READERS, READS_WAITING)
        self._transcodes = Hands("transcoding recordings", TRANSCODERS, TRANSCODES_WAITING)
        self._fetches = 0

    def close(self) -> None:
        """Begin nothing more; may be called twice."""
        for hands in (self._looks, self._changes, self._pictures, self._reads, self._transcodes):
            hands.close()

    async def CreateChannel(  # noqa: N802 - the contract's name
        self, request: channel_pb2.CreateChannelRequest, context: Context
    ) -> channel_pb2.CreateChannelResponse:
        """Make a channel."""
        async with ending(context):
            name, principal = self._let(request.channel.name, Permission.ADMINISTER, context)
            made = await self._changes.run(self._create, request.channel)
            _log.info("channel made", extra={"channel": name, "by": principal.name})
            return channel_pb2.CreateChannelResponse(channel=made)

    async def GetChannel(  # noqa: N802 - the contract's name
        self, request: channel_pb2.GetChannelRequest, context: Context
    ) -> channel_pb2.GetChannelResponse:
        """Get a channel."""
        async with ending(context):
            name, _ = self._let(request.name, Permission.WATCH, context)
            return channel_pb2.GetChannelResponse(channel=await self._looks.run(self._get, name))

    async def ListChannels(  # noqa: N802 - the contract's name
        self, request: channel_pb2.ListChannelsRequest, context: Context
    ) -> channel_pb2.ListChannelsResponse:
        """List the channels that the caller may watch."""
        async with ending(context):
            principal = self._authenticator.authorize(context.invocation_metadata() or (), Permission.WATCH, None)
            size, token = request.page_size, request.page_token
            if not 0 <= size <= LARGEST_PAGE:
                allowed = f"0 ({DEFAULT_PAGE}) to {LARGEST_PAGE}"
                raise InvalidError("INVALID_PAGE_SIZE", f"page_size is {size}; allowed: {allowed}", field="page_size")
            if token and not _NAME.fullmatch(token):
                message = f"page_token {token!r} is not one that was given"
                raise InvalidError("INVALID_PAGE_TOKEN", message, field="page_token")
            return await self._looks.run(self._page, principal, token.removeprefix("channels/"), size or DEFAULT_PAGE)

    async def UpdateChannel(  # noqa: N802 - the contract's name
        self, request: channel_pb2.UpdateChannelRequest, context: Context
    ) -> channel_pb2.UpdateChannelResponse:
        """Change a channel."""
        async with ending(context):
            name, principal = self._let(request.channel.name, Permission.ADMINISTER, context)
            fields = frozenset(request.update_mask.paths) - {"*"}
            if fields:
                # What is not to be changed is not looked at.
                for field, _ in request.channel.ListFields():
                    if field.name not in fields | {"name", "revision"}:
                        request.channel.ClearField(field.name)  # type: ignore[arg-type]  # a field's own name
            changed = await self._changes.run(self._update, request.channel, fields)
            facts = {"channel": name, "by": principal.name, "fields": ",".join(sorted(fields)) or "all"}
            _log.info("channel changed", extra=facts | {"revision": changed.revision})
            return channel_pb2.UpdateChannelResponse(channel=changed)

    async def DeleteChannel(  # noqa: N802 - the contract's name
        self, request: channel_pb2.DeleteChannelRequest, context: Context
    ) -> channel_pb2.DeleteChannelResponse:
        """Forget a channel."""
        async with ending(context):
            name, principal = self._let(request.name, Permission.ADMINISTER, context)
            await self._changes.run(self._delete, name)
            _log.info("channel deleted", extra={"channel": name, "by": principal.name})
            return channel_pb2.DeleteChannelResponse()

    async def GetSnapshot(  # noqa: N802 - the contract's name
        self, request: channel_pb2.GetSnapshotRequest, context: Context
    ) -> channel_pb2.GetSnapshotResponse:
        """Give the latest picture."""
        async with ending(context):
            name, _ = self._let(request.name, Permission.WATCH, context)
            record = self._known(name)
            if record is not None and record.watch.evidence is EvidencePolicy.NONE:
                raise StateError("NOTHING_SHOWN", f"channel {name!r}: its evidence is none: no picture is shown of it")
            jpeg, time_s = await self._pictures.run(self._snapshots.take, name, request.annotated, request.max_width)
            response = channel_pb2.GetSnapshotResponse(jpeg=jpeg)
            set_time(response.time, time_s)
            return response

    # grpc.aio also takes a coroutine that writes through the context; the stubs know generators only. A generator
    # would not see the write that it waits for, and so could not end it.
    async def GetRecording(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # noqa: N802
        self, request: channel_pb2.GetRecordingRequest, context: Context
    ) -> None:
        """Send a file of a recording in pieces."""
        async with ending(context):
            name, _ = self._let(request.name, Permission.WATCH, context)
            if not request.HasField("time"):
                raise InvalidError("INVALID_TIME", "time is missing; allowed: what time is to be shown", field="time")
            time_s = time_from_wire(request.time, "time")
            if self._fetches >= MOST_RECORDINGS:
                message = f"{self._fetches} recordings are being fetched; allowed at once: {MOST_RECORDINGS}"
                raise LimitError("TOO_MANY_RECORDINGS", message)
            self._fetches += 1
            try:
                recording = await self._open(name, time_s, playable=request.playable)
                try:
                    await self._send(recording, context)
                finally:
                    recording.file.close()
            finally:
                self._fetches -= 1

    def _let(self, name: str, permission: Permission, context: Context) -> tuple[str, Principal]:
        """Let a call for one channel pass; give the channel's bare name, and who asks."""
        channel = channel_from_wire(name)
        return channel, self._authenticator.authorize(context.invocation_metadata() or (), permission, channel)

    # -- on threads --

    def _known(self, name: str) -> ChannelRecord | None:
        """Find a channel; None: it was never made, but streams."""
        record = self._catalogue.get(name)
        if record is None and self._status(name) is None:
            message = f"channel {name!r} is not known: it has no entry, and did not stream"
            raise NotFoundError("UNKNOWN_CHANNEL", message, channel=name)
        return record

    def _get(self, name: str) -> channel_pb2.Channel:
        return self._described(name, self._known(name))

    def _described(self, name: str, record: ChannelRecord | None) -> channel_pb2.Channel:
        status = self._status(name)
        if record is not None:
            return record_to_wire(record, status)
        found = None if status is None else status_to_wire(status)
        return channel_pb2.Channel(name=f"channels/{name}", status=found)

    def _create(self, wire: channel_pb2.Channel) -> channel_pb2.Channel:
        made = self._catalogue.create(record_from_wire(wire))
        return record_to_wire(made, self._status(made.name))

    def _update(self, wire: channel_pb2.Channel, fields: frozenset[str]) -> channel_pb2.Channel:
        changed = self._catalogue.update(record_from_wire(wire), fields)
        return record_to_wire(changed, self._status(changed.name))

    def _delete(self, name: str) -> None:
        self._catalogue.delete(name)
        self._forget(name)

    def _page(self, principal: Principal, after: str, size: int) -> channel_pb2.ListChannelsResponse:
        names = {record.name for record in self._catalogue.records()} | set(self._streamed())
        mine = sorted(name for name in names if name > after and principal.may(Permission.WATCH, name))
        page, size_bytes = channel_pb2.ListChannelsResponse(), 0
        for index, name in enumerate(mine):
            if index >= size or size_bytes > PAGE_BYTES:
                page.next_page_token = f"channels/{mine[index - 1]}"
                break
            wire = self._described(name, self._catalogue.get(name))
            size_bytes += wire.ByteSize()
            page.channels.append(wire)
        return page

    # -- recordings --

    async def _open(self, name: str, time_s: float, *, playable: bool) -> _OpenRecording:
        """Open a recording on a thread; when nobody waits for it any more, what was opened is closed."""
        unwanted = threading.Event()

        def open_it() -> _OpenRecording:
            record = self._known(name)
            try:
                with self._recordings.seek(name, time_s, playable, lambda: not unwanted.is_set()) as recorded:
                    # The file may go when the context is left, or retention comes: what is open is read to its end.
                    return _OpenRecording(recorded.path.open("rb"), recorded)
            except NotFoundError as error:
                if error.reason != "NOT_RECORDED":
                    raise
                state = "on" if record is not None and record.recording.enabled else "off"
                raise NotFoundError(
                    error.reason, f"{error.message}; recording is {state} for it", channel=name
                ) from error

        opening = (self._transcodes if playable else self._reads).submit(open_it)
        try:
            return await asyncio.wrap_future(opening)
        except FileNotFoundError:
            message = f"channel {name!r}: the recording was removed by retention just now"
            raise NotFoundError("RECORDING_EXPIRED", message) from None
        except asyncio.CancelledError:
            unwanted.set()
            opening.add_done_callback(_close_opened)
            raise

    async def _send(self, recording: _OpenRecording, context: Context) -> None:
        recorded = recording.what
        first = channel_pb2.GetRecordingResponse()
        info = first.info
        info.media_type, info.size_bytes, info.sha256 = "video/mp4", recorded.size_bytes, recorded.sha256
        info.transcoded = recorded.transcoded
        set_time(info.start_time, recorded.start_s)
        seconds_to_wire(first.seek, recorded.seek_s)
        await write(context, first, self._patience_s)
        file = recording.file
        async for piece in pieces(lambda most: self._reads.run(file.read, most), recorded.size_bytes, "the recording"):
            await write(context, channel_pb2.GetRecordingResponse(data=piece), self._patience_s)


@dataclass(frozen=True, slots=True)
class _OpenRecording:
    """A recording that is open; whoever has it closes it."""

    file: BufferedReader
    what: Recorded


def _close_opened(opening: Future[_OpenRecording]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().file.close()
