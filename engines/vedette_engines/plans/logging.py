"""Collect what TensorRT says instead of letting it print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vedette_engines.plans.explaining import clean

if TYPE_CHECKING:
    from collections.abc import MutableSequence

_MOST_NOTES = 20
# Each builder and runtime logs to its own logger; the one of the process does not matter.
_OTHER_LOGGER = "The logger passed into create"


def make_logger(trt: Any, errors: MutableSequence[str], notes: MutableSequence[str]) -> Any:
    """Make a logger of a TensorRT module's own class; TensorRT may call it from threads of its own.

    Args:
        trt: The module.
        errors: Takes what is logged as an error, raw: which of it matters is known only when something failed.
        notes: Takes each warning once.
    """
    severities = trt.ILogger.Severity

    class Logger(trt.ILogger):  # type: ignore[misc]  # the class exists only once the module is known
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if severity in {severities.INTERNAL_ERROR, severities.ERROR}:
                errors.append(msg)
            elif severity == severities.WARNING:
                text = "" if _OTHER_LOGGER in msg else clean(msg)
                if text and text not in notes and len(notes) < _MOST_NOTES:
                    notes.append(text)

    return Logger()
