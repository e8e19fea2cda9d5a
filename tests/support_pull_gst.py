"""A real RTSP server, GStreamer's, in a process of its own: what Debian's packages have of it is asked for once."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from typing import Self

PYTHON = "/usr/bin/python3"
PACKAGES = "gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-{good,bad}"
_IMPORT = """
import sys
import gi
for name in ("Gst", "GstRtsp", "GstRtspServer"):
    gi.require_version(name, "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer
Gst.init(None)
missing = [name for name in ("qtdemux", "h264parse", "rtph264pay", "rtpjpegpay") if not Gst.ElementFactory.find(name)]
if missing:
    sys.exit(f"missing: {missing}")
"""
_SERVE = (
    _IMPORT
    + """
launch, transport, password = sys.argv[1:]
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service("0")
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(launch)
factory.set_shared(False)
if transport:
    factory.set_protocols(getattr(GstRtsp.RTSPLowerTrans, transport))
if password:
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_digest("admin", password, token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    for what in ("access", "construct"):
        permissions.add_permission_for_role("user", f"media.factory.{what}", True)
    factory.set_permissions(permissions)
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""
)


@cache
def why_missing() -> str:
    """Say what keeps GStreamer's server from running here; empty: nothing does."""
    if not Path(PYTHON).exists():
        return f"{PYTHON} is not there"
    done = subprocess.run([PYTHON, "-c", _IMPORT], capture_output=True, text=True, check=False, timeout=60)
    return "" if done.returncode == 0 else f"{done.stderr.strip().splitlines()[-1:]}; Debian has {PACKAGES}"


class GstServer:
    """Plays a pipeline at `rtsp://127.0.0.1:PORT/cam`.

    Args:
        launch: The pipeline, with a payloader called `pay0`.
        transport: The only one allowed, as GstRtsp calls it; empty: any.
        password: Of the user `admin`, asked for by digest; empty: none.
    """

    def __init__(self, launch: str, transport: str = "", password: str = "") -> None:
        if why_missing():
            pytest.skip(f"GStreamer's RTSP server is not here: {why_missing()}")
        self._process = subprocess.Popen(
            [PYTHON, "-c", _SERVE, launch, transport, password], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.host = f"127.0.0.1:{int(self._process.stdout.readline())}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()


def file_pipeline(path: Path) -> str:
    """Play an MP4 file of H.264."""
    return f"( filesrc location={path} ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )"


JPEG_PIPELINE = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=128,height=96,framerate=25/1"
    " ! jpegenc ! rtpjpegpay name=pay0 )"
)
