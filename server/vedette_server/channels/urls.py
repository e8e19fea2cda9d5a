"""Addresses of cameras as they are kept: with passwords, which are never shown. Pure, but for looking up links."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from vedette_server.errors import InvalidError
from vedette_server.pull import address

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

HIDDEN = "***"
_FIELD = "source.url"
_USER = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#:]*:([^/?#]*)@")
_VALUE = re.compile(r"[?&;]([^=&;#]*)=([^&;#]*)")


def check_url(url: str, folders: Sequence[Path]) -> None:
    """Refuse an address that may not be called.

    Args:
        url: The address.
        folders: `file:` is allowed below these.

    Raises:
        InvalidError: INVALID_SOURCE, SOURCE_NOT_ALLOWED.
    """
    try:
        _ = urlsplit(url).port
    except ValueError:
        # Not shown: where it cannot be read, nobody knows which part of it is the password.
        _refuse("INVALID_SOURCE", "no address", "SCHEME://[USER[:PASSWORD]@]HOST[:PORT]/..., @ : / ? # percent-encoded")
    try:
        address.check_url(url, folders)
    except InvalidError as error:
        raise InvalidError(error.reason, error.message, **{"field": _FIELD, **error.metadata}) from error


def with_kept_secrets(url: str, kept: str | None) -> str:
    """Put kept passwords where a new address has them hidden, as it was shown.

    Only for the same user of the same server: otherwise whoever may change a channel, but does not know the password,
    could have it sent elsewhere.

    Args:
        url: The new address.
        kept: The one in effect; None: there is none.

    Raises:
        InvalidError: HIDDEN_PASSWORD: there is none to put there.
    """
    hidden = [one for one in _values(url) if url[one[1] : one[2]] == HIDDEN]
    if not hidden:
        return url
    if kept is not None and url == address.shown_url(kept):
        return kept
    known: dict[str, str] = {}
    if kept is not None and _server(kept) == _server(url):
        known = {key: kept[begin:end] for key, begin, end in _values(kept)}
    for key, begin, end in reversed(hidden):
        if key not in known:
            allowed = "the password itself; a hidden one is kept for the same user, server and port only"
            _refuse("HIDDEN_PASSWORD", repr(address.shown_url(url)), allowed)
        url = url[:begin] + known[key] + url[end:]
    return url


def _values(url: str) -> Iterator[tuple[str, int, int]]:
    """Give what may be hidden, in order: its key, where it begins and where it ends."""
    user = _USER.match(url)
    if user is not None:
        yield "", *user.span(1)
    for value in _VALUE.finditer(url):
        yield value[1], *value.span(2)


def _server(url: str) -> tuple[str, str, str, int | None]:
    """Tell whom an address calls, and as whom."""
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        return url, "", "", None
    return split.scheme, split.username or "", split.hostname or "", port


def _refuse(reason: str, value: str, allowed: str) -> NoReturn:
    raise InvalidError(reason, f"{_FIELD} is {value}; allowed: {allowed}", field=_FIELD)
