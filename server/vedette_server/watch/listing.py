"""Give pages of events of which the asker may see only some.

The store looks for channels by name, a token covers them by pattern. So the store looks at the channels of one event
after another and leaves out what may not be seen, before it unpacks any, until the asker's page is full; its token
stands behind the last event that was looked at, so that pages neither miss an event nor show one twice. Blocks: not for
the event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.store.querying import EventFilter, Page
    from vedette_server.store.store import EventStore


def list_events(store: EventStore, wanted: EventFilter, size: int, token: str, may_see: Callable[[str], bool]) -> Page:
    """Give a page of at most `size` events of those that the asker may see.

    It may have fewer, or none, though there are more: an empty token alone says that there are none.

    Raises:
        InvalidError: INVALID_PAGE_TOKEN.
    """
    # Channels that are asked for by name may be seen: the names come from the token, or were checked against it.
    return store.query(wanted, size=size, token=token, may_see=may_see if wanted.channels is None else None)
