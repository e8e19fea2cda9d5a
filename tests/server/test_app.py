"""What the server does when it cannot start."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from vedette_server.app import App
from vedette_server.errors import SettingsError
from vedette_server.settings import EngineSettings, MetricsSettings, Settings


def test_a_server_that_cannot_start_says_so_and_leaves_no_thread_behind():
    before = set(threading.enumerate())
    settings = Settings(
        engines=EngineSettings(dirs=(Path("~nobody-of-that-name/engines"),)), metrics=MetricsSettings(port="off")
    )
    with pytest.raises(SettingsError, match="no home directory is known"):
        asyncio.run(App(settings).serve())
    assert set(threading.enumerate()) <= before
