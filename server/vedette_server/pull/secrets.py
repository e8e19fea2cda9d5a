"""Where an address of a camera holds what may be a secret.

The only place that decides it: what is hidden from people, and what may stand hidden in an address that comes back from
them, are the same. Of what is not known to be harmless it is said that it is a secret.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HIDDEN = "***"

# Up to the last @: where somebody has not written a / or ? of the password as %2F or %3F, it is hidden all the same.
_USER_INFO = re.compile(r"//(?!\[)[^/?#@:]*:(.*)@", re.DOTALL)
_QUERY_KEY = re.compile(r"[?&;#]([^=&;#?]*)=")
_QUERY_VALUE = re.compile(r"[^&;#]*")
# Cameras of Xiongmai's and others have it in the path: /user=admin_password=..._channel=1_stream=0.sdp
_WORD = re.compile(r"(?<![A-Za-z0-9])([A-Za-z0-9]+)=")
_SECRET_WORD = re.compile(r"pas|pwd|psw|psd|psk|^pw?$|pw$|token|secret|auth|key|cred|sign|session", re.IGNORECASE)
# The names of values that say which picture is wanted, and of whom: the user of `USER:PASSWORD@` is shown, too.
_HARMLESS = frozenset(
    {
        "action",
        "audio",
        "bitrate",
        "ch",
        "channel",
        "channelid",
        "channelno",
        "chn",
        "cmd",
        "codec",
        "compression",
        "endtime",
        "format",
        "fps",
        "framerate",
        "height",
        "loginuse",
        "loginuser",
        "mirror",
        "mode",
        "profile",
        "profileid",
        "proto",
        "q",
        "quality",
        "rate",
        "res",
        "resolution",
        "rotation",
        "size",
        "starttime",
        "stream",
        "streamid",
        "streamtype",
        "substream",
        "subtype",
        "tcp",
        "track",
        "transport",
        "transportmode",
        "type",
        "unicast",
        "user",
        "username",
        "usr",
        "vcodec",
        "video",
        "videocodec",
        "view",
        "width",
    }
)
_PATH_VALUE = re.compile(rf"(?:(?!_(?:{'|'.join(sorted(_HARMLESS))})=)[^?#&;])*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Hidden:
    """A part of an address that may be a secret.

    Attributes:
        key: Which one it is: where it stands, the name it has there, and how many of that name come before.
        begin: Index of its first character.
        end: Index behind its last one.
    """

    key: tuple[str, str, int]
    begin: int
    end: int


def hidden_parts(url: str) -> tuple[Hidden, ...]:
    """Find what may be a secret, in order; no two overlap."""
    found: list[Hidden] = []
    seen: Counter[tuple[str, str]] = Counter()
    for place, name, begin, end in sorted(_candidates(url), key=lambda one: one[2:]):
        if found and begin <= found[-1].end:
            last = found[-1]
            found[-1] = Hidden(last.key, last.begin, max(end, last.end))
        else:
            found.append(Hidden((place, name, seen[place, name]), begin, end))
            seen[place, name] += 1
    return tuple(found)


def shown_url(url: str) -> str:
    """Return the URL without what may be a secret in it."""
    for part in reversed(hidden_parts(url)):
        url = f"{url[: part.begin]}{HIDDEN}{url[part.end :]}"
    return url


def _candidates(url: str) -> Iterator[tuple[str, str, int, int]]:
    """Give place, name, begin and end of each; they may overlap."""
    user_info = _USER_INFO.search(url)
    if user_info is not None:
        yield "user", "", *user_info.span(1)
    for key in _QUERY_KEY.finditer(url):
        if key[1].lower() not in _HARMLESS:
            yield "query", key[1], key.end(), _end(_QUERY_VALUE, url, key.end())
    for word in _WORD.finditer(url):
        if _SECRET_WORD.search(word[1]):
            yield "query", word[1], word.end(), _end(_PATH_VALUE, url, word.end())


def _end(value: re.Pattern[str], url: str, begin: int) -> int:
    found = value.match(url, begin)
    return begin if found is None else found.end()
