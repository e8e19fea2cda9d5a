"""Cameras are called, lost, called again and hung up on, through real sessions, decoders and an engine."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from support_pull import (
    Answer,
    Camera,
    Either,
    Multipart,
    Rtsp,
    access_units,
    jpegs,
    silent,
)
from support_pull_stack import (
    CONNECTING,
    STREAMING,
    WAITING,
    breaks,
    detail,
    material,
    pull_threads,
    record,
    rising,
    stack,
    state,
)
from support_sources import split_nals
from vedette_server.data.channel import ChannelRecord
from vedette_server.data.outcome import SkipReason
from vedette_server.errors import InvalidError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clips in it."""
    return material(tmp_path_factory.mktemp("pull"))


async def test_a_camera_that_dies_and_comes_back_goes_on_in_the_same_session(root: Path) -> None:
    rtsp = Rtsp(access_units())
    with Camera(rtsp) as camera:
        async with stack(root, record("cam", f"rtsp://{camera.host}/cam")) as server:
            await server.fed("cam", 20)
            assert state(server, "cam") is STREAMING
            session = server.session("cam")
            camera.cut()
            await server.until(lambda: state(server, "cam") is WAITING)
            assert "the camera hung up" in detail(server, "cam") or "refused" in detail(server, "cam")
            assert not session.connected
            count = len(server.factory.fed["cam"])
            await server.until(lambda: "refused" in detail(server, "cam"))
            camera.bring_back()
            packets = await server.fed("cam", count + 20)
            assert server.session("cam") is session
            assert session.connected
            assert session.epoch == 2
            assert breaks(packets) == [count]
            assert [packet.sequence for packet in packets] == list(range(len(packets)))
            assert rising(packets)
            await server.until(lambda: session.account.analysed >= count + 15)
            assert set(session.account.skipped) <= {SkipReason.SUPERSEDED, SkipReason.STALE}


async def test_a_session_that_was_lost_meanwhile_is_followed_by_a_new_one(root: Path) -> None:
    with Camera(Multipart(jpegs())) as camera:
        async with stack(root, record("cam", f"http://{camera.host}/mjpg"), resume_window_s=0.0) as server:
            await server.fed("cam", 10)
            first = server.session("cam")
            camera.cut()
            await server.until(lambda: not first.connected)
            server.registry.sweep()
            await server.until(lambda: first.over)
            camera.bring_back()
            await server.until(lambda: server.session("cam") is not first)
            await server.until(lambda: server.session("cam").account.analysed > 3)
            assert first.end_reason == "CONNECTION_LOST"
            assert server.session("cam").account.packets_received > 3


async def test_a_camera_that_comes_back_with_another_codec_gets_a_new_session(root: Path) -> None:
    plays = Either(Multipart(jpegs()), Answer(body=(root / "long.ts").read_bytes()))
    with Camera(plays) as camera:
        async with stack(root, record("cam", f"http://{camera.host}/x")) as server:
            await server.fed("cam", 5)
            first = server.session("cam")
            plays.first = plays.second
            camera.cut()
            camera.bring_back()
            await server.until(lambda: len(server.factory.configs) == 2)
            assert [config.format.codec.name for config in server.factory.configs] == ["JPEG", "H264"]
            await server.until(lambda: first.over and server.session("cam").account.analysed > 3)
            assert first.account.packets_pending == 0


async def test_a_picture_of_another_size_is_judged_in_the_same_session(root: Path) -> None:
    rtsp = Rtsp(access_units())
    with Camera(rtsp) as camera:
        async with stack(root, record("cam", f"rtsp://{camera.host}/cam")) as server:
            await server.fed("cam", 20)
            small = access_units((64, 48))
            rtsp.pictures[:] = small
            nal = split_nals(small[9])[-1]
            await server.until(lambda: any(nal in packet.data for packet in server.factory.fed["cam"]))
            count = server.session("cam").account.analysed
            await server.until(lambda: server.session("cam").account.analysed > count + 20)
            assert server.sessions("cam") == 1


@pytest.mark.parametrize(
    ("status", "why"), [("401 Unauthorized", "401"), ("404 Not Found", "404"), ("200 OK", "cannot be opened as video")]
)
async def test_a_camera_that_refuses_is_tried_again_and_says_why(status: str, why: str, root: Path) -> None:
    with Camera(Answer(status, body=b"nothing " * 500)) as camera:
        async with stack(root, record("cam", f"http://me:s3cret@{camera.host}/cam")) as server:
            await server.until(lambda: camera.calls >= 3)
            await server.until(lambda: why in detail(server, "cam"))
            assert "s3cret" not in detail(server, "cam")
            assert state(server, "cam") in {WAITING, CONNECTING}
            assert server.sessions("cam") == 0


async def test_a_silent_camera_is_hung_up_on_and_tried_again(root: Path) -> None:
    with silent() as camera:
        async with stack(root, record("cam", f"rtsp://{camera.host}/cam"), timeout_s=0.2) as server:
            await server.until(lambda: camera.calls >= 3)
            await server.until(lambda: "no answer within 0.2 s" in detail(server, "cam"))


async def test_a_file_outside_the_allowed_folders_is_not_opened(root: Path) -> None:
    outside = record("file", root.parent.joinpath("secret.mp4").as_uri())
    async with stack(root, outside) as server:
        await server.until(lambda: "SOURCE_NOT_ALLOWED" in detail(server, "file"))
        assert outside.source is not None
        with pytest.raises(InvalidError, match="allowed are files below"):
            server.puller.check(outside.source)


async def test_an_engine_that_does_not_exist_is_told_before_the_camera_is_called(root: Path) -> None:
    with Camera(Multipart(jpegs())) as camera:
        async with stack(root, record("cam", f"http://{camera.host}/mjpg", engine="nothing")) as server:
            await server.until(lambda: "nothing" in detail(server, "cam"))
            assert state(server, "cam") in {WAITING, CONNECTING}
            assert camera.calls == 0


async def test_a_class_that_no_engine_knows_is_told(root: Path) -> None:
    with Camera(Multipart(jpegs())) as camera:
        wrong = record("cam", f"http://{camera.host}/mjpg", stream={"classes": ("unicorn",)})
        async with stack(root, wrong) as server:
            await server.until(lambda: "unicorn" in detail(server, "cam"))
            assert server.sessions("cam") == 0


async def test_a_channel_that_is_streamed_to_is_left_to_its_client(root: Path) -> None:
    with Camera(Multipart(jpegs())) as camera:
        async with stack(root) as server:
            server.catalogue.put(record("cam", f"http://{camera.host}/mjpg"))
            await server.fed("cam", 3)
            held = server.session("cam")
            server.catalogue.put(ChannelRecord("cam"))
            await server.until(lambda: held.over and not server.registry.live)

            class Client:
                def news(self) -> None: ...
                def displaced(self) -> None: ...

            config = server.factory.configs[0]
            other = server.registry.create(config, server.factory.parts(config, server.factory.engines(config)), None)
            other.attach(Client(), None, None)
            server.catalogue.put(record("cam", f"http://{camera.host}/mjpg"))
            await server.until(lambda: "CHANNEL_TAKEN" in detail(server, "cam"))
            assert server.session("cam") is other
            other.end("OVER", SkipReason.SESSION_LOST)
            await server.until(lambda: state(server, "cam") is STREAMING)


async def test_a_camera_whose_pictures_are_too_large_is_told_and_tried_again(root: Path) -> None:
    with Camera(Multipart(jpegs(2, (4200, 64)))) as camera:
        async with stack(root, record("cam", f"http://{camera.host}/mjpg")) as server:
            await server.until(lambda: "PICTURE_TOO_LARGE" in detail(server, "cam"))
            await server.until(lambda: camera.calls >= 3)
            assert server.sessions("cam") >= 2


async def test_channels_are_called_as_the_catalogue_changes(root: Path) -> None:
    with Camera(Multipart(jpegs())) as first, Camera(Multipart(jpegs(3, (64, 48)))) as second:
        async with stack(root) as server:
            assert not server.puller.pulls("cam")
            assert server.puller.status("cam") is None
            server.catalogue.put(record("cam", f"http://{first.host}/mjpg"))
            await server.fed("cam", 5)
            assert server.puller.pulls("cam")
            assert server.puller.states() == {STREAMING: 1}
            session = server.session("cam")

            server.catalogue.put(replace(record("cam", f"http://{first.host}/mjpg"), display_name="Gate"))
            await server.fed("cam", len(server.factory.fed["cam"]) + 5)
            assert server.session("cam") is session
            assert first.calls == 1

            server.catalogue.put(record("cam", f"http://{second.host}/mjpg"))
            await server.until(lambda: server.session("cam") is not session)
            await server.until(lambda: server.session("cam").account.analysed > 2)
            assert session.end_reason == "FINISHED"
            assert session.account.packets_pending == 0

            latest = server.session("cam")
            server.catalogue.delete("cam")
            await server.until(lambda: latest.over and not pull_threads())
            assert not server.puller.pulls("cam")
            assert server.puller.status("cam") is None
            assert latest.end_reason == "FINISHED"
            assert latest.account.packets_pending == 0


async def test_a_source_that_goes_and_comes_at_once_is_called(root: Path) -> None:
    with Camera(Multipart(jpegs())) as camera:
        cam = record("cam", f"http://{camera.host}/mjpg")
        async with stack(root, cam) as server:
            for _ in range(20):
                server.catalogue.delete("cam")
                server.catalogue.put(cam)
                await asyncio.sleep(0.005)
            count = len(server.factory.fed.get("cam", ()))
            await server.fed("cam", count + 5)
            assert state(server, "cam") is STREAMING
            assert len(pull_threads()) == 1
            assert server.puller.pulls("cam")


async def test_more_cameras_than_allowed_wait_for_a_place(root: Path) -> None:
    with Camera(Multipart(jpegs())) as camera:
        url = f"http://{camera.host}/mjpg"
        async with stack(root, *(record(name, url) for name in "abc"), max_channels=2) as server:
            await server.fed("a", 3)
            await server.fed("b", 3)
            assert len(pull_threads()) == 2
            assert state(server, "c") is WAITING
            assert "2 cameras are called already" in detail(server, "c")
            server.catalogue.delete("a")
            await server.fed("c", 3)
            assert len(pull_threads()) == 2


async def test_packets_that_are_too_large_are_left_out_and_told(root: Path) -> None:
    pictures = jpegs()
    pictures[2] += b"\0" * 50_000
    with Camera(Multipart(pictures)) as camera:
        cam = record("cam", f"http://{camera.host}/mjpg")
        async with stack(root, cam, max_packet_bytes=40_000) as server:
            packets = await server.fed("cam", 12)
            assert max(len(packet.data) for packet in packets) < 40_000
            assert breaks(packets)[:2] == [2, 7]
            assert server.session("cam").account.client_dropped >= 2


async def test_closing_hangs_up_on_all_and_has_what_they_sent_judged(root: Path) -> None:
    with Camera(Multipart(jpegs())) as camera, Camera(Rtsp(access_units())) as other:
        cams = record("a", f"http://{camera.host}/mjpg"), record("b", f"rtsp://{other.host}/cam")
        async with stack(root, *cams) as server:
            await server.fed("a", 5)
            await server.fed("b", 5)
            sessions = [server.session(name) for name in "ab"]
            await server.puller.close(10.0)
            await server.puller.close(10.0)
            await server.until(lambda: not pull_threads())
            for session in sessions:
                assert session.over
                assert not session.connected
                assert session.end_reason == "FINISHED"
                assert session.account.packets_pending == 0
            server.catalogue.put(record("c", f"http://{camera.host}/mjpg"))
            await asyncio.sleep(0.05)
            assert not pull_threads()


async def test_closing_does_not_wait_for_a_camera_that_does_not_answer(root: Path) -> None:
    with silent() as camera, Camera(Rtsp(access_units(), stall_after=20)) as stalled:
        cams = record("dead", f"rtsp://{camera.host}/cam"), record("stalled", f"rtsp://{stalled.host}/cam")
        async with stack(root, *cams, timeout_s=60.0) as server:
            await server.until(lambda: camera.calls > 0)
            await server.fed("stalled", 19)  # FFmpeg keeps the last until another one begins
            session = server.session("stalled")
            await server.puller.close(0.3)
            assert not session.connected
            await server.until(lambda: session.over)
            assert session.account.packets_pending == 0
            # They still wait for their cameras, and hold up nobody.
            assert len(pull_threads()) == 2
    deadline = time.monotonic() + 20
    while pull_threads() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert not pull_threads()
