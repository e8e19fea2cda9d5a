"""All sinks together, on a real store: threads, replays, announcements, the end."""

from __future__ import annotations

import base64
import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from support_sinks import Receiver, ScriptedSink, a_broker, a_receiver, mosquitto, retained
from support_store import an_event, ended
from vedette_server.data.channel import ChannelRecord
from vedette_server.data.event import EventKind, Evidence, EvidenceState
from vedette_server.data.rules import EvidencePolicy, Inside, Rule, WatchConfig
from vedette_server.errors import NotFoundError, SettingsError, UnavailableError
from vedette_server.sinks.base import SinkError
from vedette_server.sinks.delivery import Deliverer
from vedette_server.sinks.file import load_sinks
from vedette_server.sinks.settings import Patience, SinkSettings, Start
from vedette_server.store.errors import StoreUnavailableError
from vedette_server.store.feed import EventFeed
from vedette_server.store.retaining import Retention
from vedette_server.store.store import EventStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from vedette_server.data.event import Event
    from vedette_server.sinks.base import EventMessage, SinkContext
    from vedette_server.store.changes import Change

FAST = Patience(first_pause_s=0.02, longest_pause_s=0.05)


@dataclass
class Desk:
    """A store, its feed and a folder; `keep` is what an `EventWriter` does."""

    folder: Path
    store: EventStore
    feed: EventFeed = field(default_factory=EventFeed)

    def keep(self, *changes: Change) -> None:
        for stored in self.store.append(changes):
            self.feed.told(stored)


class Catalogue:
    """A catalogue of channels."""

    def __init__(self, *records: ChannelRecord) -> None:
        self.known = {one.name: one for one in records}
        self.listeners: list[Callable[[str, ChannelRecord | None], None]] = []

    def get(self, name: str) -> ChannelRecord | None:
        return self.known.get(name)

    def records(self) -> tuple[ChannelRecord, ...]:
        return tuple(self.known.values())

    def listen(self, callback: Callable[[str, ChannelRecord | None], None]) -> Callable[[], None]:
        self.listeners.append(callback)
        return lambda: self.listeners.remove(callback)

    def put(self, record: ChannelRecord) -> None:
        self.known[record.name] = record
        for listener in self.listeners:
            listener(record.name, record)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with EventStore(f"sqlite:///{tmp_path}/events.db") as store:
        yield Desk(tmp_path / "sinks", store)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with a_receiver() as one:
        yield one


def scripted(name: str, sink: Any, **more: Any) -> SinkSettings:
    return SinkSettings(name, "test", lambda _context: sink, **({"patience": FAST, "start": Start.EARLIEST} | more))


def until(done: Callable[[], bool], timeout_s: float = 10.0) -> None:
    until_s = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < until_s
        time.sleep(0.005)


def webhook(desk: Desk, receiver: Receiver, **keys: Any) -> tuple[SinkSettings, ...]:
    secret = base64.b64encode(bytes(32)).decode()
    values = {"url": receiver.url, "secret": secret, "first_pause_s": 0.02, "longest_pause_s": 0.05} | keys
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
    path = desk.folder.parent / "sinks.toml"
    path.write_text(f'[[sinks]]\nname = "desk"\nkind = "webhook"\n{lines}\n')
    return load_sinks(path, {})


def test_an_event_that_is_kept_is_delivered_at_once(desk: Desk, receiver: Receiver) -> None:
    with Deliverer(webhook(desk, receiver), desk.store, desk.feed, desk.folder) as deliverer:
        desk.keep(an_event("a"), ended("a"))
        receiver.wait_for(2, timeout_s=4.0)
        assert [one.json["type"] for one in receiver.requests] == ["event.active", "event.ended"]
        until(lambda: deliverer.figures()["desk"].delivered == 2)
        figures = deliverer.figures()["desk"]
        assert (figures.lag, figures.failing, figures.dead) == (0, "", 0)


def test_a_receiver_that_dies_and_comes_back_misses_nothing(desk: Desk, receiver: Receiver) -> None:
    with Deliverer(webhook(desk, receiver), desk.store, desk.feed, desk.folder) as deliverer:
        desk.keep(an_event("0"))
        receiver.wait_for(1)
        receiver.die()
        desk.keep(*(an_event(f"{one}", channel=f"c{one % 3}") for one in range(1, 30)))
        until(lambda: deliverer.figures()["desk"].failed >= 3)
        assert deliverer.figures()["desk"].failing
        receiver.open()
        until(lambda: {one.json["record"] for one in receiver.requests} == set(range(1, 31)))
        until(lambda: deliverer.figures()["desk"].failing == "")
    for channel in range(3):
        mine = [one.json["record"] for one in receiver.requests if one.json["channel"] == f"channels/c{channel}"]
        assert mine == sorted(mine)


def test_a_receiver_that_asks_for_time_gets_it(desk: Desk, receiver: Receiver) -> None:
    times: list[float] = []

    def answer(_request: object) -> tuple[int, dict[str, str]]:
        times.append(time.monotonic())
        return (429, {"retry-after": "1"}) if len(times) == 1 else (204, {})

    receiver.answer = answer
    with Deliverer(webhook(desk, receiver), desk.store, desk.feed, desk.folder):
        desk.keep(an_event("a"))
        receiver.wait_for(2)
    assert times[1] - times[0] >= 1.0


def test_a_sink_that_hangs_delays_no_other_and_not_the_end(desk: Desk) -> None:
    go_on = threading.Event()
    hanging, other = ScriptedSink(), ScriptedSink()

    def hang(_group: Sequence[EventMessage]) -> tuple[SinkError | None, int]:
        go_on.wait(30)
        return None, 0

    hanging.answer = hang
    deliverer = Deliverer([scripted("a", hanging), scripted("b", other)], desk.store, desk.feed, desk.folder)
    try:
        desk.keep(an_event("a"), an_event("b"))
        until(lambda: other.numbers == [1, 2])
        until(lambda: hanging.tries == 1)
        began_s = time.monotonic()
        deliverer.close(0.1)
        deliverer.close(0.1)
        assert time.monotonic() - began_s < 5
        assert (hanging.closed, other.closed) == (0, 1)
    finally:
        go_on.set()
    until(lambda: hanging.closed == 1)


def test_a_restart_goes_on_where_it_was(desk: Desk) -> None:
    sink = ScriptedSink()
    for round_ in range(3):
        with Deliverer([scripted("a", sink)], desk.store, desk.feed, desk.folder):
            desk.keep(an_event(f"{round_}"))
            until(lambda: len(sink.taken) == round_ + 1)  # noqa: B023 - called within the round
    assert sink.numbers == [1, 2, 3]


def test_dead_letters_are_put_through_again_in_order_and_those_that_fail_again_are_kept(
    desk: Desk, receiver: Receiver
) -> None:
    refused = {"b", "c", "d", "e"}
    receiver.answer = lambda request: (400 if request.json["name"].rpartition("/")[2] in refused else 204, {})
    with Deliverer(webhook(desk, receiver), desk.store, desk.feed, desk.folder) as deliverer:
        desk.keep(*(an_event(one) for one in "abcde"))
        until(lambda: deliverer.figures()["desk"].dead == 4)
        refused -= {"b", "d", "e"}
        before = len(receiver.requests)
        replayed = deliverer.replay("desk")
        assert (replayed.delivered, replayed.kept) == (3, 1)
        assert "400" in replayed.reason
        again = [one.json["name"].rpartition("/")[2] for one in receiver.requests[before:]]
        assert again == ["b", "c", "d", "e"]
        assert [one.event.event_id for one in deliverer.dead_letters("desk")] == ["c"]
    refused.clear()
    with Deliverer(webhook(desk, receiver), desk.store, desk.feed, desk.folder) as deliverer:
        assert deliverer.figures()["desk"].dead_letters == 1
        assert deliverer.replay("desk").delivered == 1
        assert deliverer.dead_letters("desk") == []
        assert deliverer.replay("desk").delivered == 0


def test_a_replay_to_a_sink_that_is_down_keeps_all(desk: Desk) -> None:
    sink = ScriptedSink()
    sink.answer = lambda _group: (SinkError("no", permanent=True), 0)
    with Deliverer([scripted("a", sink)], desk.store, desk.feed, desk.folder) as deliverer:
        desk.keep(*(an_event(f"{one}") for one in range(5)))
        until(lambda: deliverer.figures()["a"].dead == 5)
        sink.answer = lambda _group: (SinkError("down", of_sink=True), 0)
        replayed = deliverer.replay("a")
        assert (replayed.delivered, replayed.kept, replayed.reason) == (0, 5, "down")
        assert sink.tries == 6
        sink.answer = lambda group: (SinkError("500") if group[0].number == 2 else None, 0)
        replayed = deliverer.replay("a")
        assert (replayed.delivered, replayed.kept) == (1, 4), "what is later in the channel waits for what is first"


def test_a_replay_of_nobody_or_after_the_end_is_refused(desk: Desk) -> None:
    deliverer = Deliverer([scripted("a", ScriptedSink())], desk.store, desk.feed, desk.folder)
    with pytest.raises(NotFoundError, match="sink 'b': there is none; there are: a"):
        deliverer.replay("b")
    deliverer.close()
    with pytest.raises(UnavailableError):
        deliverer.replay("a")


def test_a_replay_that_takes_too_long_says_so_and_is_ended_by_the_end(desk: Desk) -> None:
    sink, go_on = ScriptedSink(), threading.Event()
    sink.answer = lambda _group: (SinkError("no", permanent=True), 0)
    deliverer = Deliverer([scripted("a", sink)], desk.store, desk.feed, desk.folder)
    desk.keep(an_event("a"), an_event("b"))
    until(lambda: deliverer.figures()["a"].dead == 2)
    sink.answer = lambda _group: (None, int(go_on.wait(30)))
    with pytest.raises(UnavailableError, match="goes on"):
        deliverer.replay("a", timeout_s=0.05)
    go_on.set()
    deliverer.close()
    assert len(deliverer.dead_letters("a")) <= 1


def pictured(name: str, channel: str) -> Event:
    return an_event(name, channel=channel, annotated=Evidence(EvidenceState.READY, 9, "ab" * 32, "image/jpeg"))


def test_a_picture_is_fetched_for_events_that_have_one_and_may_be_shown(desk: Desk, receiver: Receiver) -> None:
    catalogue = Catalogue(ChannelRecord("gate"), ChannelRecord("ward", watch=WatchConfig(evidence=EvidencePolicy.NONE)))
    asked: list[str] = []

    def fetch(event: Event) -> bytes | None:
        asked.append(event.event_id)
        if event.event_id == "broken":
            raise OSError("gone")
        return b"jpeg"

    settings = webhook(desk, receiver, snapshot="base64")
    with Deliverer(settings, desk.store, desk.feed, desk.folder, channels=catalogue, fetch_snapshot=fetch):
        desk.keep(pictured("a", "gate"), pictured("b", "ward"), an_event("c"), pictured("broken", "gate"))
        receiver.wait_for(4)
    shown = {one.json["name"].rpartition("/")[2]: "snapshot_jpeg" in one.json for one in receiver.requests}
    assert shown == {"a": True, "b": False, "c": False, "broken": False}
    assert asked == ["a", "broken"]


def test_retention_while_a_sink_is_down_is_told_as_a_gap(desk: Desk) -> None:
    sink = ScriptedSink()
    sink.answer = lambda _group: (SinkError("down", of_sink=True), 0)
    with Deliverer([scripted("a", sink)], desk.store, desk.feed, desk.folder):
        desk.keep(*(ended(f"{one}", at_s=one) for one in range(10)))
        until(lambda: sink.tries >= 1)
    list(desk.store.retain(Retention(max_events=4)))
    sink.answer = lambda _group: (None, 0)
    with Deliverer([scripted("a", sink)], desk.store, desk.feed, desk.folder) as deliverer:
        until(lambda: len(sink.taken) == 4)
        until(lambda: deliverer.figures()["a"].lag == 0)
        assert deliverer.figures()["a"].removed == 6
    assert sink.numbers == [7, 8, 9, 10]


def test_a_store_that_fails_is_read_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = ScriptedSink()
    real, failures = desk.store.changes_after, iter(range(3))

    def failing(*about: Any) -> Any:
        if next(failures, None) is not None:
            raise StoreUnavailableError("LOCKED", "locked")
        return real(*about)

    monkeypatch.setattr(desk.store, "changes_after", failing)
    with Deliverer([scripted("a", sink)], desk.store, desk.feed, desk.folder):
        desk.keep(an_event("a"))
        until(lambda: sink.numbers == [1])


class Announcer(ScriptedSink):
    """A sink that is told of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[list[str]] = []
        self.down = False

    def announce(self, records: Sequence[ChannelRecord]) -> None:
        if self.down:
            raise SinkError("down", of_sink=True)
        self.told.append([one.name for one in records])


def test_channels_are_announced_at_the_start_after_a_change_and_again_after_a_failure(desk: Desk) -> None:
    sink, catalogue = Announcer(), Catalogue(ChannelRecord("gate"))
    with Deliverer([scripted("a", sink)], desk.store, desk.feed, desk.folder, channels=catalogue):
        until(lambda: sink.told == [["gate"]])
        sink.down = True
        catalogue.put(ChannelRecord("door"))
        time.sleep(0.05)
        sink.down = False
        until(lambda: sink.told[1:] == [["gate", "door"]])
    assert catalogue.listeners == []


def test_a_sink_that_cannot_be_made_leaves_nothing_behind(desk: Desk) -> None:
    sink = ScriptedSink()

    def refuse(_context: SinkContext) -> ScriptedSink:
        raise SettingsError("no corn")

    with pytest.raises(SettingsError, match="no corn"):
        Deliverer([scripted("a", sink), SinkSettings("b", "pigeon", refuse)], desk.store, desk.feed, desk.folder)
    assert sink.closed == 1
    desk.folder.joinpath("x").write_text("")
    with pytest.raises(SettingsError, match="folder of sinks"):
        Deliverer([], desk.store, desk.feed, desk.folder / "x" / "y")


@pytest.mark.skipif(mosquitto() is None, reason="mosquitto is not installed (apt-get install mosquitto)")
def test_home_assistant_sees_a_channel_that_is_made_and_its_rule_go_on(desk: Desk, tmp_path: Path) -> None:
    with a_broker(tmp_path / "broker") as broker:
        path = tmp_path / "sinks.toml"
        path.write_text(f'[[sinks]]\nname = "home"\nkind = "mqtt"\nurl = "mqtt://127.0.0.1:{broker.port}"\n')
        catalogue = Catalogue()
        with Deliverer(load_sinks(path), desk.store, desk.feed, desk.folder, channels=catalogue) as deliverer:
            rules = (Rule("yard", Inside()),)
            catalogue.put(ChannelRecord("gate", watch=WatchConfig(rules=rules)))
            until(lambda: "homeassistant/binary_sensor/vedette_gate/rule_yard/config" in retained(broker.port))
            assert retained(broker.port)["vedette/gate/rules/yard/state"] == b"OFF"
            desk.keep(an_event("a", kind=EventKind.INSIDE))
            until(lambda: deliverer.figures()["home"].delivered == 1)
            assert retained(broker.port)["vedette/gate/rules/yard/state"] == b"ON"
        assert retained(broker.port)["vedette/status"] == b"offline"
