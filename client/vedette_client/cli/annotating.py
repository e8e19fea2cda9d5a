"""Write a camera's annotated video beside the loop: decoding and encoding take a thread of their own."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING

from vedette_client.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vedette_client.drawing import Annotator
    from vedette_client.sources import SourceFormat, SourcePacket
    from vedette_client.verdicts import Verdict

# Beyond this many bytes of packets the thread cannot keep up, and the rest of the clip is left out.
_MAX_WAITING_BYTES = 256 * 1024 * 1024


class Annotating:
    """Feeds an `Annotator`; a listener of its `Camera`.

    Args:
        path: The MP4 file.

    Attributes:
        cut_short: The thread could not keep up: the video ends early.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut_short = False
        self.frames = 0
        self._steps: deque[Callable[[], None] | None] = deque()
        self._bytes = 0
        self._ready = threading.Condition()
        self._annotator: Annotator | None = None
        self._thread: threading.Thread | None = None
        self._failure: OSError | None = None
        self._over = False

    def opened(self, form: SourceFormat) -> None:
        """Begin the file.

        Raises:
            SourceError: There is no decoder for the source here.
            OSError: The file cannot be written.
        """
        from vedette_client.drawing import Annotator  # noqa: PLC0415  it imports PyAV and Pillow

        self._annotator = Annotator(self.path, form)
        self._thread = threading.Thread(target=self._work, name=f"annotate {self.path.name}", daemon=True)
        self._thread.start()

    def sent(self, sequence: int, packet: SourcePacket) -> None:
        """Take a packet."""
        annotator = self._annotator
        if annotator is None or self._over or self.cut_short:
            return
        if self._bytes + len(packet.data) > _MAX_WAITING_BYTES:
            self.cut_short = True
            return

        def step() -> None:
            annotator.add_packet(sequence, packet)
            self._bytes -= len(packet.data)

        self._bytes += len(packet.data)
        self._put(step)

    def judged(self, verdict: Verdict, age_s: float) -> None:  # noqa: ARG002  a listener is told the age
        """Take a verdict."""
        annotator = self._annotator
        if annotator is not None and not self._over:
            self._put(lambda: annotator.add_verdict(verdict))

    async def close(self) -> None:
        """Have the file finished.

        Raises:
            OSError: It could not be written.
        """
        self._put(None)
        while self._thread is not None and self._thread.is_alive():
            await asyncio.sleep(0.02)
        if self._failure is not None:
            raise self._failure
        if self.cut_short:
            raise OSError(f"{self.path}: ends early: drawing is slower here than the camera")

    def _put(self, step: Callable[[], None] | None) -> None:
        with self._ready:
            if self._over:
                return
            self._steps.append(step)
            self._ready.notify()

    def _work(self) -> None:
        """Run in the thread."""
        self._attempt(self._draw)
        with self._ready:
            self._over = True  # whatever still comes is for nobody
            self._steps.clear()
        self._attempt(self._finish)

    def _attempt(self, part: Callable[[], None]) -> None:
        """Run a part; what it fails of is told by `close`, the first failure alone."""
        try:
            part()
        except OSError as error:
            self._failure = self._failure or error
        except Exception as error:  # noqa: BLE001  it is handed to whoever closes
            why = str(error) if isinstance(error, SourceError) else f"drawing failed: {error!r}"
            self._failure = self._failure or OSError(f"{self.path}: {why}")

    def _draw(self) -> None:
        while (step := self._next()) is not None:
            step()

    def _finish(self) -> None:
        if self._annotator is not None:
            self._annotator.close()
            self.frames = self._annotator.frames

    def _next(self) -> Callable[[], None] | None:
        with self._ready:
            while not self._steps:
                self._ready.wait()
            return self._steps.popleft()
