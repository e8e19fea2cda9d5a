"""Addresses of cameras as they are kept: with passwords, which are never shown. Pure, but for looking up links."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from vedette_server.errors import InvalidError
from vedette_server.pull import address
from vedette_server.pull.errors import SourceError
from vedette_server.pull.secrets import HIDDEN, hidden_parts, shown_url

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vedette_server.pull.hosts import Hosts

_FIELD = "source.url"


def check_url(url: str, folders: Sequence[Path], hosts: Hosts | None = None) -> None:
    """Refuse an address that may not be called, as far as that is known without resolving names.

    Args:
        url: The address.
        folders: `file:` is allowed below these.
        hosts: Which may be called; None: that is judged elsewhere.

    Raises:
        InvalidError: INVALID_SOURCE, SOURCE_NOT_ALLOWED.
    """
    try:
        _ = urlsplit(url).port
    except ValueError:
        # Not shown: where it cannot be read, nobody knows which part of it is the password.
        _refuse("INVALID_SOURCE", "no address", "SCHEME://[USER[:PASSWORD]@]HOST[:PORT]/..., @ : / ? # percent-encoded")
    try:
        found = address.check_url(url, folders)
    except InvalidError as error:
        raise InvalidError(error.reason, error.message, **{"field": _FIELD, **error.metadata}) from error
    if hosts is not None and found.host:
        try:
            hosts.check_unresolved(found.host)
        except SourceError as error:
            message = f"{_FIELD} is {found.shown!r}: {error}"
            raise InvalidError("SOURCE_NOT_ALLOWED", message, field=_FIELD) from error


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
    hidden = [one for one in hidden_parts(url) if url[one.begin : one.end] == HIDDEN]
    if not hidden:
        return url
    if kept is not None and url == shown_url(kept):
        return kept
    known: dict[tuple[str, str, int], str] = {}
    if kept is not None and _server(kept) == _server(url):
        known = {one.key: kept[one.begin : one.end] for one in hidden_parts(kept)}
    filled = url
    for one in reversed(hidden):
        if one.key not in known:
            _refuse_hidden(url)
        filled = filled[: one.begin] + known[one.key] + filled[one.end :]
    # Whatever was put in is hidden again, and nothing else has come to be shown by it. It is not searched for in what
    # is shown: whoever guesses a password would be told that the guess is right.
    if shown_url(filled) != shown_url(url):
        _refuse_hidden(url)
    return filled


def _server(url: str) -> tuple[str, str, str, int | None]:
    """Tell whom an address calls, and as whom."""
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        return url, "", "", None
    return split.scheme, split.username or "", split.hostname or "", port


def _refuse_hidden(url: str) -> NoReturn:
    allowed = "the password itself; a hidden one is kept in its place, for the same user, server and port only"
    _refuse("HIDDEN_PASSWORD", repr(shown_url(url)), allowed)


def _refuse(reason: str, value: str, allowed: str) -> NoReturn:
    raise InvalidError(reason, f"{_FIELD} is {value}; allowed: {allowed}", field=_FIELD)
