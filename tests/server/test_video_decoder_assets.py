"""The video decoder on the clips and the broken files of the test material."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from support_video import collect, digest
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.packet import Packet
from vedette_server.decode.limits import PictureLimits
from vedette_server.decode.video import VideoDecoder

ASSETS = Path(__file__).resolve().parents[2].parent / "shared" / "assets"
CODECS = {"h264": Codec.H264, "hevc": Codec.HEVC}
BROKEN = {
    "car_truncated_60pct.mp4": (220, set()),
    "car_ts_loss2pct.ts": (376, {"UNDECODABLE", "LOST_REFERENCE"}),
    "no_idr_no_sps.h264": (49, {"UNDECODABLE"}),
    "resolution_change_480x270_to_1280x720.h264": (100, set()),
    "single_frame.mp4": (1, set()),
}


def _clips() -> list[str]:
    found = sorted((ASSETS / "clips").glob("*")) if ASSETS.exists() else []
    return [path.name for path in found if "mjpeg" not in path.name]


needs_assets = pytest.mark.skipif(not ASSETS.exists(), reason="the test material ../shared/assets is absent")


def _decode(path: Path) -> tuple[int, list, list[str]]:
    with av.open(str(path)) as source:
        stream = source.streams.video[0]
        fmt = VideoFormat(CODECS[stream.codec_context.name], stream.codec_context.extradata or b"", stream.time_base)
        decoder = VideoDecoder(fmt, PictureLimits())
        fed, answers = 0, []
        for packet in source.demux(stream):
            if not packet.size:
                continue
            answers += decoder.decode(
                Packet(fed, bytes(packet), pts=packet.pts, dts=packet.dts, duration=packet.duration)
            )
            fed += 1
        answers += decoder.flush()
        digests = [digest(answer.picture.frame) for answer in answers if answer.picture is not None]
    return fed, answers, digests


@needs_assets
@pytest.mark.parametrize("name", _clips())
def test_every_packet_of_a_clip_shows_the_picture_that_plain_pyav_shows(name: str) -> None:
    fed, answers, digests = _decode(ASSETS / "clips" / name)
    with av.open(str(ASSETS / "clips" / name)) as source:
        expected = [digest(frame) for frame in source.decode(video=0)]
    assert digests == expected
    assert len(answers) == fed
    assert len({answer.packet.sequence for answer in answers}) == fed


@needs_assets
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_has_a_clear_outcome(name: str) -> None:
    packets, reasons = BROKEN[name]
    fed, answers, _ = _decode(ASSETS / "broken" / name)
    outcome = collect(answers)
    assert fed == packets == len(outcome.order) == len(set(outcome.order))
    assert {reason for reason, _ in outcome.skipped.values()} == reasons
    assert all(detail for _, detail in outcome.skipped.values())


@needs_assets
@pytest.mark.parametrize("name", ["garbage_random.mp4", "empty.mp4", "jpeg_named_mp4.mp4"])
@pytest.mark.parametrize("codec", [Codec.H264, Codec.HEVC, Codec.AV1, Codec.VP9, Codec.MPEG4])
def test_a_file_that_is_no_video_fed_as_packets_is_undecodable_or_shows_nothing(name: str, codec: Codec) -> None:
    data = (ASSETS / "broken" / name).read_bytes()
    decoder = VideoDecoder(VideoFormat(codec), PictureLimits())
    pieces = [data[at : at + 5000] for at in range(0, len(data), 5000)] or [b""]
    answers = [a for number, piece in enumerate(pieces) for a in decoder.decode(Packet(number, piece))]
    outcome = collect([*answers, *decoder.flush()])
    assert sorted(outcome.order) == list(range(len(pieces)))
    assert not outcome.clean
