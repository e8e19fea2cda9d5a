"""The memory of a simulated device and of its host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.cuda.ordering import Ledger, MisuseError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vedette_engines.cuda.simulated import SimulatedDevice

# What is in memory that holds no result yet.
PATTERN = 0xA5


class SimulatedBuffer:
    """Device memory.

    Args:
        device: Whose.
        address: Where.
        size_bytes: How much.
    """

    def __init__(self, device: SimulatedDevice, address: int, size_bytes: int) -> None:
        self._device = device
        self._address = address
        self.array: NDArray[np.uint8] = np.full(size_bytes, PATTERN, np.uint8)
        self.ledger = Ledger(f"device memory at {address:#x}", size_bytes, written=False)

    @property
    def address(self) -> int:
        """Device pointer."""
        return self._address

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return len(self.array)

    def close(self) -> None:
        """Give the memory back; may be called twice.

        Raises:
            MisuseError: Something that uses it is not known to be done.
        """
        _check_idle(self._device, self.ledger)
        if self._device.is_open(self):
            self._device.gave_back(self)
        self._device.closed(self)


class SimulatedPinned:
    """Pinned memory of the host.

    Args:
        device: Whose.
        size_bytes: How much.
        array: Memory that somebody else owns; None: our own.
    """

    def __init__(self, device: SimulatedDevice, size_bytes: int, array: NDArray[np.uint8] | None = None) -> None:
        self._device = device
        self._array: NDArray[np.uint8] = np.zeros(size_bytes, np.uint8) if array is None else array.reshape(-1)
        self.ledger = Ledger(f"pinned memory of {size_bytes} bytes", size_bytes, written=True)

    @property
    def array(self) -> NDArray[np.uint8]:
        """`uint8 [size_bytes]`."""
        return self._array

    def close(self) -> None:
        """Give the memory back; may be called twice.

        Raises:
            MisuseError: A copy from or to it is not known to be done.
        """
        _check_idle(self._device, self.ledger)
        self._device.closed(self)


def _check_idle(device: SimulatedDevice, ledger: Ledger) -> None:
    busy = ledger.unfinished(device.host)
    # A device that is lost does nothing any more.
    if busy and device.is_alive:
        raise MisuseError(f"{ledger.what} is given back, but the host never waited for {busy}")
