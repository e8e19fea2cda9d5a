"""Keeping a server's channels, and the file of channels as the client and the server read it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_watching import CLIP, JPEG, T0, Monitor, MonitorServer, serving
from vedette.v1 import channel_pb2
from vedette_client import Applied, Client, EventKind, OptionsError, PullState, RefusedError, sync
from vedette_client.channels_data import channel_from_wire
from vedette_client.channels_file import channels_to_toml, read_channels_file
from vedette_client.channels_toml import SETTINGS, channel_to_wire, settings_from_wire
from vedette_server.channels.check import check_record
from vedette_server.channels.file import read_channels
from vedette_server.errors import InvalidError
from vedette_server.rpc.convert_channel import record_from_wire, record_to_wire

DEPLOYED = Path(__file__).resolve().parents[2] / "deploy/channels.toml"
EVERYTHING = """
[defaults]
time_zone = "Europe/Berlin"
[defaults.source]
policy = "every-frame"
[defaults.gate]
mode = "motion"
floor_fps = 0.5

[[channels]]
name = "gate-1"
display_name = 'The "north" gate — Ä'
evidence = "masked"
width_metres = 12.5
tracking = { enabled = true, max_lost_s = 2.5, confirm_frames = 4 }
gate = { min_area = 0.01 }
health = { ignored = ["camera_moved", "camera_dark"], offline_after_s = 20, min_time_s = 2 }
recording = { enabled = true, segment_s = 30 }
retention = { max_age_s = 86400, max_events = 1000, max_bytes = 1_000_000_000 }
[channels.zones]
yard = [[0.1, 0.2], [0.9, 0.2], [0.9, 0.9]]
"b.d" = [[0, 0], [1, 0], [1, 1], [0, 1]]
[channels.lines]
door = [[0.2, 0.5], [0.8, 0.5]]
[[channels.masks]]
kind = "privacy"
vertices = [[0, 0], [0.1, 0], [0.1, 0.1]]
[[channels.rules]]
name = "in"
kind = "enter"
zone = "yard"
labels = ["person", "car"]
min_score = 0.35
min_time_s = 0.2
cool_down_s = 10
anchor = "centre"
hysteresis = 0.02
evidence = false
schedule = [{ days = ["mon", "fri"], from = "18:00", to = "06:30" }, { to = "24:00" }]
[[channels.rules]]
name = "over"
kind = "cross"
line = "door"
direction = "left-to-right"
[[channels.rules]]
name = "long"
kind = "dwell"
zone = "yard"
at_least_s = 30.5
[[channels.rules]]
name = "many"
kind = "occupancy"
at_least = 5
[[channels.rules]]
name = "few"
kind = "occupancy"
zone = "b.d"
at_most = 0
[[channels.rules]]
name = "crowd"
kind = "crowd"
at_least = 4
distance = 1.5
[[channels.rules]]
name = "fast"
kind = "speed"
zone = "yard"
above = 3
[[channels.rules]]
name = "wrong"
kind = "wrong_way"
allowed_degrees = 90
tolerance_degrees = 45.5
[[channels.rules]]
name = "bag"
kind = "left"
at_least_s = 60
[[channels.rules]]
name = "gone"
kind = "removed"
zone = "yard"
at_least_s = 5
[[channels.rules]]
name = "nobody"
kind = "absence"
zone = "yard"
at_least_s = 600
[[channels.rules]]
name = "out"
kind = "leave"
zone = "yard"
[[channels.rules]]
name = "there"
kind = "inside"
[[channels.stages]]
engine = "colour@2"
labels = ["car"]
margin = 0.1
refresh_s = 2.5
[channels.source]
url = "rtsp://viewer:${GATE_PASSWORD}@10.0.0.7/stream1"
engines = ["person", "car@3"]
max_fps = 12.5
max_age_s = 0.5
min_score = 0.25
iou = 0.45
classes = ["person"]
regions = [[[0, 0], [0.5, 0], [0.5, 0.5]]]
priority = 20
max_detections = 50
rotation_degrees = 90

[[channels]]
name = "plain"

[[channels]]
name = "pulled"
gate = "off"
time_zone = "UTC"
source = { url = "http://10.0.0.8/video", engines = ["person"], prefer_tcp = false, loop = true, policy = "live" }
"""
ENVIRON = {"GATE_PASSWORD": "hush"}


def near(value: Any, rounded_to: float = 1e-6) -> Any:
    """The same with numbers as they are after 32 bits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        if isinstance(value, dict):
            return {key: near(one) for key, one in value.items()}
        return [near(one) for one in value] if isinstance(value, list | tuple) else value
    return round(value / rounded_to)


def both(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The file's channels as the server reads it, and as it gets them from the client; as plain data."""
    from dataclasses import asdict  # noqa: PLC0415

    theirs = read_channels(file, ENVIRON, lambda record: None)
    ours = {
        name: record_from_wire(channel_to_wire(name, wanted))
        for name, wanted in read_channels_file(file, ENVIRON).items()
    }
    plain = [{name: near(asdict(record)) for name, record in records.items()} for records in (theirs, ours)]
    return plain[0], plain[1]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "channels.toml"
    path.write_text(EVERYTHING, encoding="utf-8")
    return path


def test_the_client_and_the_server_read_the_same_from_a_file(file: Path) -> None:
    theirs, ours = both(file)
    assert list(ours) == ["gate-1", "plain", "pulled"]
    assert ours == theirs


def test_the_client_and_the_server_read_the_same_from_the_file_that_is_deployed() -> None:
    if not DEPLOYED.exists():
        pytest.skip(f"there is no {DEPLOYED.name} in deploy/ yet")
    theirs, ours = both(DEPLOYED)
    assert ours == theirs


def test_the_example_names_every_setting_and_every_rule(file: Path) -> None:
    channels = tomllib.loads(EVERYTHING)
    assert {"name", *SETTINGS} <= {*channels["channels"][0], *channels["defaults"]}
    kinds = {one.name for one in channel_pb2.Rule.DESCRIPTOR.oneofs_by_name["condition"].fields}
    assert {rule["kind"] for rule in channels["channels"][0]["rules"]} == kinds


def test_what_is_shown_of_a_channel_can_be_applied_again(file: Path, tmp_path: Path) -> None:
    wanted = read_channels_file(file, ENVIRON)
    shown = {name: settings_from_wire(channel_to_wire(name, one)) for name, one in wanted.items()}
    (tmp_path / "again.toml").write_text(channels_to_toml(shown), encoding="utf-8")
    again = read_channels_file(tmp_path / "again.toml", {})
    for name, one in wanted.items():
        assert near(settings_from_wire(channel_to_wire(name, again[name]))) == near(shown[name])
        assert channel_to_wire(name, again[name]).rules == channel_to_wire(name, shown[name]).rules
        assert record_from_wire(channel_to_wire(name, again[name])) == record_from_wire(channel_to_wire(name, one))


def test_what_the_server_fills_in_by_itself_is_not_shown() -> None:
    server_says = record_to_wire(record_from_wire(channel_to_wire("plain", {})))
    assert settings_from_wire(server_says) == {}
    rules = [{"name": "in", "kind": "enter", "zone": "yard"}]
    server_says = record_to_wire(record_from_wire(channel_to_wire("gate", {"rules": rules, "gate": "motion"})))
    assert settings_from_wire(server_says) == {"rules": rules, "gate": "motion"}


@given(st.text(), st.dictionaries(st.text(min_size=1), st.just([[0.0, 0.0], [1.0, 0.0], [1.0, 0.125]])))
@settings(max_examples=60)
def test_any_text_stands_a_file_of_channels(text: str, zones: dict[str, Any]) -> None:
    text = text.encode(errors="ignore").decode()
    zones = {name.encode(errors="ignore").decode(): points for name, points in zones.items()}
    wanted = {"display_name": text, "zones": zones, "rules": [{"name": text, "kind": "enter", "labels": [text]}]}
    assert tomllib.loads(channels_to_toml({"a": wanted}))["channels"][0] == {
        "name": "a",
        **{key: value for key, value in wanted.items() if value or key == "display_name"},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("channels = 3", "channels is 3; allowed: a list"),
        ("[[channels]]\nname = 3", r"channels\[0\]\.name is 3; allowed: a text"),
        ("[[channels]]", r"channels\[0\]\.name is None; allowed: a text"),
        ('[[channels]]\nname = "a b"', "channel is 'a b'"),
        ('[[channels]]\nname = "a"\n[[channels]]\nname = "a"', "'a' is there twice"),
        ('[[channels]]\nname = "a"\nzonse = 1', r"unknown key channels\[0\]\.zonse; did you mean zones\?"),
        ('[[channels]]\nname = "a"\nzones = 1', "channel 'a': zones is 1; allowed: a table"),
        ('[[channels]]\nname = "a"\nzones = { y = [[1]] }', r"zones\.y\[0\] is \[1\]; allowed: a list of 2"),
        ('[[channels]]\nname = "a"\nzones = { y = [[nan, 1]] }', r"zones\.y\[0\] is nan; allowed: a number"),
        ('[[channels]]\nname = "a"\nevidence = "some"', "evidence is 'some'; allowed: original, masked, none"),
        ('[[channels]]\nname = "a"\nrules = [{ name = "r" }]', r"rules\.r\.kind is None; allowed: enter, leave"),
        ('[[channels]]\nname = "a"\nrules = [{ name = "r", kind = "dwell" }]', r"rules\.r\.at_least_s is missing"),
        (
            '[[channels]]\nname = "a"\nrules = [{ name = "r", kind = "enter", line = "x" }]',
            r"unknown key rules\.r\.line",
        ),
        ('[[channels]]\nname = "a"\nhealth = { ignored = ["rain"] }', "'rain'; allowed: camera_offline"),
        ('[[channels]]\nname = "a"\nrecording = { enabled = 1 }', "enabled is 1; allowed: true, false"),
        ('[[channels]]\nname = "a"\nsource = { engines = ["x"] }', "source.url is missing"),
        ('[[channels]]\nname = "a"\nsource = { url = "http://${NO}/", engines = [] }', "variable NO, which is not"),
        ('[[channels]]\nname = "a"\nretention = { max_events = -1 }', "max_events is -1; allowed: a whole number"),
        ('[[channels]]\nname = "a"\ntracking = { max_lost_s = true }', "max_lost_s is true; allowed: a number"),
        ('[[channels]]\nname = "a"\ntracking = { max_lost_s = 1e300 }', "allowed: seconds"),
        ("channels = [", "not TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(OptionsError, match=said) as refused:
        read_channels_file(path, {})
    assert "wrong.toml" in str(refused.value) or "a b" in text


@pytest.mark.parametrize("typed", ["-1", "-0.25", "0", "1e9"])
def test_how_many_seconds_a_rule_may_take_the_server_judges(typed: str, tmp_path: Path) -> None:
    path = tmp_path / "channels.toml"
    path.write_text(f"""[[channels]]
name = "a"
rules = [{{ name = "r", kind = "dwell", at_least_s = {typed} }}]
""")
    wire = channel_to_wire("a", read_channels_file(path, {})["a"])
    with pytest.raises(InvalidError, match=r"^rules\.r\.at_least_s is .*; allowed: above 0 to 86400$") as refused:
        check_record(record_from_wire(wire))
    assert f"is {float(typed)!r}; " in refused.value.message


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="cannot be read: No such file"):
        read_channels_file(tmp_path / "none.toml", {})


async def test_a_channel_is_made_changed_listed_and_forgotten() -> None:
    async with MonitorServer() as server, Client(server.address) as client:
        channels = client.channels
        made = await channels.create("gate", {"gate": "motion", "zones": {"yard": [[0, 0], [1, 0], [1, 1]]}})
        assert (made.name, made.revision, made.status.connected) == ("gate", 1, True)
        assert (made.create_time_ns, made.settings["gate"]) == (T0 * 10**9, "motion")
        changed = await channels.update("gate", {"display_name": "North", "gate": None}, revision=1)
        assert set(changed.settings) == {"zones", "display_name"}
        assert [one.name for one in await channels.list()] == ["gate"]
        assert await channels.get("gate") == changed
        await channels.delete("gate")
        with pytest.raises(RefusedError, match="there is no channel"):
            await channels.get("gate")


async def test_applying_makes_a_channel_what_its_settings_say_and_no_other() -> None:
    async with MonitorServer() as server, Client(server.address) as client:
        apply = client.channels.apply
        assert (await apply("a", {"display_name": "A", "gate": "motion"}))[1] is Applied.CREATED
        assert (await apply("a", {"display_name": "A", "gate": "motion"}))[1] is Applied.UNCHANGED
        channel, outcome = await apply("a", {"display_name": "B"})
        assert (outcome, channel.settings) == (Applied.CHANGED, {"display_name": "B"})


async def test_a_change_of_what_somebody_else_has_changed_is_refused() -> None:
    async with MonitorServer() as server, Client(server.address) as client:
        await client.channels.create("a")
        await client.channels.update("a", {"display_name": "theirs"})
        with pytest.raises(RefusedError) as refused:
            await client.channels.update("a", {"display_name": "mine"}, revision=1)
        assert (refused.value.code, refused.value.reason) == ("ABORTED", "CHANNEL_CHANGED")
        with pytest.raises(OptionsError, match="nothing of channel a is to change"):
            await client.channels.update("a", {})


async def test_many_channels_come_page_by_page() -> None:
    monitor = Monitor()
    for number in range(1100):
        name = f"channels/c{number:04d}"
        monitor.channels[name] = channel_pb2.Channel(name=name)
    async with MonitorServer(monitor) as server, Client(server.address) as client:
        assert len({one.name for one in await client.channels.list()}) == 1100


def test_where_a_channel_stands_is_told() -> None:
    wire = channel_pb2.Channel(name="channels/a")
    wire.status.pull = channel_pb2.PULL_STATE_WAITING
    wire.status.detail = "connection refused"
    wire.status.faults.append(20)  # type: ignore[arg-type]
    wire.status.from_file = True
    status = channel_from_wire(wire).status
    assert (status.pull, status.detail, status.faults) == (
        PullState.WAITING,
        "connection refused",
        (EventKind.CAMERA_OFFLINE,),
    )
    assert (status.connected, status.frame_time_ns, status.from_file) == (False, None, True)


async def test_a_picture_and_a_recording_are_fetched(tmp_path: Path) -> None:
    async with MonitorServer() as server, Client(server.address) as client:
        shown = await client.channels.snapshot("gate", annotated=True, max_width=640)
        assert (shown.jpeg, shown.time_ns) == (JPEG, T0 * 10**9)
        recorded = await client.channels.recording("gate", (T0 + 100) * 10**9, tmp_path / "r.mp4")
    assert ((tmp_path / "r.mp4").read_bytes(), recorded.seek_s) == (CLIP, 18.4)
    assert recorded.info.start_time_ns == (T0 + 80) * 10**9


async def test_who_may_not_administer_is_told() -> None:
    monitor = Monitor()
    monitor.refuse["CreateChannel"] = (grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN", "administer is missing")
    async with MonitorServer(monitor) as server, Client(server.address) as client:
        with pytest.raises(RefusedError, match="administer is missing"):
            await client.channels.apply("a", {})


def test_all_of_it_works_without_asyncio(tmp_path: Path) -> None:
    with serving() as server, sync.Client(server.address) as client:
        channels = client.channels
        assert channels.create("a").revision == 1
        assert channels.update("a", {"display_name": "A"}).revision == 2
        assert channels.apply("a", {})[1] is Applied.CHANGED
        assert channels.get("a").settings == {}
        assert channels.snapshot("a").jpeg == JPEG
        assert channels.recording("a", T0 * 10**9, tmp_path / "r.mp4").info.media_type == "video/mp4"
        channels.delete("a")
        assert channels.list() == []
