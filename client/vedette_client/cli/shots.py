"""Read sources and channel names from a command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vedette_client.cli.camera import Shot
from vedette_client.credentials import without_password
from vedette_client.errors import OptionsError, SourceError
from vedette_client.options import channel_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_client import AnalyzeOptions

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_NAME = 64


def shots(
    specs: Sequence[str],
    channels: Sequence[str],
    options: AnalyzeOptions,
    *,
    pace: bool | None = None,
    loop: bool = False,
    duration_s: float | None = None,
) -> list[Shot]:
    """Build what is to be sent.

    Args:
        specs: Sources, as `open_source` reads them.
        channels: One name per source, or none.
        options: What is wanted of each.
        pace: Send recordings by their clock.
        loop: Begin recordings again at their end.
        duration_s: End each after so long.

    Raises:
        OptionsError: A source is not there, or the names do not fit the sources.
    """
    from vedette_client.sources import open_source  # noqa: PLC0415  it imports PyAV

    if channels and len(channels) != len(specs):
        raise OptionsError(f"--channel is given {len(channels)} times for {len(specs)} sources; one for each is wanted")
    names = [channel_name(name).removeprefix("channels/") for name in channels] or unique_names(specs)
    if len(set(names)) < len(names):
        raise OptionsError("--channel names the same channel twice")
    made = []
    for spec, name in zip(specs, names, strict=True):
        try:
            source = open_source(spec, pace=pace, loop=loop)
        except SourceError as error:
            raise OptionsError(str(error)) from error
        length_s = duration_s
        if not loop:
            lengths = [length for length in (_length_s(spec), duration_s) if length is not None]
            length_s = min(lengths, default=None)
        made.append(Shot(spec, name, source, options, length_s, duration_s))
    return made


def unique_names(specs: Sequence[str]) -> list[str]:
    """Name channels after their sources, each differently."""
    names: list[str] = []
    for spec in specs:
        base = name_of(spec)
        name, number = base, 2
        while name in names:
            name, number = f"{base}-{number}", number + 1
        names.append(name)
    return names


def name_of(spec: str) -> str:
    """Name a channel after its source: the stem of a file, host and path of a URL, the kind of a scene."""
    if spec.startswith("synthetic:"):
        text = spec.removeprefix("synthetic:").partition("?")[0]
    elif "://" in spec:
        parts = urlsplit(without_password(spec))
        text = f"{parts.hostname or ''}{parts.path}"
    else:
        text = Path(spec).stem if Path(spec).suffix else spec
        text = Path(text).name or text
    return _NOT_ALLOWED.sub("-", text).strip("-.")[:_MAX_NAME] or "camera"


def _length_s(spec: str) -> float | None:
    """Tell how long a recording or a scene is; None when that is unknown."""
    from vedette_client.scene.spec import parse_scene  # noqa: PLC0415
    from vedette_client.sources.demux import Demuxer  # noqa: PLC0415  it imports PyAV

    if spec.startswith("synthetic:"):
        return parse_scene(spec.removeprefix("synthetic:")).seconds
    if not Path(spec).is_file():
        return None
    try:
        demuxer = Demuxer(spec)
    except SourceError:
        return None  # it will be told when the source is opened
    demuxer.close()
    return demuxer.duration_s
