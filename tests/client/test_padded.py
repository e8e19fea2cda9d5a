"""What stands behind the end of a packet that a decoder is given."""

from __future__ import annotations

import ctypes
import os

import pytest

from vedette_client import padded as of_the_client
from vedette_server.decode import padded as of_the_server

PADDING = 64
"""FFmpeg's AV_INPUT_BUFFER_PADDING_SIZE, bytes."""


@pytest.mark.parametrize("module", [of_the_client, of_the_server], ids=["client", "server"])
@pytest.mark.parametrize("size", [1, 17, 1001, 70_001])
def test_behind_a_packets_bytes_stand_zeros(module: object, size: int) -> None:
    data = os.urandom(size)
    packet = module.padded_packet(data)  # type: ignore[attr-defined]
    assert bytes(packet) == data
    assert ctypes.string_at(packet.buffer_ptr + size, PADDING) == bytes(PADDING)
