"""The video engines of a real GPU give FFmpeg's pictures, through the whole decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support_video import Clip, clip
from vedette_engines.cuda.letterboxing import DeviceLetterbox
from vedette_engines.cuda.opening import open_device
from vedette_engines.errors import EnginesError
from vedette_server.decode.figures import DecoderFigures
from vedette_server.decode.limits import PictureLimits
from vedette_server.decode.nvdec import Nvdec, import_library
from vedette_server.decode.nvdec_picture import SurfacePicture
from vedette_server.decode.video import VideoDecoder
from vedette_server.picture.letterbox import Letterbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette_server.decode.base import Decoded

pytestmark = pytest.mark.gpu
LIMITS, FIT = PictureLimits(), Letterbox(160, 160)
NAMES = ["h264", "h264-b", "h264-plain", "h264-mp4", "hevc", "hevc-b", "hevc-mp4", "av1", "vp9", "mpeg4"]
SIZE = (320, 240)


@pytest.fixture
def engines() -> Iterator[tuple[Nvdec, DecoderFigures, Any]]:
    try:
        library, device = import_library(), open_device()
    except EnginesError as error:
        pytest.skip(str(error))
    figures = DecoderFigures()
    nvdec = Nvdec(library, (0,), lambda _: device, 1 << 28, figures)
    yield nvdec, figures, device
    nvdec.close()
    device.close()


def decoded(decoder: VideoDecoder, source: Clip) -> list[Decoded]:
    answers = [answer for packet in source.packets for answer in decoder.decode(packet)]
    return [*answers, *decoder.flush()]


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_decodes_what_ffmpeg_decodes(engines: tuple[Nvdec, DecoderFigures, Any], name: str) -> None:
    nvdec, figures, _ = engines
    source = clip(name, *SIZE)
    decoder = VideoDecoder(source.fmt, LIMITS, nvdec.chooser(source.fmt, LIMITS))
    answers, wanted = decoded(decoder, source), decoded(source.decoder(), source)
    fallbacks = {key: count for key, count in figures.fallbacks.items() if count}
    if (source.fmt.codec.name, "codec") in fallbacks:
        pytest.skip(f"this GPU does not decode {source.fmt.codec.name}")
    assert not fallbacks
    assert [answer.packet.sequence for answer in answers] == [answer.packet.sequence for answer in wanted]
    for answer, expected in zip(answers, wanted, strict=True):
        assert isinstance(answer.picture, SurfacePicture)
        assert expected.picture is not None
        # Both standards are exact: a decoder that differs by one is wrong. MPEG-4's inverse DCT alone may differ.
        apart = np.abs(_pixels(answer.picture) - _pixels(expected.picture))
        assert apart.max() <= (2 if name == "mpeg4" else 0)
        answer.picture.close()
    decoder.close()


def _pixels(picture: Any) -> Any:
    return picture.frame.to_ndarray().astype(int)


@pytest.mark.parametrize("name", ["h264", "h264-plain", "hevc"])
def test_a_stream_without_b_frames_is_answered_packet_by_packet(
    engines: tuple[Nvdec, DecoderFigures, Any], name: str
) -> None:
    source = clip(name, *SIZE)
    decoder = VideoDecoder(source.fmt, LIMITS, engines[0].chooser(source.fmt, LIMITS))
    for packet in source.packets:
        (answer,) = decoder.decode(packet)
        assert answer.packet.sequence == packet.sequence
        assert answer.picture is not None
        answer.picture.close()
    decoder.close()


def test_a_surface_is_letterboxed_where_it_lies(engines: tuple[Nvdec, DecoderFigures, Any]) -> None:
    nvdec, _, device = engines
    source = clip("h264", *SIZE)
    decoder = VideoDecoder(source.fmt, LIMITS, nvdec.chooser(source.fmt, LIMITS))
    (answer,) = decoder.decode(source.packets[0])
    assert isinstance(answer.picture, SurfacePicture)
    wanted = np.zeros((160, 160, 3), np.uint8)
    answer.picture.letterbox_into(wanted, FIT)
    given = answer.picture.source(FIT)
    assert given.order is not None
    with device.attached():
        box, stream = DeviceLetterbox(device, 160, 160), device.stream()
        batch, taken = device.allocate(box.slot_bytes), device.pin(box.slot_bytes)
        given.order(stream)
        box.launch(stream, given.surface, batch, 0, given.place, given.colour)
        stream.download(taken, batch, box.slot_bytes)
        stream.synchronize()
        apart = np.abs(taken.array.reshape(160, 160, 3).astype(int) - wanted)
        for thing in (batch, taken, box, stream):
            thing.close()
    given.release()
    answer.picture.close()
    decoder.close()
    assert apart.max() <= 4
    assert apart.mean() <= 0.1


def test_the_gpu_tells_how_many_decoders_it_has(engines: tuple[Nvdec, DecoderFigures, Any]) -> None:
    assert engines[0].engines(0) >= 1
