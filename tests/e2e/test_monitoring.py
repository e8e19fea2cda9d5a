"""A server that monitors: from a camera's packets to events with their pictures, kept before anybody is told."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
import simplejpeg

from support_middle import Cut, Middle
from support_site import SCENE, SITE, all_complete, complete, site, stream, until
from vedette_client import (
    ChannelResult,
    Client,
    ClientError,
    Event,
    EventKind,
    EvidenceState,
    Policy,
    ReconnectOptions,
    RefusedError,
    StreamLimits,
)
from vedette_client.sources import open_source
from vedette_server.errors import SettingsError
from vedette_server.state_dir import StateDir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support_serving import ServerProcess
    from vedette_client import Verdict


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with site(tmp_path_factory.mktemp("site")) as process:
        yield process


async def test_a_camera_gives_tracks_and_events_with_pictures_and_clips_that_verify(
    yard: ServerProcess, tmp_path: Path
) -> None:
    verdicts = await stream(yard.address)
    tracks = {one.track_id for verdict in verdicts for one in verdict.detections if one.track_id}
    assert len(verdicts) == 90
    assert 3 <= len(tracks) <= 8
    async with Client(yard.address) as client:
        wanted = {EventKind.ENTER, EventKind.INSIDE, EventKind.CROSS}
        events = await until(
            lambda events: wanted <= {one.kind for one in events.values()} and all_complete(3)(events), client
        )
        for event in events.values():
            assert set(event.track_ids) <= tracks
            assert (event.snapshot.state, event.clip.state) == (EvidenceState.READY, EvidenceState.READY)
            plain = await client.events.snapshot(event)
            boxed = await client.events.snapshot(event, annotated=True)
            assert simplejpeg.decode_jpeg(plain).shape == (180, 320, 3)
            assert plain != boxed
            info = await client.events.clip(event, tmp_path / "clip.mp4")
            assert hashlib.sha256((tmp_path / "clip.mp4").read_bytes()).hexdigest() == info.sha256 == event.clip.sha256
            with av.open(str(tmp_path / "clip.mp4")) as clip:
                assert len(list(clip.decode(video=0))) >= 15
        checked = await client.events.verify(await client.events.chain_head(), files=True)
        assert checked.findings == ()
        assert checked.files == 3 * len(events)


async def test_the_snapshot_shows_the_object_where_the_event_says(yard: ServerProcess) -> None:
    await stream(yard.address, seconds=4.0)
    async with Client(yard.address) as client:
        events = await until(all_complete(3), client)
        for event in events.values():
            if event.box is None:
                continue
            pixels = simplejpeg.decode_jpeg(await client.events.snapshot(event))
            x = round((event.box.x_min + event.box.x_max) / 2 * 320)
            y = round((event.box.y_min + event.box.y_max) / 2 * 180)
            patch = pixels[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].reshape(-1, 3).mean(axis=0)
            assert int(np.argmax(patch)) == ["red", "green", "blue"].index(event.label), event


async def test_results_of_many_channels_come_in_one_stream_with_their_tracks(yard: ServerProcess) -> None:
    async with Client(yard.address) as client:
        found: list[ChannelResult] = []

        async def look() -> None:
            async with client.watch(["yard", "other"], results=True, events=False) as watch:
                async for news in watch:
                    if isinstance(news, ChannelResult):
                        found.append(news)
                    if len(found) >= 60:
                        return

        looking = asyncio.create_task(look())
        await asyncio.sleep(0.3)
        await asyncio.gather(stream(yard.address, seconds=2.0), stream(yard.address, "other", seconds=2.0))
        await asyncio.wait_for(looking, 30)
    by_channel = {name: [one for one in found if one.channel == name] for name in ("yard", "other")}
    assert all(len(results) == 30 for results in by_channel.values())
    tracked = {
        name: any(detection.track_id for one in results for detection in one.verdict.detections)
        for name, results in by_channel.items()
    }
    assert tracked == {"yard": True, "other": False}, "nobody asked for tracks of the other"


async def test_an_acknowledgement_is_told_to_who_watches_and_stays(yard: ServerProcess) -> None:
    await stream(yard.address, seconds=2.0)
    async with Client(yard.address) as client:
        events = await until(all_complete(1), client)
        event = next(iter(events.values()))
        await client.events.acknowledge(event, note="a cat", user="ann")
        told = await until(lambda events: events.get(event.name, event).acknowledgement is not None, client)
        acknowledgement = told[event.name].acknowledgement
        assert acknowledgement is not None
        assert (acknowledgement.user, acknowledgement.note) == ("ann", "a cat")


async def test_a_channel_that_is_made_while_it_streams_is_monitored_from_then_on_and_deleting_it_ends_the_stream(
    yard: ServerProcess,
) -> None:
    async with Client(yard.address) as client:
        streaming = asyncio.create_task(stream(yard.address, "fresh", 20.0, pace=True))
        await asyncio.sleep(1.5)
        await client.channels.create("fresh", {"rules": [{"name": "any", "kind": "inside"}]})
        await until(lambda events: any("/fresh/" in name for name in events), client)
        # The next keyframe is at most a second away.
        await asyncio.sleep(1.2)
        channel = await client.channels.get("fresh")
        assert channel.status.connected
        jpeg = (await client.channels.snapshot("fresh", annotated=True)).jpeg
        assert simplejpeg.decode_jpeg(jpeg).shape == (180, 320, 3)
        await client.channels.delete("fresh")
        with pytest.raises(RefusedError, match="deleted"):
            await streaming
        await until(lambda events: all(complete(one) for name, one in events.items() if "/fresh/" in name), client)


async def test_what_cannot_be_judged_is_refused_with_words_and_nothing_changes(yard: ServerProcess) -> None:
    bow = [[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]
    bad = [
        ({"zones": {"bow": bow}}, "cross"),
        ({"zones": {"far": [[0.1, 0.1], [1.2, 0.1], [0.5, 0.5]]}}, "inside the picture"),
        ({"rules": [{"name": "r", "kind": "enter", "zone": "nowhere"}]}, "nowhere"),
        ({"rules": [{"name": "r", "kind": "enter", "labels": ["unicorn"]}]}, "unicorn"),
        ({"time_zone": "Mars/Olympus"}, "Mars"),
    ]
    async with Client(yard.address) as client:
        for settings, words in bad:
            with pytest.raises(ClientError, match=words):
                await client.channels.create("bad", settings)
        assert "bad" not in [channel.name for channel in await client.channels.list()]


async def test_of_a_masked_channel_only_masked_pictures_are_kept(tmp_path: Path) -> None:
    masked = SITE.replace(
        'name = "yard"',
        'name = "yard"\nevidence = "masked"\n'
        'masks = [{ kind = "privacy", vertices = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]] }]',
    ).replace('zone = "left"', 'zone = ""')
    with site(tmp_path, masked) as server:
        await stream(server.address)
        async with Client(server.address) as client:
            events = await until(all_complete(2), client)
            for number, event in enumerate(events.values()):
                pixels = simplejpeg.decode_jpeg(await client.events.snapshot(event, annotated=True))
                assert pixels[:, 12:150].max() < 40 or event.box is not None
                assert simplejpeg.decode_jpeg(await client.events.snapshot(event))[:, :150].max() < 16
                await client.events.clip(event, tmp_path / f"{number}.mp4")
                with av.open(str(tmp_path / f"{number}.mp4")) as clip:
                    for frame in clip.decode(video=0):
                        assert frame.to_ndarray(format="rgb24")[:, :150].max() < 24
            latest = await client.channels.snapshot("yard")
            assert simplejpeg.decode_jpeg(latest.jpeg)[:, :150].max() < 16


async def test_of_a_channel_that_keeps_nothing_there_are_events_and_no_file(tmp_path: Path) -> None:
    with site(tmp_path, SITE.replace('name = "yard"', 'name = "yard"\nevidence = "none"')) as server:
        await stream(server.address)
        async with Client(server.address) as client:
            events = await until(all_complete(2), client)
            assert {event.clip.state for event in events.values()} == {EvidenceState.NONE}
            with pytest.raises(ClientError):
                await client.channels.snapshot("yard")
    assert not [path for path in (tmp_path / "state" / "evidence").rglob("*") if path.is_file()]


async def test_what_a_watcher_saw_is_there_after_a_kill_and_nothing_stays_open(tmp_path: Path) -> None:
    seen: dict[str, Event] = {}
    for seconds in (1.1, 1.9, 2.8):
        server = site(tmp_path)
        async with Client(server.address) as client:

            async def look(client: Client = client) -> None:
                async with client.watch(offset="earliest") as watch:
                    async for news in watch:
                        assert isinstance(news, Event)
                        seen[news.name] = news

            looking = asyncio.create_task(look())
            streaming = asyncio.create_task(stream(server.address, seconds=30.0, pace=True))
            await asyncio.sleep(seconds)
            server.stop(signal.SIGKILL)
            for task in (looking, streaming):
                task.cancel()
            await asyncio.gather(looking, streaming, return_exceptions=True)
    assert seen
    with site(tmp_path) as server:
        async with Client(server.address) as client:
            kept = {event.name: event async for event in client.events.find()}
            assert seen.keys() <= kept.keys()
            assert all(kept[name].record >= event.record for name, event in seen.items())
            assert all(map(complete, kept.values())), "nothing is left open or pending"
            checked = await client.events.verify(files=True)
            assert checked.findings == ()


def test_a_folder_is_one_servers_at_a_time_and_free_again_when_it_has_gone(tmp_path: Path) -> None:
    with StateDir(tmp_path / "state"), pytest.raises(SettingsError, match="used by another server"):
        StateDir(tmp_path / "state")
    StateDir(tmp_path / "state").close()


async def test_tracks_and_events_of_a_stream_that_is_cut_are_those_of_the_uncut_one(tmp_path: Path) -> None:
    limits = StreamLimits(bundle_packets=1, ack_every=4)
    reconnect = ReconnectOptions(initial_s=0.001, max_s=0.05, give_up_s=20.0)

    async def send(address: str, channel: str) -> list[Verdict]:
        source = open_source(SCENE.format(seconds=4.0), pace=False)
        async with Client(address, reconnect=reconnect, limits=limits) as client:
            return [one async for one in client.analyze(source, channel, engines=["blobs"], policy=Policy.EVERY_FRAME)]

    def tracks(verdicts: list[Verdict]) -> dict[int, list[int]]:
        """Number tracks by their first appearance: identities themselves are unique for ever."""
        numbers: dict[str, int] = {"": 0}
        return {
            verdict.sequence: [numbers.setdefault(one.track_id, len(numbers)) for one in verdict.detections]
            for verdict in sorted(verdicts, key=lambda one: one.sequence)
        }

    both = SITE + SITE.replace('name = "yard"', 'name = "cut"')
    with site(tmp_path, both) as server:
        whole = tracks(await send(server.address, "yard"))
        async with Middle(server.address) as middle:

            async def turn() -> None:
                middle.target = server.address

            # The cut of what comes back is the last: when it comes, nobody knows how much is left to be sent and cut.
            middle.cuts = [Cut("up", 20, turn), Cut("up", 15, turn), Cut("down", 3, turn)]
            cut = tracks(await send(middle.address, "cut"))
            assert middle.met == 3
        assert cut == whole
        async with Client(server.address) as client:
            events = await until(all_complete(4), client)
        by_channel = {
            name: sorted((one.rule, one.label, one.sequence) for one in events.values() if one.channel == name)
            for name in ("yard", "cut")
        }
        assert by_channel["cut"] == by_channel["yard"]
