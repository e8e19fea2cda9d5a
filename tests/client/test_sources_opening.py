from __future__ import annotations

import pytest

from support_sources import write_clip
from vedette_client.errors import SourceError
from vedette_client.sources import open_source
from vedette_client.sources.container import ContainerSource
from vedette_client.sources.live import HttpSource, LiveSource
from vedette_client.sources.stills import StillsSource
from vedette_client.sources.synthetic import SyntheticSource
from vedette_client.sources.webcam import WebcamSource


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("rtsp://camera/stream", LiveSource),
        ("rtsps://camera/stream", LiveSource),
        ("http://camera/video.mjpg", HttpSource),
        ("HTTPS://camera/video.ts", HttpSource),
        ("/dev/video7", WebcamSource),
        ("webcam:0", WebcamSource),
        ("synthetic:blobs", SyntheticSource),
        ("synthetic:blobs?seed=3&width=320&height=180&fps=5&codec=raw&seconds=2", SyntheticSource),
    ],
)
def test_a_word_finds_its_source_without_touching_anything(spec, kind):
    assert isinstance(open_source(spec), kind)


def test_paths_are_told_apart_by_what_is_there(tmp_path):
    (tmp_path / "still.JPG").write_bytes(b"x")
    assert isinstance(open_source(str(write_clip(tmp_path / "clip.mp4"))), ContainerSource)
    assert isinstance(open_source(str(tmp_path / "still.JPG")), StillsSource)
    assert isinstance(open_source(str(tmp_path)), StillsSource)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere.mp4", "no such file"),
        ("ftp://host/clip.mp4", "ftp:// is not supported; a source is"),
        ("webcam:front", "webcam:0"),
        ("synthetic:stars", "'stars' is unknown; there are"),
        ("synthetic:blobs?colour=red", "option 'colour' is unknown; there are seed, width"),
        ("synthetic:blobs?width=63", "width='63' is not a whole number from 64"),
        ("synthetic:blobs?width=101", "not even"),
        ("synthetic:blobs?fps=nan", "fps='nan' is not a number"),
        ("synthetic:blobs?codec=gif", "codec='gif' is not one of h264"),
        ("synthetic:blobs?seed=x", "seed='x' is not a whole number"),
    ],
)
def test_a_bad_word_is_refused_with_what_is_allowed(spec, message):
    with pytest.raises(SourceError, match=message.replace("?", r"\?")):
        open_source(spec)


def test_a_rate_must_be_above_zero():
    with pytest.raises(SourceError, match="not above 0"):
        open_source("synthetic:blobs", fps=0)


def test_what_the_scene_says_itself_goes_before_what_is_said_for_all():
    source = open_source("synthetic:blobs?fps=5", fps=9, seed=4)
    assert source.open().fps == 5
    assert open_source("synthetic:blobs", fps=9).open().fps == 9
