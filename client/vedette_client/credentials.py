"""Keep what lets one in out of names, messages and records, and from being sent where it cannot go."""

from __future__ import annotations

import re

from vedette_client.errors import OptionsError

_AUTHORITY = re.compile(r"[^/?#]*")
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d*)?")
# Cameras take their password in the query, each under a name of its own.
_SECRET = re.compile(r"([?&;][^=&;#]*(?:pas|pwd|psw|token|secret|auth|key)[^=&;#]*=)[^&;#]*", re.IGNORECASE)


def without_password(url: str) -> str:
    """Take the credentials out of a URL, for names and messages; what is none stays as it is."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    found = _AUTHORITY.match(rest)
    authority = found[0] if found else ""
    # A password may hold a slash; what stands before it is no host then.
    if "@" in authority or not _HOST.fullmatch(authority):
        whole = rest if "@" not in authority else authority
        rest = rest[whole.rfind("@") + 1 :]
    return scheme + separator + _SECRET.sub(r"\1***", rest)


def checked_token(token: str | None) -> str | None:
    """Strip a bearer token; an empty one is none.

    Raises:
        OptionsError: It holds what no header may hold; the message does not tell it.
    """
    token = (token or "").strip()
    if not all(" " <= letter <= "~" for letter in token):
        raise OptionsError(
            "the token holds a control character or one beyond ASCII, such as a line break; neither can be sent"
        )
    return token or None
