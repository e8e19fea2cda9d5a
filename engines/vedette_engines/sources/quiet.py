"""Keep PyTorch's chatter away while a model is loaded or exported, and hand its warnings over.

The exporters print, log and warn in passing about things that a caller cannot act on; what matters comes as an error.
Not for use from two threads at once: standard output and the warnings' filters are the process's.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
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


@contextlib.contextmanager
def mute() -> Iterator[None]:
    """Take what C++ writes past Python to standard output and standard error, too.

    The TorchScript exporter prints its whole graph when it fails.
    """
    with contextlib.ExitStack() as stack:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, nowhere)
        for stream, descriptor in ((sys.__stdout__, 1), (sys.__stderr__, 2)):
            with contextlib.suppress(OSError, ValueError):  # it is closed: nothing can be written to it
                if stream is not None:
                    stream.flush()
                kept = os.dup(descriptor)
                stack.callback(os.close, kept)
                os.dup2(nowhere, descriptor)
                stack.callback(os.dup2, kept, descriptor)
        yield


def branches_fixed(caught: Sequence[warnings.WarningMessage]) -> tuple[str, ...]:
    """Name the lines at which tracing turned a tensor into a plain Python value: what it was there, it stays."""
    lines = [
        f"{warning.filename}:{warning.lineno}"
        for warning in caught
        if warning.category.__name__ == "TracerWarning" and "Converting a tensor to a" in str(warning.message)
    ]
    return tuple(dict.fromkeys(lines))
