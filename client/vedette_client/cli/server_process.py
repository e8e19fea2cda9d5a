"""A server of one's own, in a process of its own: started, asked where it listens, and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

from vedette_client.errors import ClientError, OptionsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_START_S = 120.0
_STOP_S = 20.0
_WORDS = "serving on "


_WRONG = 2


class ServerStartError(ClientError):
    """The server did not start."""


class ServerProcess:
    """`vedette serve` on a free port of loopback; `stop` it whatever happens.

    Args:
        arguments: Further flags of `vedette serve`.
        log: File for what it says.

    Attributes:
        address: Where it listens, once it serves.
    """

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.address = ""
        self._arguments = arguments
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Number of the process; 0 before it runs."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Start it, and return when it serves.

        Raises:
            ServerStartError: It ended instead, or took too long.
            OptionsError: It said that its command line is wrong, or that an extra is missing.
        """
        with self._log.open("w", encoding="utf-8") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-m",
                    "vedette_server",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    "0",
                    "--metrics-port",
                    "off",
                ),
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C is for us: we stop the server when its cameras have ended
            )
        self.address = await self._read_address()

    async def stop(self) -> int | None:
        """Ask it to drain and wait for its end; kill it when that takes too long. Returns its exit code."""
        process = self._process
        if process is None:
            return None
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(_STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        return process.returncode

    async def _read_address(self) -> str:
        process = self._process
        if process is None or process.stdout is None:
            raise ServerStartError("the server was not started")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_S):
                while line := (await process.stdout.readline()).decode():
                    if _WORDS in line:
                        return line.strip().rpartition(" ")[2]
                code = await process.wait()
                failure = OptionsError if code == _WRONG else ServerStartError
                raise failure(f"the server did not start: {self._last_words()}")
        raise ServerStartError(f"the server did not serve within {_START_S:g} s; see {self._log}")

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), f"it said nothing; see {self._log}")
