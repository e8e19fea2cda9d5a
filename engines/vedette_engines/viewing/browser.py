"""Show a model in Netron, in the browser, served to this machine only."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vedette_engines.errors import LoadError, MissingRuntimeError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOOPBACK = "127.0.0.1"


def show(path: Path, port: int, *, browser: bool, say: Callable[[str], None]) -> None:
    """Serve a model until Ctrl-C.

    Args:
        path: The ONNX file.
        port: On the loopback; 0: any that is free.
        browser: Open it in the browser, too.
        say: Takes the address.

    Raises:
        LoadError: The port cannot be had.
        MissingRuntimeError: Netron is not installed.
    """
    try:
        import netron  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise MissingRuntimeError(
            f"viewing needs netron ({error}): pip install 'vedette[view]'; or give -o FILE.svg"
        ) from error
    logging.getLogger("netron").setLevel(logging.WARNING)  # it would say what `say` does, on stderr
    try:
        host, taken = netron.start(str(path), address=(LOOPBACK, port), browse=browser)
    except OSError as error:
        raise LoadError(f"Netron cannot be served on {LOOPBACK}:{port}: {error}") from error
    say(f"{path.name} is shown on http://{host}:{taken}; Ctrl-C ends it")
    try:
        netron.wait()  # it stops the server when Ctrl-C comes
    finally:
        netron.stop((host, taken))
