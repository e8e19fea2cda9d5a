"""Keep a server's channels: their zones, rules and masks, and cameras that the server calls itself.

```python
async with Client("localhost:50051") as client:
    yard = [[0.1, 0.2], [0.9, 0.2], [0.9, 0.9]]
    rule = {"name": "loitering", "kind": "dwell", "zone": "yard", "at_least_s": 30}
    await client.channels.create("gate-1", {"zones": {"yard": yard}, "rules": [rule]})
    await client.channels.update("gate-1", {"gate": "motion"})
```

Settings are what stands in a file of channels; the server tells what of them it does not take, and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import field_mask_pb2

from vedette.v1 import channel_pb2, channel_pb2_grpc
from vedette_client.calls import PIECE_TIMEOUT_S, Calls
from vedette_client.channels_data import Channel, ChannelSnapshot, channel_from_wire, maybe_time
from vedette_client.channels_toml import SETTINGS, channel_to_wire
from vedette_client.errors import OptionsError, RefusedError
from vedette_client.events_data import time_to_wire
from vedette_client.events_files import ClipInfo, receive
from vedette_client.options import channel_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_client.connection import ChannelPool

ABSENT = "this server keeps no channels; it does when it is started with --state DIR or --channels FILE"
_PAGE = 1000


class Applied(StrEnum):
    """What became of a channel that was applied."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A file of a channel's recording.

    Attributes:
        info: What it is.
        seek_s: Where in it the keyframe stands from which the wanted time is shown, seconds from its start.
    """

    info: ClipInfo
    seek_s: float


class Channels:
    """The channels of one server; `Client.channels` gives it.

    All calls raise RefusedError, with the server's reason, and ConnectionLostError; those that take settings raise
    OptionsError when these cannot be read.
    """

    def __init__(self, pool: ChannelPool, address: str) -> None:
        self._calls = Calls(pool, address, channel_pb2_grpc.ChannelServiceStub, ABSENT)

    async def list(self) -> list[Channel]:
        """List the channels that the caller may watch, by name."""
        found: list[Channel] = []
        request = channel_pb2.ListChannelsRequest(page_size=_PAGE)
        while True:
            answer = await self._calls.ask("ListChannels", request)
            found += [channel_from_wire(one) for one in answer.channels]
            request.page_token = answer.next_page_token
            if not request.page_token:
                return found

    async def get(self, name: str) -> Channel:
        """Get one channel."""
        answer = await self._calls.ask("GetChannel", channel_pb2.GetChannelRequest(name=channel_name(name)))
        return channel_from_wire(answer.channel)

    async def create(self, name: str, settings: Mapping[str, Any] | None = None) -> Channel:
        """Make a channel; ALREADY_EXISTS when there is one of that name."""
        request = channel_pb2.CreateChannelRequest(channel=channel_to_wire(name, settings or {}))
        return channel_from_wire((await self._calls.ask("CreateChannel", request)).channel)

    async def update(self, name: str, settings: Mapping[str, Any], *, revision: int = 0) -> Channel:
        """Change what is named in `settings`, each key as a whole; also while the channel streams.

        Args:
            name: The channel.
            settings: What is to change; a key with None goes back to what is usual.
            revision: Refuse (ABORTED) when the channel has changed since this revision; 0: whatever it is.

        Raises:
            OptionsError: Nothing is to change, or a setting cannot be read.
        """
        if not settings:
            raise OptionsError(f"nothing of channel {name} is to change; allowed: one or more of {', '.join(SETTINGS)}")
        given = {key: value for key, value in settings.items() if value is not None or key not in SETTINGS}
        return await self._update(name, given, field_mask_pb2.FieldMask(paths=list(settings)), revision)

    async def apply(self, name: str, settings: Mapping[str, Any]) -> tuple[Channel, Applied]:
        """Have a channel be as `settings` say and no other: it is made where there is none.

        Returns:
            The channel, and what became of it.
        """
        try:
            before = await self.get(name)
            after = await self._update(name, settings, field_mask_pb2.FieldMask(), 0)
        except RefusedError as error:
            if error.code != "NOT_FOUND":
                raise
            return await self.create(name, settings), Applied.CREATED
        return after, Applied.CHANGED if after.revision != before.revision else Applied.UNCHANGED

    async def delete(self, name: str) -> None:
        """Forget a channel: its stream ends, its events are kept."""
        await self._calls.ask("DeleteChannel", channel_pb2.DeleteChannelRequest(name=channel_name(name)))

    async def snapshot(self, name: str, *, annotated: bool = False, max_width: int = 0) -> ChannelSnapshot:
        """Fetch a channel's latest picture.

        Args:
            name: The channel.
            annotated: With boxes, zones and lines drawn in.
            max_width: Widest picture, in pixels; 0: as it came.
        """
        request = channel_pb2.GetSnapshotRequest(name=channel_name(name), annotated=annotated, max_width=max_width)
        answer = await self._calls.ask("GetSnapshot", request)
        return ChannelSnapshot(bytes(answer.jpeg), maybe_time(answer, "time"))

    async def recording(self, name: str, time_ns: int, path: Path | str, *, playable: bool = False) -> Recorded:
        """Fetch the file of a channel's recording that shows a time, or the next one behind it.

        Args:
            name: The channel.
            time_ns: What time it is to show, nanoseconds since the epoch.
            path: Where to; it is there only when all has come and its hash is right.
            playable: What browsers play: transcoded where the camera sends something else.

        Raises:
            IntegrityError: It is not what its hash says; there is no file.
        """
        request = channel_pb2.GetRecordingRequest(
            name=channel_name(name), time=time_to_wire(time_ns), playable=playable
        )
        pieces = self._calls.pieces("GetRecording", request, PIECE_TIMEOUT_S)
        info, first = await receive(pieces, Path(path), f"the recording of {name}")
        return Recorded(info, first.seek.seconds + first.seek.nanos / 1e9)

    async def _update(
        self, name: str, settings: Mapping[str, Any], mask: field_mask_pb2.FieldMask, revision: int
    ) -> Channel:
        channel = channel_to_wire(name, settings)
        channel.revision = revision
        request = channel_pb2.UpdateChannelRequest(channel=channel, update_mask=mask)
        return channel_from_wire((await self._calls.ask("UpdateChannel", request)).channel)
