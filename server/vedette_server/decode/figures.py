"""Count what really decodes.

Threads: any.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from vedette_server.data.format import Codec

if TYPE_CHECKING:
    from collections.abc import Callable


# Told from the start, so that the first failure shows as a rise.
_CODECS = tuple(codec.name for codec in Codec if not codec.is_intra)


class DecoderFigures:
    """Decoders that are open, and why some are not on a GPU."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Counter[tuple[str, str]] = Counter({(codec, "cpu"): 0 for codec in _CODECS})
        self._fallbacks: Counter[tuple[str, str]] = Counter({(codec, "failed"): 0 for codec in _CODECS})

    def opened(self, codec: str, decoder: str) -> Callable[[], None]:
        """Count a decoder that was opened.

        Args:
            codec: Name of the codec.
            decoder: `cpu`, or `nvdec:` and the number of the GPU.

        Returns:
            To be called when it is closed; more than once does no harm.
        """
        with self._lock:
            self._open[codec, decoder] += 1
        over = False

        def close() -> None:
            nonlocal over
            with self._lock:
                if not over:
                    over = True
                    self._open[codec, decoder] -= 1

        return close

    def fell_back(self, codec: str, cause: str) -> None:
        """Count a stream that the CPU has to decode."""
        with self._lock:
            self._fallbacks[codec, cause] += 1

    @property
    def decoders(self) -> dict[tuple[str, str], int]:
        """Decoders that are open now, by codec and decoder; those of the past stay, with none."""
        with self._lock:
            return dict(self._open)

    @property
    def fallbacks(self) -> dict[tuple[str, str], int]:
        """How often the CPU had to decode, by codec and cause."""
        with self._lock:
            return dict(self._fallbacks)
