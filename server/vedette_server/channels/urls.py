"""Addresses of cameras: what may be shown of them, and which files they may name. Pure, but for looking up links."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import unquote, urlsplit

from vedette_server.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

HIDDEN = "***"
SCHEMES = ("rtsp", "rtsps", "http", "https", "file")
_FIELD = "source.url"
_MOST_CHARS = 2048
_USER = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#:]*)(?::([^/?#]*))?@")
_VALUE = re.compile(r"[?&;]([^=&;#]*)=([^&;#]*)")
# Cameras that speak HTTP often take the password as one of the query's values.
_SECRET = re.compile(r"pass|pwd|secret|token|auth|key|sig|cred", re.IGNORECASE)


def shown_url(url: str) -> str:
    """Hide passwords in an address: `rtsp://user:***@host`, `http://host/video?token=***`."""
    for _, begin, end in reversed(list(_secrets(url))):
        url = url[:begin] + HIDDEN + url[end:]
    return url


def with_kept_secrets(url: str, kept: str | None) -> str:
    """Put kept passwords where a new address has them hidden.

    Only for the same user of the same server: otherwise whoever may change a channel, but does not know the password,
    could have it sent elsewhere.

    Args:
        url: The new address.
        kept: The one in effect; None: there is none.

    Raises:
        InvalidError: HIDDEN_PASSWORD: there is none to put there.
    """
    hidden = [one for one in _secrets(url) if url[one[1] : one[2]] == HIDDEN]
    if not hidden:
        return url
    known = {key: (kept or "")[begin:end] for key, begin, end in _secrets(kept or "")}
    is_same = kept is not None and _server(kept) == _server(url)
    for key, begin, end in reversed(hidden):
        if not is_same or key not in known:
            allowed = "the password itself; a hidden one is kept for the same user, server and port only"
            raise InvalidError("HIDDEN_PASSWORD", f"{_FIELD} is {url!r}; allowed: {allowed}", field=_FIELD)
        url = url[:begin] + known[key] + url[end:]
    return url


def check_url(url: str, folders: Sequence[Path]) -> None:
    """Refuse an address that is not one of a camera that may be called. What it says shows no password.

    Args:
        url: The address.
        folders: `file:` is allowed below these.

    Raises:
        InvalidError: INVALID_SOURCE.
    """
    if not url or len(url) > _MOST_CHARS or not url.isprintable() or " " in url:
        _refuse(f"of {len(url)} characters", f"1 to {_MOST_CHARS} printable ones without spaces")
    try:
        split = urlsplit(url)
        port_fault = split.port == 0
    except ValueError:
        # Not shown: where it cannot be read, nobody knows which part is the password.
        _refuse("not an address", "SCHEME://[USER[:PASSWORD]@]HOST[:PORT]/..., special characters percent-encoded")
    if split.scheme not in SCHEMES:
        _refuse(f"of scheme {split.scheme!r}", ", ".join(f"{scheme}:" for scheme in SCHEMES))
    if split.scheme == "file":
        resolve_file(url, folders)
    elif not split.hostname or port_fault:
        _refuse(repr(shown_url(url)), "an address with a host, and a port of 1 to 65535")


def resolve_file(url: str, folders: Sequence[Path]) -> Path:
    """Find the file that a `file:` address names; a relative path is looked for below each folder.

    To be asked again when the file is opened: links may have changed since the address was checked.

    Args:
        url: `file:///folder/clip.mp4`, `file:clip.mp4`; percent-encoded.
        folders: It has to lie below one of these, links followed.

    Raises:
        InvalidError: INVALID_SOURCE.
    """
    split = urlsplit(url)
    path = unquote(split.path)
    if split.scheme != "file" or split.netloc not in {"", "localhost"} or split.query or split.fragment:
        _refuse(repr(url), "file:PATH or file:///PATH, with ? and # percent-encoded")
    if not path or "\0" in path:
        _refuse(repr(url), "file: and a path")
    if not folders:
        _refuse(repr(url), "no file: the server's settings name no folder for them")
    inside = []
    for folder in folders:
        try:
            root = folder.resolve()
            found = (root / path).resolve()
        except (OSError, RuntimeError):  # a circle of links
            continue
        if found.is_relative_to(root) and found != root:
            inside.append(found)
    if not inside:
        _refuse(repr(url), f"files below {', '.join(map(str, folders))}")
    return next((file for file in inside if file.exists()), inside[0])


def _secrets(url: str) -> Iterator[tuple[str, int, int]]:
    """Give what has to be hidden, in order: its key, where it begins and where it ends."""
    user = _USER.match(url)
    if user is not None and user[2] is not None:
        yield "", *user.span(2)
    for value in _VALUE.finditer(url):
        if _SECRET.search(unquote(value[1])):
            yield value[1], *value.span(2)


def _server(url: str) -> tuple[str, str, str, str]:
    """Tell whom an address calls, and as whom."""
    try:
        split = urlsplit(url)
        return split.scheme, split.username or "", split.hostname or "", str(split.port or "")
    except ValueError:
        return "", "", "", url


def _refuse(value: str, allowed: str) -> NoReturn:
    if len(value) > 120:
        value = value[:117] + "..."
    raise InvalidError("INVALID_SOURCE", f"{_FIELD} is {value}; allowed: {allowed}", field=_FIELD)
