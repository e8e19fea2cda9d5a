"""ChannelService, asked over real calls."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from google.protobuf import field_mask_pb2, timestamp_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from psutil import Process

from support_channels import SECRET_URL, SHOWN_URL, WAIT_S, Parts, catalogue_of, channel_server, record_of
from vedette.v1 import channel_pb2 as pb
from vedette.v1 import channel_pb2_grpc
from vedette_server.channels.seams import Recorded
from vedette_server.channels.status import ChannelStatusView
from vedette_server.data.channel import RecordingConfig
from vedette_server.data.rules import EvidencePolicy
from vedette_server.errors import EvidenceError, NotFoundError
from vedette_server.rpc import channel_service
from vedette_server.rpc.convert_channel import record_to_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from vedette_server.channels.catalogue import ChannelCatalogue

TOKENS = """
[[tokens]]
name = "camera"
token = "camera-secret"
channels = ["*"]
permissions = ["publish"]

[[tokens]]
name = "desk"
token = "desk-secret"
channels = ["gate-*"]
permissions = ["watch"]

[[tokens]]
name = "keeper"
token = "keeper-secret"
channels = ["gate-*"]
permissions = ["watch", "administer"]
"""
NOON = timestamp_pb2.Timestamp(seconds=1_700_000_000, nanos=500_000_000)


@pytest.fixture
def catalogue(tmp_path: Path) -> ChannelCatalogue:
    return catalogue_of(tmp_path / "channels.json")


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.toml"
    file.write_text(TOKENS)
    return file


@asynccontextmanager
async def asking(
    catalogue: ChannelCatalogue, parts: Parts, tokens: Path | None = None, patience_s: float = WAIT_S
) -> AsyncIterator[Any]:
    async with (
        channel_server(catalogue, parts, tokens, patience_s) as (address, _),
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield channel_pb2_grpc.ChannelServiceStub(channel)


def as_who(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {name}-secret"),)


async def refusal(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    """Await a call that must fail; tell its code and its one reason."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    rich = rpc_status.from_call(caught.value)
    assert rich is not None
    assert len(rich.details) == 1
    info = error_details_pb2.ErrorInfo()
    assert rich.details[0].Unpack(info)
    return caught.value.code(), info.reason


def wire_of(name: str = "gate", url: str = "") -> pb.Channel:
    return record_to_wire(record_of(name, url))


def update_of(channel: pb.Channel, *paths: str) -> pb.UpdateChannelRequest:
    return pb.UpdateChannelRequest(channel=channel, update_mask=field_mask_pb2.FieldMask(paths=paths))


# -- making and changing --


async def test_a_channel_is_made_read_changed_and_deleted(catalogue: ChannelCatalogue, parts: Parts) -> None:
    async with asking(catalogue, parts) as stub:
        made = (await stub.CreateChannel(pb.CreateChannelRequest(channel=wire_of()))).channel
        assert (made.name, made.revision, made.rules[0].dwell.at_least.seconds) == ("channels/gate", 1, 30)
        assert made.HasField("create_time")
        assert (await stub.GetChannel(pb.GetChannelRequest(name="channels/gate"))).channel == made
        made.display_name, made.rules[0].name = "Gate", "lingering"
        changed = (await stub.UpdateChannel(update_of(made))).channel
        assert (changed.display_name, changed.rules[0].name, changed.revision) == ("Gate", "lingering", 2)
        await stub.DeleteChannel(pb.DeleteChannelRequest(name="channels/gate"))
        code, reason = await refusal(stub.GetChannel(pb.GetChannelRequest(name="channels/gate")))
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_CHANNEL")
    assert parts.forgotten == ["gate"]


async def test_only_what_the_mask_names_is_changed_or_even_looked_at(catalogue: ChannelCatalogue, parts: Parts) -> None:
    catalogue.create(record_of())
    new = pb.Channel(name="channels/gate", display_name="Gate", masks=[pb.MaskArea()], time_zone="Mars")
    async with asking(catalogue, parts) as stub:
        changed = (await stub.UpdateChannel(update_of(new, "display_name"))).channel
        assert (changed.display_name, changed.time_zone, len(changed.rules)) == ("Gate", "UTC", 1)
        assert await refusal(stub.UpdateChannel(update_of(new, "time_zone"))) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_TIME_ZONE",
        )
        everything = (await stub.UpdateChannel(update_of(pb.Channel(name="channels/gate"), "*"))).channel
    assert len(everything.rules) == 0


async def test_a_password_is_never_sent_back_and_survives_an_update(catalogue: ChannelCatalogue, parts: Parts) -> None:
    channel = wire_of()
    channel.source.url = SECRET_URL
    channel.source.stream.engines.add(name="person")
    async with asking(catalogue, parts) as stub:
        answers = [(await stub.CreateChannel(pb.CreateChannelRequest(channel=channel))).channel]
        answers.append((await stub.GetChannel(pb.GetChannelRequest(name="channels/gate"))).channel)
        answers.extend((await stub.ListChannels(pb.ListChannelsRequest())).channels)
        answers[-1].display_name = "Gate"
        answers.append((await stub.UpdateChannel(update_of(answers[-1]))).channel)
    assert [answer.source.url for answer in answers] == [SHOWN_URL] * 4
    kept = catalogue.get("gate")
    assert kept is not None
    assert kept.source is not None
    assert kept.source.url == SECRET_URL


@pytest.mark.parametrize(
    ("spoil", "code", "reason"),
    [
        (lambda wire: wire.zones[0].vertices.add(x=2, y=0), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ZONE"),
        (lambda wire: wire.rules[0].ClearField("dwell"), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_RULE"),
        (lambda wire: wire.rules.add(name="r").enter.SetInParent(), None, ""),
        (lambda wire: setattr(wire.rules[0].dwell, "zone", "x"), grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_ZONE"),
        (lambda wire: setattr(wire.source, "url", "x://y"), grpc.StatusCode.INVALID_ARGUMENT, "SOURCE_NOT_ALLOWED"),
        (lambda wire: setattr(wire, "name", "gate"), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_CHANNEL"),
        (lambda wire: setattr(wire, "name", "channels/taken"), grpc.StatusCode.ALREADY_EXISTS, "CHANNEL_EXISTS"),
    ],
)
async def test_a_bad_channel_is_refused_with_its_reason(
    catalogue: ChannelCatalogue, parts: Parts, spoil: Callable[[pb.Channel], None], code: Any, reason: str
) -> None:
    catalogue.create(record_of("taken"))
    wire = wire_of()
    spoil(wire)
    async with asking(catalogue, parts) as stub:
        call = stub.CreateChannel(pb.CreateChannelRequest(channel=wire))
        if code is None:
            await call
        else:
            assert await refusal(call) == (code, reason)
    assert (catalogue.get("gate") is not None) == (code is None)


async def test_an_outdated_update_and_one_of_the_file_are_refused(tmp_path: Path, parts: Parts) -> None:
    file = tmp_path / "channels.toml"
    file.write_text('[[channels]]\nname = "filed"')
    catalogue = catalogue_of(None, file)
    made = catalogue.create(record_of())
    catalogue.update(replace(made, display_name="x"))
    async with asking(catalogue, parts) as stub:
        outdated = update_of(record_to_wire(replace(made, display_name="y")))
        assert await refusal(stub.UpdateChannel(outdated)) == (grpc.StatusCode.ABORTED, "CHANNEL_CHANGED")
        filed = (await stub.GetChannel(pb.GetChannelRequest(name="channels/filed"))).channel
        assert filed.status.from_file
        from_file = grpc.StatusCode.FAILED_PRECONDITION, "CHANNEL_FROM_FILE"
        filed.display_name = "x"
        assert await refusal(stub.UpdateChannel(update_of(filed))) == from_file
        assert await refusal(stub.DeleteChannel(pb.DeleteChannelRequest(name="channels/filed"))) == from_file
        assert await refusal(stub.DeleteChannel(pb.DeleteChannelRequest(name="channels/none"))) == (
            grpc.StatusCode.NOT_FOUND,
            "UNKNOWN_CHANNEL",
        )
    assert parts.forgotten == []


# -- looking --


async def test_a_channel_that_only_streams_is_told_by_its_status(catalogue: ChannelCatalogue, parts: Parts) -> None:
    parts.statuses["lobby"] = ChannelStatusView(connected=True, session="channels/lobby/sessions/s1")
    catalogue.create(record_of())
    async with asking(catalogue, parts) as stub:
        found = (await stub.GetChannel(pb.GetChannelRequest(name="channels/lobby"))).channel
        listed = (await stub.ListChannels(pb.ListChannelsRequest())).channels
    assert {field.name for field, _ in found.ListFields()} == {"name", "status"}
    assert (found.status.connected, found.status.session) == (True, "channels/lobby/sessions/s1")
    assert [(one.name, one.status.connected) for one in listed] == [("channels/gate", False), ("channels/lobby", True)]


async def test_pages_together_are_the_whole_list_also_when_channels_go_meanwhile(
    catalogue: ChannelCatalogue, parts: Parts
) -> None:
    for name in "abcdefg":
        catalogue.create(record_of(name))
    seen, token = [], ""
    async with asking(catalogue, parts) as stub:
        for turn in range(4):
            answer = await stub.ListChannels(pb.ListChannelsRequest(page_size=2, page_token=token))
            seen += [one.name.removeprefix("channels/") for one in answer.channels]
            token = answer.next_page_token
            if turn == 1:
                # The last of the page before: the next page begins behind it all the same.
                catalogue.delete("d")
    assert (seen, token) == (list("abcdefg"), "")


async def test_a_page_is_no_larger_than_a_client_takes(
    catalogue: ChannelCatalogue, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_service, "PAGE_BYTES", 100)
    for name in "abc":
        catalogue.create(record_of(name))
    async with asking(catalogue, parts) as stub:
        answer = await stub.ListChannels(pb.ListChannelsRequest())
    assert ([one.name for one in answer.channels], answer.next_page_token) == (["channels/a"], "channels/a")


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ({"page_size": -1}, "INVALID_PAGE_SIZE"),
        ({"page_size": 1001}, "INVALID_PAGE_SIZE"),
        ({"page_token": "x"}, "INVALID_PAGE_TOKEN"),
    ],
)
async def test_a_page_that_cannot_be_is_refused(
    catalogue: ChannelCatalogue, parts: Parts, page: dict[str, Any], reason: str
) -> None:
    async with asking(catalogue, parts) as stub:
        told = await refusal(stub.ListChannels(pb.ListChannelsRequest(**page)))
    assert told == (grpc.StatusCode.INVALID_ARGUMENT, reason)


async def test_who_may_watch_sees_what_it_may_watch_and_changes_nothing(
    catalogue: ChannelCatalogue, parts: Parts, tokens: Path
) -> None:
    for name in ("gate-1", "gate-2", "yard"):
        catalogue.create(record_of(name))
    denied = grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"
    desk = as_who("desk")
    async with asking(catalogue, parts, tokens) as stub:
        listed = await stub.ListChannels(pb.ListChannelsRequest(), metadata=desk)
        assert [one.name for one in listed.channels] == ["channels/gate-1", "channels/gate-2"]
        await stub.GetChannel(pb.GetChannelRequest(name="channels/gate-1"), metadata=desk)
        calls = [
            stub.GetChannel(pb.GetChannelRequest(name="channels/yard"), metadata=desk),
            stub.GetChannel(pb.GetChannelRequest(name="channels/none"), metadata=desk),
            stub.GetSnapshot(pb.GetSnapshotRequest(name="channels/yard"), metadata=desk),
            stub.GetRecording(pb.GetRecordingRequest(name="channels/yard", time=NOON), metadata=desk).read(),
            stub.CreateChannel(pb.CreateChannelRequest(channel=wire_of("gate-3")), metadata=desk),
            stub.UpdateChannel(update_of(wire_of("gate-1")), metadata=desk),
            stub.DeleteChannel(pb.DeleteChannelRequest(name="channels/gate-1"), metadata=desk),
            stub.DeleteChannel(pb.DeleteChannelRequest(name="channels/yard"), metadata=as_who("keeper")),
            stub.ListChannels(pb.ListChannelsRequest(), metadata=as_who("camera")),
        ]
        assert [await refusal(call) for call in calls] == [denied] * len(calls)
        assert await refusal(stub.ListChannels(pb.ListChannelsRequest())) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "NO_TOKEN",
        )
        await stub.DeleteChannel(pb.DeleteChannelRequest(name="channels/gate-1"), metadata=as_who("keeper"))
    assert [record.name for record in catalogue.records()] == ["gate-2", "yard"]


# -- pictures --


async def test_the_latest_picture_is_given_as_it_was_asked_for(catalogue: ChannelCatalogue, parts: Parts) -> None:
    asked = []

    def take(*how: Any) -> tuple[bytes, float]:
        asked.append(how)
        return b"\xff\xd8picture", 12.25

    parts.pictures = take
    catalogue.create(record_of())
    async with asking(catalogue, parts) as stub:
        request = pb.GetSnapshotRequest(name="channels/gate", annotated=True, max_width=320)
        answer = await stub.GetSnapshot(request)
    assert asked == [("gate", True, 320)]
    assert (answer.jpeg, answer.time.seconds, answer.time.nanos) == (b"\xff\xd8picture", 12, 250_000_000)


async def test_no_picture_is_shown_of_a_channel_that_shows_none(catalogue: ChannelCatalogue, parts: Parts) -> None:
    record = record_of()
    catalogue.create(replace(record, watch=replace(record.watch, evidence=EvidencePolicy.NONE)))
    async with asking(catalogue, parts) as stub:
        told = await refusal(stub.GetSnapshot(pb.GetSnapshotRequest(name="channels/gate")))
    assert told == (grpc.StatusCode.FAILED_PRECONDITION, "NOTHING_SHOWN")


async def test_there_is_no_picture_of_an_unknown_channel(catalogue: ChannelCatalogue, parts: Parts) -> None:
    async with asking(catalogue, parts) as stub:
        told = await refusal(stub.GetSnapshot(pb.GetSnapshotRequest(name="channels/gate")))
    assert told == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_CHANNEL")


async def test_a_picture_that_takes_long_holds_up_nobody(catalogue: ChannelCatalogue, parts: Parts) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def take(*_: Any) -> tuple[bytes, float]:
        begun.set()
        assert go_on.wait(WAIT_S)
        return b"late", 1.0

    parts.pictures = take
    catalogue.create(record_of())
    async with asking(catalogue, parts) as stub:
        late = asyncio.ensure_future(stub.GetSnapshot(pb.GetSnapshotRequest(name="channels/gate")))
        assert await asyncio.to_thread(begun.wait, WAIT_S)
        await stub.GetChannel(pb.GetChannelRequest(name="channels/gate"))
        go_on.set()
        assert (await late).jpeg == b"late"


# -- recordings --


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    file = tmp_path / "clip.mp4"
    file.write_bytes(bytes(range(256)) * 8000)
    return file


def recorded_of(clip: Path, **more: Any) -> Recorded:
    data = clip.read_bytes()
    return Recorded(clip, len(data), hashlib.sha256(data).hexdigest(), more.get("transcoded", False), 1000.25, 2.5)


async def test_a_recording_is_sent_in_pieces_with_what_it_is_first(
    catalogue: ChannelCatalogue, parts: Parts, clip: Path
) -> None:
    asked = []

    def find(channel: str, time_s: float, playable: bool, is_wanted: Callable[[], bool]) -> Recorded:
        asked.append((channel, time_s, playable, is_wanted()))
        return recorded_of(clip, transcoded=playable)

    parts.recorded = find
    catalogue.create(record_of())
    async with asking(catalogue, parts) as stub:
        for playable in (False, True):
            request = pb.GetRecordingRequest(name="channels/gate", time=NOON, playable=playable)
            first, *pieces = [piece async for piece in stub.GetRecording(request)]
            assert (first.info.media_type, first.info.size_bytes, first.data) == ("video/mp4", 2_048_000, b"")
            assert first.info.transcoded is playable
            assert (first.info.start_time.seconds, first.seek.seconds, first.seek.nanos) == (1000, 2, 500_000_000)
            assert max(len(piece.data) for piece in pieces) == 64 * 1024
            sent = b"".join(piece.data for piece in pieces)
            assert hashlib.sha256(sent).hexdigest() == first.info.sha256
    assert asked == [("gate", 1_700_000_000.5, False, True), ("gate", 1_700_000_000.5, True, True)]
    assert parts.left == 2


async def test_a_recording_that_is_removed_while_it_is_sent_is_sent_to_its_end(
    catalogue: ChannelCatalogue, parts: Parts, clip: Path
) -> None:
    parts.recorded = lambda *_: recorded_of(clip)
    catalogue.create(record_of())
    async with asking(catalogue, parts) as stub:
        call = stub.GetRecording(pb.GetRecordingRequest(name="channels/gate", time=NOON))
        first = await call.read()
        clip.unlink()
        sent = b""
        while (piece := await call.read()) is not grpc.aio.EOF:
            sent += piece.data
    assert hashlib.sha256(sent).hexdigest() == first.info.sha256


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (NotFoundError("NOT_RECORDED", "nothing was recorded"), grpc.StatusCode.NOT_FOUND, "NOT_RECORDED"),
        (EvidenceError("it cannot be read"), grpc.StatusCode.FAILED_PRECONDITION, "EVIDENCE_ERROR"),
        (FileNotFoundError("gone"), grpc.StatusCode.NOT_FOUND, "RECORDING_EXPIRED"),
    ],
)
async def test_why_there_is_no_recording_is_told(
    catalogue: ChannelCatalogue, parts: Parts, error: Exception, code: grpc.StatusCode, reason: str
) -> None:
    def fail(*_: Any) -> Recorded:
        raise error

    parts.recorded = fail
    catalogue.create(record_of())
    async with asking(catalogue, parts) as stub:
        request = pb.GetRecordingRequest(name="channels/gate", time=NOON)
        assert await refusal(stub.GetRecording(request).read()) == (code, reason)


@pytest.mark.parametrize(("enabled", "told"), [(True, "is on"), (False, "is off")])
async def test_who_finds_nothing_recorded_is_told_whether_it_is_being_recorded(
    catalogue: ChannelCatalogue, parts: Parts, enabled: bool, told: str
) -> None:
    def fail(*_: Any) -> Recorded:
        raise NotFoundError("NOT_RECORDED", "nothing was recorded")

    parts.recorded = fail
    catalogue.create(replace(record_of(), recording=RecordingConfig(enabled=enabled)))
    async with asking(catalogue, parts) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetRecording(pb.GetRecordingRequest(name="channels/gate", time=NOON)).read()
    assert refused.value.details() == f"nothing was recorded; recording {told} for it"


async def test_a_recording_needs_a_time_and_a_channel(catalogue: ChannelCatalogue, parts: Parts) -> None:
    wrong = timestamp_pb2.Timestamp(seconds=10**12)
    async with asking(catalogue, parts) as stub:
        for request, told in (
            (pb.GetRecordingRequest(name="channels/gate"), (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_TIME")),
            (
                pb.GetRecordingRequest(name="channels/gate", time=wrong),
                (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_TIME"),
            ),
            (pb.GetRecordingRequest(name="channels/gate", time=NOON), (grpc.StatusCode.NOT_FOUND, "UNKNOWN_CHANNEL")),
        ):
            assert await refusal(stub.GetRecording(request).read()) == told


async def test_a_recording_that_becomes_shorter_is_not_taken_for_whole(
    catalogue: ChannelCatalogue, parts: Parts, clip: Path
) -> None:
    parts.recorded = lambda *_: replace(recorded_of(clip), size_bytes=9_000_000)
    catalogue.create(record_of())
    async with asking(catalogue, parts) as stub:

        async def fetch() -> None:
            async for _ in stub.GetRecording(pb.GetRecordingRequest(name="channels/gate", time=NOON)):
                pass

        assert await refusal(fetch()) == (grpc.StatusCode.DATA_LOSS, "EVIDENCE_LOST")


async def test_a_transcode_that_nobody_waits_for_any_more_is_told_so_and_let_go_of(
    catalogue: ChannelCatalogue, parts: Parts, clip: Path
) -> None:
    begun, unwanted = threading.Event(), threading.Event()

    def find(channel: str, time_s: float, playable: bool, is_wanted: Callable[[], bool]) -> Recorded:
        begun.set()
        for _ in range(2000):
            if not is_wanted():
                unwanted.set()
                break
            threading.Event().wait(0.01)
        return recorded_of(clip)

    parts.recorded = find
    catalogue.create(record_of())
    async with asking(catalogue, parts) as stub:
        call = stub.GetRecording(pb.GetRecordingRequest(name="channels/gate", time=NOON, playable=True))
        reading = asyncio.ensure_future(call.read())
        assert await asyncio.to_thread(begun.wait, WAIT_S)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await asyncio.to_thread(unwanted.wait, WAIT_S)
        await until(lambda: parts.left == 1)


async def test_whoever_hangs_up_or_reads_nothing_gives_its_place_and_its_file_back(
    catalogue: ChannelCatalogue, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_service, "MOST_RECORDINGS", 1)
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(32 << 20))
    found = recorded_of(large)
    parts.recorded = lambda *_: found
    catalogue.create(record_of())
    request = pb.GetRecordingRequest(name="channels/gate", time=NOON)
    async with channel_server(catalogue, parts, patience_s=0.2) as (address, service):
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = channel_pb2_grpc.ChannelServiceStub(channel)
            hanging_up = stub.GetRecording(request)
            await hanging_up.read()
            full = grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_RECORDINGS"
            assert await refusal(stub.GetRecording(request).read()) == full
            hanging_up.cancel()
            await until(lambda: service._fetches == 0)
            silent = stub.GetRecording(request)
            await silent.read()
            # It reads no more: the server does not wait for ever.
            await until(lambda: service._fetches == 0)
        assert open_files(large) == 0


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.01)


def open_files(path: Path) -> int:
    return sum(one.path == str(path) for one in Process().open_files())


async def test_a_service_that_is_closed_begins_nothing(catalogue: ChannelCatalogue, parts: Parts) -> None:
    async with channel_server(catalogue, parts) as (address, service), grpc.aio.insecure_channel(address) as channel:
        service.close()
        stub: Any = channel_pb2_grpc.ChannelServiceStub(channel)
        told = await refusal(stub.ListChannels(pb.ListChannelsRequest()))
    assert told == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
