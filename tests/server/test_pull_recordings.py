"""Recordings are sent whole, by their clock or as fast as they are judged, once or again and again."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from support_pull import (
    Answer,
    Camera,
)
from support_pull_stack import (
    EVERY_FRAME,
    FINISHED,
    LIVE,
    STREAMING,
    breaks,
    detail,
    material,
    pull_threads,
    record,
    rising,
    stack,
    state,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clips in it."""
    return material(tmp_path_factory.mktemp("pull"))


async def test_every_frame_of_a_recording_is_judged_and_then_it_has_finished(root: Path) -> None:
    clip = record("file", (root / "clip.mp4").as_uri(), policy=EVERY_FRAME)
    async with stack(root, clip) as server:
        await server.until(lambda: state(server, "file") is FINISHED)
        account = server.session("file").account
        assert (account.packets_received, account.analysed, account.packets_pending) == (24, 24, 0)
        assert server.session("file").end_reason == "FINISHED"
        assert not server.session("file").connected
        assert detail(server, "file") == ""
        await server.until(lambda: not pull_threads())
        assert not server.registry.live


async def test_a_recording_longer_than_its_credits_loses_nothing(root: Path) -> None:
    clip = record("file", (root / "long.ts").as_uri(), policy=EVERY_FRAME)
    async with stack(root, clip) as server:
        await server.until(lambda: state(server, "file") is FINISHED)
        account = server.session("file").account
        assert (account.packets_received, account.analysed) == (400, 400)
        times = [packet.capture_wall_ns for packet in server.factory.fed["file"]]
        assert times[120] - times[0] == pytest.approx(10e9, rel=1e-3)


async def test_a_live_recording_comes_by_its_clock(root: Path) -> None:
    clip = record("file", (root / "short.mp4").as_uri(), policy=LIVE)
    async with stack(root, clip) as server:
        await server.until(lambda: state(server, "file") is FINISHED)
        fed = server.factory.fed["file"]
        dts_s = [float((packet.dts or 0) * server.factory.configs[0].format.time_base) for packet in fed]
        came_s = [packet.received_s - fed[0].received_s for packet in fed]
        assert all(came >= due - dts_s[0] - 0.001 for came, due in zip(came_s, dts_s, strict=True))
        assert server.session("file").account.packets_received == 8


async def test_a_looped_recording_goes_on_in_the_same_session_and_its_time_too(root: Path) -> None:
    clip = record("file", (root / "short.mp4").as_uri(), policy=EVERY_FRAME, loop=True)
    async with stack(root, clip) as server:
        packets = (await server.fed("file", 30))[:30]
        assert server.sessions("file") == 1
        assert [packet.sequence for packet in packets] == list(range(30))
        assert breaks(packets) == [8, 16, 24]
        assert all(packets[index].keyframe and packets[index].extradata for index in breaks(packets))
        assert rising(packets)
        assert state(server, "file") is STREAMING
        assert server.session("file").account.skipped == {}


async def test_a_recording_that_breaks_off_goes_on_where_it_was(root: Path) -> None:
    clip = (root / "long.ts").read_bytes()
    with Camera(Answer(body=clip, cut_after=len(clip) // 2)) as camera:
        file = record("file", f"http://{camera.host}/long.ts", policy=EVERY_FRAME)
        async with stack(root, file) as server:
            await server.until(lambda: state(server, "file") is FINISHED)
            assert camera.calls >= 2
            account = server.session("file").account
            assert account.analysed >= 398
            assert account.packets_received <= 401
            assert server.sessions("file") == 1


async def test_a_recording_that_gets_no_better_is_given_up_with_the_reason(root: Path) -> None:
    clip = (root / "long.ts").read_bytes()

    class Half(Answer):
        def __call__(self, camera: Camera, connection: object) -> None:
            self.cut_after = len(clip) // 2
            super().__call__(camera, connection)  # type: ignore[arg-type]

    with Camera(Half(body=clip)) as camera:
        async with stack(root, record("file", f"http://{camera.host}/long.ts", policy=EVERY_FRAME)) as server:
            await server.until(lambda: state(server, "file") is FINISHED)
            assert "reading failed" in detail(server, "file")
            assert 150 < server.session("file").account.analysed < 250
            assert server.session("file").end_reason == "FINISHED"


async def test_a_finished_recording_is_sent_again_when_its_source_is_changed(root: Path) -> None:
    async with stack(root, record("file", (root / "clip.mp4").as_uri(), policy=EVERY_FRAME)) as server:
        await server.until(lambda: state(server, "file") is FINISHED)
        server.catalogue.put(record("file", (root / "short.mp4").as_uri(), policy=EVERY_FRAME))
        await server.until(lambda: len(server.factory.fed["file"]) == 32)
        await server.until(lambda: state(server, "file") is FINISHED)
        assert server.sessions("file") == 2


async def test_verdicts_are_acknowledged_so_that_the_ledger_never_fills(root: Path) -> None:
    clip = record("file", (root / "long.ts").as_uri(), policy=EVERY_FRAME)
    async with stack(root, clip) as server:
        most = 0
        while state(server, "file") is not FINISHED:
            with contextlib.suppress(Exception):
                most = max(most, server.session("file").depths[1])
            await asyncio.sleep(0.002)
        assert server.session("file").depths[1] == 0
        assert most < 100
