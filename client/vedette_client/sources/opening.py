"""Find the source that a word on the command line names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from vedette_client.credentials import without_password
from vedette_client.errors import SourceError
from vedette_client.scene.spec import parse_scene
from vedette_client.sources.container import ContainerSource
from vedette_client.sources.live import DEFAULT_TIMEOUT_S, HttpSource, rtsp_source
from vedette_client.sources.stills import SUFFIXES, StillsSource
from vedette_client.sources.synthetic import SyntheticSource
from vedette_client.sources.webcam import WebcamSource, device_of

if TYPE_CHECKING:
    from vedette_client.sources.base import Source

ALLOWED = (
    "a video file, a still (JPEG, PNG, WebP), a directory of stills, rtsp://, rtsps://, http:// or https:// URL, "
    "/dev/videoN or webcam:N, synthetic:walkers or synthetic:blobs"
)
_STILLS_FPS = 10.0


def open_source(
    spec: str,
    *,
    pace: bool | None = None,
    loop: bool = False,
    fps: float | None = None,
    seed: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Source:
    """Build the source that `spec` names; nothing is read or connected before its `open`.

    Args:
        spec: A video file, a still or a directory of stills, an RTSP or HTTP URL, `/dev/videoN` or
            `webcam:N`, or `synthetic:KIND?option=value&...`.
        pace: Recordings and scenes are sent by their clock; False: as fast as they are taken. None: paced.
        loop: Recordings begin again at their end.
        fps: Frames per second: of stills (default 10), of a scene that does not say, asked of a webcam;
            of a recording instead of its own clock.
        seed: Of a scene that does not say.
        timeout_s: How long connecting to a URL and every read from it may take.

    Raises:
        SourceError: `spec` names nothing that there is; the message tells what is allowed.
    """
    if fps is not None and not 0 < fps <= 1000:
        raise SourceError(f"{without_password(spec)}: fps={fps:g} is not above 0 and at most 1000")
    paced = pace is not False
    if spec.startswith("synthetic:"):
        scene = parse_scene(spec.removeprefix("synthetic:"), fps=fps, seed=seed)
        return SyntheticSource(scene, name=spec, pace=paced)
    if scheme := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", spec):
        return _url_source(spec, scheme[1].lower(), pace=paced, loop=loop, fps=fps, timeout_s=timeout_s)
    if device := device_of(spec):
        return WebcamSource(device, fps=fps)
    path = Path(spec)
    if not path.exists():
        raise SourceError(f"{spec}: there is no such file or directory; a source is {ALLOWED}")
    if path.is_dir() or path.suffix.lower() in SUFFIXES:
        return StillsSource(path, fps=fps or _STILLS_FPS, pace=paced, loop=loop)
    return ContainerSource(spec, pace=paced, loop=loop, fps=fps)


def _url_source(url: str, scheme: str, *, pace: bool, loop: bool, fps: float | None, timeout_s: float) -> Source:
    if scheme in {"rtsp", "rtsps"}:
        return rtsp_source(url, timeout_s=timeout_s)
    if scheme in {"http", "https"}:
        return HttpSource(url, pace=pace, loop=loop, fps=fps, timeout_s=timeout_s)
    raise SourceError(f"{without_password(url)}: {scheme}:// is not supported; a source is {ALLOWED}")
