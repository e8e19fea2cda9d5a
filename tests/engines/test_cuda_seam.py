"""All implementations of the CUDA seam do the same, on devices that are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support_cuda import DEVICES
from support_cuda_seam import SeamSuite

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestSeam(SeamSuite):
    @pytest.fixture(params=DEVICES)
    def device(self, request: pytest.FixtureRequest) -> Iterator[Any]:
        with DEVICES[request.param]() as device:
            yield device
