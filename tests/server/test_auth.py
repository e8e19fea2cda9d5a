from __future__ import annotations

import hashlib
import json
import logging
import os

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_edge import METHOD, echo_server
from vedette_server.errors import ForbiddenError, RefusedError, SettingsError, UnauthenticatedError
from vedette_server.rpc import status
from vedette_server.rpc.auth import ANYONE, Authenticator, Permission, Principal, read_tokens
from vedette_server.settings import AuthSettings

TOKENS = f"""
[[tokens]]
name = "gate cameras"
token = "sha256:{hashlib.sha256(b"gate-secret").hexdigest().upper()}"
channels = ["gate-*", "yard-[0-9]"]
permissions = ["publish"]

[[tokens]]
name = "desk"
token = "desk-secret"
channels = ["*"]
permissions = ["watch", "administer"]
"""


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_text(TOKENS)
    return path


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def auth(file, clock):
    return Authenticator(AuthSettings(file), clock)


def bearer(token: str) -> list[tuple[str, str]]:
    return [("user-agent", "test"), ("authorization", f"Bearer {token}")]


def test_without_a_file_everybody_may_do_everything():
    assert Authenticator(AuthSettings()).authorize((), "administer", "") is ANYONE


def test_a_token_opens_what_it_covers(auth):
    assert auth.authorize(bearer("gate-secret"), "publish", "gate-7").name == "gate cameras"
    assert auth.authorize(bearer("gate-secret"), Permission.PUBLISH, "yard-3").name == "gate cameras"
    assert auth.authorize(bearer("desk-secret"), "watch", "anything").name == "desk"


@pytest.mark.parametrize(
    ("token", "permission", "channel"),
    [
        ("gate-secret", "watch", "gate-7"),
        ("gate-secret", "publish", "Gate-7"),
        ("gate-secret", "publish", "yard-33"),
        ("gate-secret", "publish", ""),
        ("desk-secret", "publish", "gate-7"),
    ],
)
def test_a_token_opens_nothing_else(auth, token, permission, channel):
    with pytest.raises(ForbiddenError, match=f"may not {permission}") as caught:
        auth.authorize(bearer(token), permission, channel)
    assert token not in caught.value.message


def test_what_is_no_channels_needs_the_permission_on_any(auth):
    assert auth.authorize(bearer("gate-secret"), "publish", None).name == "gate cameras"
    with pytest.raises(ForbiddenError, match="may not administer anything"):
        auth.authorize(bearer("gate-secret"), "administer", None)


@pytest.mark.parametrize(
    ("permissions", "may"), [("watch", False), ("publish", False), ("administer", True), ("acknowledge", True)]
)
def test_who_may_administer_may_acknowledge_who_may_only_watch_may_not(permissions, may):
    principal = Principal("p", ("gate",), frozenset({Permission(permissions)}))
    assert principal.may(Permission.ACKNOWLEDGE, "gate") is may
    assert not principal.may(Permission.ACKNOWLEDGE, "yard")


def test_who_calls_can_be_asked_for_many_channels_without_being_turned_away(auth):
    gate = auth.identify(bearer("gate-secret"))
    assert [gate.may(Permission.PUBLISH, channel) for channel in ("gate-1", "other")] == [True, False]
    with pytest.raises(ForbiddenError, match="may not watch channel 'gate-1'"):
        gate.require(Permission.WATCH, "gate-1")
    with pytest.raises(UnauthenticatedError):
        auth.identify(bearer("wrong"))
    assert Authenticator(AuthSettings()).identify(()) is ANYONE


@pytest.mark.parametrize(
    ("patterns", "named"),
    [(("a", "b.c"), ("a", "b.c")), (("a", "b*"), None), (("a?",), None), (("[ab]",), None), (("*",), None)],
)
def test_a_token_without_patterns_names_its_channels(patterns, named):
    assert Principal("p", patterns).named_channels() == named


def test_all_channels_at_once_need_the_pattern_for_all(auth):
    assert auth.authorize(bearer("desk-secret"), "watch", "").name == "desk"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ([], "NO_TOKEN"),
        ([("authorization", "Basic abc")], "MALFORMED_TOKEN"),
        ([("authorization", "Bearer ")], "MALFORMED_TOKEN"),
        ([("authorization", "Bearer " + "x" * 5000)], "MALFORMED_TOKEN"),
        ([("authorization", "Bearer desk-secret"), ("authorization", "Bearer desk-secret")], "MALFORMED_TOKEN"),
        ([("authorization", "Bearer wrong")], "UNKNOWN_TOKEN"),
        ([("authorization", "Bearer " + hashlib.sha256(b"gate-secret").hexdigest())], "UNKNOWN_TOKEN"),
    ],
)
def test_a_call_without_a_known_token_is_turned_away(auth, metadata, reason):
    with pytest.raises(UnauthenticatedError) as caught:
        auth.authorize(metadata, "watch", "gate-1")
    assert caught.value.reason == reason


@given(st.text("ab*?-", min_size=1, max_size=6), st.text("ab-", min_size=1, max_size=8))
def test_a_pattern_matches_like_a_plain_reading_of_it(pattern, name):
    def reads(pattern: str, name: str) -> bool:
        if not pattern:
            return not name
        if pattern[0] == "*":
            return any(reads(pattern[1:], name[skip:]) for skip in range(len(name) + 1))
        return bool(name) and pattern[0] in ("?", name[0]) and reads(pattern[1:], name[1:])

    assert Principal("p", channels=(pattern,)).may(Permission.WATCH, name) == reads(pattern, name)


def test_a_changed_file_holds_within_a_second(auth, file, clock):
    file.write_text(TOKENS.replace("desk-secret", "new-secret"))
    clock.now_s += 0.5
    assert auth.authorize(bearer("desk-secret"), "watch", "a").name == "desk"
    clock.now_s += 0.5
    assert auth.authorize(bearer("new-secret"), "watch", "a").name == "desk"
    with pytest.raises(UnauthenticatedError):
        auth.authorize(bearer("desk-secret"), "watch", "a")


def test_a_replaced_file_of_the_same_age_and_size_is_noticed(auth, file, clock, tmp_path):
    before = file.stat()
    other = tmp_path / "other.toml"
    other.write_text(TOKENS.replace("desk-secret", "dusk-secret"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)
    clock.now_s += 2
    assert auth.authorize(bearer("dusk-secret"), "watch", "a").name == "desk"


@pytest.mark.parametrize("fault", ["broken", "absent"])
def test_a_broken_new_file_keeps_the_old_tokens_and_is_told_once(auth, file, clock, caplog, fault):
    if fault == "broken":
        file.write_text("[[tokens]]\ntoken = ")
    else:
        file.unlink()
    with caplog.at_level(logging.INFO, "vedette_server"):
        for _ in range(5):
            clock.now_s += 2
            assert auth.authorize(bearer("desk-secret"), "watch", "a").name == "desk"
    assert [record.message for record in caplog.records] == ["tokens not reloaded, the old ones stay"]
    file.write_text(TOKENS.replace("desk-secret", "mended-secret"))
    clock.now_s += 2
    assert auth.authorize(bearer("mended-secret"), "watch", "a").name == "desk"


def test_json_is_read_too(tmp_path):
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps({"tokens": [{"token": "t", "channels": ["a"], "permissions": ["watch"]}]}))
    [(digest, principal)] = read_tokens(file)
    assert digest == hashlib.sha256(b"t").digest()
    assert principal == Principal("token 1", ("a",), frozenset({Permission.WATCH}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no list `tokens`"),
        ("tokens = 5", "has no list `tokens`"),
        ("[[tokens]]\ntokn = 'x'", "token 1: allowed: a table with channels, name, permissions, token"),
        ("[[tokens]]\ntoken = 'hush'\nchannels = []\npermissions = ['watch']", r"channels is \[\]"),
        ("[[tokens]]\ntoken = 'hush'\nchannels = 'a'\npermissions = ['watch']", "channels is 'a'"),
        ("[[tokens]]\ntoken = 'hush'\nchannels = ['a']\npermissions = ['see']", "allowed: publish, watch, administer"),
        ("[[tokens]]\ntoken = 'sha256:hush'\nchannels = ['a']\npermissions = ['watch']", "64 hexadecimal digits"),
        ("[[tokens]]\ntoken = ''\nchannels = ['a']\npermissions = ['watch']", "allowed as `token`"),
        ("[[tokens]]\ntoken = 'hush'\nchannels = ['a']\npermissions = ['watch']\n" * 2, "the same token twice"),
        ("[[tokens", "neither TOML nor JSON"),
    ],
)
def test_a_wrong_file_is_refused_without_showing_a_token(tmp_path, text, message):
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        Authenticator(AuthSettings(file))
    assert "hush" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"absent\.toml' cannot be read: No such file"):
        Authenticator(AuthSettings(tmp_path / "absent.toml"))


async def test_a_real_call_carries_its_token_in_the_metadata(auth):
    async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            return auth.authorize(context.invocation_metadata() or (), "publish", "gate-1").name.encode()
        except RefusedError as error:
            await status.end(context, error)

    async with echo_server(answer) as address, grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(METHOD)
        assert await call(b"", metadata=bearer("gate-secret")) == b"gate cameras"
        for metadata, code in (
            ((), grpc.StatusCode.UNAUTHENTICATED),
            (bearer("desk-secret"), grpc.StatusCode.PERMISSION_DENIED),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"", metadata=metadata)
            assert caught.value.code() is code
