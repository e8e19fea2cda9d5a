"""Where a watcher stands: what it gives back to go on from there. Opaque to it."""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass

from vedette_server.errors import InvalidError

PROCESS_BYTES = 8
_VERSION = 1
_LAYOUT = struct.Struct(f">B{PROCESS_BYTES}sQQ")


@dataclass(frozen=True, slots=True)
class Offset:
    """A place in what is watched.

    Attributes:
        process: Which run of the server told the results; `PROCESS_BYTES` bytes.
        events: Every record of the chain through this one was looked at.
        results: Every result through this position was looked at; positions mean something within one process only.
    """

    process: bytes
    events: int
    results: int

    def encoded(self) -> str:
        """Give it as text."""
        return base64.urlsafe_b64encode(_LAYOUT.pack(_VERSION, self.process, self.events, self.results)).decode()


def decoded(text: str) -> Offset:
    """Read what `Offset.encoded` gave.

    Raises:
        InvalidError: INVALID_OFFSET.
    """
    try:
        version, process, events, results = _LAYOUT.unpack(
            base64.b64decode(text.encode(), altchars=b"-_", validate=True)
        )
    except (struct.error, binascii.Error, ValueError) as error:
        raise _invalid(text) from error
    # Beyond what a database counts to, it was never one of ours.
    if version != _VERSION or events >= 1 << 62:
        raise _invalid(text)
    return Offset(process, events, results)


def _invalid(text: str) -> InvalidError:
    allowed = "empty, `earliest`, or the offset of a message that was received"
    return InvalidError("INVALID_OFFSET", f"offset is {text[:64]!r}; allowed: {allowed}")
