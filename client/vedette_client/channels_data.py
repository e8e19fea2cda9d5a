"""A channel as the server keeps it, as a plain record built from the wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vedette_client.channels_file import channels_to_toml
from vedette_client.channels_toml import settings_from_wire
from vedette_client.events_data import EventKind, time_from_wire
from vedette_client.numbered import Numbered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

    from vedette.v1 import channel_pb2


class PullState(Numbered):
    """Where a camera stands that the server calls."""

    NONE = 0
    """The channel has no source: the camera calls."""
    CONNECTING = 1
    STREAMING = 2
    WAITING = 3
    """It failed; the next try comes by itself."""
    FINISHED = 4
    """A file was sent to its end."""


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """Where a channel stands.

    Attributes:
        connected: A stream is connected.
        session: `channels/{channel}/sessions/{session}` of the latest session; empty: none.
        frame_time_ns: When its latest picture was taken, nanoseconds since the epoch; None: there is none.
        pull: Where its source stands.
        detail: Why the source failed last.
        faults: Camera faults that go on.
        from_file: The server's file of channels made it: it is changed there.
    """

    connected: bool = False
    session: str = ""
    frame_time_ns: int | None = None
    pull: PullState = PullState.NONE
    detail: str = ""
    faults: tuple[EventKind, ...] = ()
    from_file: bool = False


@dataclass(frozen=True, slots=True)
class Channel:
    """One camera, and what is made of it.

    Attributes:
        name: Its bare name.
        settings: What is wanted of it, as its table in a file of channels: `zones`, `rules`, `source`, ... What is
            usual is left out; passwords are hidden.
        revision: Counts changes.
        create_time_ns: When it was made, nanoseconds since the epoch; None: it never was, only streamed.
        update_time_ns: When it was changed.
        status: Where it stands.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    revision: int = 0
    create_time_ns: int | None = None
    update_time_ns: int | None = None
    status: ChannelStatus = field(default_factory=ChannelStatus)

    def to_toml(self) -> str:
        """Write it as it stands in a file of channels."""
        return channels_to_toml({self.name: self.settings})


@dataclass(frozen=True, slots=True)
class ChannelSnapshot:
    """A channel's latest picture, a JPEG, and when it was taken, nanoseconds since the epoch; None: unknown."""

    jpeg: bytes
    time_ns: int | None


def channel_from_wire(wire: channel_pb2.Channel) -> Channel:
    """Build a channel from its message."""
    return Channel(
        name=wire.name.removeprefix("channels/"),
        settings=settings_from_wire(wire),
        revision=wire.revision,
        create_time_ns=maybe_time(wire, "create_time"),
        update_time_ns=maybe_time(wire, "update_time"),
        status=_status(wire.status),
    )


def maybe_time(wire: Message, name: str) -> int | None:
    """Read a time, nanoseconds since the epoch; None: it is absent."""
    return time_from_wire(getattr(wire, name)) if wire.HasField(name) else None


def _status(wire: channel_pb2.ChannelStatus) -> ChannelStatus:
    return ChannelStatus(
        connected=wire.connected,
        session=wire.session,
        frame_time_ns=maybe_time(wire, "frame_time"),
        pull=PullState(int(wire.pull)),
        detail=wire.detail,
        faults=tuple(EventKind(int(kind)) for kind in wire.faults),
        from_file=wire.from_file,
    )
