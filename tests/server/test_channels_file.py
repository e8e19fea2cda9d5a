"""The file of channels that people write: what it may say, and what it is told when it is wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from support_channels import records
from vedette_server.channels.check import check_record
from vedette_server.channels.file import read_channels
from vedette_server.channels.record_tree import KINDS, record_from_tree, record_to_tree
from vedette_server.channels.tree import Place
from vedette_server.data.config import DeliveryPolicy, EngineRef
from vedette_server.data.rules import CrossDirection, GateMode, ScheduleSpan
from vedette_server.errors import SettingsError

if TYPE_CHECKING:
    from vedette_server.data.channel import ChannelRecord

SITE = Path(__file__).resolve().parents[2] / "deploy/channels.toml"

# Every key that there is, none with its default.
EVERYTHING = """
[[channels]]
name = "gate-1"
display_name = "Main gate"
time_zone = "Europe/Berlin"
evidence = "masked"
width_metres = 12
zones = {yard = [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75]]}
lines = {door = [[0.25, 0.5], [0.5, 0.5]]}
masks = [{kind = "privacy", vertices = [[0, 0], [0.25, 0], [0.25, 0.25]]}]
tracking = {enabled = true, max_lost_s = 2, confirm_frames = 5}
gate = {mode = "motion", min_area = 0.01, floor_fps = 1}
health = {enabled = false, ignored = ["camera_dark"], offline_after_s = 20, min_time_s = 0}
stages = [{engine = "ppe@3", labels = ["person"], margin = 0.1, refresh_s = 2.5}]
recording = {enabled = true, segment_s = 30}
retention = {max_age_s = 86400, max_events = 1000, max_bytes = 1_000_000_000}

[[channels.rules]]
name = "loitering"
kind = "dwell"
zone = "yard"
at_least_s = 30
labels = ["person"]
min_score = 0.5
min_time_s = 1
schedule = [{days = ["mon", "fri"], from = "22:00", to = "06:00"}]
cool_down_s = 60
anchor = "centre"
hysteresis = 0.02
evidence = false

[channels.source]
url = "rtsp://viewer:${PASSWORD}@10.0.0.7/1"
engines = ["person", "face@2"]
policy = "every-frame"
max_fps = 5
max_age_s = 1.5
min_score = 0.25
iou = 0.5
classes = ["person"]
regions = [[[0, 0], [1, 0], [1, 1]]]
priority = 20
max_detections = 50
rotation_degrees = 90
loop = true
prefer_tcp = false
"""
ENVIRON = {"PASSWORD": "hunter2", "GATE_PASSWORD": "one", "YARD_PASSWORD": "two"}


def read(tmp_path: Path, text: str, environ: dict[str, str] = ENVIRON) -> dict[str, ChannelRecord]:
    file = tmp_path / "channels.toml"
    file.write_text(text)
    return read_channels(file, environ, check_record)


def defaults_left(value: object, path: str = "") -> list[str]:
    """Name the fields of a record that are as if nobody had said anything."""
    left: list[str] = []
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        told, here = getattr(value, field.name), f"{path}{field.name}"
        made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        if told == made:
            left.append(here)
        elif dataclasses.is_dataclass(told):
            left += defaults_left(told, f"{here}.")
        elif isinstance(told, tuple) and told and dataclasses.is_dataclass(told[0]):
            left += defaults_left(told[-1], f"{here}.")
    return left


def test_every_field_of_a_channel_can_be_said(tmp_path: Path) -> None:
    (record,) = read(tmp_path, EVERYTHING).values()
    # What the server alone says of a channel.
    assert defaults_left(record) == ["watch.revision", "create_s", "update_s", "from_file"]


def test_a_channel_is_read_as_it_is_written(tmp_path: Path) -> None:
    record = read(tmp_path, EVERYTHING)["gate-1"]
    assert record.watch.rules[0].schedule == (ScheduleSpan((1, 5), 22 * 60, 6 * 60),)
    assert record.source is not None
    assert record.source.url == "rtsp://viewer:hunter2@10.0.0.7/1"
    assert record.source.stream.engines == (EngineRef("person"), EngineRef("face", "2"))
    assert record.source.stream.policy is DeliveryPolicy.EVERY_FRAME


def test_the_file_that_comes_with_the_server_is_good_and_shows_every_kind_of_rule() -> None:
    found = read_channels(SITE, ENVIRON, check_record)
    assert list(found) == ["gate", "yard", "lobby"]
    kinds = {type(rule.condition) for record in found.values() for rule in record.watch.rules}
    assert kinds == set(KINDS.values())
    assert found["gate"].watch.rules[0].condition.direction is CrossDirection.LEFT_TO_RIGHT  # type: ignore[union-attr]


def test_defaults_stand_below_every_channel_and_those_of_sources_below_those_that_have_one(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        [defaults]
        time_zone = "Asia/Tokyo"
        retention = {max_events = 5, max_bytes = 7}
        source = {engines = ["person"], max_fps = 3}
        [[channels]]
        name = "a"
        retention = {max_events = 6}
        [[channels]]
        name = "b"
        source = {url = "rtsp://h/1", max_fps = 4}
        """,
    )
    a, b = found["a"], found["b"]
    assert (a.watch.time_zone, b.watch.time_zone) == ("Asia/Tokyo", "Asia/Tokyo")
    assert (a.retention.max_events, a.retention.max_bytes) == (6, 7)
    assert a.source is None
    assert b.source is not None
    assert (b.source.stream.engines, b.source.stream.max_fps) == ((EngineRef("person"),), 4.0)


def test_the_mode_alone_stands_for_a_gate(tmp_path: Path) -> None:
    assert read(tmp_path, '[[channels]]\nname = "a"\ngate = "motion"')["a"].watch.gate.mode is GateMode.MOTION


def test_midnight_ends_a_span(tmp_path: Path) -> None:
    rule = 'rules = [{name = "r", kind = "enter", schedule = [{from = "18:00", to = "00:00"}, {to = "24:00"}]}]'
    (record,) = read(tmp_path, f'[[channels]]\nname = "a"\n{rule}').values()
    assert record.watch.rules[0].schedule == (ScheduleSpan((), 1080, 1440), ScheduleSpan((), 0, 1440))


@given(records)
@settings(max_examples=60, deadline=None)
def test_a_channel_that_was_written_is_read_back_the_same(record: ChannelRecord) -> None:
    there = record_from_tree(record_to_tree(record), Place("here"))
    assert there == dataclasses.replace(record, watch=dataclasses.replace(record.watch, revision=0))


def wrong(tmp_path: Path, text: str, environ: dict[str, str] = ENVIRON) -> str:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text, environ)
    message = str(caught.value)
    assert message.startswith(f"channels {tmp_path / 'channels.toml'}")
    assert "hunter2" not in message
    return message.removeprefix(f"channels {tmp_path / 'channels.toml'}")


RULE = """
[[channels.rules]]
name = "loitering"
kind = "dwell"
at_least_s = 30
"""


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (("evidence = false", "evidense = false"), "unknown key rules.loitering.evidense; did you mean evidence?"),
        (("at_least_s = 30", ""), "rules.loitering.at_least_s is missing; allowed: a number"),
        (("at_least_s = 30", 'at_least_s = "30"'), "rules.loitering.at_least_s is '30'; allowed: a number"),
        (("at_least_s = 30", "at_least_s = 0"), "rules.loitering.at_least_s is 0.0; allowed: above 0"),
        (("at_least_s = 30", "at_least_s = true"), "rules.loitering.at_least_s is true; allowed: a number"),
        (('kind = "dwell"', 'kind = "loiter"'), "rules.loitering.kind is 'loiter'; allowed: enter, leave"),
        (('kind = "dwell"', ""), "rules.loitering.kind is missing; allowed: enter, leave"),
        (('kind = "dwell"', 'kind = "enter"'), "unknown key rules.loitering.at_least_s"),
        (('zone = "yard"', 'zone = "year"'), "rules.loitering.zone is 'year'; allowed: yard"),
        (('from = "22:00"', 'from = "22:60"'), "rules.loitering.schedule[0].from is '22:60'; allowed: a time of day"),
        (('from = "22:00"', 'from = "24:00"'), "rules.loitering.schedule[0].from is '24:00'; allowed: 00:00 to 23:59"),
        (('"mon", "fri"', '"mon", "Fr"'), "rules.loitering.schedule[0].days[1] is 'Fr'; allowed: mon, tue"),
        (('to = "06:00"', 'to = "22:00:10"'), "rules.loitering.schedule[0].to is '22:00:10'"),
        (("confirm_frames = 5", "confirm_frames = 5.5"), "tracking.confirm_frames is 5.5; allowed: a whole number"),
        (("confirm_frames = 5", "confirm_frames = 0"), "tracking.confirm_frames is 0; allowed: 1 to 1000"),
        (("width_metres = 12", "width_metres = inf"), "width_metres is inf; allowed: a number"),
        (("[0.75, 0.75]]}", "[0.75]]}"), "zones.yard[2] is [0.75]; allowed: a list of 2"),
        (("[0.75, 0.75]]}", "[0.75, 7]]}"), "zones.yard.vertices is (0.75, 7.0); allowed: x and y from 0 to 1"),
        (("[0.75, 0.75]]}", "[0.25, 0.75], [0.75, 0.75]]}"), "zones.yard.vertices is crossing itself"),
        (('kind = "privacy"', 'kind = "private"'), "masks[0].kind is 'private'; allowed: privacy, detection, motion"),
        (('evidence = "masked"', 'evidence = "mask"'), "evidence is 'mask'; allowed: original, masked, none"),
        (('evidence = "masked"', 'evidence = "none"'), "recording.enabled is true; allowed: false where evidence"),
        (("enabled = true, segment", "enabled = 1, segment"), "recording.enabled is 1; allowed: true, false"),
        (("segment_s = 30", "segment_s = 0.1"), "recording.segment_s is 0.1; allowed: 1"),
        (('policy = "every-frame"', 'policy = "all"'), "source.policy is 'all'; allowed: live, every-frame"),
        (("max_fps = 5", "max_fps = 0"), "source.max_fps is 0.0; allowed: above 0"),
        (("rotation_degrees = 90", "rotation_degrees = 45"), "source.rotation_degrees is 45; allowed: 0, 90, 180, 270"),
        (('"face@2"', '"face@"'), "source.engines[1] is 'face@'; allowed: NAME or NAME@VERSION"),
        (('"face@2"', '"person@2"'), "source.engines is 'person'; allowed: each engine once"),
        (('url = "rtsp', 'url = "ftp'), "source.url begins with 'ftp'; allowed: rtsp://"),
        (('url = "rtsp', 'uri = "rtsp'), "unknown key source.uri; did you mean url?"),
        (("10.0.0.7/1", "10.0.0.7:port/1"), "source.url is no address; allowed: SCHEME://"),
        (('"ppe@3"', "3"), "stages[0].engine is 3; allowed: a text"),
        (("margin = 0.1", "margin = 2"), "stages[0].margin is 2.0; allowed: 0.0 to 1.0"),
        (('["camera_dark"]', '["dark"]'), "health.ignored is 'dark'; allowed: camera_offline"),
        (("max_events = 1000", "max_events = 0"), "retention.max_events is 0; allowed: 1 to"),
        (('"Europe/Berlin"', '"Europe/Bern"'), "time_zone is 'Europe/Bern'; allowed: IANA names"),
        (('name = "gate-1"', 'name = "gate 1"'), "name is 'gate 1'; allowed: 1 to 128"),
        (('display_name = "Main gate"', 'display_name = "a\\u001bb"'), "display_name is 'a\\x1bb'; allowed: at most"),
    ],
)
def test_a_wrong_value_is_named_with_its_file_its_channel_its_key_and_what_is_allowed(
    tmp_path: Path, changed: tuple[str, str], says: str
) -> None:
    assert changed[0] in EVERYTHING
    message = wrong(tmp_path, EVERYTHING.replace(*changed, 1))
    assert message.startswith(", channel 'gate")
    assert says in message
    assert "allowed: " in message


def test_a_schedule_that_never_fires_is_refused(tmp_path: Path) -> None:
    text = EVERYTHING.replace('from = "22:00", to = "06:00"', 'from = "22:00", to = "22:10"')
    assert "rules.loitering.schedule" in wrong(tmp_path, text.replace("at_least_s = 30", "at_least_s = 1200"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[channels]", ": not TOML: "),
        ("[[channels]]\n[[channel]]", ": unknown key channel; did you mean channels?"),
        ("channels = 3", ": channels is 3; allowed: a list"),
        ("channels = [3]", ": channels[0] is 3; allowed: a table"),
        ("[[channels]]\nevidence = 'none'", ", [0]: name is missing; allowed: a text"),
        ("[[channels]]\nname = 'a'\n[[channels]]\nname = 'a'", ", channel 'a' is there twice"),
        ("[defaults]\nname = 'a'", ": unknown key defaults.name"),
        ("[defaults]\nzone = {}", ": unknown key defaults.zone; did you mean zones?"),
        ("[[channels]]\nname = 'a'\nsource = {engines = ['p']}", ", channel 'a': source.url is missing"),
        ("[[channels]]\nname = 'a'\nzones = [1]", ", channel 'a': zones is [1]; allowed: a table"),
        ("[[channels]]\nname = 'a'\nlines = {'a b' = [[0, 0], [1, 1]]}", ", channel 'a': lines.name is 'a b'"),
        ("[[channels]]\nname = 'a'\nrules = [{kind = 'cross', name = 'r'}]", ", channel 'a': rules.r.line is missing"),
        ("[[channels]]\nname = 'a'\nrules = [{kind = 'enter'}]", ", channel 'a': rules[0].name is missing"),
        ("[[channels]]\nname = 'a'\nretention = {max_bytes = 1" + "0" * 400 + "}", ": retention.max_bytes is 1000"),
        ("[[channels]]\nname = 'a'\nrevision = 3", ", channel 'a': unknown key revision"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    assert says in wrong(tmp_path, text)


def test_a_password_that_the_environment_lacks_is_named(tmp_path: Path) -> None:
    message = wrong(tmp_path, EVERYTHING, {})
    assert "source.url needs the environment variable PASSWORD, which is not set" in message


def test_only_addresses_are_filled_from_the_environment(tmp_path: Path) -> None:
    text = '[[channels]]\nname = "a"\ndisplay_name = "${PASSWORD}"'
    assert read(tmp_path, text)["a"].display_name == "${PASSWORD}"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml: cannot be read: No such file"):
        read_channels(tmp_path / "nowhere.toml", {}, check_record)
