"""Which streams GPUs decode, what becomes of those that they cannot, and where the pictures wait.

The library is a fake of PyNvVideoCodec over FFmpeg and a simulated device (`support_nvdec.py`): no hardware ran this.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pytest

from support_nvdec import LIMITS, FakeNvc, hardware
from support_video import RECIPES, Clip, _pictures, clip, collect, digest, truth
from vedette_engines.cuda.base import CudaError
from vedette_engines.cuda.letterboxing import DeviceLetterbox, SurfaceKind
from vedette_engines.errors import MissingRuntimeError
from vedette_server.data.format import Codec, ColorSpace, PixelFormat, VideoFormat
from vedette_server.decode.annexb import AnnexB
from vedette_server.decode.figures import DecoderFigures
from vedette_server.decode.nvdec import import_library
from vedette_server.decode.nvdec_picture import SurfacePicture
from vedette_server.decode.opening import Decoders, open_nvdec
from vedette_server.decode.raw import RawDecoder
from vedette_server.decode.video_picture import VideoPicture
from vedette_server.errors import SettingsError, UndecodableError
from vedette_server.picture.letterbox import Letterbox
from vedette_server.settings import DecodeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from support_nvdec import Hardware
    from vedette_server.picture.source import DeviceSource

FIT = Letterbox(96, 80, "centre")


@pytest.fixture
def gpu() -> Iterator[Hardware]:
    with hardware() as found:
        yield found


def causes(gpu: Hardware) -> dict[str, int]:
    return {cause: count for (_, cause), count in gpu.figures.fallbacks.items() if count}


def open_now(gpu: Hardware) -> set[str]:
    return {decoder for (_, decoder), count in gpu.figures.decoders.items() if count}


# -- falling back -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"codecs": {}}, "codec"),
        ({"codecs": {"H264": (10,)}}, "codec"),
        ({"most": (96, 4096)}, "size"),
        ({"least": (48, 112)}, "size"),
        ({"sessions": 0}, "open"),
        ({"refuse": True}, "open"),
        ({"memory_bytes": 100 << 20}, "memory"),
    ],
)
def test_what_a_gpu_cannot_begin_the_cpu_decodes_without_a_loss(changes: dict[str, Any], cause: str) -> None:
    with hardware(**changes) as gpu:
        outcome = gpu.run(clip("h264-b"), clip("h264-b").packets)
        assert outcome.clean == truth("h264-b")
        assert causes(gpu).keys() == {cause}


def in_layout(layout: str) -> Any:
    """Draw the pictures of streams in another layout."""

    def changed(*arguments: Any) -> Iterator[Any]:
        for frame in _pictures(*arguments):
            made = frame.reformat(format=layout)
            made.pts, made.time_base = frame.pts, frame.time_base
            yield made

    return changed


def test_a_layout_that_no_surface_has_is_decoded_on_the_cpu(gpu: Hardware, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support_video._pictures", in_layout("yuv444p"))
    monkeypatch.setitem(RECIPES, "h264-444", replace(RECIPES["h264"], pixel_format="yuv444p", frames=6))
    source = clip("h264-444")
    assert len(gpu.run(source, source.packets).clean) == 6
    assert causes(gpu) == {"layout": 1}


def test_ten_bits_come_out_as_the_cpu_decodes_them(gpu: Hardware, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support_video._pictures", in_layout("yuv420p10le"))
    monkeypatch.setitem(RECIPES, "hevc-10", replace(RECIPES["hevc"], pixel_format="yuv420p10le", frames=3))
    source = clip("hevc-10")
    decoder, (picture,) = pictures(gpu, source, 1)
    (wanted,) = source.decoder().decode(source.packets[0])
    assert wanted.picture is not None
    expected, on_host = slot(), slot()
    wanted.picture.letterbox_into(expected, FIT)
    picture.letterbox_into(on_host, FIT)
    given = picture.source(FIT)
    assert given.surface.kind is SurfaceKind.P010
    on_device = by_device(gpu, given)
    # FFmpeg's planes are rounded to 10 bits when they are resized, before they are rounded to 8.
    for other, most, mean in ((expected, 6, 0.5), (on_host, 4, 0.1)):
        apart = np.abs(on_device.astype(int) - other)
        assert apart.max() <= most
        assert apart.mean() <= mean
    assert gpu.module.asked == [(0, "HEVC", 10)]
    given.release()
    picture.close()
    decoder.close()


def slot() -> NDArray[np.uint8]:
    return np.zeros((FIT.height, FIT.width, 3), np.uint8)


@pytest.mark.parametrize("name", ["h264", "h264-b", "hevc-b", "vp9", "h264-mp4", "mpeg4"])
@pytest.mark.parametrize("after", [1, 4, 12, 17])
def test_a_session_that_fails_costs_the_pictures_up_to_the_next_keyframe_and_the_cpu_goes_on(
    name: str, after: int
) -> None:
    with hardware(fail_after=lambda _: after) as gpu:
        source = clip(name)
        outcome = gpu.run(source, source.packets)
        expected = truth(name)
        assert {number: expected[number] for number in outcome.clean} == outcome.clean
        keys = [number for number, packet in enumerate(source.packets) if packet.keyframe and number >= after]
        first = next(key for key in keys if key > after or key == after + 1)
        assert set(range(first, 30)) - set(outcome.clean) == set() or "b" in name or name == "h264-mp4"
        assert {reason for reason, _ in outcome.skipped.values()} == {"LOST_REFERENCE"}
        assert any("the decoder failed: cuvid" in detail for _, detail in outcome.skipped.values())
        # It does not try the GPU again.
        assert gpu.module.made == 1
        assert causes(gpu) == {"failed": 1}


def test_a_session_that_cannot_begin_is_tried_once_more_and_not_for_ever() -> None:
    with hardware(sessions=0) as gpu:
        source = clip("h264")
        packets = [replace(packet, discontinuity=packet.sequence in {5, 17}) for packet in source.packets]
        gpu.run(source, packets)
        assert gpu.module.made == 2
        assert causes(gpu) == {"open": 2}


def test_what_decodes_is_counted_and_named(gpu: Hardware) -> None:
    decoder = gpu.decoder(clip("h264"))
    assert open_now(gpu) == {"cpu"}
    for answer in decoder.decode(clip("h264").packets[0]):
        assert answer.picture is not None
        answer.picture.close()
    assert open_now(gpu) == {"nvdec:0"}
    decoder.close()
    decoder.close()
    assert open_now(gpu) == set()


# -- several GPUs -----------------------------------------------------------------------------


def test_streams_go_to_the_gpu_with_the_least_to_decode() -> None:
    with hardware(gpus=3) as gpu:
        decoders = [gpu.decoder(source) for source in [clip("h264", 256, 192), *[clip("h264")] * 6]]
        for decoder in decoders:
            collect(
                decoder.decode(clip("h264", 256, 192).packets[0] if decoder is decoders[0] else clip("h264").packets[0])
            )
        # The large stream weighs as much as four small ones.
        assert dict(gpu.module.open) == {0: 1, 1: 3, 2: 3}
        for decoder in decoders:
            decoder.close()


def test_a_gpu_that_is_full_leaves_a_stream_to_another() -> None:
    with hardware(gpus=2) as gpu:
        first = gpu.module.devices[0]
        memory = first.allocate(first.free_bytes() - (10 << 20))
        decoder = gpu.decoder(clip("h264"))
        collect(decoder.decode(clip("h264").packets[0]))
        assert open_now(gpu) == {"nvdec:1"}
        decoder.close()
        memory.close()


def test_a_gpu_tells_its_decoders_and_is_asked_once_for_each_kind() -> None:
    with hardware(engines=7) as gpu:
        assert gpu.nvdec.engines(0) == 7
        for _ in range(3):
            gpu.run(clip("h264"), clip("h264").packets[:3])
        assert gpu.module.asked == [(0, "H264", 8)]


def test_a_gpu_that_is_lost_costs_what_it_held_and_new_streams_find_the_cpu() -> None:
    with hardware() as gpu:
        decoder, shown = pictures(gpu, clip("h264"), 5)
        gpu.module.devices[0].lose()
        answers = [a for packet in clip("h264").packets[5:] for a in decoder.decode(packet)] + list(decoder.flush())
        decoder.close()
        outcome = collect(answers)
        assert set(outcome.skipped) == set(range(5, 12))
        assert {reason for reason, _ in outcome.skipped.values()} == {"LOST_REFERENCE"}
        with pytest.raises(UndecodableError, match="cannot be read from its GPU"):
            shown[0].letterbox_into(slot(), FIT)
        for picture in shown:
            picture.close()
        assert gpu.run(clip("vp9"), clip("vp9").packets[:3]).clean.keys() == {0, 1, 2}
        assert open_now(gpu) == set()


def test_a_gpu_that_refuses_to_be_attached_to_is_let_go_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with hardware() as gpu:
        decoder, shown = pictures(gpu, clip("h264"), 3)
        device = gpu.module.devices[0]

        def refuse() -> NoReturn:
            raise CudaError("CUDA_ERROR_DEVICE_UNAVAILABLE", "entering the context", sticky=True)

        device.lose()
        monkeypatch.setattr(device, "attached", refuse)
        decoder.close()
        assert gpu.nvdec._gpus[0].sessions == 0
        gpu.nvdec.close()
        for picture in shown:
            picture.close()
        # What cannot be given back is not missed.
        device._open.clear()


# -- where pictures wait ----------------------------------------------------------------------


def pictures(gpu: Hardware, source: Clip, count: int) -> tuple[Any, list[Any]]:
    decoder = gpu.decoder(source)
    return decoder, [a.picture for packet in source.packets[:count] for a in decoder.decode(packet) if a.picture]


def by_device(gpu: Hardware, source: DeviceSource) -> NDArray[np.uint8]:
    device = gpu.module.devices[source.device]
    box, stream = DeviceLetterbox(device, FIT.width, FIT.height, FIT.pad), device.stream()
    batch, taken = device.allocate(box.slot_bytes), device.pin(box.slot_bytes)
    assert source.order is not None
    source.order(stream)
    box.launch(stream, source.surface, batch, 0, source.place, source.colour)
    stream.download(taken, batch, box.slot_bytes)
    stream.synchronize()
    found = taken.array.copy().reshape(FIT.height, FIT.width, 3)
    for thing in (batch, taken, box, stream):
        thing.close()
    return found


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_decoded_surface_is_letterboxed_on_the_device_as_the_cpu_does_its_own(gpu: Hardware, rotation: int) -> None:
    plain = clip("h264")
    source = Clip(replace(plain.fmt, rotation_degrees=rotation, color_space=ColorSpace.BT2020), plain.packets)
    decoder, shown = pictures(gpu, source, 3)
    on_cpu = source.decoder()
    for packet, picture in zip(source.packets, shown, strict=False):
        (answer,) = on_cpu.decode(packet)
        assert answer.picture is not None
        wanted = slot()
        answer.picture.letterbox_into(wanted, FIT)
        given = picture.source(FIT)
        apart = np.abs(by_device(gpu, given).astype(int) - wanted)
        given.release()
        assert apart.max() <= 4
        assert (picture.width, picture.height) == (answer.picture.width, answer.picture.height)
        picture.close()
    decoder.close()


def test_pictures_that_wait_are_not_touched_by_those_that_are_decoded_later(gpu: Hardware) -> None:
    decoder, shown = pictures(gpu, clip("h264"), 30)
    assert gpu.nvdec._gpus[0].pool.held == 30
    expected = list(truth("h264").values())
    decoder.close()
    assert [digest(picture.frame) for picture in shown] == expected
    for picture in shown:
        picture.close()
        picture.close()
    assert gpu.nvdec._gpus[0].pool.held == 0


def test_a_source_outlives_its_picture_until_it_is_released(gpu: Hardware) -> None:
    decoder, (picture,) = pictures(gpu, clip("h264"), 1)
    sources = [picture.source(FIT) for _ in range(2)]
    picture.close()
    pool = gpu.nvdec._gpus[0].pool
    assert pool.held == 1
    first = by_device(gpu, sources[0])
    sources[0].release()
    sources[0].release()
    assert pool.held == 1
    assert np.array_equal(by_device(gpu, sources[1]), first)
    sources[1].release()
    assert pool.held == 0
    with pytest.raises(ValueError, match="closed"):
        picture.source(FIT)
    decoder.close()


def test_memory_is_used_again_and_what_is_beyond_the_bound_waits_on_the_host() -> None:
    with hardware(surface_bytes=2 << 16) as gpu:
        decoder, shown = pictures(gpu, clip("h264"), 6)
        assert [type(picture) for picture in shown] == [SurfacePicture] * 2 + [VideoPicture] * 4
        assert gpu.nvdec._gpus[0].pool.size_bytes == 2 << 16
        assert [digest(picture.frame) for picture in shown] == list(truth("h264").values())[:6]
        for picture in shown:
            picture.close()
        for packet in clip("h264").packets[6:9]:
            for answer in decoder.decode(packet):
                assert isinstance(answer.picture, SurfacePicture)
                answer.picture.close()
        assert gpu.nvdec._gpus[0].pool.size_bytes == 2 << 16
        decoder.close()


def test_memory_that_nobody_looked_at_is_used_again_by_another_stream(gpu: Hardware) -> None:
    """The simulated device forgives no copy into memory that another stream may still write."""
    first, shown = pictures(gpu, clip("h264"), 1)
    shown[0].close()
    second, (picture,) = pictures(gpu, clip("h264"), 1)
    assert gpu.nvdec._gpus[0].pool.size_bytes == 1 << 16
    assert digest(picture.frame) == truth("h264")[0]
    picture.close()
    first.close()
    second.close()


def test_a_gpu_without_memory_left_makes_pictures_wait_on_the_host(gpu: Hardware) -> None:
    decoder, shown = pictures(gpu, clip("h264"), 1)
    device = gpu.module.devices[0]
    rest = device.allocate(device.free_bytes())
    for packet in clip("h264").packets[1:4]:
        shown += [answer.picture for answer in decoder.decode(packet)]
    assert [type(picture) for picture in shown] == [SurfacePicture, *[VideoPicture] * 3]
    for picture in shown:
        picture.close()
    rest.close()
    decoder.close()


# -- framing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["h264-mp4", "hevc-mp4"])
def test_length_prefixes_become_start_codes_and_nothing_else_changes(name: str) -> None:
    source = clip(name)
    framing = AnnexB(source.fmt.codec, source.fmt.extradata)
    bare = Clip(replace(source.fmt, extradata=b""), ())
    stream = [framing.header + framing.packet(source.packets[0].data)]
    stream += [framing.packet(packet.data) for packet in source.packets[1:]]
    assert all(data.startswith(b"\0\0\0\1") for data in stream)
    decoder = bare.decoder()
    answers = [a for data, p in zip(stream, source.packets, strict=True) for a in decoder.decode(replace(p, data=data))]
    assert collect([*answers, *decoder.flush()]).clean == truth(name)


@pytest.mark.parametrize("codec", [Codec.H264, Codec.HEVC])
def test_a_record_that_is_cut_off_gives_the_units_that_are_whole(codec: Codec) -> None:
    source = clip(f"{codec.name.lower()}-mp4")
    for end in range(len(source.fmt.extradata)):
        header = AnnexB(codec, source.fmt.extradata[:end]).header
        assert AnnexB(codec, source.fmt.extradata).header.startswith(header) or end < 23


def test_what_stands_in_start_codes_already_is_left_alone() -> None:
    assert AnnexB(Codec.H264, b"").packet(b"\0\0\1\x65abc") == b"\0\0\1\x65abc"
    assert AnnexB(Codec.AV1, b"\x81\0\0\0obu").header == b"obu"
    assert AnnexB(Codec.MPEG4, b"vol").header == b"vol"
    assert AnnexB(Codec.VP9, b"vpcC").header == b""


# -- settings ---------------------------------------------------------------------------------


def missing() -> Any:
    raise MissingRuntimeError("PyNvVideoCodec cannot be imported")


@pytest.mark.parametrize(
    ("device", "letterboxes", "gpus", "opens"),
    [
        ("cpu", True, (0,), False),
        ("auto", False, (0,), False),
        ("auto", True, (0,), True),
        ("auto", True, (), False),
        ("nvdec", False, (0, 1), True),
    ],
)
def test_the_setting_says_where_video_is_decoded(
    device: str, letterboxes: bool, gpus: tuple[int, ...], opens: bool
) -> None:
    made = open_nvdec(
        DecodeSettings(device=device),
        DecoderFigures(),
        lambda: gpus,
        missing,
        letterboxes=letterboxes,
        load=lambda: FakeNvc({}),
    )
    assert (made is not None) == opens


@pytest.mark.parametrize(("gpus", "load", "reason"), [((0,), missing, "cannot be imported"), ((), object, "no GPU")])
def test_a_server_that_must_decode_on_gpus_says_at_once_that_it_cannot(gpus: Any, load: Any, reason: str) -> None:
    def open_it(device: str) -> Any:
        settings = DecodeSettings(device=device)
        return open_nvdec(settings, DecoderFigures(), lambda: gpus, missing, letterboxes=True, load=load)

    assert open_it("auto") is None
    with pytest.raises(SettingsError, match=f"decode.device is nvdec: .*{reason}"):
        open_it("nvdec")


def test_a_library_that_does_not_load_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)
    with pytest.raises(MissingRuntimeError, match="extra `nvdec`"):
        import_library()


def test_only_channels_whose_pictures_go_to_a_device_are_decoded_on_one(gpu: Hardware) -> None:
    source = clip("h264")
    for always, on_device, decoder_name in ((False, False, "cpu"), (False, True, "nvdec:0"), (True, False, "nvdec:0")):
        decoders = Decoders(LIMITS, gpu.figures, gpu.nvdec, always=always)
        decoder = decoders.open(source.fmt, on_device=on_device)
        collect(decoder.decode(source.packets[0]))
        assert open_now(gpu) == {decoder_name}
        decoder.close()
        assert open_now(gpu) == set()


def test_stills_and_raw_pictures_have_no_video_decoder(gpu: Hardware) -> None:
    decoders = Decoders(LIMITS, gpu.figures, gpu.nvdec, always=True)
    fmt = VideoFormat(Codec.RAW, width=4, height=4, pixel_format=PixelFormat.BGR24)
    assert isinstance(decoders.open(fmt), RawDecoder)
    assert open_now(gpu) == set()
