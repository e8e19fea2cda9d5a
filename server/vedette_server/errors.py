"""The errors of the server, one class per reaction.

```
VedetteError
├── RefusedError            ends one call: bad input or a limit; carries a reason
│   ├── InvalidError        INVALID_ARGUMENT
│   ├── NotFoundError       NOT_FOUND
│   ├── ConflictError       ALREADY_EXISTS: the channel is taken
│   ├── LimitError          RESOURCE_EXHAUSTED
│   ├── UnauthenticatedError
│   ├── ForbiddenError      PERMISSION_DENIED
│   ├── UnavailableError    UNAVAILABLE: draining
│   ├── StateError          FAILED_PRECONDITION: not as things stand
│   ├── OutdatedError       ABORTED: somebody else changed it first
│   ├── DamagedError        DATA_LOSS: what was kept is not there any more as it was
│   ├── SilentError         DEADLINE_EXCEEDED: heartbeats stopped
│   └── DisplacedError      ABORTED: another stream took the channel
├── UndecodableError        one frame: answered with a verdict
├── EngineError             one batch: its frames are answered ENGINE_ERROR
├── EvidenceError           one file: the event goes on without it
│   └── EvidenceBusyError   UNAVAILABLE: others are served first
└── SettingsError           the process does not start
```

Nothing here knows gRPC: `rpc/status.py` alone gives each its canonical code.
"""

from __future__ import annotations


class VedetteError(Exception):
    """Root of all errors of the server."""


class RefusedError(VedetteError):
    """Ends one call, and nothing else.

    Args:
        reason: UPPER_SNAKE, stable, for programs.
        message: For people: names the thing, its value and what is allowed.
        metadata: Further facts for programs.
    """

    def __init__(self, reason: str, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = metadata


class InvalidError(RefusedError):
    """The client sent what is not allowed."""


class NotFoundError(RefusedError):
    """The thing that was named does not exist."""


class ConflictError(RefusedError):
    """Somebody else holds it."""


class LimitError(RefusedError):
    """More than the server bears."""


class PictureTooLargeError(LimitError):
    """A stream's pictures are over the limit of width or height."""


class UnauthenticatedError(RefusedError):
    """The call carries no valid credentials."""


class ForbiddenError(RefusedError):
    """The credentials do not allow it."""


class UnavailableError(RefusedError):
    """The server takes nothing new."""


class StateError(RefusedError):
    """It cannot be done as things stand."""


class OutdatedError(RefusedError):
    """Somebody else changed it first."""


class DamagedError(RefusedError):
    """What was kept is gone, or was changed."""


class SilentError(RefusedError):
    """The client fell silent for longer than the heartbeat limit."""


class DisplacedError(RefusedError):
    """Another stream took over the channel."""


class UndecodableError(VedetteError):
    """The bytes of one packet are broken."""


class EngineError(VedetteError):
    """An engine failed on one batch."""


class EvidenceError(VedetteError):
    """A clip, a snapshot or a recording cannot be kept; events go on without it."""


class EvidenceBusyError(EvidenceError):
    """Others are served first; later it may work."""


class SettingsError(VedetteError):
    """A setting is wrong; the message names key, value and what is allowed."""
