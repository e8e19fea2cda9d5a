"""Who follows the chain is woken for all that is kept, whatever the others do."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from vedette_server.store.changes import Outcome, Stored
from vedette_server.store.feed import EventFeed

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def kept(number: int) -> Stored:
    return Stored(Outcome.ADDED, "e", number)


def test_who_waits_behind_the_end_is_woken_by_the_next_record_and_by_none_before() -> None:
    feed = EventFeed(5)
    assert feed.wait(4, 0)
    assert not feed.wait(5, 0.01)
    feed.told(kept(3))
    feed.told(Stored(Outcome.UNKNOWN, "e"))
    assert feed.length == 5
    feed.told(kept(6))
    assert feed.wait(5, 0)


def test_no_wake_is_lost_between_threads_that_tell_and_threads_that_follow() -> None:
    feed, count = EventFeed(), 3000
    reached: list[int] = []

    def follow() -> None:
        offset = 0
        while offset < count and feed.wait(offset, 20):
            offset = feed.length
        reached.append(offset)

    def tell(first: int) -> None:
        for number in range(first, count + 1, 3):
            feed.told(kept(number))

    threads = [threading.Thread(target=follow) for _ in range(4)]
    threads += [threading.Thread(target=tell, args=(first,)) for first in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert reached == [count] * 4


def test_a_listener_that_reads_where_it_stands_sees_the_last_record_whoever_told_it() -> None:
    feed = EventFeed()
    seen: list[int] = []
    feed.listen(lambda: seen.append(feed.length))
    threads = [
        threading.Thread(target=lambda first=first: [feed.told(kept(n)) for n in range(first, 2001, 2)])
        for first in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert max(seen) == 2000


def test_a_listener_that_fails_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    feed, seen = EventFeed(), []

    def fails() -> None:
        raise RuntimeError("no")

    feed.listen(fails)
    feed.listen(lambda: seen.append(feed.length))
    feed.told(kept(1))
    feed.told(kept(2))
    assert seen == [1, 2]
    assert "an event listener failed" in caplog.text


def test_a_listener_may_end_itself_or_another_or_listen_while_it_is_called() -> None:
    feed, seen = EventFeed(), []
    ends: list[Callable[[], None]] = []

    def once() -> None:
        seen.append("once")
        ends[0]()
        ends[0]()
        feed.listen(lambda: seen.append("new"))

    ends.append(feed.listen(once))
    feed.told(kept(1))
    feed.told(kept(2))
    assert seen == ["once", "new"]


def test_who_listens_twice_is_called_twice_and_ends_one_at_a_time() -> None:
    feed, seen = EventFeed(), []

    def listener() -> None:
        seen.append(feed.length)

    first, second = feed.listen(listener), feed.listen(listener)
    first()
    first()
    feed.told(kept(1))
    assert seen == [1]
    second()
    feed.told(kept(2))
    assert seen == [1]
