from __future__ import annotations

import dataclasses
import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette_server.errors import SettingsError
from vedette_server.settings import Settings
from vedette_server.settings_load import load
from vedette_server.settings_options import Option, options
from vedette_server.settings_page import page, toml

BY_NAME = {option.name: option for option in options()}


def value_of(settings: Settings, option: Option):
    return getattr(getattr(settings, option.section), option.key)


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "vedette.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_nothing_said_gives_the_defaults():
    assert load() == Settings()
    assert Settings().server.host == "127.0.0.1"
    assert Settings().server.port == 50051


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().server.port = 1  # type: ignore[misc]


def test_every_option_has_help_that_ends_like_a_sentence_and_an_allowed_default():
    for option in options():
        assert option.help.endswith("."), option.name
        if not option.is_list and option.default is not None:
            assert option.from_toml(option.default, "test") == option.default


def test_no_flag_and_no_variable_names_two_options():
    flags = [option.flag for option in options()]
    variables = [variable for option in options() for variable in option.variables]
    assert len(set(flags)) == len(flags)
    assert len(set(variables)) == len(variables)


@given(
    ports=st.tuples(*[st.none() | st.integers(0, 65535)] * 3),
    levels=st.tuples(*[st.none() | st.sampled_from(["debug", "info", "warning", "error"])] * 3),
)
def test_flags_win_over_the_environment_and_that_over_the_file(ports, levels):
    file_port, env_port, flag_port = ports
    file_level, env_level, flag_level = levels
    text = "" if file_port is None else f"[server]\nport = {file_port}\n"
    text += "" if file_level is None else f'[log]\nlevel = "{file_level}"\n'
    environ = {} if env_port is None else {"VEDETTE_SERVER_PORT": str(env_port)}
    environ |= {} if env_level is None else {"VEDETTE_LOG_LEVEL": env_level}
    flags = {"server.port": None if flag_port is None else str(flag_port), "log.level": flag_level}
    with tempfile.TemporaryDirectory() as folder:
        settings = load(written(Path(folder), text), environ, flags)
    said = [port for port in (flag_port, env_port, file_port) if port is not None]
    assert settings.server.port == (said[0] if said else 50051)
    assert settings.log.level == (flag_level or env_level or file_level or "info")
    assert settings.decode == Settings().decode


@given(st.floats(0, 10), st.integers(1, 64) | st.just("auto"), st.lists(st.text("ab-.", min_size=1), max_size=3))
def test_a_printed_page_reads_back_as_the_same_settings(max_wait_s, lanes, providers):
    settings = load(flags={"engines.lanes": lanes, "engines.max_wait_s": max_wait_s, "engines.providers": providers})
    with tempfile.TemporaryDirectory() as folder:
        assert load(written(Path(folder), page(settings))) == settings


def test_the_page_tells_every_option_with_its_variable_and_flag():
    text = page(Settings())
    assert tomllib.loads(text).keys() == {option.section for option in options()}
    for option in options():
        assert option.help in text
        assert f"{option.variables[0]}" in text
        assert f"Flag: {option.flag}" in text


@given(st.text(st.characters(blacklist_categories=("Cs",))))
def test_any_text_survives_as_toml(text):
    assert tomllib.loads(f"key = {toml(text)}")["key"] == text


def test_relative_paths_in_a_file_are_relative_to_that_file(tmp_path):
    file = written(tmp_path, '[tls]\ncertificate = "a.pem"\nkey = "/k.pem"\n[engines]\ndirs = ["here"]\n')
    settings = load(file)
    assert settings.tls.certificate == tmp_path / "a.pem"
    assert settings.tls.key == Path("/k.pem")
    assert settings.engines.dirs == (tmp_path / "here",)


def test_engines_dir_may_be_said_in_the_singular():
    assert load(environ={"VEDETTE_ENGINES_DIR": "/a:/b"}).engines.dirs == (Path("/a"), Path("/b"))
    with pytest.raises(SettingsError, match=r"VEDETTE_ENGINES_DIR and VEDETTE_ENGINES_DIRS both set engines\.dirs"):
        load(environ={"VEDETTE_ENGINES_DIR": "/a", "VEDETTE_ENGINES_DIRS": "/b"})


def test_the_waiting_flag_is_in_milliseconds():
    assert load(flags={"engines.max_wait_s": "20"}).engines.max_wait_s == pytest.approx(0.02)
    assert load(environ={"VEDETTE_ENGINES_MAX_WAIT_S": "0.02"}).engines.max_wait_s == pytest.approx(0.02)
    with pytest.raises(SettingsError, match=r"--max-wait-ms: .* '20000'; allowed: a number, 0 to 10000 \(ms\)"):
        load(flags={"engines.max_wait_s": "20000"})


def test_an_empty_variable_counts_as_absent():
    assert load(environ={"VEDETTE_SERVER_PORT": ""}) == Settings()


def test_variables_of_others_are_left_alone():
    assert load(environ={"VEDETTE_SERVER": "box:50051", "VEDETTE_OTHER_THING": "1", "PATH": "/bin"}) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nprot = 1\n", r"unknown key in \[server\] 'prot'; allowed: host, port"),
        ("[sever]\n", r"unknown section 'sever'; allowed: server, tls"),
        ("server = 5\n", r"server is 5; allowed: a table"),
        ("[server]\nport = 70000\n", r"server\.port is 70000; allowed: a whole number, 0 to 65535"),
        ("[server]\nport = true\n", r"server\.port is true; allowed: a whole number"),
        ('[server]\nport = "80"\n', r"server\.port is '80'; allowed: a whole number"),
        ("[server]\nport = 80.0\n", r"server\.port is 80\.0; allowed: a whole number"),
        ("[server]\ninsecure = 1\n", r"server\.insecure is 1; allowed: true or false"),
        ('[server]\nhost = ""\n', r"server\.host is ''; allowed: text"),
        ("[engines]\nmax_wait_s = nan\n", r"engines\.max_wait_s is nan; allowed: a number, 0 to 10 \(s\)"),
        ('[engines]\nlanes = "many"\n', r"engines\.lanes is 'many'; allowed: a whole number, 1 to 64 or auto"),
        ('[engines]\ndirs = "one"\n', r"engines\.dirs is 'one'; allowed: a list, each a path"),
        ('[engines]\npreload = ["a b"]\n', r"engines\.preload has 'a b'; allowed: NAME or NAME@VERSION"),
        ('[log]\nlevel = "loud"\n', r"log\.level is 'loud'; allowed: debug, info, warning, error"),
        ('[tls]\nkey = "k.pem"\n', r"tls\.key is given without tls\.certificate"),
        ('[tls]\nclient_ca = "k.pem"\n', r"tls\.client_ca is given without"),
        ("[decode]\njump_after_s = 0.1\n", r"decode\.jump_after_s is 0\.1; allowed: at least"),
        ("[decode]\ninbox_bytes = 2048\n", r"decode\.inbox_bytes is 2048; allowed: at least server\.max_packet_bytes"),
        (
            "[decode]\ninbox_packets = 16\n",
            r"decode\.inbox_packets is 16; allowed: at least channels\.window_packets, which is 32",
        ),
        (
            "[channels]\nwindow_bytes = 33554432\n",
            r"decode\.inbox_bytes is 16777216; allowed: at least channels\.window_bytes, which is 33554432",
        ),
        ("[server\n", r"not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_key_value_and_what_is_allowed(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message):
        load(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"absent\.toml: cannot be read: No such file"):
        load(tmp_path / "absent.toml")


def test_an_unknown_variable_of_a_known_section_is_refused_with_the_nearest_name():
    with pytest.raises(SettingsError, match="VEDETTE_SERVER_PROT'; did you mean VEDETTE_SERVER_PORT"):
        load(environ={"VEDETTE_SERVER_PROT": "1"})


def test_a_wrong_variable_is_named():
    with pytest.raises(SettingsError, match=r"environment VEDETTE_SERVER_INSECURE: server\.insecure is 'maybe'"):
        load(environ={"VEDETTE_SERVER_INSECURE": "maybe"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback_needs_neither_tls_nor_tokens(host):
    assert load(flags={"server.host": host}).server.is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "camera-hub.example"])
def test_beyond_loopback_tls_and_known_clients_are_needed_unless_insecure(host):
    tls = {"tls.certificate": "c.pem", "tls.key": "k.pem"}
    with pytest.raises(SettingsError, match=r"without TLS .* and a way to know clients .* say --insecure"):
        load(flags={"server.host": host})
    with pytest.raises(SettingsError, match=r"without TLS \(--tls-cert and --tls-key\); "):
        load(flags={"server.host": host, "auth.tokens_file": "t.toml"})
    with pytest.raises(SettingsError, match=r"without a way to know clients \(--tokens or --client-ca\); "):
        load(flags={"server.host": host, **tls})
    assert load(flags={"server.host": host, **tls, "auth.tokens_file": "t.toml"}).server.host == host
    assert load(flags={"server.host": host, **tls, "tls.client_ca": "ca.pem"}).server.host == host
    assert load(flags={"server.host": host, "server.insecure": True}).server.host == host


@given(st.sampled_from(sorted(BY_NAME)), st.text(max_size=12))
def test_whatever_a_flag_says_it_is_taken_or_refused_by_name(name, text):
    option = BY_NAME[name]
    try:
        value = option.from_flag([text] if option.is_list else text, option.flag)
    except SettingsError as error:
        assert name in str(error)
        assert "allowed:" in str(error)
    else:
        if option.choices:
            assert value in option.choices
        if isinstance(value, int | float) and option.low is not None:
            assert value >= option.low


def test_an_unknown_option_of_a_flag_is_refused():
    with pytest.raises(SettingsError, match=r"unknown option 'server\.prot'; did you mean server\.port"):
        load(flags={"server.prot": 1})


def test_a_value_set_from_any_source_lands_in_its_own_option_only():
    settings = load(environ={"VEDETTE_CHANNELS_MAX_AGE_S": "7"})
    changed = [option.name for option in options() if value_of(settings, option) != value_of(Settings(), option)]
    assert changed == ["channels.max_age_s"]


def test_a_home_of_nobody_is_refused_in_one_line() -> None:
    with pytest.raises(SettingsError, match=r"auth\.tokens_file is '~0'"):
        load(None, {}, {"auth.tokens_file": "~0"})


@pytest.mark.parametrize("text", ["person", "=2", "person=", "person=0", "person=-1", "person=many", "person=inf"])
def test_a_weight_that_cannot_be_read_is_refused(text):
    with pytest.raises(SettingsError, match=r"engines\.weights has .*; allowed: NAME=WEIGHT, a number above 0"):
        load(flags={"engines.weights": [text]})


def test_weights_hold_for_the_engines_that_they_name():
    engines = load(flags={"engines.weights": ["person=2", "car=0.5"]}).engines
    assert [engines.weight_of(name) for name in ("person", "car", "bus")] == [2.0, 0.5, 1.0]


def test_no_engine_and_no_gpu_is_named_twice():
    with pytest.raises(SettingsError, match=r"engines\.weights has person twice; allowed: each engine once"):
        load(flags={"engines.weights": ["person=2", "person=3"]})
    with pytest.raises(SettingsError, match=r"engines\.devices is \[1, 0, 1\]; allowed: each GPU once"):
        load(environ={"VEDETTE_ENGINES_DEVICES": "1,0,1"})


@pytest.mark.parametrize("text", ["cuda", "cuda=1", ".key=1", "cuda.=1", "cuda.key"])
def test_an_option_of_a_provider_that_cannot_be_read_is_refused(text):
    with pytest.raises(SettingsError, match=r"engines\.provider_options has .*; allowed: PROVIDER\.KEY=VALUE"):
        load(flags={"engines.provider_options": [text]})


def test_options_of_providers_go_by_provider_and_their_values_may_hold_anything():
    texts = ["cuda.enable_cuda_graph=1", "cuda.gpu_mem_limit=0", "plugin:my.module.path=a.b=c"]
    options = load(flags={"engines.provider_options": texts}).engines.options_of_providers()
    assert options == {"cuda": {"enable_cuda_graph": "1", "gpu_mem_limit": "0"}, "plugin:my.module": {"path": "a.b=c"}}
