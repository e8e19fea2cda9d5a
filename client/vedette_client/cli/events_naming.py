"""Find the event that a person means: its whole name, `CHANNEL/EVENT`, or the first letters of its identity.

And say so when a channel that is named is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_client.cli.outcome import say
from vedette_client.errors import OptionsError, RefusedError
from vedette_client.events import event_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vedette_client.client import Client
    from vedette_client.events_data import Event

MOST_SEARCHED = 10_000
"""So many of the latest events are searched for one whose name is not given whole."""
LEAST_CHARS = 4
"""So many letters of an event name it at least."""
_WHOLE_CHARS = 26


async def find_event(client: Client, text: str) -> Event:
    """Find an event, with its trail.

    Args:
        client: Asks the server.
        text: `channels/CHANNEL/events/EVENT`, `CHANNEL/EVENT` or `EVENT`; of EVENT the first letters are enough,
            `LEAST_CHARS` of them, where only one of the `MOST_SEARCHED` latest events begins so.

    Raises:
        OptionsError: It names no event, or several.
        RefusedError: There is none.
    """
    if "/" not in text:
        return await client.events.get(await _search(client, None, text))
    name = event_name(text)
    try:
        return await client.events.get(name)
    except RefusedError as error:
        event_id = name.rpartition("/")[2]
        if error.code != "NOT_FOUND" or len(event_id) >= _WHOLE_CHARS:
            raise
        return await client.events.get(await _search(client, name.split("/")[1], event_id))


async def say_unknown(client: Client, channels: Iterable[str], who: str) -> None:
    """Say which channels the server does not know: they may come, or be a slip.

    Args:
        client: Asks the server.
        channels: Their names.
        who: Which command says it.
    """
    for name in dict.fromkeys(channels):
        try:
            await client.channels.get(name)
        except RefusedError as error:
            # Whoever may not ask, or asks a server without channels, learns it from what was asked for.
            if error.code == "NOT_FOUND":
                say(who, f"channel {name!r} is not known yet")


async def _search(client: Client, channel: str | None, start: str) -> str:
    start = start.lower()
    if len(start) < LEAST_CHARS:
        raise OptionsError(f"event is {start!r}; at least {LEAST_CHARS} letters of it are wanted")
    found: list[str] = []
    searched = 0
    events = client.events.find(channel)
    try:
        async for event in events:
            searched += 1
            if event.event_id.startswith(start):
                found.append(event.name)
            if searched == MOST_SEARCHED or (found and len(start) >= _WHOLE_CHARS):
                break
    finally:
        await events.aclose()
    if not found:
        where = f" of channel {channel}" if channel else ""
        message = f"no event{where} begins with {start!r}; the latest {searched} were looked at"
        raise RefusedError("NOT_FOUND", "", message)
    if len(found) > 1:
        told = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise OptionsError(f"event is {start!r}, and {len(found)} begin so: {told}")
    return found[0]
