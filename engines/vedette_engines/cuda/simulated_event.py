"""The events of a simulated device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_engines.cuda.base import CudaError
from vedette_engines.cuda.ordering import MisuseError

if TYPE_CHECKING:
    from vedette_engines.cuda.simulated import SimulatedDevice
    from vedette_engines.cuda.simulated_schedule import Mark


class SimulatedEvent:
    """A mark in a stream."""

    def __init__(self, device: SimulatedDevice, *, timing: bool) -> None:
        self._device = device
        self._timing = timing
        self.mark: Mark | None = None

    def done(self) -> bool:
        """Tell whether all before the mark is done; then the host knows it."""
        device = self._device
        with device.schedule.lock:
            self.check_open("asking whether an event is done")
            mark = self.mark
            if mark is None:
                return True
            if not mark.done:
                # What is done at this very moment is seen to be done.
                device.schedule.catch_up()
            if mark.done:
                device.host.learn(mark.knowledge)
            return mark.done

    def synchronize(self) -> None:
        """Wait until all before the mark is done."""
        self.check_open("waiting for an event")
        mark = self.mark
        if mark is None:
            return
        self._device.schedule.run_until(lambda: mark.done, "an event's synchronize")
        with self._device.schedule.lock:
            self._device.check_alive("waiting for an event")
            self._device.host.learn(mark.knowledge)

    def milliseconds_since(self, earlier: SimulatedEvent) -> float:
        """Tell the time between two marks."""
        self._device.check_alive("timing events")
        if not (self._timing and earlier._timing):
            raise CudaError("CUDA_ERROR_INVALID_HANDLE", "timing events that were made without timing", sticky=False)
        if self.mark is None or earlier.mark is None or not (self.mark.done and earlier.mark.done):
            raise CudaError("CUDA_ERROR_NOT_READY", "timing events that are not done", sticky=False)
        return (self.mark.at_s - earlier.mark.at_s) * 1e3

    def check_open(self, doing: str) -> None:
        """Refuse the use of an event that was closed."""
        self._device.check_alive(doing)
        if not self._device.is_open(self):
            raise MisuseError("an event is used after it was closed")

    def close(self) -> None:
        """Let go of it."""
        self._device.closed(self)
