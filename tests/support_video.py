"""Small encoded streams for the tests of video decoding, and the truth about them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING

import av
import numpy as np
from av.codec.context import Flags

from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.packet import Packet
from vedette_server.decode.limits import PictureLimits
from vedette_server.decode.padded import padded_packet
from vedette_server.decode.video import VideoDecoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vedette_server.decode.base import Decoded

TIME_BASE = Fraction(1, 25)


@dataclass(frozen=True)
class Clip:
    """One encoded stream: its format and its packets in decoding order."""

    fmt: VideoFormat
    packets: tuple[Packet, ...]

    def decoder(self, **changes: object) -> VideoDecoder:
        return VideoDecoder(replace(self.fmt, **changes), PictureLimits(4096, 2160))


@dataclass(frozen=True)
class Recipe:
    """How a stream is encoded."""

    encoder: str
    codec: Codec
    options: tuple[tuple[str, str], ...]
    extradata: bool = False
    frames: int = 30
    pixel_format: str = "yuv420p"


RECIPES = {
    "h264": Recipe("libx264", Codec.H264, (("g", "12"), ("bf", "0"), ("preset", "fast"))),
    "h264-b": Recipe("libx264", Codec.H264, (("g", "12"), ("bf", "3"), ("b-pyramid", "normal"))),
    "h264-b-flat": Recipe(
        "libx264", Codec.H264, (("g", "12"), ("bf", "2"), ("x264-params", "b-pyramid=none:slices=3"))
    ),
    "h264-plain": Recipe("libx264", Codec.H264, (("g", "12"), ("profile", "baseline"), ("x264-params", "slices=2"))),
    "h264-plain-b": Recipe(
        "libx264", Codec.H264, (("g", "12"), ("bf", "2"), ("x264-params", "cabac=0:b-pyramid=none"))
    ),
    "h264-open": Recipe("libx264", Codec.H264, (("g", "10"), ("bf", "3"), ("x264-params", "open-gop=1:min-keyint=10"))),
    "h264-refresh": Recipe("libx264", Codec.H264, (("g", "10"), ("bf", "0"), ("x264-params", "intra-refresh=1"))),
    "h264-interlaced": Recipe("libx264", Codec.H264, (("g", "12"), ("x264-params", "tff=1"))),
    "hevc": Recipe("libx265", Codec.HEVC, (("x265-params", "log-level=none:keyint=12:bframes=0:pools=1"),)),
    "hevc-b": Recipe(
        "libx265", Codec.HEVC, (("x265-params", "log-level=none:keyint=12:bframes=3:open-gop=0:pools=1"),)
    ),
    "hevc-open": Recipe(
        "libx265", Codec.HEVC, (("x265-params", "log-level=none:keyint=10:bframes=3:open-gop=1:pools=1"),)
    ),
    "hevc-layers": Recipe(
        "libx265", Codec.HEVC, (("x265-params", "log-level=none:keyint=16:bframes=3:temporal-layers=3:pools=1"),)
    ),
    "av1": Recipe("libsvtav1", Codec.AV1, (("g", "12"), ("preset", "12"), ("svtav1-params", "pred-struct=1"))),
    "av1-b": Recipe("libsvtav1", Codec.AV1, (("g", "16"), ("preset", "12"))),
    "vp9": Recipe("libvpx-vp9", Codec.VP9, (("g", "12"), ("deadline", "realtime"), ("cpu-used", "8"), ("b", "300k"))),
    "vp9-altref": Recipe(
        "libvpx-vp9", Codec.VP9, (("g", "14"), ("lag-in-frames", "12"), ("auto-alt-ref", "1"), ("b", "300k"))
    ),
    "vp9-layers": Recipe(
        "libvpx-vp9",
        Codec.VP9,
        (
            ("g", "12"),
            ("deadline", "realtime"),
            ("cpu-used", "8"),
            ("b", "300k"),
            ("error-resilient", "1"),
            ("lag-in-frames", "0"),
            (
                "ts-parameters",
                "ts_number_layers=2:ts_target_bitrate=150,300:ts_rate_decimator=2,1:ts_periodicity=2:ts_layer_id=0,1:ts_layering_mode=2",
            ),
        ),
    ),
    "mpeg4": Recipe("mpeg4", Codec.MPEG4, (("g", "12"), ("bf", "0"))),
    "mpeg4-b": Recipe("mpeg4", Codec.MPEG4, (("g", "12"), ("bf", "2"))),
    "h264-mp4": Recipe("libx264", Codec.H264, (("g", "12"), ("bf", "2")), extradata=True),
    "hevc-mp4": Recipe(
        "libx265", Codec.HEVC, (("x265-params", "log-level=none:keyint=12:bframes=2:pools=1"),), extradata=True
    ),
    "av1-mp4": Recipe("libsvtav1", Codec.AV1, (("g", "16"), ("preset", "12")), extradata=True),
    "mpeg4-mp4": Recipe("mpeg4", Codec.MPEG4, (("g", "12"), ("bf", "2")), extradata=True),
}


@cache
def clip(name: str, width: int = 128, height: int = 96) -> Clip:
    """Encode a stream, once per run of the tests."""
    recipe = RECIPES[name]
    if recipe.extradata:
        return _muxed(recipe, width, height)
    encoder = _encoder(recipe, width, height)
    found = []
    for picture in _pictures(recipe.frames, width, height):
        found += encoder.encode(picture)
    found += encoder.encode(None)
    return _clip(recipe.codec, b"", TIME_BASE, found)


def _encoder(recipe: Recipe, width: int, height: int) -> av.VideoCodecContext:
    encoder = av.CodecContext.create(recipe.encoder, "w")
    _set_up(encoder, recipe, width, height)
    return encoder


def _set_up(encoder: av.VideoCodecContext, recipe: Recipe, width: int, height: int) -> None:
    encoder.width, encoder.height, encoder.pix_fmt = width, height, recipe.pixel_format
    encoder.time_base, encoder.framerate, encoder.thread_count = TIME_BASE, Fraction(25), 1
    encoder.options = dict(recipe.options)
    if "tff" in str(recipe.options):
        encoder.flags |= Flags.interlaced_dct | Flags.interlaced_me


def _muxed(recipe: Recipe, width: int, height: int) -> Clip:
    """Encode into an MP4 file, so that the packets are framed as there."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as target:
        stream = target.add_stream(recipe.encoder, rate=25, options=dict(recipe.options))
        stream.width, stream.height, stream.pix_fmt = width, height, recipe.pixel_format
        stream.codec_context.thread_count = 1
        for picture in _pictures(recipe.frames, width, height):
            target.mux(stream.encode(picture))
        target.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer) as source:
        stream = source.streams.video[0]
        packets = [p for p in source.demux(stream) if p.size]
        return _clip(recipe.codec, stream.codec_context.extradata or b"", stream.time_base, packets)


def _clip(codec: Codec, extradata: bytes, time_base: Fraction, packets: Iterable[av.Packet]) -> Clip:
    return Clip(
        VideoFormat(codec, extradata, time_base),
        tuple(
            Packet(number, bytes(p), pts=p.pts, dts=p.dts, duration=p.duration or 1, keyframe=p.is_keyframe)
            for number, p in enumerate(packets)
        ),
    )


def _pictures(count: int, width: int, height: int) -> Iterator[av.VideoFrame]:
    """Draw a textured square over a moving texture: motion, residuals, and no two pictures alike."""
    rng = np.random.default_rng(7)
    ground = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    for index in range(count):
        pixels = np.roll(ground, index, 1)
        x, y = (index * 5) % (width - 32), (index * 3) % (height - 32)
        pixels[y : y + 32, x : x + 32] = rng.integers(0, 64, (32, 32, 3), dtype=np.uint8) + 90
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = index, TIME_BASE
        yield frame


def digest(frame: av.VideoFrame) -> str:
    """Name a picture by its pixels."""
    return hashlib.sha1(np.ascontiguousarray(frame.to_ndarray()).tobytes(), usedforsecurity=False).hexdigest()


@dataclass
class Outcome:
    """What became of the packets of one run, by sequence number, in the order of the answers."""

    order: list[int]
    clean: dict[int, str]
    skipped: dict[int, tuple[str, str]]
    sizes: list[tuple[int, int]]


def collect(answers: Iterable[Decoded]) -> Outcome:
    outcome = Outcome([], {}, {}, [])
    for answer in answers:
        number = answer.packet.sequence
        outcome.order.append(number)
        if answer.picture is not None:
            assert answer.reason is None
            outcome.clean[number] = digest(answer.picture.frame)
            outcome.sizes.append((answer.picture.width, answer.picture.height))
            answer.picture.close()
        else:
            assert answer.reason is not None
            outcome.skipped[number] = (answer.reason.name, answer.detail)
    return outcome


def run(
    source: Clip,
    packets: Iterable[Packet],
    step: Callable[[VideoDecoder, Packet], Iterable[Decoded]] = VideoDecoder.decode,
) -> Outcome:
    """Decode some packets with a fresh decoder; checks that each is answered exactly once."""
    decoder = source.decoder()
    fed, answers = 0, []
    for packet in packets:
        fed += 1
        answers += step(decoder, packet)
    answers += decoder.flush()
    decoder.close()
    outcome = collect(answers)
    assert len(outcome.order) == fed
    assert len(set(outcome.order)) == fed
    return outcome


@cache
def truth(name: str) -> dict[int, str]:
    """Name the pixels of every picture of an undamaged stream, by sequence number."""
    source = clip(name)
    return run(source, source.packets).clean


def plain(source: Clip) -> list[str]:
    """Decode with FFmpeg alone, all defaults but the extradata."""
    names = {Codec.H264: "h264", Codec.HEVC: "hevc", Codec.AV1: "libdav1d", Codec.VP9: "vp9", Codec.MPEG4: "mpeg4"}
    context = av.CodecContext.create(names[source.fmt.codec], "r")
    if source.fmt.extradata:
        context.extradata = source.fmt.extradata
    frames = []
    for packet in source.packets:
        frames += context.decode(padded_packet(packet.data))
    frames += context.decode(None)
    return [digest(frame) for frame in frames]
