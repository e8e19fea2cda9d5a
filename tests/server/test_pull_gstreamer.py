"""Cameras of another make: GStreamer's RTSP server, over TCP and UDP, with passwords, H.264 and motion JPEG."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from support_pull_gst import JPEG_PIPELINE, GstServer, file_pipeline
from support_pull_stack import record, stack
from support_sources import decode, write_clip
from vedette_server.data.format import Codec
from vedette_server.pull.address import check_url
from vedette_server.pull.errors import SourceError
from vedette_server.pull.options import PullOptions
from vedette_server.pull.source import Source
from vedette_server.pull.status import PullState

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_server.data.format import VideoFormat
    from vedette_server.data.packet import Packet

PATIENT = PullOptions(timeout_s=8.0, hosts=("127.0.0.0/8",))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("gst") / "clip.mp4", frames=40, fps=25, bframes=0)


def first(url: str, count: int, *, prefer_tcp: bool = True) -> tuple[VideoFormat, list[Packet]]:
    with contextlib.closing(Source(check_url(url, ()), PATIENT, prefer_tcp=prefer_tcp)) as source:
        return source.format, list(itertools.islice(source.packets(), count))


@pytest.mark.parametrize(("transport", "prefer_tcp"), [("TCP", True), ("UDP", False), ("TCP", False)])
def test_h264_comes_over_what_the_camera_allows(transport: str, prefer_tcp: bool, clip: Path) -> None:
    with GstServer(file_pipeline(clip), transport) as camera:
        form, packets = first(f"rtsp://{camera.host}/cam", 20, prefer_tcp=prefer_tcp)
    assert form.codec is Codec.H264
    start = next(index for index, packet in enumerate(packets) if packet.keyframe)
    pictures = decode("h264", form.extradata, [packet.data for packet in packets[start:]])
    assert len(pictures) == len(packets) - start


def test_a_password_is_answered_by_digest(clip: Path) -> None:
    with GstServer(file_pipeline(clip), password="right") as camera:
        _, packets = first(f"rtsp://admin:right@{camera.host}/cam", 5)
        assert len(packets) == 5
        with pytest.raises(SourceError, match="401"):
            first(f"rtsp://admin:wrong@{camera.host}/cam", 5)


def test_motion_jpeg_over_rtp_comes_as_whole_pictures() -> None:
    with GstServer(JPEG_PIPELINE) as camera:
        form, packets = first(f"rtsp://{camera.host}/cam", 10)
    assert form.codec is Codec.JPEG
    for packet in packets:
        assert cv2.imdecode(np.frombuffer(packet.data, np.uint8), cv2.IMREAD_COLOR).shape == (96, 128, 3)


async def test_verdicts_come_of_it_over_its_end_and_beginning(clip: Path, tmp_path: Path) -> None:
    with GstServer(file_pipeline(clip)) as camera:
        async with stack(tmp_path, record("cam", f"rtsp://{camera.host}/cam"), timeout_s=8.0) as server:
            # The server hangs up at the end of the file, after 40 pictures.
            await server.until(lambda: server.session("cam").epoch >= 2 if server.sessions("cam") else False)
            await server.fed("cam", 45)
            session = server.session("cam")
            await server.until(lambda: session.account.analysed > 40)
            assert server.sessions("cam") == 1
            status = server.puller.status("cam")
            assert status is not None
            assert status.state is PullState.STREAMING
