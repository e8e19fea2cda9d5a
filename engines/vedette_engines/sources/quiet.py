"""Keep PyTorch's chatter away while a model is loaded or exported, and hand its warnings over.

The exporters print, log and warn in passing about things that a caller cannot act on; what matters comes as an error.
Not for use from two threads at once: standard output and the warnings' filters are the process's.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def quiet() -> Iterator[Sequence[warnings.WarningMessage]]:
    """Take what is printed, logged and warned; the warnings can be read from what this gives."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("always")
            yield caught
    finally:
        logging.disable(before)


def branches_fixed(caught: Sequence[warnings.WarningMessage]) -> tuple[str, ...]:
    """Name the lines at which tracing turned a tensor into a plain Python value: what it was there, it stays."""
    lines = [
        f"{warning.filename}:{warning.lineno}"
        for warning in caught
        if warning.category.__name__ == "TracerWarning" and "Converting a tensor to a" in str(warning.message)
    ]
    return tuple(dict.fromkeys(lines))
