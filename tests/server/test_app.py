"""How the server starts and stops."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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


async def test_a_drain_waits_for_the_last_verdicts_of_sessions_that_are_over():
    calls: Any = SimpleNamespace(busy=True)
    nobody: Any = SimpleNamespace(live=[])
    waiting = asyncio.create_task(App(Settings())._wait_until_idle(calls, nobody, 30.0))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    calls.busy = False
    await asyncio.wait_for(waiting, 10)


async def test_a_server_that_is_told_to_stop_while_engines_load_loads_and_serves_no_more():
    loop = asyncio.get_running_loop()
    app = App(Settings(engines=EngineSettings(preload=("one", "two"))))
    loaded: list[str] = []

    def load(ref: Any) -> None:
        loaded.append(ref.name)
        loop.call_soon_threadsafe(app._stop.set)

    engines: Any = SimpleNamespace(get=load)
    await app._preload(engines)
    assert loaded == ["one"]
