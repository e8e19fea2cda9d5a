"""What is said of a time that was not recorded."""

from __future__ import annotations

from typing import Any

import pytest

from vedette_server.errors import NotFoundError
from vedette_server.evidence.seeking import RecordedFiles

NOTHING: Any = None


@pytest.mark.parametrize(
    ("time_s", "told"), [(1_795_285_744.319, "2026-11-21 18:29:04 UTC"), (1e15, "1000000000000000 s")]
)
def test_a_time_that_was_not_recorded_is_told_as_people_read_it(time_s: float, told: str) -> None:
    recorded = RecordedFiles(NOTHING, NOTHING, lambda _: None, lambda _: None)
    with (
        pytest.raises(NotFoundError, match=f"nothing of channel gate was recorded at {told} or later"),
        recorded.seek("gate", time_s, False, lambda: True),
    ):
        pass
