"""Versions take over, are tried, rolled back, kept and let go of; channels follow where they can."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from support_engines import Channel, House, publish_classifier
from vedette_engines.withdrawn import restore, withdraw
from vedette_server.data.config import EngineRef
from vedette_server.data.engine import RouteChange
from vedette_server.errors import EngineError, NotFoundError, OutdatedError, StateError
from vedette_server.execute.fleet import OPENING_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.publish("1")
    yield made
    made.close()


def cameras(count: int) -> list[str]:
    return [f"cam-{number}" for number in range(count)]


def test_channels_that_name_no_version_go_over_and_pinned_ones_stay(house: House):
    open_ones = [house.open(name) for name in cameras(3)]
    pinned = house.open("pinned", version="1")
    house.publish("2")
    house.look()
    assert [channel.version for channel in open_ones] == ["2", "2", "2"]
    assert pinned.version == "1"
    assert house.open("new").version == "2"
    assert house.steering.route("toy").previous == ("1",)
    assert [one.channels for one in house.steering.versions("toy")] == [4, 1]


def test_the_new_version_takes_lanes_and_batch_of_the_old_one_over(house: House):
    house.open("a")
    house.publish("2")
    house.look()
    old, new = (house.engines.fleet.find("toy", version) for version in "12")
    assert old is not None
    assert new is not None
    assert (new.inference.lanes, new.inference.max_batch) == (old.inference.lanes, old.inference.max_batch)


def test_every_engine_of_a_channel_is_routed_by_itself(house: House):
    house.publish("1", "other")
    channel = Channel("a", (EngineRef("toy"), EngineRef("other", "1")))
    house.engines.prepare(channel.config.engines)
    channel.rebind(house.engines.choose(channel.config))
    house.engines.join(channel)
    house.publish("2")
    house.publish("2", "other")
    house.look()
    assert [one.label.version for one in channel.binding.inferences] == ["2", "1"]


def test_a_bad_newer_version_is_reported_once_and_the_old_one_stays(house: House, caplog: pytest.LogCaptureFixture):
    channel = house.open("a")
    house.publish("2")
    (house.root / "toy" / "2" / "model.onnx").write_bytes(b"torn")
    for _ in range(3):
        house.look()
    assert channel.version == "1"
    assert house.state("2") == "bad"
    assert [record.message for record in caplog.records].count(caplog.records[0].message) == 1
    assert "refused" in caplog.records[0].message
    house.publish("3")
    house.look()
    assert channel.version == "3"


def test_a_newer_version_of_another_task_does_not_take_over(house: House):
    channel = house.open("a")
    publish_classifier(house.root, "2")
    house.look()
    house.look()
    assert channel.version == "1"
    assert house.engines.fleet.find("toy", "2") is None


def test_a_channel_that_asks_for_a_class_that_is_gone_stays_with_its_version(house: House):
    free, held = house.open("free"), house.open("held", classes=("thing",))
    house.publish("2", labels=("other",))
    house.look()
    assert (free.version, held.version) == ("2", "1")
    assert house.engines.lines[0].held.keys() == {"held"}
    assert [one.channels for one in house.steering.versions("toy")] == [1, 1]
    house.now += 1000
    house.look()
    assert house.state("1") == "ready"
    # Once it asks for the class no more it goes over, too.
    held.config = replace(held.config, classes=())
    house.look()
    assert held.version == "2"
    assert not house.engines.lines[0].held


def test_a_route_that_a_channel_cannot_follow_is_refused_and_says_why(house: House):
    channel = house.open("held", classes=("thing",))
    house.publish("2", labels=("other",))
    with pytest.raises(StateError, match="held: version 2 has no class thing"):
        house.steering.change_route("toy", RouteChange(stable="2"))
    assert (channel.version, house.steering.route("toy").stable) == ("1", "1")


def test_what_lost_its_place_is_kept_for_a_while_and_then_closed(house: House):
    channel = house.open("a")
    house.publish("2")
    house.look()
    assert channel.version == "2"
    house.now += 59
    house.look()
    assert house.state("1") == "ready"
    house.now += 2
    house.look()
    assert house.state("1") == "available"
    assert [source.label.version for source in house.pool.sources] == ["2"]


def test_what_lost_its_place_is_not_closed_while_a_channel_or_a_frame_needs_it(house: House):
    channel = house.open("a", version="1")
    house.open("b")
    house.publish("2")
    house.look()
    old = house.engines.fleet.find("toy", "1")
    assert old is not None
    slot = old.inference.acquire()
    assert slot is not None
    house.now += 1000
    house.look()
    assert house.state("1") == "ready"
    house.engines.leave(channel)
    house.look()
    assert house.state("1") == "draining"
    old.inference.release(slot)
    house.look()
    assert house.state("1") == "available"


def test_a_withdrawn_version_gives_its_place_back(house: House):
    channel = house.open("a")
    house.publish("2")
    house.look()
    withdraw(house.root, "toy", "2", "it sees ghosts")
    house.look()
    assert channel.version == "1"
    assert house.steering.versions("toy")[0].withdrawn
    restore(house.root, "toy", "2")
    house.look()
    assert channel.version == "2"


def test_a_canary_runs_on_its_share_and_a_larger_share_only_adds_channels(house: House):
    channels = [house.open(name) for name in cameras(16)]
    house.steering.change_route("toy", RouteChange(stable="1"))
    house.publish("2")

    def on_canary(share: float) -> set[str]:
        house.steering.change_route("toy", RouteChange(canary="2", canary_share=share))
        return {channel.config.channel for channel in channels if channel.version == "2"}

    tenth, fifth = on_canary(0.1), on_canary(0.2)
    assert (len(tenth), len(fifth)) == (2, 3)
    assert tenth < fifth
    # A channel that reconnects gets what it had.
    for channel in channels:
        house.engines.leave(channel)
    assert {name for name in cameras(16) if house.open(name).version == "2"} == fifth


def test_a_canary_survives_a_restart_with_the_same_channels(house: House):
    channels = [house.open(name) for name in cameras(10)]
    house.steering.change_route("toy", RouteChange(stable="1"))
    house.publish("2")
    route = house.steering.change_route("toy", RouteChange(canary="2", canary_share=0.3))
    before = {channel.config.channel for channel in channels if channel.version == "2"}
    assert route.persistent
    house.close()
    again = House(house.root)
    # One by one, and not all of them: those that are remembered count.
    after = {name for name in cameras(10)[:6] if again.open(name).version == "2"}
    assert after == before & set(cameras(10)[:6])
    assert again.steering.route("toy") == route
    again.close()


def test_nothing_newer_takes_over_while_a_version_is_on_trial(house: House):
    channel = house.open("a")
    house.publish("2")
    house.steering.change_route("toy", RouteChange(canary="2", canary_share=0.0))
    house.publish("3")
    house.look()
    assert channel.version == "1"
    assert not house.steering.promote("toy").follows
    assert channel.version == "2"
    house.look()
    assert channel.version == "2", "what somebody promoted stays, though 3 is newer"
    house.steering.change_route("toy", RouteChange(stable=""))
    assert channel.version == "3"


def test_a_roll_back_that_cannot_be_done_withdraws_nothing(house: House):
    house.open("a")
    house.publish("2")
    house.look()
    with pytest.raises(NotFoundError):
        house.steering.roll_back("toy", "7")
    assert house.engines.withdrawn_here("toy") == frozenset()
    assert not house.engines.catalogue.withdrawn("toy")
    assert house.steering.route("toy").stable == "2"


def test_a_roll_back_is_instant_and_withdraws(house: House):
    channel = house.open("a")
    house.publish("2")
    house.look()
    route = house.steering.roll_back("toy")
    assert (route.stable, route.follows, channel.version) == ("1", True, "1")
    house.look()
    assert channel.version == "1"
    with pytest.raises(StateError) as caught:
        house.steering.roll_back("toy")
    assert caught.value.reason == "NOTHING_BEFORE"


def test_a_roll_back_over_several_versions_does_not_follow_what_lies_between(house: House):
    channel = house.open("a")
    house.publish("2")
    house.publish("3")
    house.look()
    route = house.steering.roll_back("toy", "1")
    house.look()
    assert (route.stable, route.follows, channel.version) == ("1", False, "1")


def test_where_nothing_can_be_written_routes_hold_until_the_end(house: House, tmp_path: Path):
    file = tmp_path / "not a folder"
    file.write_text("")
    other = House(house.root, state_file=file / "routes.json")
    other.open("a")
    assert not other.steering.change_route("toy", RouteChange(stable="1")).persistent
    other.close()


def test_a_change_for_another_revision_loads_nothing(house: House):
    house.open("a")
    house.publish("2")
    with pytest.raises(OutdatedError):
        house.steering.change_route("toy", RouteChange(stable="2", revision=99))
    assert house.state("2") == "available"


def test_what_is_not_there_is_named(house: House):
    with pytest.raises(NotFoundError, match="there are: "):
        house.steering.route("nobody")
    with pytest.raises(NotFoundError):
        house.steering.change_route("toy", RouteChange(canary="9", canary_share=0.5))
    with pytest.raises(NotFoundError):
        house.steering.unload("toy", "9")


def test_a_version_is_let_go_of_only_when_nobody_needs_it(house: House):
    channel = house.open("a")
    with pytest.raises(StateError, match="1 channels run it, a first"):
        house.steering.unload("toy", "1")
    house.engines.leave(channel)
    house.now += OPENING_S
    assert str(house.steering.unload("toy", "1").state) == "available"
    assert house.pool.sources == []
    assert house.open("a").version == "1"


def test_a_stream_that_lost_its_version_before_it_began_is_ended_and_not_left_hanging(house: House):
    channel = Channel("a", (EngineRef("toy", "1"),))
    house.engines.prepare(channel.config.engines)
    channel.rebind(house.engines.choose(channel.config))
    loaded = house.engines.fleet.find("toy", "1")
    assert loaded is not None
    house.engines.fleet.close(loaded)
    house.engines.join(channel)
    assert channel.ended == "ENGINE_UNLOADED"


def test_a_load_over_the_budget_first_closes_what_nobody_needs(tmp_path: Path):
    house = House(tmp_path, memory_budget_bytes=1)
    house.publish("1")
    with pytest.raises(EngineError, match=r"memory_budget_bytes is 1: .* too many; loaded and needed: nothing"):
        house.steering.load("toy")
    assert house.state("1") == "failed"
    house.close()
    house = House(tmp_path, memory_budget_bytes=1 << 40)
    house.publish("2")
    one = house.open("a", version="1")
    used = sum(loaded.memory_bytes for loaded in house.engines.fleet.loaded)
    assert used > 0
    object.__setattr__(house.settings, "memory_budget_bytes", used)
    with pytest.raises(EngineError, match="loaded and needed: toy 1"):
        house.steering.load("toy", "2")
    house.engines.leave(one)
    house.now += OPENING_S
    house.engines.fleet._measured["toy", "2"] = used // 2
    try:
        house.steering.load("toy", "2")
    except EngineError:
        # It has turned out to be larger than was thought: whatever it is, the idle one had to go first.
        assert house.engines.fleet.loaded == ()
    assert house.engines.fleet.find("toy", "1") is None
    house.close()


def test_a_loaded_version_tells_what_runs_it(house: House):
    loaded = house.steering.load("toy")
    assert (loaded.file, loaded.precision, loaded.fallback) == ("model.onnx", "fp32", "")
    assert loaded.backend == "onnxruntime:CPUExecutionProvider"
    assert (loaded.lanes, loaded.max_batch) == (1, 2)
    assert loaded.memory_bytes > 0
