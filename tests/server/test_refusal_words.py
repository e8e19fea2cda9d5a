"""What a refusal says: in words that can be followed."""

from __future__ import annotations

import struct

import pytest

from vedette_server.channels.check import check_record
from vedette_server.data.channel import ChannelRecord, SourceConfig, SourceStream
from vedette_server.data.config import EngineRef
from vedette_server.data.rules import Cross, Enter, Occupancy, Rule, WatchConfig, Zone
from vedette_server.errors import InvalidError
from vedette_server.monitor.check import check

TYPED = struct.unpack("f", struct.pack("f", 1.2))[0]


def words(config: WatchConfig) -> str:
    with pytest.raises(InvalidError) as refused:
        check(config, ())
    return refused.value.message


def test_a_place_where_none_is_configured_says_so_and_what_is_left() -> None:
    zone = words(WatchConfig(rules=(Rule("a", Enter("nope")),)))
    assert zone == "rules.a.zone is 'nope'; no zone is configured; allowed: empty, for the whole picture"
    line = words(WatchConfig(rules=(Rule("a", Cross("nope")),)))
    assert line == "rules.a.line is 'nope'; no line is configured; allowed: one that is made under lines"


def test_what_is_not_given_is_missing() -> None:
    said = words(WatchConfig(rules=(Rule("a", Occupancy("")),)))
    assert said == "rules.a.at_least is missing; allowed: at_least, at_most or both are set"


def test_a_coordinate_is_shown_as_it_was_typed() -> None:
    said = words(WatchConfig(zones=(Zone("yard", ((0.1, 0.2), (TYPED, 0.2), (0.9, 0.9))),)))
    assert said.startswith("zones.yard.vertices is (1.2, 0.2); allowed: ")
    source = SourceConfig("rtsp://10.0.0.7/1", SourceStream((EngineRef("person", ""),), min_score=TYPED))
    with pytest.raises(InvalidError, match=r"min_score is 1\.2; allowed"):
        check_record(ChannelRecord("gate", source=source))


def test_the_rule_of_the_cameras_own_events_is_not_to_be_had() -> None:
    said = words(WatchConfig(rules=(Rule("camera", Enter("")),)))
    assert said == "rules.name is 'camera'; allowed: another name: events of the camera itself are of that rule"
    check(WatchConfig(rules=(Rule("cameras", Enter("")),)), ())
