"""Events over MQTT, against a real mosquitto on loopback."""

from __future__ import annotations

import json
import socket
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from support_sinks import Mosquitto, Watcher, a_broker, a_message, mosquitto, retained
from support_store import BEGIN_S, an_event, ended
from vedette_server.data.channel import ChannelRecord
from vedette_server.data.event import EventKind, EventState, Evidence, EvidenceState
from vedette_server.data.rules import Cross, Dwell, Enter, EvidencePolicy, HealthConfig, Inside, Rule, WatchConfig
from vedette_server.errors import SettingsError
from vedette_server.sinks.base import SinkContext, SinkError
from vedette_server.sinks.mqtt import MqttSink
from vedette_server.sinks.mqtt_settings import read_mqtt
from vedette_server.sinks.settings import Wanted
from vedette_server.sinks.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vedette_server.data.event import Event

needs_broker = pytest.mark.skipif(mosquitto() is None, reason="mosquitto is not installed (apt-get install mosquitto)")
JPEG = b"\xff\xd8 a picture \xff\xd9"
RULES = (Rule("yard", Inside("yard")), Rule("way.in", Enter("yard")), Rule("line", Cross("l")))


def a_channel(name: str = "gate", *rules: Rule, **more: Any) -> ChannelRecord:
    return ChannelRecord(name, display_name=name.title(), watch=WatchConfig(rules=rules or RULES, **more))


def inside(name: str = "e1", **more: Any) -> Event:
    return an_event(name, kind=EventKind.INSIDE, **more)


def over(event: Event) -> Event:
    return replace(event, state=EventState.ENDED, end_s=event.update_s + 5, update_s=event.update_s + 5)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with a_broker(tmp_path / "broker") as one:
        yield one


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., MqttSink]]:
    made: list[MqttSink] = []

    def build(port: int, *, active: tuple[Event, ...] = (), wanted: Wanted | None = None, **keys: Any) -> MqttSink:
        values = {"url": f"mqtt://127.0.0.1:{port}", "timeout_s": 3.0} | keys
        settings = read_mqtt(Table("sink 'home'", values, tmp_path, {}), wanted or Wanted())
        made.append(MqttSink(settings, wanted or Wanted(), SinkContext("home", tmp_path, lambda: active)))
        return made[-1]

    yield build
    for one in made:
        one.close()
        one.close()


@pytest.fixture
def watcher(broker: Mosquitto, make: Callable[..., MqttSink]) -> Iterator[Watcher]:
    one = Watcher(broker.port)
    yield one
    one.close()


@needs_broker
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_each_change_is_published_in_order(
    broker: Mosquitto, watcher: Watcher, make: Callable[..., MqttSink], version: str
) -> None:
    sink = make(broker.port, version=version)
    for first in range(0, 30, 10):
        sink.deliver([a_message(number, inside(f"{number}")) for number in range(first, first + 10)])
    watcher.wait_for(lambda seen: sum(topic == "vedette/gate/events" for topic, _payload in seen) == 30)
    bodies = [json.loads(payload) for topic, payload, _kept in watcher.seen if topic == "vedette/gate/events"]
    assert [one["record"] for one in bodies] == list(range(30))
    assert bodies[0]["name"] == "channels/gate/events/0"
    assert "vedette/gate/events" not in retained(broker.port)


@needs_broker
def test_a_rule_is_on_while_any_of_its_events_goes_on(broker: Mosquitto, make: Callable[..., MqttSink]) -> None:
    sink = make(broker.port, active=(inside("before"),))
    topic = "vedette/gate/rules/yard/state"
    for number, (event, expected) in enumerate(
        [
            (inside("a"), b"ON"),
            (over(inside("a")), b"ON"),
            (over(inside("before")), b"OFF"),
            (inside("b"), b"ON"),
            (over(inside("b")), b"OFF"),
        ]
    ):
        sink.deliver([a_message(number, event)])
        assert retained(broker.port)[topic] == expected


@needs_broker
def test_an_event_without_duration_is_a_pulse_shown_once(
    broker: Mosquitto, watcher: Watcher, make: Callable[..., MqttSink]
) -> None:
    sink = make(broker.port)
    crossing = ended(kind=EventKind.CROSS, rule="line")
    sink.deliver([a_message(1, crossing)])
    clip = Evidence(EvidenceState.READY, 9, "cd" * 32, "video/mp4")
    sink.deliver([a_message(2, replace(crossing, clip=clip))])
    watcher.wait_for(lambda seen: sum(topic == "vedette/gate/events" for topic, _payload in seen) == 2)
    topic = "vedette/gate/rules/line/state"
    assert [payload for seen, payload, _kept in watcher.seen if seen == topic] == [b"ON"]
    assert topic not in retained(broker.port)


@needs_broker
def test_a_fault_of_the_camera_is_a_problem_and_no_rule(broker: Mosquitto, make: Callable[..., MqttSink]) -> None:
    sink = make(broker.port)
    fault = an_event(kind=EventKind.CAMERA_OFFLINE, rule="camera", peak_score=None)
    sink.deliver([a_message(1, fault), a_message(2, inside("other"))])
    kept = retained(broker.port)
    assert kept["vedette/gate/camera/state"] == b"ON"
    assert json.loads(kept["vedette/gate/state"]) == {
        "active_events": 2,
        "active_rules": ["yard"],
        "problems": ["camera_offline"],
    }
    sink.deliver([a_message(3, over(fault))])
    assert retained(broker.port)["vedette/gate/camera/state"] == b"OFF"


@needs_broker
def test_whether_we_are_there_is_told_also_when_we_die(
    broker: Mosquitto, watcher: Watcher, make: Callable[..., MqttSink]
) -> None:
    sink = make(broker.port)
    sink.deliver([a_message()])
    watcher.wait_for_topic("vedette/status", b"online")
    sink.close()
    watcher.wait_for_topic("vedette/status", b"offline")
    other = make(broker.port, prefix="other")
    other.deliver([a_message()])
    client = other._broker._client
    assert client is not None
    client.socket().close()
    watcher.wait_for_topic("other/status", b"offline")
    assert retained(broker.port)["vedette/status"] == b"offline"


@needs_broker
def test_home_assistant_is_told_of_each_rule_the_camera_and_the_picture(
    broker: Mosquitto, make: Callable[..., MqttSink]
) -> None:
    sink = make(broker.port, snapshot=True)
    sink.announce([a_channel()])
    found = {
        topic: json.loads(payload)
        for topic, payload in retained(broker.port).items()
        if topic.startswith("homeassistant/")
    }
    assert all(topic.endswith("/config") and len(topic.split("/")) == 5 for topic in found)
    assert len({one["unique_id"] for one in found.values()}) == len(found) == 5
    assert {json.dumps(one["device"]["identifiers"]) for one in found.values()} == {'["vedette_gate"]'}
    assert all(one["device"]["name"] == "Gate" and one["origin"]["name"] == "Vedette" for one in found.values())
    assert all(one["availability_topic"] == "vedette/status" for one in found.values())
    by_name = {one["name"]: one for one in found.values()}
    yard, way_in = by_name["yard"], by_name["way.in"]
    assert (yard["device_class"], yard["state_topic"]) == ("occupancy", "vedette/gate/rules/yard/state")
    assert "off_delay" not in yard
    assert (way_in["device_class"], way_in["off_delay"]) == ("motion", 5)
    assert (by_name["Camera"]["device_class"], by_name["Camera"]["entity_category"]) == ("problem", "diagnostic")
    picture = found["homeassistant/image/vedette_gate/snapshot/config"]
    assert picture["image_topic"] == "vedette/gate/snapshot"
    assert retained(broker.port)["vedette/gate/rules/yard/state"] == b"OFF", "known from the first moment"


@needs_broker
def test_what_is_gone_is_taken_away_also_after_a_restart(broker: Mosquitto, make: Callable[..., MqttSink]) -> None:
    sink = make(broker.port)
    sink.announce([a_channel(), a_channel("door")])
    sink.announce([a_channel("gate", RULES[0]), a_channel("door")])
    kept = retained(broker.port)
    assert "homeassistant/binary_sensor/vedette_gate/rule_yard/config" in kept
    assert "homeassistant/binary_sensor/vedette_gate/rule_line/config" not in kept
    sink.close()
    make(broker.port).announce([a_channel("gate", RULES[0])])
    kept = retained(broker.port)
    assert not [topic for topic in kept if "door" in topic]
    assert "vedette/gate/rules/yard/state" in kept
    other = make(broker.port, home_assistant=False, prefix="guard")
    other.announce([a_channel()])
    kept = retained(broker.port)
    assert sorted(one for one in kept if not one.endswith("/status")) == [
        "guard/gate/camera/state",
        "guard/gate/rules/yard/state",
        "guard/gate/state",
    ]


@needs_broker
def test_only_what_is_wanted_is_announced(broker: Mosquitto, make: Callable[..., MqttSink]) -> None:
    sink = make(broker.port, wanted=Wanted(rules=("yard",)))
    sink.announce([a_channel(health=HealthConfig(enabled=False))])
    assert [topic for topic in retained(broker.port) if topic.startswith("homeassistant/")] == [
        "homeassistant/binary_sensor/vedette_gate/rule_yard/config"
    ]


@needs_broker
def test_a_channel_that_is_gone_leaves_nothing_that_stays(broker: Mosquitto, make: Callable[..., MqttSink]) -> None:
    sink = make(broker.port)
    sink.announce([a_channel("door")])
    sink.deliver([a_message(1, inside())])
    assert not [topic for topic in retained(broker.port) if "gate" in topic]


def pictured(number: int, sha256: str, picture: bytes) -> Any:
    event = inside(annotated=Evidence(EvidenceState.READY, 9, sha256, "image/jpeg"))
    return a_message(number, event, picture)


@needs_broker
def test_the_latest_picture_is_kept_and_sent_once(
    broker: Mosquitto, watcher: Watcher, make: Callable[..., MqttSink]
) -> None:
    sink = make(broker.port, snapshot=True)
    sink.announce([a_channel()])
    for number, sha256 in enumerate(["aa" * 32, "aa" * 32, "bb" * 32]):
        sink.deliver([pictured(number, sha256, JPEG + sha256.encode())])
    watcher.wait_for_topic("vedette/gate/snapshot", JPEG + b"bb" * 32)
    assert sum(topic == "vedette/gate/snapshot" for topic, _payload, _kept in watcher.seen) == 2
    assert retained(broker.port)["vedette/gate/snapshot"] == JPEG + b"bb" * 32


@needs_broker
def test_a_channel_whose_evidence_is_none_shows_no_picture_any_more(
    broker: Mosquitto, make: Callable[..., MqttSink]
) -> None:
    sink = make(broker.port, snapshot=True)
    sink.announce([a_channel()])
    sink.deliver([pictured(1, "aa" * 32, JPEG)])
    assert "vedette/gate/snapshot" in retained(broker.port)
    sink.announce([a_channel(evidence=EvidencePolicy.NONE)])
    sink.deliver([pictured(2, "bb" * 32, JPEG)])
    kept = retained(broker.port)
    assert "vedette/gate/snapshot" not in kept
    assert not [topic for topic in kept if "/image/" in topic]


@needs_broker
def test_a_broker_that_dies_and_forgets_all_is_told_again(broker: Mosquitto, make: Callable[..., MqttSink]) -> None:
    sink = make(broker.port, timeout_s=1.0)
    sink.announce([a_channel()])
    sink.deliver([a_message(1, inside())])
    broker.stop()
    with pytest.raises(SinkError) as caught:
        sink.deliver([a_message(2, inside("b"))])
    assert caught.value.of_sink
    broker.start()
    sink = _until_delivered(sink, a_message(2, inside("b")))
    kept = retained(broker.port)
    assert kept["vedette/status"] == b"online"
    assert kept["vedette/gate/rules/yard/state"] == b"ON"
    assert "homeassistant/binary_sensor/vedette_gate/rule_line/config" in kept


@needs_broker
def test_what_could_not_be_published_for_whatever_reason_is_published_with_the_next_try(
    broker: Mosquitto, make: Callable[..., MqttSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make(broker.port)
    sink.announce([a_channel()])
    publish = sink._broker.publish

    def fault(_publications: Any) -> None:
        raise ValueError("a fault of the library")

    monkeypatch.setattr(sink._broker, "publish", fault)
    with pytest.raises(ValueError, match="a fault"):
        sink.deliver([a_message(1, inside())])
    monkeypatch.setattr(sink._broker, "publish", publish)
    assert retained(broker.port)["vedette/gate/rules/yard/state"] == b"OFF"
    sink.deliver([a_message(1, inside())])
    assert retained(broker.port)["vedette/gate/rules/yard/state"] == b"ON"


def _until_delivered(sink: MqttSink, message: Any) -> MqttSink:
    for _try in range(20):
        try:
            sink.deliver([message])
        except SinkError:
            continue
        return sink
    raise AssertionError("the broker was not found again")


@needs_broker
def test_who_may_not_connect_is_told_why(tmp_path: Path, make: Callable[..., MqttSink]) -> None:
    (tmp_path / "passwords").write_text("ann:right\n")
    subprocess.run(["mosquitto_passwd", "-U", str(tmp_path / "passwords")], check=True)
    lines = ["allow_anonymous false", f"password_file {tmp_path / 'passwords'}"]
    with a_broker(tmp_path / "closed", lines) as broker:
        make(broker.port, user="ann", password="right").deliver([a_message()])
        with pytest.raises(SinkError, match="refused the connection: Not authorized") as caught:
            make(broker.port, user="ann", password="wrong-one", timeout_s=1.0).deliver([a_message()])
        assert caught.value.of_sink
        assert "wrong-one" not in caught.value.message


@needs_broker
def test_a_topic_that_is_not_allowed_is_refused_for_good(tmp_path: Path, make: Callable[..., MqttSink]) -> None:
    (tmp_path / "acl").write_text("topic write vedette/#\n")
    with a_broker(tmp_path / "strict", [f"acl_file {tmp_path / 'acl'}"]) as broker:
        make(broker.port).deliver([a_message()])
        with pytest.raises(SinkError, match="refused secret/gate/events: Not authorized") as caught:
            make(broker.port, prefix="secret").deliver([a_message()])
        assert caught.value.permanent


@needs_broker
# paho drops the socket of a handshake that failed without closing it.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_a_broker_is_believed_by_the_given_authority_only(tmp_path: Path, make: Callable[..., MqttSink]) -> None:
    authority, other = trustme.CA(), trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    server.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    lines = [f"{key} {tmp_path / 'server.pem'}" for key in ("certfile", "keyfile")]
    with a_broker(tmp_path / "tls", lines) as broker:
        url = f"mqtts://127.0.0.1:{broker.port}"
        make(broker.port, url=url, ca_file="ca.pem").deliver([a_message()])
        with pytest.raises(SinkError, match="TLS"):
            make(broker.port, url=url, ca_file="other.pem", timeout_s=1.0).deliver([a_message()])


@needs_broker
def test_names_with_dots_give_ids_that_home_assistant_takes(broker: Mosquitto, make: Callable[..., MqttSink]) -> None:
    sink = make(broker.port)
    rules = (Rule("a.b", Dwell("z", 3)), Rule("a_b", Dwell("z", 3)))
    sink.announce([a_channel("front.gate", *rules), a_channel("front_gate", *rules)])
    found = [topic.split("/") for topic in retained(broker.port) if topic.startswith("homeassistant/")]
    assert len(found) == 6
    assert all(part.replace("_", "").replace("-", "").isalnum() for topic in found for part in topic[2:4])


def test_without_a_broker_it_is_down_and_closes_soon(make: Callable[..., MqttSink], broker_port: int) -> None:
    sink = make(broker_port, timeout_s=0.2)
    with pytest.raises(SinkError, match=r"nobody answers|not connected in time") as caught:
        sink.deliver([a_message(event=an_event(at_s=BEGIN_S))])
    assert caught.value.of_sink


@pytest.fixture
def broker_port() -> int:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = int(listener.getsockname()[1])
    listener.close()
    return port


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"url": "tcp://x"}, "url is 'tcp://x'; allowed: a URL mqtt://"),
        ({"url": "mqtt://x/topic"}, "allowed: mqtt://HOST:PORT"),
        ({"password": "p"}, "there is a password without user"),
        ({"prefix": "a/#"}, "prefix is 'a/#'; allowed: a topic"),
        ({"discovery_prefix": "/a"}, "discovery_prefix is '/a'; allowed: a topic"),
        ({"version": "4"}, "version is '4'; allowed: 5, 3.1.1"),
        ({"off_delay_s": 0}, "off_delay_s is 0; allowed"),
    ],
)
def test_a_wrong_key_is_refused_with_its_name(make: Callable[..., MqttSink], keys: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        make(1883, **keys)


def test_states_cannot_be_left_out_where_they_are_shown(make: Callable[..., MqttSink]) -> None:
    with pytest.raises(SettingsError, match=r"states is \['ended'\]; allowed: all"):
        make(1883, wanted=Wanted(states=(EventState.ENDED,)))
    make(1883, wanted=Wanted(states=(EventState.ENDED,)), home_assistant=False)
