"""Keep a library from moving the stack on which this thread's signal handlers run.

OpenVINO gives the thread that first asks for a device an alternate signal stack of its own, and frees it wherever the
last model is let go. Where that is another thread, the next signal finds no stack and the process dies of it: a server
that is told to drain, a build at Ctrl-C.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Stack(ctypes.Structure):
    """`stack_t`, see sigaltstack(2)."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextlib.contextmanager
def own_signal_stack() -> Iterator[None]:
    """Put this thread's alternate signal stack back as it was; does nothing where there is no Linux."""
    if sys.platform != "linux":
        yield
        return
    sigaltstack = ctypes.CDLL(None).sigaltstack
    before = _Stack()
    known = sigaltstack(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        if known:
            sigaltstack(ctypes.byref(before), None)


def signal_stack() -> int | None:
    """Tell where this thread's alternate signal stack is; None: it has none."""
    stack = _Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    start: int | None = stack.start
    return start
