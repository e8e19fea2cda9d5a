"""Timings that one build keeps for the next, in a file.

They hold for one version of TensorRT on one model of GPU; a file of another is passed over, and replaced.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette_engines.errors import BuildError

if TYPE_CHECKING:
    from vedette_engines.plans.module import TensorRT


@dataclass(slots=True)
class TimingCache:
    """The timings of one build.

    Attributes:
        path: The file.
        notes: What was found out about it.
    """

    path: Path
    notes: list[str] = field(default_factory=list)
    _cache: Any = None

    def attach(self, config: Any, tensorrt: TensorRT) -> None:
        """Give a builder's configuration what the file has, or an empty cache to fill.

        Raises:
            BuildError: The file is there and cannot be read.
        """
        if tensorrt.is_rtx:
            self.notes.append(
                f"timing cache {self.path}: not read and not written, tensorrt_rtx measures nothing when it builds"
            )
            return
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise BuildError(f"timing cache {self.path} cannot be read: {error}") from error
        if content and self._set(config, content):
            self.notes.append(f"timing cache {self.path}: {len(content)} bytes used")
            return
        if content:
            self.notes.append(
                f"timing cache {self.path} belongs to another version or GPU, or is broken: passed over, and replaced"
            )
        self._set(config, b"")

    def _set(self, config: Any, content: bytes) -> bool:
        cache = config.create_timing_cache(content)
        # No mismatch is ignored: times of another GPU choose the wrong kernels.
        if cache is None or not config.set_timing_cache(cache, False):
            return False
        self._cache = cache
        return True

    def save(self, config: Any) -> None:
        """Write what the build has measured, whole or not at all.

        Raises:
            BuildError: The file cannot be written.
        """
        if self._cache is None:
            return
        cache = config.get_timing_cache()
        if cache is None:
            return
        content = bytes(cache.serialize())
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, content)
        except OSError as error:
            raise BuildError(f"timing cache {self.path} cannot be written: {error}") from error
        self.notes.append(f"timing cache {self.path}: {len(content)} bytes kept")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old or the new one, never a part."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
