"""The errors of the client, one class per reaction.

```
ClientError
├── RefusedError            the server said no; asking again would not help
├── ConnectionLostError     the server cannot be reached, or not again within the time allowed
├── ProtocolError           the server broke the contract: report it
├── AccountMismatchError    at the end, client and server counted differently: report it
├── IntegrityError          what came is not what its hash or signature says: do not trust it
├── SourceError             the camera, the file or the scene failed
├── StreamClosedError       a stream was used after its end
└── OptionsError            an option is wrong; nothing was sent
```

What is wrong with one frame is no error: it is that frame's verdict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class ClientError(Exception):
    """Root of all errors of the client."""


class RefusedError(ClientError):
    """The server refused the call or ended it for a reason that stays.

    Args:
        code: Name of the canonical code, such as `NOT_FOUND`.
        reason: UPPER_SNAKE, stable, for programs; empty when the server gave none.
        message: For people.
        metadata: Further facts for programs.
    """

    def __init__(self, code: str, reason: str, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{message} ({code}{f', {reason}' if reason else ''})")
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})


class ConnectionLostError(ClientError):
    """The server cannot be reached, fell silent, or went away and did not come back in time."""


class ProtocolError(ClientError):
    """The server did what the contract forbids, such as judging a packet twice."""


class AccountMismatchError(ClientError):
    """Client and server disagree about what became of the packets.

    Args:
        differences: What was counted, with our figure and the server's.
    """

    def __init__(self, differences: Mapping[str, tuple[int, int]]) -> None:
        told = ", ".join(f"{name}: {ours} here, {theirs} there" for name, (ours, theirs) in differences.items())
        super().__init__(f"the server's closing account differs from the client's: {told}")
        self.differences = dict(differences)


class IntegrityError(ClientError):
    """What came is not what its hash or its signature says; nothing of it was kept."""


class SourceError(ClientError):
    """A source cannot be opened, or failed half-way."""


class StreamClosedError(ClientError):
    """The stream is over: nothing more can be sent."""


class OptionsError(ClientError):
    """An option is wrong; the message names it, its value and what is allowed."""
