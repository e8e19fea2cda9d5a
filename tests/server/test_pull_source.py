"""Cameras and files are opened within their time, and what they send is handed out as it is."""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import socket
import ssl
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
import trustme

from support_pull import Answer, Camera, Multipart, Rtsp, access_units, jpegs, silent, web
from support_sources import decode, write_clip
from vedette_server.data.format import Codec
from vedette_server.pull.address import check_url
from vedette_server.pull.errors import SourceError
from vedette_server.pull.options import PullOptions
from vedette_server.pull.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette_server.data.packet import Packet

PATIENT = PullOptions(timeout_s=10.0, hosts=("*", "127.0.0.0/8"))
QUICK = replace(PATIENT, timeout_s=0.5)
LISTS = replace(PATIENT, playlists=True)


@contextlib.contextmanager
def opened(url: str, *folders: Path, options: PullOptions = PATIENT, prefer_tcp: bool = True) -> Iterator[Source]:
    with contextlib.closing(Source(check_url(url, folders), options, prefer_tcp=prefer_tcp)) as source:
        yield source


def in_container(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def datas(packets: list[Packet]) -> list[bytes]:
    return [packet.data for packet in packets]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.ts", "clip.mkv"])
def test_a_recording_is_handed_out_as_it_is_from_disk_and_over_http(name: str, tmp_path: Path) -> None:
    path = write_clip(tmp_path / name)
    with web(tmp_path) as url, opened(f"{url}/{name}") as remote, opened(path.as_uri(), tmp_path) as local:
        assert remote.ends
        assert local.ends
        assert remote.format == local.format
        packets = list(local.packets())
        assert datas(packets) == datas(list(remote.packets())) == in_container(path)
        assert local.format.codec is Codec.H264
        assert (local.format.width, local.format.height) == (128, 96)
    assert packets[0].keyframe
    assert sum(packet.keyframe for packet in packets) == 3
    pictures = decode("h264", local.format.extradata, datas(packets))
    assert len(pictures) == 24
    stamps = [packet.dts for packet in packets if packet.dts is not None]
    assert stamps == sorted(stamps)
    assert local.fps == pytest.approx(12)


def test_an_rtsp_camera_is_read_over_tcp() -> None:
    rtsp = Rtsp(access_units())
    with Camera(rtsp) as camera, opened(f"rtsp://{camera.host}/cam") as source:
        packets = list(itertools.islice(source.packets(), 30))
        assert not source.ends
        assert source.format.time_base == Fraction(1, 90_000)
        assert len(decode("h264", source.format.extradata, datas(packets))) == 30
    assert all("TCP" in transport for transport in rtsp.transports)
    assert packets[0].keyframe


def test_an_rtsp_camera_may_be_asked_for_udp_first() -> None:
    rtsp = Rtsp(access_units())
    with (
        Camera(rtsp) as camera,
        contextlib.suppress(SourceError),
        opened(f"rtsp://{camera.host}/cam", prefer_tcp=False),
    ):
        pass
    assert "TCP" not in rtsp.transports[0]


def test_a_camera_that_sends_jpegs_has_no_end() -> None:
    pictures = jpegs()
    with Camera(Multipart(pictures, fps=100)) as camera, opened(f"http://{camera.host}/mjpg") as source:
        packets = list(itertools.islice(source.packets(), 12))
        assert source.format.codec is Codec.JPEG
        assert not source.ends
    assert datas(packets) == pictures * 2
    assert all(packet.keyframe for packet in packets)


def test_jpegs_without_times_get_those_of_their_arrival() -> None:
    with Camera(Multipart(jpegs(), fps=10)) as camera, opened(f"http://{camera.host}/mjpg") as source:
        began = time.monotonic()
        packets = list(itertools.islice(source.packets(), 12))
        took_s = time.monotonic() - began
        stamps = [float(packet.pts * source.format.time_base) for packet in packets if packet.pts is not None]
    assert len(stamps) == 12
    assert stamps == sorted(set(stamps))
    assert 0.5 < stamps[-1] <= took_s


def test_sound_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as output:
        video, audio = output.add_stream("libx264", rate=25), output.add_stream("aac", rate=48_000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for index in range(10):
            picture = av.VideoFrame(64, 48, "yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, 25)
            output.mux(video.encode(picture))
            sound = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            sound.pts, sound.sample_rate, sound.time_base = index * 1024, 48_000, Fraction(1, 48_000)
            output.mux(audio.encode(sound))
        output.mux(video.encode(None))
        output.mux(audio.encode(None))
    with opened(path.as_uri(), tmp_path) as source:
        assert len(list(source.packets())) == 10


def test_what_lies_on_its_side_says_so_and_loses_no_packet(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "turned.mp4", rotation_ccw=90)
    with opened(path.as_uri(), tmp_path) as source:
        assert source.format.rotation_degrees == 270
        assert datas(list(source.packets())) == in_container(path)


def test_a_playlist_is_read_over_http_and_reaches_nothing_else(tmp_path: Path) -> None:
    secret = write_clip(tmp_path / "secret.ts")
    served = tmp_path / "served"
    served.mkdir()
    write_clip(served / "part.ts")
    head, tail = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n", "\n#EXT-X-ENDLIST\n"
    (served / "good.m3u8").write_text(f"{head}part.ts{tail}")
    inline = base64.b64encode(secret.read_bytes()).decode()
    (served / "file.m3u8").write_text(f"{head}{secret.as_uri()}{tail}")
    (served / "data.m3u8").write_text(f"{head}data:video/mp2t;base64,{inline}{tail}")
    with web(served) as url:
        with opened(f"{url}/good.m3u8", options=LISTS) as source:
            assert source.bursts
            assert datas(list(source.packets())) == in_container(served / "part.ts")
        for name in ("file", "data"):
            with pytest.raises(SourceError):
                Source(check_url(f"{url}/{name}.m3u8", ()), LISTS)


def test_a_playlist_is_opened_only_where_the_settings_allow_it(tmp_path: Path) -> None:
    write_clip(tmp_path / "part.ts")
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\npart.ts\n#EXT-X-ENDLIST\n"
    for name in ("live.m3u8", "live"):
        (tmp_path / name).write_text(text)
    with web(tmp_path) as url:
        with pytest.raises(SourceError, match=r"monitor\.source_playlists"), opened(f"{url}/live.m3u8"):
            pass
        with pytest.raises(SourceError, match="cannot be opened"), opened(f"{url}/live"):
            pass


@pytest.mark.parametrize("name", ["list.m3u8", "list.ffconcat"])
def test_a_file_that_names_other_files_is_not_opened(name: str, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.ts")
    path = tmp_path / name
    path.write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{clip}\n#EXT-X-ENDLIST\n"
        if name.endswith("m3u8")
        else f"ffconcat version 1.0\nfile '{clip.name}'\n"
    )
    with pytest.raises(SourceError, match="cannot be opened"):
        Source(check_url(path.as_uri(), (tmp_path,)), PATIENT)


def test_http_does_not_redirect_to_files(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    answer = Answer("302 Found", f"Location: {clip.as_uri()}\r\n")
    with Camera(answer) as camera, pytest.raises(SourceError):
        Source(check_url(f"http://{camera.host}/clip.mp4", ()), PATIENT)


def test_http_does_not_redirect_to_other_hosts(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4")
    with web(tmp_path) as url, Camera(Answer("302 Found", f"Location: {url}/clip.mp4\r\n")) as camera:
        with opened(f"{url}/clip.mp4"):
            pass
        with pytest.raises(SourceError, match="cannot be opened"), opened(f"http://{camera.host}/clip.mp4"):
            pass


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
@pytest.mark.parametrize("hosts", [(), ("*",), ("localhost", "10.0.0.0/8")])
def test_nobody_on_loopback_is_called_unless_a_network_names_him(scheme: str, hosts: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as camera:
        url = f"{scheme}://me:s3cret@localhost:{camera.getsockname()[1]}/cam"
        with pytest.raises(SourceError, match=r"allowed are those of monitor\.source_hosts") as refused:
            Source(check_url(url, ()), replace(QUICK, hosts=hosts))
        camera.settimeout(0.1)
        with pytest.raises(TimeoutError):
            camera.accept()
    assert "127.0.0.1" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["rtsp", "http", "rtsps", "https"])
def test_a_camera_that_stays_silent_is_given_up_in_time(scheme: str) -> None:
    with silent() as camera:
        began = time.monotonic()
        with pytest.raises(SourceError, match="no answer within"):
            Source(check_url(f"{scheme}://{camera.host}/cam", ()), QUICK)
        assert 0.3 < time.monotonic() - began < 8


def test_a_camera_that_falls_silent_is_given_up_in_time() -> None:
    with (
        Camera(Rtsp(access_units(), stall_after=20)) as camera,
        opened(f"rtsp://{camera.host}/cam", options=replace(QUICK, timeout_s=1.0)) as source,
        pytest.raises(SourceError, match="reading failed: no answer within"),
    ):
        for _ in source.packets():
            pass


def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("rtsp://127.0.0.1:{port}/cam", "refused"),
        ("http://127.0.0.1:{port}/cam", "refused"),
        ("http://nobody.invalid/cam", "cannot be opened"),
    ],
)
def test_a_camera_that_is_not_there_is_told_in_words(url: str, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        Source(check_url(url.format(port=refused_port()), ()), PATIENT)


@pytest.mark.parametrize(
    ("status", "why"), [("404 Not Found", "404"), ("401 Unauthorized", "401"), ("500 Oh", "5XX"), ("200 OK", "Invalid")]
)
def test_what_http_servers_refuse_is_told_in_words(status: str, why: str) -> None:
    with Camera(Answer(status, body=b"no video " * 400)) as camera, pytest.raises(SourceError, match=why) as refused:
        Source(check_url(f"http://me:s3cret@{camera.host}/cam?token=s3cret", ()), PATIENT)
    assert "s3cret" not in str(refused.value)


def test_a_wrong_password_is_told_without_it_and_the_right_one_opens(caplog: pytest.LogCaptureFixture) -> None:
    with Camera(Rtsp(access_units(), password="right")) as camera:
        with pytest.raises(SourceError, match="401") as refused:
            Source(check_url(f"rtsp://admin:wr0ng@{camera.host}/cam", ()), PATIENT)
        assert "wr0ng" not in str(refused.value) + caplog.text
        with opened(f"rtsp://admin:right@{camera.host}/cam") as source:
            assert len(list(itertools.islice(source.packets(), 5))) == 5


def test_broken_bytes_are_no_video(tmp_path: Path) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(os.urandom(5000))
    with pytest.raises(SourceError, match="cannot be opened as video"):
        Source(check_url(path.as_uri(), (tmp_path,)), PATIENT)


def test_a_recording_with_broken_bytes_in_it_ends_or_tells(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.ts", frames=100)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = os.urandom(3000)
    path.write_bytes(data)
    with opened(path.as_uri(), tmp_path) as source:
        packets = []
        with contextlib.suppress(SourceError):
            for packet in source.packets():
                packets.append(packet)  # noqa: PERF402 - those before an error count
    assert len(packets) > 30
    assert any(packet.discontinuity for packet in packets)


@pytest.mark.parametrize(("name", "why"), [("none.mp4", "no such file"), ("folder", "no plain file")])
def test_what_is_no_file_is_told(name: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(SourceError, match=why):
        Source(check_url((tmp_path / name).as_uri(), (tmp_path,)), PATIENT)


def test_a_pipe_does_not_hold_a_thread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(SourceError, match="no plain file"):
        Source(check_url((tmp_path / "pipe.mp4").as_uri(), (tmp_path,)), PATIENT)


def test_codecs_that_the_server_does_not_take_are_named(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "old.ts", codec="mpeg2video")
    with pytest.raises(SourceError, match="its video is mpeg2video; supported are h264"):
        Source(check_url(path.as_uri(), (tmp_path,)), PATIENT)


def test_sound_alone_is_no_camera(tmp_path: Path) -> None:
    path = tmp_path / "sound.ts"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=48_000)
        for index in range(20):
            sound = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            sound.pts, sound.sample_rate, sound.time_base = index * 1024, 48_000, Fraction(1, 48_000)
            output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    with pytest.raises(SourceError, match="no video in it"):
        Source(check_url(path.as_uri(), (tmp_path,)), PATIENT)


@contextlib.contextmanager
def secure_web(folder: Path, authority: trustme.CA) -> Iterator[str]:
    with web(folder) as url:
        port = int(url.rpartition(":")[2])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)

        def pass_on(camera: Camera, connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_side=True) as inside:
                request = inside.recv(65536)
                with socket.create_connection(("127.0.0.1", port)) as outside:
                    outside.sendall(request)
                    outside.shutdown(socket.SHUT_WR)
                    while data := outside.recv(65536):
                        inside.sendall(data)

        with Camera(pass_on) as camera:
            yield f"https://{camera.host}"


def test_where_certificates_are_asked_for_others_are_refused(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4")
    ours, theirs = trustme.CA(), trustme.CA()
    with (
        ours.cert_pem.tempfile() as ours_pem,
        theirs.cert_pem.tempfile() as theirs_pem,
        secure_web(tmp_path, ours) as url,
    ):
        for ca_file in (None, Path(ours_pem)):
            with opened(f"{url}/clip.mp4", options=replace(PATIENT, ca_file=ca_file)) as source:
                assert len(list(source.packets())) == 24
        with pytest.raises(SourceError, match="cannot be opened"):
            Source(check_url(f"{url}/clip.mp4", ()), replace(PATIENT, ca_file=Path(theirs_pem)))
