"""Give pages of events of which the asker may see only some.

The store looks for channels by name, a token covers them by pattern. So the store's pages are read one after another
and what may not be seen is left out, until the asker's page is full; its token stands behind the last event that was
looked at, so that pages neither miss an event nor show one twice. Blocks: not for the event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.errors import InvalidError
from vedette_server.store.querying import EventFilter, Page, token_after

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_server.store.changes import Stored
    from vedette_server.store.store import EventStore

# Events that are looked at in one go, and for one page: then it ends, full or not, and its token leads on.
WINDOW = 500
MOST_WINDOWS = 20


def list_events(store: EventStore, wanted: EventFilter, size: int, token: str, may_see: Callable[[str], bool]) -> Page:
    """Give a page of at most `size` events of those that the asker may see.

    It may have fewer, or none, though there are more: an empty token alone says that there are none.

    Raises:
        InvalidError: INVALID_PAGE_TOKEN.
    """
    found: list[Stored] = []
    # Without a pattern, what the store gives is what may be seen.
    window = size if wanted.channels is not None else max(size, WINDOW)
    for _number in range(MOST_WINDOWS):
        page = _page(store, wanted, min(window, 1000), token)
        for stored in page.events:
            if stored.event is None or not may_see(stored.event.channel):
                continue
            if len(found) == size:
                return Page(tuple(found), token_after(found[-1], wanted))
            found.append(stored)
        token = page.next_token
        if not token or len(found) == size:
            break
    return Page(tuple(found), token)


def _page(store: EventStore, wanted: EventFilter, size: int, token: str) -> Page:
    try:
        return store.query(wanted, size=size, token=token)
    except InvalidError as error:
        if error.reason != "PAGE_TOKEN":
            raise
        raise InvalidError("INVALID_PAGE_TOKEN", error.message) from error
