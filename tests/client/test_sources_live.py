from __future__ import annotations

import functools
import http.server
import itertools
import threading
import time

import av
import pytest

from support_sources import RtspCamera, decode, write_clip
from vedette.v1 import media_pb2
from vedette_client.credentials import without_password
from vedette_client.errors import SourceError
from vedette_client.sources import open_source
from vedette_client.sources.demux import Demuxer
from vedette_client.sources.live import LiveSource


def pictures_of(path):
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


@pytest.fixture
def camera(tmp_path):
    camera = RtspCamera(pictures_of(write_clip(tmp_path / "cam.h264", bframes=0)), repeats=2)
    yield camera
    camera.close()


def test_an_rtsp_camera_is_forwarded_over_tcp_with_times_of_arrival(camera):
    source = open_source(camera.url, timeout_s=5)
    assert source.live
    before = time.time_ns()
    form = source.open()
    packets = list(itertools.islice(source.packets(), 20))
    source.close()
    assert form.codec == media_pb2.CODEC_H264
    assert form.capture_clock == media_pb2.CAPTURE_CLOCK_CLIENT
    assert all("TCP" in transport for transport in camera.transports)
    times = [packet.capture_time_ns for packet in packets]
    assert times == sorted(times)
    assert before <= times[0] <= time.time_ns()
    assert packets[0].keyframe
    assert all(packet.due_s is None for packet in packets)
    assert len(decode("h264", form.extradata, [packet.data for packet in packets])) == 20


def test_a_camera_that_hung_up_is_called_again_and_the_break_is_told(camera):
    def opener():
        return Demuxer(camera.url, options={"rtsp_transport": "tcp"}, timeout_s=5)

    source = LiveSource(camera.url, opener, first_wait_s=0.01)
    source.open()
    packets = list(itertools.islice(source.packets(), 30))
    source.close()
    breaks = [index for index, packet in enumerate(packets) if packet.discontinuity]
    assert len(breaks) == 1
    assert breaks[0] >= 20
    assert packets[breaks[0]].keyframe
    assert packets[breaks[0]].extradata
    assert len(camera.transports) == 2
    stamps = [packet.dts for packet in packets if packet.dts is not None]
    assert stamps == sorted(set(stamps))


def test_a_camera_that_never_answers_is_refused_within_its_time():
    with pytest.raises(SourceError, match="cannot be opened"):
        open_source("rtsp://127.0.0.1:9/cam", timeout_s=2).open()


def test_closing_ends_the_wait_for_a_lost_camera(camera):
    calls = itertools.count()

    def opener():
        if next(calls) > 0:
            raise SourceError("gone")
        return Demuxer(camera.url, options={"rtsp_transport": "tcp"}, timeout_s=5)

    source = LiveSource(camera.url, opener, first_wait_s=30)
    source.open()
    closer = threading.Timer(0.8, source.close)
    closer.start()
    count = len(list(source.packets()))
    closer.join()
    assert 20 <= count <= 24


def test_a_camera_that_comes_back_as_another_kind_ends_the_stream(tmp_path):
    clips = iter([write_clip(tmp_path / "a.ts"), write_clip(tmp_path / "b.ts", codec="mpeg2video")])
    other = write_clip(tmp_path / "c.avi", codec="mjpeg")
    next(clips)
    openers = iter([tmp_path / "a.ts", other])
    source = LiveSource("cam", lambda: Demuxer(str(next(openers))), first_wait_s=0.001)
    source.open()
    with pytest.raises(SourceError, match="came back as mjpeg"):
        list(source.packets())


def test_without_reconnecting_a_lost_camera_ends_the_stream(tmp_path):
    path = write_clip(tmp_path / "a.ts")
    source = LiveSource("cam", lambda: Demuxer(str(path)), reconnect=False)
    source.open()
    assert len(list(source.packets())) == 24


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files; of one that is called endless it does not tell the length."""

    def log_message(self, *_):
        pass

    def send_header(self, keyword, value):
        if not (keyword == "Content-Length" and "endless" in self.path):
            super().send_header(keyword, value)


@pytest.fixture
def web(tmp_path):
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_recording_behind_http_is_read_like_a_file(web, tmp_path):
    path = write_clip(tmp_path / "clip.mp4")
    source = open_source(f"{web}/clip.mp4", timeout_s=5)
    form = source.open()
    packets = list(source.packets())
    source.close()
    assert not source.live
    assert form.capture_clock == media_pb2.CAPTURE_CLOCK_FILE
    expected = open_source(str(path))
    expected.open()
    assert [packet.data for packet in packets] == [packet.data for packet in expected.packets()]
    assert packets[12].due_s == pytest.approx(1)


def test_a_recording_behind_http_whose_duration_is_unknown_is_one_too(web, tmp_path):
    write_clip(tmp_path / "raw.h264", bframes=0)
    source = open_source(f"{web}/raw.h264", timeout_s=5)
    form = source.open()
    packets = list(itertools.islice(source.packets(), 30))
    source.close()
    assert not source.live
    assert form.capture_clock == media_pb2.CAPTURE_CLOCK_FILE
    assert len(packets) == 24
    assert all(packet.due_s is not None for packet in packets)


def test_a_video_of_no_known_length_is_a_camera(web, tmp_path):
    write_clip(tmp_path / "endless.h264", bframes=0)
    source = open_source(f"{web}/endless.h264", timeout_s=5)
    source.open()
    source.close()
    assert source.live


def test_a_recording_behind_http_can_be_looped(web, tmp_path):
    write_clip(tmp_path / "clip.mp4")
    source = open_source(f"{web}/clip.mp4", timeout_s=5, loop=True, pace=False)
    source.open()
    packets = list(itertools.islice(source.packets(), 30))
    source.close()
    assert packets[24].discontinuity


def test_a_page_that_is_not_there_is_refused_without_its_password(web):
    with pytest.raises(SourceError, match="cannot be opened") as caught:
        open_source(f"{web.replace('//', '//user:secret@')}/none.mp4", timeout_s=5).open()
    assert "secret" not in str(caught.value)


def test_a_scheme_that_is_not_known_is_refused_without_its_password():
    with pytest.raises(SourceError, match="rtmp://") as caught:
        open_source("rtmp://user:secret@cam/a")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("rtsp://admin:pa:ss@cam:554/a@b", "rtsp://cam:554/a@b"),
        ("rtsp://cam/a", "rtsp://cam/a"),
        ("http://u@cam", "http://cam"),
        ("rtsp://admin:pa/ss@cam/a", "rtsp://cam/a"),
        ("rtsp://[::1]:554/a@b", "rtsp://[::1]:554/a@b"),
        ("http://cam/v.cgi?usr=a&pwd=secret&res=1", "http://cam/v.cgi?usr=a&pwd=***&res=1"),
        ("http://cam/v?loginpas=secret", "http://cam/v?loginpas=***"),
        ("clip@home.mp4", "clip@home.mp4"),
    ],
)
def test_names_leave_credentials_out(url, name):
    assert without_password(url) == name
