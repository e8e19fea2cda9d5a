"""Ctrl-C while processes start."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from vedette_client.loadtest.undisturbed import undisturbed


def blocked(pid: int) -> int:
    """Give the mask of signals that a process does not get."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("SigBlk:")).split()[1], 16)


@pytest.fixture(autouse=True)
def _as_it_was() -> object:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("others", [0, 2])
def test_ctrl_c_waits_until_all_are_started_whichever_thread_it_reaches(others: int) -> None:
    over = threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(others)]
    for thread in threads:
        thread.start()
    reached = False
    try:
        with pytest.raises(KeyboardInterrupt), undisturbed():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            reached = True
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_what_is_started_in_here_never_gets_it() -> None:
    with undisturbed():
        process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(30,), daemon=True)
        process.start()
    try:
        assert process.pid is not None
        assert blocked(process.pid) >> (signal.SIGINT - 1) & 1
        assert not blocked(os.getpid()) >> (signal.SIGINT - 1) & 1
    finally:
        process.terminate()
        process.join()


def test_an_error_of_the_start_is_not_swallowed() -> None:
    with pytest.raises(OSError, match="no more"), undisturbed():
        raise OSError("no more processes")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_another_thread_the_handler_is_left_alone() -> None:
    seen: list[object] = []

    def start() -> None:
        with undisturbed():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
