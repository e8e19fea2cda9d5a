"""What a server says to bad input, while a good camera beside it notices nothing."""

from __future__ import annotations

import asyncio
import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from PIL import Image

import support_video
from support_streams import HEIGHT, WIDTH, Outcome, outcome
from support_wire import Refused, Wire, grey_config, grey_packet, session_of
from vedette.v1 import media_pb2, stream_pb2
from vedette_client import Client, Policy, SkipReason, SourceError
from vedette_client.sources import open_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from support_serving import ServerProcess

GOOD = "synthetic:blobs?bframes=2&gop=12&seconds=2.4&width=128&height=96&count=2&fps=15"
INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
TOO_MUCH = grpc.StatusCode.RESOURCE_EXHAUSTED


async def good_camera(server: ServerProcess, channel: str) -> Outcome:
    async with Client(server.address) as client:
        source = open_source(GOOD, pace=False)
        wanted = client.analyze(source, channel, engines=["blobs"], policy=Policy.EVERY_FRAME)
        return outcome([verdict async for verdict in wanted])


@pytest.fixture(scope="module")
def good() -> dict[str, Outcome]:
    return {}


@pytest.fixture(autouse=True)
async def beside(
    quick_server: ServerProcess, good: dict[str, Outcome], request: pytest.FixtureRequest
) -> AsyncIterator[None]:
    """A good camera streams during every test here, and gets what it got alone."""
    if not good:
        good["alone"] = await good_camera(quick_server, "good-alone")
        assert all(reason is None and found for _, reason, found in good["alone"].values())
    camera = asyncio.create_task(good_camera(quick_server, f"good-{abs(hash(request.node.name))}"))
    yield
    assert await camera == good["alone"]


async def refusal(server: ServerProcess, act: Callable[[Wire], Awaitable[object]], **options: Any) -> Refused:
    """Do something that ends the call, and return how."""
    async with Wire(server.address, options.pop("channel", "bad"), **options) as wire:
        with pytest.raises(Refused) as caught:
            await act(wire)
            await wire.hear_all()
        assert len(caught.value.reasons) == 1
        return caught.value


def configured(**fields: Any) -> Callable[[Wire], Awaitable[object]]:
    return lambda wire: wire.open(grey_config("bad", **fields))


def after_config(*packets: stream_pb2.Packet, **fields: Any) -> Callable[[Wire], Awaitable[object]]:
    async def act(wire: Wire) -> None:
        await wire.open(grey_config("bad", takeover=True))
        await wire.say(packets=packets, **fields)

    return act


def two_messages(first: dict[str, Any], second: dict[str, Any]) -> Callable[[Wire], Awaitable[object]]:
    async def act(wire: Wire) -> None:
        await wire.open(grey_config("bad", takeover=True))
        await wire.say(**first)
        await wire.say(**second)

    return act


def fmt(**fields: Any) -> media_pb2.VideoFormat:
    return media_pb2.VideoFormat(**fields)


async def half_close(wire: Wire) -> None:
    await wire.call.done_writing()


def update(path: str, **fields: Any) -> stream_pb2.UpdateConfig:
    asked = stream_pb2.UpdateConfig(config=stream_pb2.StreamConfig(**fields))
    asked.update_mask.paths.append(path)
    return asked


ONE = grey_packet(0)
REFUSALS: dict[str, tuple[Callable[[Wire], Awaitable[object]], grpc.StatusCode, str]] = {
    "packets before a config": (lambda wire: wire.say(packets=[ONE]), INVALID, "CONFIG_MISSING"),
    "a heartbeat before a config": (lambda w: w.say(heartbeat=stream_pb2.Heartbeat()), INVALID, "CONFIG_MISSING"),
    "nothing at all": (half_close, INVALID, "CONFIG_MISSING"),
    "a first message over the limit": (
        lambda wire: wire.say(config=grey_config("bad"), packets=[grey_packet(0, data=bytes(9 << 20))]),
        TOO_MUCH,
        "MESSAGE_TOO_LARGE",
    ),
    "a capture time beyond all years": (
        after_config(grey_packet(0, capture_time={"seconds": 1 << 62})),
        INVALID,
        "INVALID_CAPTURE_TIME",
    ),
    "packets beside the config": (
        lambda wire: wire.say(config=grey_config("bad"), packets=[ONE]),
        INVALID,
        "CONFIG_MISSING",
    ),
    "the config twice": (after_config(config=grey_config("bad")), INVALID, "CONFIG_TWICE"),
    "an unknown engine": (configured(engine="nobody"), MISSING, "ENGINE_NOT_FOUND"),
    "an engine's name with a path in it": (configured(engine="../blobs"), INVALID, "INVALID_ENGINES"),
    "an unknown version": (
        configured(engines=[stream_pb2.EngineRef(name="gauge", version="99")]),
        MISSING,
        "ENGINE_NOT_FOUND",
    ),
    "no engine": (configured(engines=[]), INVALID, "INVALID_ENGINES"),
    "no codec": (configured(format=fmt()), INVALID, "UNKNOWN_CODEC"),
    "an unknown codec": (configured(format=fmt(codec=99)), INVALID, "UNKNOWN_CODEC"),
    "a frame over the limit in the config": (
        configured(format=fmt(codec=media_pb2.CODEC_H264, width=100_000)),
        TOO_MUCH,
        "PICTURE_TOO_LARGE",
    ),
    "a bad channel name": (configured(channel="channels/a b"), INVALID, "INVALID_CHANNEL"),
    "a channel name that is too long": (configured(channel="channels/" + "a" * 129), INVALID, "INVALID_CHANNEL"),
    "a channel without its prefix": (configured(channel="bad"), INVALID, "INVALID_CHANNEL"),
    "an unknown class": (configured(classes=["unicorn"]), INVALID, "UNKNOWN_CLASS"),
    "a packet that is left out": (after_config(grey_packet(1)), INVALID, "SEQUENCE_OUT_OF_ORDER"),
    "a sequence that goes backwards": (
        two_messages({"packets": [ONE, grey_packet(1)]}, {"packets": [ONE]}),
        INVALID,
        "SEQUENCE_OUT_OF_ORDER",
    ),
    "a gap": (two_messages({"packets": [ONE]}, {"packets": [grey_packet(2)]}), INVALID, "SEQUENCE_OUT_OF_ORDER"),
    "an acknowledgement ahead": (
        after_config(ack_verdicts=stream_pb2.AckVerdicts(through_index=3)),
        INVALID,
        "ACK_AHEAD",
    ),
    "a second fragment first": (
        after_config(grey_packet(0, fragment_index=1, last_fragment=2)),
        INVALID,
        "FRAGMENT_OUT_OF_ORDER",
    ),
    "a fragment left out": (
        after_config(grey_packet(0, last_fragment=2), grey_packet(0, fragment_index=2, last_fragment=2)),
        INVALID,
        "FRAGMENT_OUT_OF_ORDER",
    ),
    "a packet between fragments": (
        after_config(grey_packet(0, last_fragment=2), grey_packet(1)),
        INVALID,
        "FRAGMENT_OUT_OF_ORDER",
    ),
    "an update of nothing": (
        after_config(update_config=stream_pb2.UpdateConfig()),
        INVALID,
        "INVALID_UPDATE_MASK",
    ),
    "an update of the codec": (after_config(update_config=update("format")), INVALID, "INVALID_UPDATE_MASK"),
    "an update to an unknown class": (
        after_config(update_config=update("classes", classes=["unicorn"])),
        INVALID,
        "UNKNOWN_CLASS",
    ),
    "more packets than credits": (
        after_config(*[grey_packet(number) for number in range(300)]),
        TOO_MUCH,
        "CREDIT_EXCEEDED",
    ),
    "a message over the limit": (
        after_config(grey_packet(0, data=bytes(5 << 20)), grey_packet(1, data=bytes(5 << 20))),
        TOO_MUCH,
        "MESSAGE_TOO_LARGE",
    ),
    "fragments over the limit of a packet": (
        two_messages(
            {"packets": [grey_packet(0, data=bytes(5 << 20), last_fragment=1)]},
            {"packets": [grey_packet(0, data=bytes(5 << 20), fragment_index=1, last_fragment=1)]},
        ),
        TOO_MUCH,
        "PACKET_TOO_LARGE",
    ),
    "a token that is too long": (
        configured(resume=stream_pb2.Resume(session_token="x" * 257)),
        INVALID,
        "INVALID_RESUME",
    ),
    "a resume beyond all numbers": (
        configured(resume=stream_pb2.Resume(session_token="x", next_verdict_index=1 << 63)),
        INVALID,
        "INVALID_RESUME",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_bad_input_ends_its_call_with_a_code_and_one_reason(quick_server: ServerProcess, case: str) -> None:
    act, code, reason = REFUSALS[case]
    refused = await refusal(quick_server, act)
    assert (refused.code, refused.reasons) == (code, [reason])


@pytest.mark.parametrize("metadata", [(), (("x-vedette-channel", "channels/other"),), (("x-vedette-channel", "bad"),)])
async def test_metadata_must_name_the_channel(
    quick_server: ServerProcess, metadata: tuple[tuple[str, str], ...]
) -> None:
    refused = await refusal(quick_server, configured(), metadata=metadata)
    assert (refused.code, refused.reasons) == (INVALID, ["CHANNEL_METADATA_MISMATCH"])


async def test_a_token_of_another_channel_does_not_resume(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "mine") as wire:
        token = (await wire.open(grey_config("mine"))).session_token
        refused = await refusal(quick_server, configured(resume=stream_pb2.Resume(session_token=token)))
        assert (refused.code, refused.reasons) == (INVALID, ["RESUME_MISMATCH"])


async def test_a_message_beyond_what_the_transport_bears_ends_its_call_only(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "huge") as wire:
        await wire.open(grey_config("huge"))
        with pytest.raises(Refused) as caught:
            await wire.say(packets=[grey_packet(0, data=bytes(40 << 20))])
            await wire.hear_all()
    assert caught.value.code is TOO_MUCH


# -- pictures beyond the limit ------------------------------------------------------------------------


def png_bomb() -> bytes:
    """A PNG of 30000 x 30000 that is a few bytes long."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def jpeg(side: int = 64, value: int = 100, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (value, value, value)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def jpeg_bomb() -> bytes:
    """A JPEG whose header says 60000 x 60000."""
    small = jpeg()
    at = small.index(b"\xff\xc0") + 5
    return small[:at] + struct.pack(">HH", 60_000, 60_000) + small[at + 4 :]


def wide_video() -> bytes:
    """The first access unit of an H.264 stream that is 8320 pixels wide."""
    return support_video.clip("h264", 8320, 64).packets[0].data


@pytest.mark.parametrize(
    ("codec", "bomb"),
    [(media_pb2.CODEC_PNG, png_bomb), (media_pb2.CODEC_JPEG, jpeg_bomb), (media_pb2.CODEC_H264, wide_video)],
    ids=["png", "jpeg", "h264"],
)
async def test_a_picture_over_the_limit_ends_its_call_and_keeps_its_account(
    quick_server: ServerProcess, codec: media_pb2.Codec.ValueType, bomb: Callable[[], bytes]
) -> None:
    data = bomb()
    channel = f"bomb-{codec}"
    async with Wire(quick_server.address, channel) as wire:
        await wire.open(grey_config(channel, format=fmt(codec=codec)))
        await wire.say(packets=[grey_packet(0, data=data)])
        with pytest.raises(Refused) as caught:
            await wire.hear_all()
        assert (caught.value.code, caught.value.reasons) == (TOO_MUCH, ["PICTURE_TOO_LARGE"])
        assert [v.skip.reason for v in wire.verdicts] == [SkipReason.UNDECODABLE]

    session = await session_of(quick_server.address, channel)
    assert session.end_reason == "PICTURE_TOO_LARGE"
    assert (session.account.packets_received, session.account.packets_pending) == (1, 0)


# -- broken packets: the stream goes on ----------------------------------------------------------------


async def reasons(server: ServerProcess, channel: str, codec: int, data: list[tuple[bytes, bool]]) -> list[int]:
    """Send packets (bytes, keyframe) and return why each was skipped, 0: it was analysed."""
    async with Wire(server.address, channel) as wire:
        await wire.open(grey_config(channel, format=fmt(codec=media_pb2.Codec.ValueType(codec))))
        packets = [grey_packet(n, data=part, keyframe=key) for n, (part, key) in enumerate(data)]
        await wire.say(packets=packets)
        account = await wire.finish()
        assert account.packets_received == len(data)
        assert sum(entry.count for entry in account.skipped) + account.analysed == len(data)
        by_sequence = sorted(wire.verdicts, key=lambda verdict: verdict.sequence)
        return [verdict.skip.reason for verdict in by_sequence]


async def test_a_truncated_still_costs_its_frame(quick_server: ServerProcess) -> None:
    whole = jpeg()
    sent = [(part, True) for part in (whole, whole[: len(whole) // 2], b"", b"no picture", whole)]
    told = await reasons(quick_server, "stills", media_pb2.CODEC_JPEG, sent)
    assert told == [0, *[SkipReason.UNDECODABLE] * 3, 0]


async def test_garbage_costs_what_hangs_on_it_and_the_next_keyframe_heals(quick_server: ServerProcess) -> None:
    packets = support_video.clip("h264").packets
    keys = [number for number, packet in enumerate(packets) if packet.keyframe]
    broken = keys[0] + 4
    sent = [(bytes(range(200)) if n == broken else p.data, p.keyframe) for n, p in enumerate(packets)]
    told = await reasons(quick_server, "garbage", media_pb2.CODEC_H264, sent)
    assert told[:broken] == [0] * broken
    assert told[broken] == SkipReason.UNDECODABLE
    assert told[broken + 1 : keys[1]] == [SkipReason.LOST_REFERENCE] * (keys[1] - broken - 1)
    assert told[keys[1] :] == [0] * (len(packets) - keys[1])


async def test_a_lost_reference_is_told_until_the_next_keyframe(quick_server: ServerProcess) -> None:
    packets = list(support_video.clip("h264").packets)
    keys = [number for number, packet in enumerate(packets) if packet.keyframe]
    del packets[keys[0] + 5]
    told = await reasons(
        quick_server, "lost", media_pb2.CODEC_H264, [(packet.data, packet.keyframe) for packet in packets]
    )
    assert told == [0] * 5 + [SkipReason.LOST_REFERENCE] * (keys[1] - 6) + [0] * (len(packets) + 1 - keys[1])


async def test_raw_pictures_of_the_wrong_size_cost_their_frames(quick_server: ServerProcess) -> None:
    async with Wire(quick_server.address, "raw") as wire:
        await wire.open(grey_config("raw"))
        sizes = [WIDTH * HEIGHT, 10, WIDTH * HEIGHT + 1, 0, WIDTH * HEIGHT]
        await wire.say(packets=[grey_packet(n, data=bytes([9]) * size) for n, size in enumerate(sizes)])
        account = await wire.finish()
    assert [v.skip.reason for v in wire.verdicts] == [0, *[SkipReason.UNDECODABLE] * 3, 0]
    assert account.analysed == 2


async def test_broken_files_have_a_clear_end_each(quick_server: ServerProcess, assets: Path) -> None:
    """None of them takes the server, or the camera beside it, along."""
    files = sorted((assets / "broken").iterdir())
    assert files
    for number, path in enumerate(files):
        async with Client(quick_server.address) as client:
            source = open_source(str(path), pace=False)
            wanted = client.analyze(source, f"broken-{number}", engines=["blobs"], policy=Policy.EVERY_FRAME)
            try:
                async with asyncio.timeout(30):
                    verdicts = [verdict async for verdict in wanted]
            except SourceError as error:
                assert str(path) in str(error)
                continue
        assert verdicts, path
        assert len({verdict.sequence for verdict in verdicts}) == len(verdicts)
