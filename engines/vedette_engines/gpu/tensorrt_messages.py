"""Collect what TensorRT says at run time: its calls tell failures by False or None, and the reason elsewhere.

An error recorder takes errors away from the logger, a logger alone does not get those of all objects; so both write
into one list. TensorRT may call them from threads of its own.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from vedette_engines.plans.explaining import clean
from vedette_engines.plans.logging import make_logger

_MOST = 32


class Messages:
    """The errors of one plan's objects.

    Args:
        trt: The module.
    """

    def __init__(self, trt: Any) -> None:
        self._errors: deque[str] = deque(maxlen=_MOST)
        self._notes: list[str] = []
        self.logger = make_logger(trt, self._errors, self._notes)
        self.recorder = _make_recorder(trt, self._errors)

    def take(self) -> str:
        """Give all errors since the last call, in one line, each once; empty: it said nothing."""
        taken = []
        while self._errors:
            taken.append(self._errors.popleft())
        self.recorder.clear()
        texts = [clean(message) or message for message in taken]
        return "; ".join(dict.fromkeys(texts))


def _make_recorder(trt: Any, errors: deque[str]) -> Any:
    """Make an error recorder of a TensorRT module's own class."""

    class Recorder(trt.IErrorRecorder):  # type: ignore[misc]  # the class exists only once the module is known
        """TensorRT's interface: codes and texts by index."""

        def __init__(self) -> None:
            trt.IErrorRecorder.__init__(self)
            self._reported: deque[tuple[Any, str]] = deque(maxlen=_MOST)

        def num_errors(self) -> int:
            return len(self._reported)

        def get_error_code(self, index: int) -> Any:
            return self._reported[index][0]

        def get_error_desc(self, index: int) -> str:
            return self._reported[index][1]

        def has_overflowed(self) -> bool:
            return False

        def clear(self) -> None:
            self._reported.clear()

        def report_error(self, code: Any, description: str) -> bool:
            """Note an error; whether it is fatal is told by the call that failed."""
            self._reported.append((code, description))
            errors.append(description)
            return False

    return Recorder()
