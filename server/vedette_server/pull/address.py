"""Which URLs the server may open.

Which hosts it calls for them is in `hosts.py`, how they are shown to people in `secrets.py`.

A channel's source is given by whoever may administer it. It must not become a way to read the server's files, nor to
reach protocols of FFmpeg that nobody thought of: schemes are few, and files lie below folders that the settings name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from vedette_server.errors import InvalidError
from vedette_server.pull.secrets import shown_url

if TYPE_CHECKING:
    from collections.abc import Sequence

ALLOWED = "rtsp://, rtsps://, http://, https:// or file:"
MAX_URL_CHARS = 2048
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


class Kind(Enum):
    """How a source is reached."""

    RTSP = "rtsp"
    HTTP = "http"
    FILE = "file"


_KINDS = {"rtsp": Kind.RTSP, "rtsps": Kind.RTSP, "http": Kind.HTTP, "https": Kind.HTTP, "file": Kind.FILE}


@dataclass(frozen=True, slots=True)
class Address:
    """A URL that may be opened.

    Attributes:
        kind: How it is reached.
        url: What FFmpeg opens; may hold a password.
        shown: The same for people.
        path: The file, resolved; None: it is none.
        host: Who is called; empty: nobody.
    """

    kind: Kind
    url: str
    shown: str
    path: Path | None = None
    host: str = ""


def check_url(url: str, folders: Sequence[Path]) -> Address:
    """Find out whether a URL may be opened.

    Args:
        url: The URL.
        folders: Files must lie below one of these, links resolved.

    Raises:
        InvalidError: SOURCE_NOT_ALLOWED: its scheme or its place is not; INVALID_SOURCE: it is none.
    """
    if len(url) > MAX_URL_CHARS:
        raise InvalidError("INVALID_SOURCE", f"source.url has {len(url)} characters; allowed: at most {MAX_URL_CHARS}")
    shown = shown_url(url)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        # Not shown: where it cannot be read, nobody knows which part of it is the password.
        raise InvalidError(
            "INVALID_SOURCE",
            "source.url cannot be read; allowed: SCHEME://[USER[:PASSWORD]@]HOST[:PORT]/..., with @ : / ? # of names "
            "and passwords percent-encoded",
        ) from None
    kind = _KINDS.get(parts.scheme.lower())
    if kind is None:
        # Nor here: what has no scheme, or is none, has its password anywhere.
        raise InvalidError("SOURCE_NOT_ALLOWED", f"source.url begins with {parts.scheme!r}; allowed: {ALLOWED}")
    if kind is Kind.FILE:
        return _file(parts, shown, folders)
    if not url[len(parts.scheme) :].startswith("://"):
        raise InvalidError("INVALID_SOURCE", f"source.url has no // behind {parts.scheme}:; allowed: {ALLOWED}")
    if _CONTROL.search(url):
        raise InvalidError("INVALID_SOURCE", f"source.url is {shown!r}: it holds a space or a control character")
    if not host:
        raise InvalidError("INVALID_SOURCE", f"source.url is {shown!r}: it names no host")
    return Address(kind, f"{parts.scheme.lower()}{url[len(parts.scheme) :]}", shown, host=host)


def _file(parts: SplitResult, shown: str, folders: Sequence[Path]) -> Address:
    name = unquote(parts.path)
    if parts.netloc not in {"", "localhost"} or parts.query or parts.fragment or "\0" in name:
        raise InvalidError(
            "INVALID_SOURCE", f"source.url is {shown!r}; allowed: file:///PATH, with ? and # of names as %3F and %23"
        )
    if not name.startswith("/"):
        raise InvalidError("INVALID_SOURCE", f"source.url is {shown!r}: the path must be absolute")
    path = Path(name).resolve()
    if not any(path.is_relative_to(folder.expanduser().resolve()) for folder in folders):
        allowed = ", ".join(map(str, folders)) or "none: the settings name no folder for files"
        raise InvalidError("SOURCE_NOT_ALLOWED", f"source.url is {shown!r}; allowed are files below: {allowed}")
    return Address(Kind.FILE, f"file:{path}", shown, path)
