"""Find a server's events, fetch their evidence, acknowledge and verify them.

```python
async with Client("localhost:50051") as client:
    for event in await client.events.list("front-door", limit=10):
        await client.events.clip(event, Path(f"{event.event_id}.mp4"))
        await client.events.acknowledge(event, note="seen")
```
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from vedette.v1 import event_pb2, event_pb2_grpc
from vedette_client.calls import PIECE_TIMEOUT_S, Calls
from vedette_client.errors import ConnectionLostError, IntegrityError, OptionsError, ProtocolError
from vedette_client.events_chain import ChainHead, Verification, head_from_wire
from vedette_client.events_data import Event, EvidenceState, event_from_wire
from vedette_client.events_files import ClipInfo, check, receive
from vedette_client.options import channel_name

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from vedette_client.connection import ChannelPool
    from vedette_client.events_data import EventFilter

ABSENT = "this server keeps no events; it does when it is started with --state DIR or --channels FILE"
MOST_FINDINGS = 1000
VERIFY_TIMEOUT_S = 600.0
_PAGE = 1000
_AGAIN_S = 0.5
_NAME = re.compile(r"(?:channels/)?([A-Za-z0-9._-]{1,128})/(?:events/)?([A-Za-z0-9._-]{1,128})")


class Events:
    """The events of one server; `Client.events` gives it.

    An event is named as `Event.name` is, or `CHANNEL/EVENT`, or given itself. All calls raise RefusedError, with the
    server's reason (`NOT_FOUND`: unknown, or removed by retention), and ConnectionLostError.
    """

    def __init__(self, pool: ChannelPool, address: str) -> None:
        self._calls = Calls(pool, address, event_pb2_grpc.EventServiceStub, ABSENT)

    async def find(
        self, channel: str | None = None, wanted: EventFilter | None = None, *, page_size: int = _PAGE
    ) -> AsyncGenerator[Event, None]:
        """Iterate over events, the newest first, page by page.

        Args:
            channel: Only those of this channel; None: of all that the caller may watch.
            wanted: Which of them; None: all.
            page_size: Ask for so many at once, 1..1000.
        """
        parent = "channels/-" if channel is None else channel_name(channel)
        request = event_pb2.ListEventsRequest(parent=parent, page_size=page_size)
        if wanted is not None:
            request.filter.CopyFrom(wanted.to_wire())
        while True:
            answer = await self._calls.ask("ListEvents", request)
            for one in answer.events:
                yield event_from_wire(one)
            if answer.next_page_token and answer.next_page_token == request.page_token:
                raise ProtocolError("the server gives the same page of events again and again")
            request.page_token = answer.next_page_token
            if not request.page_token:
                return

    async def list(
        self, channel: str | None = None, wanted: EventFilter | None = None, *, limit: int = 1000
    ) -> list[Event]:
        """List events, the newest first, without their trails.

        Args:
            channel: Only those of this channel; None: of all that the caller may watch.
            wanted: Which of them; None: all.
            limit: At most so many.

        Raises:
            OptionsError: The channel's name or the limit is not allowed.
        """
        if limit < 1:
            raise OptionsError(f"limit is {limit}; at least 1 is wanted")
        found: list[Event] = []
        pages = self.find(channel, wanted, page_size=min(limit, _PAGE))
        try:
            async for event in pages:
                found.append(event)
                if len(found) == limit:
                    break
        finally:
            await pages.aclose()
        return found

    async def get(self, event: Event | str) -> Event:
        """Get one event as it stands, with its trail."""
        answer = await self._calls.ask("GetEvent", event_pb2.GetEventRequest(name=event_name(event)))
        return event_from_wire(answer.event)

    async def acknowledge(self, event: Event | str, *, note: str = "", user: str = "") -> Event:
        """Take note that somebody has seen an event.

        Args:
            event: Which.
            note: What is to be remembered, at most 4096 characters.
            user: Who; empty: whom the token names. Without a token that names nobody, and does not replace an
                acknowledgement that has a name: that one is in what is returned.
        """
        request = event_pb2.AcknowledgeEventRequest(name=event_name(event), user=user, note=note)
        return event_from_wire((await self._calls.ask("AcknowledgeEvent", request)).event)

    async def snapshot(self, event: Event | str, *, annotated: bool = False) -> bytes:
        """Fetch the picture of an event, a JPEG.

        A better picture may have taken the place of the one that an event was listed with. Where the hash of what came
        differs from the given event's, the event is therefore asked for as it stands now: the picture is right if that
        names its hash.

        Args:
            event: Which; given itself, its own hash is checked, too.
            annotated: With what was seen drawn in.

        Raises:
            IntegrityError: The picture is not what its hash says, or its event names another one.
        """
        name = event_name(event)
        request = event_pb2.GetEventSnapshotRequest(name=name, annotated=annotated)
        answer = await self._calls.ask("GetEventSnapshot", request, PIECE_TIMEOUT_S)
        what = f"the snapshot of {name}"
        check(what, answer.sha256, await asyncio.to_thread(_sha256, answer.jpeg))
        kept = "" if isinstance(event, str) else _hash_of(event, annotated=annotated)
        if kept and kept != answer.sha256:
            kept = _hash_of(await self.get(name), annotated=annotated)
            if kept != answer.sha256:
                raise IntegrityError(f"{what} has another hash, {answer.sha256}, than its event says: {kept or 'none'}")
        return bytes(answer.jpeg)

    async def clip(
        self,
        event: Event | str,
        path: Path | str,
        *,
        playable: bool = False,
        wait_s: float = 0.0,
        timeout_s: float = PIECE_TIMEOUT_S,
    ) -> ClipInfo:
        """Fetch the clip of an event into a file, which is there only when all has come and its hash is right.

        Args:
            event: Which; given itself, its own hash is checked, too.
            path: Where to; a file of that name is replaced.
            playable: What browsers play: transcoded where the camera sends something else.
            wait_s: While the clip is being written, ask again for so long.
            timeout_s: No piece may take longer.

        Raises:
            IntegrityError: The clip is not what its hash says; there is no file.
            ConnectionLostError: It is still being written, or the server cannot be reached.
        """
        name, loop = event_name(event), asyncio.get_running_loop()
        deadline_s = loop.time() + wait_s
        kept = "" if isinstance(event, str) else event.clip.sha256
        request = event_pb2.GetEventClipRequest(name=name, playable=playable)
        while True:
            try:
                pieces = self._calls.pieces("GetEventClip", request, timeout_s)
                return (await receive(pieces, Path(path), f"the clip of {name}", kept))[0]
            except ConnectionLostError:
                if loop.time() >= deadline_s or (await self.get(name)).clip.state is not EvidenceState.PENDING:
                    raise
                await asyncio.sleep(_AGAIN_S)

    async def chain_head(self) -> ChainHead:
        """Get the signed head of the chain of events, to be kept elsewhere."""
        return head_from_wire((await self._calls.ask("GetChainHead", event_pb2.GetChainHeadRequest())).head)

    async def verify(
        self,
        head: ChainHead | None = None,
        *,
        files: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
        timeout_s: float = VERIFY_TIMEOUT_S,
    ) -> Verification:
        """Have the server check its chain of events, and its files of evidence.

        The server is asked to check itself: what convicts one that was rewritten is a head that was kept elsewhere.

        Args:
            head: A head that was kept elsewhere: the chain must contain it.
            files: Also read every file of evidence and compare its hash.
            on_progress: Called with the records and the files checked so far.
            timeout_s: No news for so long: the check is given up.

        Raises:
            ProtocolError: The server ended the check before it was done.
        """
        request = event_pb2.VerifyEventsRequest(files=files, head=None if head is None else head.to_wire())
        records, files_read, done = 0, 0, False
        findings: dict[str, None] = {}  # a set with an order: whether messages repeat earlier ones does not matter
        pieces = self._calls.pieces("VerifyEvents", request, timeout_s)
        try:
            async for piece in pieces:
                records, files_read = max(records, piece.records), max(files_read, piece.files)
                findings |= dict.fromkeys(piece.findings[: MOST_FINDINGS - len(findings)])
                done = piece.done
                if on_progress is not None:
                    on_progress(records, files_read)
                if done:
                    break
        finally:
            await pieces.aclose()
        if not done:
            raise ProtocolError("the server ended its check of the events before it was done")
        return Verification(records, files_read, tuple(findings))


def event_name(event: Event | str) -> str:
    """Make the resource name `channels/CHANNEL/events/EVENT` of an event or of `CHANNEL/EVENT`.

    Raises:
        OptionsError: It names no event.
    """
    text = event if isinstance(event, str) else event.name
    found = _NAME.fullmatch(text)
    if found is None:
        raise OptionsError(f"event is {text!r}; CHANNEL/EVENT or channels/CHANNEL/events/EVENT is wanted")
    return f"channels/{found[1]}/events/{found[2]}"


def _hash_of(event: Event, *, annotated: bool) -> str:
    return (event.annotated_snapshot if annotated else event.snapshot).sha256


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
