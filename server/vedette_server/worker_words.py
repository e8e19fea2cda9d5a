"""The words between a supervisor and its worker; imports next to nothing, since it lives in both."""

from __future__ import annotations

from typing import NamedTuple

# What a worker is told in the environment, as JSON: the number of its socket, the supervisor's, and `Past`.
VARIABLE = "VEDETTE_WORKER"

# From the worker: its event loop turns; calls are taken.
BEAT = b"."
SERVES = b"s"
BEAT_S = 1.0
# To the worker: let go of what is held.
STOP_NOW = b"!"

# The exit code of a worker whose device is lost for this process (a sticky CUDA error): a new one may have it again.
DEVICE_LOST = 70

# Why workers end, as far as can be expected; a rarer signal has its own name.
REASONS = ("device_lost", "hung", "exit", "start", "SIGSEGV", "SIGABRT", "SIGBUS", "SIGKILL")


class Past(NamedTuple):
    """What happened to the workers before one.

    Attributes:
        restarts: Restarts so far, by reason.
        last: Reason of the last one; empty: there was none.
        at_s: When that was, Unix seconds.
    """

    restarts: dict[str, int]
    last: str = ""
    at_s: float = 0.0
