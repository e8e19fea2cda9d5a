"""Starting processes where somebody may press Ctrl-C.

Threads: whichever starts the processes; in the main thread Ctrl-C waits, too.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let Ctrl-C wait until all processes are started; those that are started in here never get it.

    A process that is interrupted while it starts, or whose starter is, ends with a traceback. A terminal sends Ctrl-C
    to all of them: whoever started them ends them.

    Raises:
        KeyboardInterrupt: At the end, where Ctrl-C was pressed meanwhile.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows: as it is
        yield
        return
    # It lets Ctrl-C through again when it is started: before, and not at the first process.
    resource_tracker.ensure_running()
    pressed: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    # The mask is handed down to the processes; of ours, another thread may be given the signal.
    before = signal.signal(signal.SIGINT, lambda number, _frame: pressed.append(number)) if is_main else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if is_main:
            signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)
    if pressed:
        signal.raise_signal(signal.SIGINT)
