"""The file of sinks: what is read of it, and what is refused."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from support_sinks import ScriptedSink
from vedette_server.data.event import EventKind, EventState
from vedette_server.errors import SettingsError
from vedette_server.sinks import kinds
from vedette_server.sinks.base import SinkContext
from vedette_server.sinks.file import load_sinks
from vedette_server.sinks.secret import Secret
from vedette_server.sinks.settings import Start

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint
    from pathlib import Path

SECRET = base64.b64encode(bytes(32)).decode()


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def one(text: str, environ: Mapping[str, str] | None = None) -> Any:
        (tmp_path / "sinks.toml").write_text(text, encoding="utf-8")
        return load_sinks(tmp_path / "sinks.toml", environ or {})

    return one


def test_all_common_keys_are_read(write: Any) -> None:
    (one,) = write("""
        [[sinks]]
        name = "archive"
        kind = "jsonl"
        path = "events.jsonl"
        channels = ["gate-*", "door"]
        rules = ["yard"]
        kinds = ["enter", "camera_offline"]
        states = ["ended"]
        min_score = 0.5
        start = "earliest"
        first_pause_s = 2
        longest_pause_s = 30.5
        max_attempts = 5
        max_age_s = 3600
        dead_letters = 100
        dead_letter_bytes = 1000000
    """)
    assert (one.name, one.kind, one.start) == ("archive", "jsonl", Start.EARLIEST)
    assert one.wanted.channels == ("gate-*", "door")
    assert one.wanted.kinds == (EventKind.ENTER, EventKind.CAMERA_OFFLINE)
    assert one.wanted.states == (EventState.ENDED,)
    assert (one.patience.first_pause_s, one.patience.longest_pause_s) == (2, 30.5)
    assert (one.patience.max_attempts, one.patience.max_age_s) == (5, 3600)
    assert (one.dead.most, one.dead.most_bytes) == (100, 1_000_000)


def test_a_file_without_sinks_is_fine(write: Any) -> None:
    assert write("") == ()


JSONL = 'name = "a"\nkind = "jsonl"\npath = "x"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x =", "not TOML"),
        ("sink = 1", "unknown key 'sink'; allowed: tables"),
        ("sinks = 1", "sinks is no list of tables"),
        ("[[sinks]]\nkind = 'jsonl'", "number 1: name is None; allowed: 1 to 64"),
        ("[[sinks]]\nname = '../up'", "name is '../up'"),
        (f"[[sinks]]\n{JSONL}[[sinks]]\n{JSONL}", "two sinks are named 'a'"),
        ("[[sinks]]\nname = 'a'", "sink 'a': kind is missing"),
        ("[[sinks]]\nname = 'a'\nkind = 'pigeon'", "kind is 'pigeon'; allowed: webhook, mqtt, jsonl"),
        (f"[[sinks]]\n{JSONL}colour = 'red'", "unknown key 'colour'; allowed: .*path"),
        (f"[[sinks]]\n{JSONL}kinds = ['enters']", "kinds is 'enters'; allowed: a list of enter"),
        (f"[[sinks]]\n{JSONL}states = 'active'", "states is 'active'; allowed: a list"),
        (f"[[sinks]]\n{JSONL}channels = [1]", r"channels is \[1\]; allowed: a list of texts"),
        (f"[[sinks]]\n{JSONL}min_score = nan", "min_score is nan; allowed: a number of 0..1"),
        (f"[[sinks]]\n{JSONL}start = 'now'", "start is 'now'; allowed: latest, earliest"),
        (f"[[sinks]]\n{JSONL}first_pause_s = 90", "longest_pause_s is 60.0; allowed: at least first_pause_s, 90"),
        (f"[[sinks]]\n{JSONL}max_attempts = 0", "max_attempts is 0; allowed: a whole number of 1.."),
    ],
)
def test_what_is_wrong_is_named(write: Any, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        write(text)
    assert "sinks.toml" in str(caught.value)


BROKER = 'kind = "mqtt"\nurl = "mqtt://Broker.example"\n'


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ('kind = "jsonl"\npath = "x"', 'kind = "jsonl"\npath = "sub/../x"', "'a' and 'b' have both the file /.*/x;"),
        ('kind = "jsonl"\npath = "x"', 'kind = "jsonl"\npath = "link"', "have both the file"),
        (BROKER, 'kind = "mqtt"\nurl = "mqtt://broker.example:1883"', "both prefix 'vedette' at the broker broker.ex"),
        (f'{BROKER}client_id = "me"', f'{BROKER}client_id = "me"\nprefix = "x"', "have both client_id 'me' at"),
    ],
)
def test_two_sinks_that_would_write_over_each_other_are_refused(
    write: Any, tmp_path: Path, one: str, other: str, words: str
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("x")
    with pytest.raises(SettingsError, match=words):
        write(f'[[sinks]]\nname = "a"\n{one}\n[[sinks]]\nname = "b"\n{other}\n')


def test_sinks_of_one_broker_with_prefixes_of_their_own_are_fine(write: Any) -> None:
    assert len(write(f'[[sinks]]\nname = "a"\n{BROKER}[[sinks]]\nname = "b"\n{BROKER}prefix = "other"')) == 2


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml: cannot be read: No such file"):
        load_sinks(tmp_path / "absent.toml")


WEBHOOK = '[[sinks]]\nname = "a"\nkind = "webhook"\nurl = "https://x/"\n'


def test_a_secret_may_be_in_the_file_in_a_file_or_in_the_environment(write: Any, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"whsec_{SECRET}\n")
    write(f'{WEBHOOK}secret = "{SECRET}"')
    write(f'{WEBHOOK}secret_file = "key"')
    write(f'{WEBHOOK}secret_env = "HOOK"', {"HOOK": SECRET})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f'secret = "{SECRET}"\nsecret_env = "HOOK"', "secret and secret_env are both given; allowed: one of"),
        ('secret_file = "absent"', "secret_file is .*absent.*cannot be read: No such file"),
        ('secret_file = "empty"', "which is empty; needed: the secret"),
        ('secret_env = "NOT_THERE"', "secret_env is 'NOT_THERE', a variable that is not set"),
        ("secret = 5", r"secret is '\(not shown\)'"),
    ],
)
def test_a_secret_that_cannot_be_had_is_refused(write: Any, tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(SettingsError, match=words) as caught:
        write(WEBHOOK + line)
    assert SECRET not in str(caught.value)


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret("hush")
    assert "hush" not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == "hush"
    assert secret == Secret("hush") != Secret("hash")


class _Point:
    """An entry point, as an installed plug-in has it."""

    value = "pigeons:make"

    def __init__(self, loaded: Any) -> None:
        self._loaded = loaded

    def load(self) -> Any:
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


def install(monkeypatch: pytest.MonkeyPatch, points: dict[str, list[Any]]) -> None:
    class Found(list["EntryPoint"]):
        names = frozenset(points)

    def entry_points(*, group: str, name: str | None = None) -> Found:
        assert group == "vedette.sinks"
        return Found(points.get(name or "", []))

    monkeypatch.setattr(kinds.metadata, "entry_points", entry_points)


def test_a_plug_in_gets_its_own_keys_and_its_secrets(
    write: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[Any] = []

    def factory(table: Mapping[str, Any], context: SinkContext) -> ScriptedSink:
        given.append((table, context.name))
        return ScriptedSink()

    install(monkeypatch, {"pigeon": [_Point(factory)]})
    (one,) = write(
        '[[sinks]]\nname = "loft"\nkind = "pigeon"\nrules = ["a"]\nseed = "corn"\ntoken_env = "T"', {"T": "hush"}
    )
    assert given == [], "nothing is made when the file is read"
    sink = one.make(SinkContext("loft", tmp_path, list))
    assert isinstance(sink, ScriptedSink)
    assert given == [({"seed": "corn", "token": Secret("hush")}, "loft")]


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ({"pigeon": [_Point(ImportError("no corn"))]}, "pigeons:make cannot be loaded: .*no corn"),
        ({"pigeon": [_Point(None), _Point(None)]}, "kind 'pigeon' is of pigeons:make, pigeons:make"),
        ({"crow": [_Point(None)]}, "allowed: webhook, mqtt, jsonl, crow"),
    ],
)
def test_a_plug_in_that_cannot_be_used_is_named(
    write: Any, monkeypatch: pytest.MonkeyPatch, points: dict[str, list[Any]], words: str
) -> None:
    install(monkeypatch, points)
    with pytest.raises(SettingsError, match=words):
        write('[[sinks]]\nname = "loft"\nkind = "pigeon"')


@pytest.mark.parametrize("error", [SettingsError("seed is 'x'; allowed: corn"), KeyError("corn")])
def test_a_plug_in_that_refuses_its_settings_is_told_with_file_and_sink(
    write: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def factory(_table: Mapping[str, Any], _context: SinkContext) -> ScriptedSink:
        raise error

    install(monkeypatch, {"pigeon": [_Point(factory)]})
    (one,) = write('[[sinks]]\nname = "loft"\nkind = "pigeon"')
    with pytest.raises(SettingsError, match=r"sinks\.toml: sink 'loft': .*corn"):
        one.make(SinkContext("loft", tmp_path, list))


def test_a_plug_in_may_not_take_the_name_of_ours(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"jsonl": [_Point(None)]})
    with pytest.raises(SettingsError, match="has a name that is taken"):
        write(f"[[sinks]]\n{JSONL}")


# -- what goes over the network as it is --

_BROKER = 'kind = "mqtt"\nuser = "me"\npassword = "hush"\n'


@pytest.mark.parametrize(
    ("lines", "readable"),
    [
        ('kind = "webhook"\nunsigned = true\nurl = "http://desk.example/hook"\ntoken = "hush"', "the token"),
        ('kind = "webhook"\nunsigned = true\nurl = "http://desk.example/?t=hush"', "the query of url"),
        (f'kind = "webhook"\nurl = "http://desk.example/"\nsecret = "{SECRET}"', "what is signed"),
        (f'{_BROKER}url = "mqtt://desk.example"', "the password"),
        ('kind = "webhook"\nunsigned = true\nurl = "http://desk.example/hook"', ""),
        ('kind = "webhook"\nunsigned = true\nurl = "https://desk.example/hook"\ntoken = "hush"', ""),
        ('kind = "webhook"\nunsigned = true\nurl = "http://[::1]/hook"\ntoken = "hush"', ""),
        (f'{_BROKER}url = "mqtt://localhost"', ""),
        (f'{_BROKER}url = "mqtts://desk.example"', ""),
    ],
)
def test_a_sink_that_sends_a_secret_as_it_is_is_told_of_at_start(
    write: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, lines: str, readable: str
) -> None:
    (one,) = write(f'[[sinks]]\nname = "desk"\n{lines}\n')
    assert not caplog.records
    one.make(SinkContext("desk", tmp_path, list)).close()
    told = [vars(record) for record in caplog.records if record.message == "sink_not_encrypted"]
    assert [(one["sink"], one["host"], one["readable"]) for one in told] == (
        [("desk", "desk.example", readable)] if readable else []
    )
    assert "hush" not in str(told)
