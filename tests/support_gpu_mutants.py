"""A device from which one synchronisation was taken: whoever relies on it must be found out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette_engines.cuda.base import CudaError

if TYPE_CHECKING:
    from types import FrameType

# What puts things in order; how each of them looks where it is left out.
SYNCHRONISATIONS = ("record", "wait", "synchronize", "done")


class Mutations:
    """Notes where the code under test synchronises, and leaves one place out.

    Args:
        without: The place, as `sites` names it; empty: none.
    """

    def __init__(self, without: str = "") -> None:
        self.sites: set[str] = set()
        self._without = without
        self._failing: list[tuple[str, str]] = []

    def fail(self, method: str, within: str) -> None:
        """Let the next call of a method from within a function fail with an error that is not sticky."""
        self._failing.append((method, within))

    def reaches(self, method: str) -> bool:
        """Tell whether the call of two frames up is to be done, noting from where it comes."""
        frame = sys._getframe(2)
        name = frame.f_code.co_qualname
        for entry in self._failing:
            if entry == (method, name):
                self._failing.remove(entry)
                raise CudaError("CUDA_ERROR_INVALID_VALUE", f"calling {method} in {name}", sticky=False)
        if not _judged(frame):
            return True
        # With who called that: a step of a lane may be needed in one place and not in another.
        site = f"{method} in {_place(frame)}"
        if frame.f_back is not None and _judged(frame.f_back):
            site += f", from {_place(frame.f_back)}"
        self.sites.add(site)
        return site != self._without


def _judged(frame: FrameType) -> bool:
    path = Path(frame.f_code.co_filename)
    return "gpu" in path.parts or path.name.startswith("test_gpu")


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_qualname} + {frame.f_lineno - frame.f_code.co_firstlineno}"


class _Wrapper:
    """Does what the wrapped thing does."""

    def __init__(self, inner: Any, mutations: Mutations) -> None:
        self.inner = inner
        self._mutations = mutations

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class MutantEvent(_Wrapper):
    """An event whose waits may be left out."""

    def done(self) -> Any:
        return self.inner.done() if self._mutations.reaches("done") else True

    def synchronize(self) -> None:
        if self._mutations.reaches("synchronize"):
            self.inner.synchronize()

    def milliseconds_since(self, earlier: Any) -> Any:
        return self.inner.milliseconds_since(_bare(earlier))


class MutantStream(_Wrapper):
    """A stream whose marks and waits may be left out."""

    def record(self, event: Any) -> None:
        if self._mutations.reaches("record"):
            self.inner.record(_bare(event))

    def wait(self, event: Any) -> None:
        if self._mutations.reaches("wait"):
            self.inner.wait(_bare(event))

    def synchronize(self) -> None:
        try:
            reaches = self._mutations.reaches("synchronize")
        except CudaError:
            # What fails has ended: an error is told of work that was done.
            self.inner.synchronize()
            raise
        if reaches:
            self.inner.synchronize()


class MutantDevice(_Wrapper):
    """A simulated device from which one synchronisation may be taken."""

    def __init__(self, inner: Any, mutations: Mutations) -> None:
        super().__init__(inner, mutations)
        self.streams: dict[str, MutantStream] = {}

    def event(self, *, timing: bool = False) -> MutantEvent:
        return MutantEvent(self.inner.event(timing=timing), self._mutations)

    def stream(self, priority: int = 0) -> MutantStream:
        made = MutantStream(self.inner.stream(priority), self._mutations)
        self.streams[sys._getframe(1).f_code.co_qualname] = made
        return made


def _bare(thing: Any) -> Any:
    return thing.inner if isinstance(thing, _Wrapper) else thing


Scenario = Callable[[Mutations], None]


def sites_of(scenario: Scenario) -> list[str]:
    """Run a scenario as it is, and tell where it synchronises."""
    mutations = Mutations()
    scenario(mutations)
    return sorted(mutations.sites)


def notices(scenario: Scenario, site: str) -> bool:
    """Run a scenario without one synchronisation, and tell whether anything was found wrong."""
    try:
        scenario(Mutations(site))
    except (AssertionError, CudaError):
        return True
    return False
