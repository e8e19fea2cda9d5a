"""The blocking twin of `vedette_client.channels`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vedette_client.channels import Applied, Recorded
    from vedette_client.channels import Channels as AsyncChannels
    from vedette_client.channels_data import Channel, ChannelSnapshot
    from vedette_client.sync_engines import Call


class Channels:
    """The channels of one server; see `vedette_client.channels.Channels` for all of it."""

    def __init__(self, channels: AsyncChannels, call: Call) -> None:
        self._channels = channels
        self._call = call

    def list(self) -> list[Channel]:
        """List the channels, by name."""
        return self._call(self._channels.list())

    def get(self, name: str) -> Channel:
        """Get one channel."""
        return self._call(self._channels.get(name))

    def create(self, name: str, settings: Mapping[str, Any] | None = None) -> Channel:
        """Make a channel."""
        return self._call(self._channels.create(name, settings))

    def update(self, name: str, settings: Mapping[str, Any], *, revision: int = 0) -> Channel:
        """Change what is named in `settings`."""
        return self._call(self._channels.update(name, settings, revision=revision))

    def apply(self, name: str, settings: Mapping[str, Any]) -> tuple[Channel, Applied]:
        """Have a channel be as `settings` say and no other."""
        return self._call(self._channels.apply(name, settings))

    def delete(self, name: str) -> None:
        """Forget a channel."""
        self._call(self._channels.delete(name))

    def snapshot(self, name: str, *, annotated: bool = False, max_width: int = 0) -> ChannelSnapshot:
        """Fetch a channel's latest picture."""
        return self._call(self._channels.snapshot(name, annotated=annotated, max_width=max_width))

    def recording(self, name: str, time_ns: int, path: Path | str, *, playable: bool = False) -> Recorded:
        """Fetch the file of a channel's recording that shows a time."""
        return self._call(self._channels.recording(name, time_ns, path, playable=playable))
