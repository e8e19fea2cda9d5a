"""The place of one channel's stage among the channels of its engine.

Engines take it for a channel that runs that one engine (`execute/guest.py`): so the version stays loaded while the
stage is used, and routes, canaries and swaps hold for it as for everybody.

Threads: any. Its lock is the innermost: engines call `rebind` with theirs held, so that nothing of theirs but
`acquire` is called with this one held.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar

from vedette_server.data.config import ChannelConfig
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.errors import InvalidError
from vedette_server.frame import Binding
from vedette_server.post.reader import ResultReader

if TYPE_CHECKING:
    from vedette_server.data.config import EngineRef
    from vedette_server.data.outcome import SkipReason
    from vedette_server.data.verdict import EngineLabel
    from vedette_server.errors import RefusedError
    from vedette_server.execute.client import InferenceClient
    from vedette_server.picture.slots import Slot

TASKS = ("classifier", "embedder")


class StageSeat:
    """One stage of one channel, as engines see it; see `execute.guest.Guest`.

    Args:
        channel: The channel's bare name.
        engine: Which engine.
    """

    waits: ClassVar[bool] = False

    def __init__(self, channel: str, engine: EngineRef) -> None:
        # Of a channel's configuration engines read its name, its engines and its classes.
        self._config = ChannelConfig(channel, VideoFormat(Codec.RAW), (engine,))
        self._binding = Binding((), ResultReader(self._config, ()))
        self._lock = threading.Lock()
        self._open = False
        self._closed = False

    @property
    def config(self) -> ChannelConfig:
        """Whose stage, and which engine."""
        return self._config

    @property
    def binding(self) -> Binding:
        """What it runs on."""
        return self._binding

    @property
    def engine(self) -> EngineRef:
        """Which engine."""
        return self._config.engines[0]

    @property
    def runs(self) -> EngineLabel | None:
        """The version that looks; None: none does now."""
        inferences = self._binding.inferences
        return inferences[0].label if self._open and inferences else None

    def is_closed(self) -> bool:
        """Tell whether nobody needs it any more."""
        return self._closed

    def rebind(self, inferences: tuple[InferenceClient, ...]) -> None:
        """Look with another version from the next crop on.

        Raises:
            InvalidError: INVALID_STAGE: it is a detector.
        """
        check_task(inferences[0].label.name, inferences[0].label.task)
        binding = Binding(inferences, ResultReader(self._config, inferences))
        with self._lock:
            self._binding = binding

    def end(self, end_reason: str, skip: SkipReason, error: RefusedError | None = None) -> None:  # noqa: ARG002 - the seam's
        """Look no more: the version is gone."""
        with self._lock:
            self._open = False

    def open(self) -> bool:
        """Let it be used, after it was bound; return whether anybody still needs it."""
        with self._lock:
            self._open = not self._closed
            return self._open

    def close(self) -> None:
        """Let nobody use it any more; may be called twice."""
        with self._lock:
            self._open, self._closed = False, True

    def acquire(self) -> tuple[InferenceClient, Slot] | None:
        """Take a free slot of what it runs on, with that; None when there is none. Never blocks.

        Whoever has taken a version's place may rely on it that no slot of that is acquired any more.
        """
        with self._lock:
            if not self._open:
                return None
            inference = self._binding.inferences[0]
            slot = inference.acquire()
            return None if slot is None else (inference, slot)


def check_task(name: str, task: str, field: str = "stages.engine") -> None:
    """Refuse what cannot look closer.

    Raises:
        InvalidError: INVALID_STAGE: it is a detector.
    """
    if task not in TASKS:
        raise InvalidError(
            "INVALID_STAGE", f"{field} is {name!r}, a {task}; allowed: a classifier or an embedder", field=field
        )
