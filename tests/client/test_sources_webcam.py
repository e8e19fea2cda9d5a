from __future__ import annotations

import itertools

import av
import pytest
from PIL import Image

from support_sources import write_clip
from vedette.v1 import media_pb2
from vedette_client.errors import SourceError
from vedette_client.sources import open_source
from vedette_client.sources.webcam import RawCapture, capture_options, device_of


@pytest.mark.parametrize(
    ("spec", "device"),
    [("/dev/video2", "/dev/video2"), ("webcam:0", "/dev/video0"), ("webcam:07", "/dev/video7"), ("clip.mp4", None)],
)
def test_a_webcam_is_named_by_its_device_or_its_number(spec, device):
    assert device_of(spec) == device


def test_the_device_is_asked_for_a_coding_and_a_rate():
    assert capture_options("mjpeg", 12.5) == {"input_format": "mjpeg", "framerate": "12.5"}
    assert capture_options(None, None) == {}


def test_a_webcam_that_is_not_there_is_refused():
    with pytest.raises(SourceError, match=r"/dev/video987654: there is no such device|which .* has not"):
        open_source("webcam:987654").open()


def test_raw_pictures_are_coded_as_stills(tmp_path):
    path = write_clip(tmp_path / "raw.y4m", codec="wrapped_avframe", frames=4)
    capture = RawCapture(av.open(str(path)), "cam")
    packets = list(itertools.islice(capture.packets(), 3))
    capture.close()
    capture.close()
    assert capture.format.codec == media_pb2.CODEC_JPEG
    assert (capture.format.width, capture.format.height) == (128, 96)
    for packet in packets:
        (tmp_path / "still.jpg").write_bytes(packet.data)
        with Image.open(tmp_path / "still.jpg") as still:
            assert still.size == (128, 96)
            assert still.getpixel((64, 80)) == pytest.approx((80, 80, 80), abs=6)
