"""Which URLs the server opens, and how it shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette_server.errors import InvalidError
from vedette_server.pull.address import Kind, check_url
from vedette_server.pull.secrets import HIDDEN, hidden_parts, shown_url

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("rtsp://cam/1", Kind.RTSP),
        ("RTSPS://cam:322/1", Kind.RTSP),
        ("http://cam/mjpg", Kind.HTTP),
        ("https://[::1]:8443/live.m3u8", Kind.HTTP),
    ],
)
def test_cameras_may_be_called(url: str, kind: Kind) -> None:
    address = check_url(url, ())
    assert address.kind is kind
    assert address.url.partition(":")[0] == url.partition(":")[0].lower()
    assert address.path is None


@pytest.mark.parametrize(
    "url",
    [
        "concat:/etc/passwd|x",
        "ftp://cam/1",
        "/etc/passwd",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "udp://@:1",
        "",
        "data:,x",
    ],
)
def test_other_protocols_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="allowed: rtsp://") as refused:
        check_url(url, (tmp_path,))
    assert refused.value.reason == "SOURCE_NOT_ALLOWED"


@pytest.mark.parametrize(
    "url",
    ["rtsp:///1", "http://cam:port/", "http://cam/a b", "http://cam/\nx", "http://[::1/", "http://" + 2048 * "a"],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidError) as refused:
        check_url(url, ())
    assert refused.value.reason == "INVALID_SOURCE"


def test_a_file_below_an_allowed_folder_may_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "a #1?.mp4"
    path.touch()
    for url in (path.as_uri(), path.as_uri().replace("file://", "file:"), path.as_uri().replace("//", "//localhost")):
        address = check_url(url, (tmp_path / "none", tmp_path))
        assert address.path == path.resolve()
        assert address.url == f"file:{path.resolve()}"


@pytest.mark.parametrize("name", ["../secret.mp4", "link.mp4", "%2e%2e/secret.mp4", "inside/../../secret.mp4"])
def test_no_way_leads_out_of_the_allowed_folder(name: str, tmp_path: Path) -> None:
    allowed = tmp_path / "clips"
    (allowed / "inside").mkdir(parents=True)
    secret = tmp_path / "secret.mp4"
    secret.touch()
    (allowed / "link.mp4").symlink_to(secret)
    with pytest.raises(InvalidError, match="allowed are files below") as refused:
        check_url(f"file://{allowed}/{name}", (allowed,))
    assert refused.value.reason == "SOURCE_NOT_ALLOWED"


def test_without_allowed_folders_there_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="the settings name no folder"):
        check_url(tmp_path.as_uri(), ())


@pytest.mark.parametrize("url", ["file:clip.mp4", "file://host/clip.mp4", "file:///clip.mp4?x", "file:///a%00b"])
def test_a_file_url_is_taken_literally_or_not_at_all(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidError) as refused:
        check_url(url, (tmp_path,))
    assert refused.value.reason == "INVALID_SOURCE"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://admin:s3cret@cam/1", "rtsp://admin:***@cam/1"),
        ("rtsp://admin@cam/1", "rtsp://admin@cam/1"),
        ("rtsp://a:p@ss@cam/1", "rtsp://a:***@cam/1"),
        ("rtsp://a:12/34@cam/1", "rtsp://a:***@cam/1"),
        ("http://cam:80/1", "http://cam:80/1"),
        ("http://cam/v.cgi?user=me&pwd=s3cret&res=hd", "http://cam/v.cgi?user=me&pwd=***&res=hd"),
        ("http://cam/v?accessToken=s3cret", "http://cam/v?accessToken=***"),
        ("http://cam/v?p=s3cret#x", "http://cam/v?p=***#x"),
        ("http://cam/mail@example.com", "http://cam/mail@example.com"),
        ("rtsp://a:12?34@cam/1", "rtsp://a:***@cam/1"),
        ("https://[::1]:8443/x@y", "https://[::1]:8443/x@y"),
        (
            "rtsp://10.0.0.2:554/user=admin_password=s3cr_et/x_channel=1_stream=0.sdp?real_stream",
            "rtsp://10.0.0.2:554/user=admin_password=***_channel=1_stream=0.sdp?real_stream",
        ),
        ("rtsp://cam/user=a&password=s3cret&channel=1", "rtsp://cam/user=a&password=***&channel=1"),
        ("http://cam/v.cgi?loginuse=me&loginpas=s3cret", "http://cam/v.cgi?loginuse=me&loginpas=***"),
        ("rtsp://cam/live?user=a&psw=s3cret", "rtsp://cam/live?user=a&psw=***"),
        ("http://cam/cgi?usr=admin&pswd=s3cret", "http://cam/cgi?usr=admin&pswd=***"),
        ("http://cam/v?code=s3cret?x&Channel=1&subtype=0", "http://cam/v?code=***&Channel=1&subtype=0"),
        ("http://cam/v?stream=1_pwd=s3cret_channel=2", "http://cam/v?stream=1_pwd=***_channel=2"),
        ("http://cam/v?=s3cret", "http://cam/v?=***"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown
    assert check_url(url, ()).shown == shown


@pytest.mark.parametrize(
    "url",
    [
        "ftp://me:s3cret@cam/1",
        "rtsp://me:s3cret/x@cam/1",
        "rtsp://me:s3cret@cam:s3cret/1",
        "rtsp:me:s3cret@cam/1",
        "rtsp:/me:s3cret@cam/1",
        "me:s3cret@cam/1",
        "rtsp://me:12/s3cret@c am/1",
    ],
)
def test_a_refusal_does_not_tell_the_password(url: str) -> None:
    with pytest.raises(InvalidError) as refused:
        check_url(url, ())
    assert "s3cret" not in refused.value.message


@settings(max_examples=300)
@given(st.text("ab:/?#@&;=_*p", max_size=24), st.sampled_from(["rtsp://", "http://u:p@h/", "http://h/v?channel=", ""]))
def test_what_is_shown_is_shown_the_same_again(rest: str, begin: str) -> None:
    shown = shown_url(begin + rest)
    assert shown_url(shown) == shown
    assert all(shown[one.begin : one.end] == HIDDEN for one in hidden_parts(shown))
