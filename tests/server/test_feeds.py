"""Pinned memory for pictures as they were decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_server.execute.feeds import StagingPool

if TYPE_CHECKING:
    import pytest

PIECE_BYTES = 64 * 1024


def test_staging_memory_that_a_lost_gpu_keeps_costs_no_frame(caplog: pytest.LogCaptureFixture):
    device = SimulatedDevice()
    pool = StagingPool(device, 3 * PIECE_BYTES)
    free = pool.take(PIECE_BYTES)
    assert free is not None
    pool.give_back(free)
    device.lose()
    # The free one has to go for it, and the GPU gives no other.
    assert pool.take(3 * PIECE_BYTES) is None
    assert "pinned memory not given back" in caplog.text
