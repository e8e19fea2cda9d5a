"""The ways beside the main one: the gate, second stages, cameras that the server calls, sinks."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import av
import pytest

from support_engines import publish_classifier
from support_site import SCENE, SITE, all_complete, site, stream, until
from support_streams import grey
from vedette_client import Client, ClientError, Policy, PullState, SkipReason
from vedette_client.padded import padded_packet
from vedette_client.sources import open_source

if TYPE_CHECKING:
    from pathlib import Path


def write_clip(file: Path, seconds: float = 4.0) -> None:
    """Write the scene of blobs into an MP4 file, as a camera would have recorded it."""
    source = open_source(SCENE.format(seconds=seconds), pace=False)
    fmt = source.open()
    with av.open(str(file), "w") as out:
        stream = out.add_stream("libx264", rate=15, options={"g": "15", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        decoder = av.CodecContext.create("h264", "r")
        decoder.extradata = fmt.extradata or None
        for packet in source.packets():
            for frame in decoder.decode(padded_packet(packet.data)):
                frame.pts = None
                out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    source.close()


async def test_where_nothing_moves_the_engine_rests_and_where_something_does_it_does_not(tmp_path: Path) -> None:
    gated = SITE.replace('name = "yard"', 'name = "yard"\ngate = { mode = "motion", floor_fps = 1.0 }')
    still = '\n[[channels]]\nname = "still"\ngate = { mode = "motion", floor_fps = 1.0 }\n'
    with site(tmp_path, gated + still) as server:
        async with Client(server.address) as client:
            quiet = [
                one
                async for one in client.analyze(
                    grey([100] * 90, fps=15), "still", engines=["blobs"], policy=Policy.EVERY_FRAME
                )
            ]
        moving = await stream(server.address)
    rested = [one for one in quiet if one.reason is SkipReason.NO_MOTION]
    assert 80 <= len(rested) < 90, "one a second is looked at all the same"
    assert all(one.reason is None for one in moving), "blobs move all the time"


async def test_what_a_second_stage_says_stands_at_the_tracks_detections(tmp_path: Path) -> None:
    publish_classifier(tmp_path / "engines", "1", "tone")
    staged = SITE.replace('name = "yard"', 'name = "yard"\nstages = [{ engine = "tone", refresh_s = 0.5 }]')
    with site(tmp_path, staged, "--engines-dir", str(tmp_path / "engines")) as server:
        # Loading takes its time, and the stage does not wait for nobody: the second look has it.
        await stream(server.address, seconds=2.0, pace=True)
        verdicts = await stream(server.address, seconds=3.0, pace=True)
    tracked = [one for verdict in verdicts for one in verdict.detections if one.track_id]
    told = [one for one in tracked if any(attribute.name == "tone" for attribute in one.attributes)]
    assert len(told) > 0.7 * len(tracked)
    assert all(0.0 <= attribute.score <= 1.0 for one in told for attribute in one.attributes)


async def test_a_camera_that_the_server_calls_gives_events_and_nobody_else_may_stream_there(tmp_path: Path) -> None:
    write_clip(tmp_path / "yard.mp4")
    called = (
        SITE + f'\n[channels.source]\nurl = "file:{tmp_path}/yard.mp4"\nengines = ["blobs"]\npolicy = "every-frame"\n'
    )
    with site(tmp_path, called, "--source-dir", str(tmp_path)) as server:
        async with Client(server.address) as client:
            events = await until(all_complete(3), client)
            assert {event.rule for event in events.values()} >= {"in", "stay"}
            for _ in range(100):
                channel = await client.channels.get("yard")
                if channel.status.pull is PullState.FINISHED:
                    break
                await asyncio.sleep(0.1)
            assert channel.status.pull is PullState.FINISHED
        try:
            await stream(server.address)
        except Exception as error:  # noqa: BLE001 - what it says is looked at
            assert "the server calls its camera itself" in str(error)
        else:
            raise AssertionError("somebody streamed to a channel that the server calls")


async def test_a_file_of_json_lines_has_every_event_also_those_of_the_last_moment(tmp_path: Path) -> None:
    (tmp_path / "sinks.toml").write_text(
        f'[[sinks]]\nname = "log"\nkind = "jsonl"\npath = "{tmp_path}/events.jsonl"\nstart = "earliest"\n'
    )
    with site(tmp_path, SITE, "--sinks", str(tmp_path / "sinks.toml")) as server:
        await stream(server.address, seconds=3.0)
        async with Client(server.address) as client:
            events = await until(all_complete(3), client)
        assert server.stop() == 0
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert {line["name"] for line in lines} >= events.keys()


async def test_a_channel_that_is_taken_out_of_the_file_is_not_streamed_on_without_its_masks(tmp_path: Path) -> None:
    with site(tmp_path, SITE + SITE.replace('"yard"', '"gate"'), "--known-only") as server:
        streaming = asyncio.create_task(stream(server.address, seconds=30.0, pace=True))
        await asyncio.sleep(1.0)
        (tmp_path / "channels.toml").write_text(SITE.replace('"yard"', '"gate"'), encoding="utf-8")
        with pytest.raises(ClientError, match="deleted"):
            await asyncio.wait_for(streaming, 20)
        with pytest.raises(ClientError, match="takes only channels that were made"):
            await stream(server.address)
        assert "removed=['yard']" in server.output


async def test_told_to_stop_it_serves_no_more_at_once_though_a_camera_that_it_calls_is_silent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        called = (
            f'[[channels]]\nname = "deaf"\n[channels.source]\nurl = "http://127.0.0.1:{port}/x"\nengines = ["blobs"]\n'
        )
        with site(tmp_path, called, "--drain-grace-s", "30", "--source-host", "127.0.0.0/8") as server:
            await asyncio.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(server.wait_for, "draining")
            with pytest.raises(ClientError):
                await stream(server.address, "late", seconds=1.0)
            server.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(server.process.wait, 20) == 0


def test_sinks_without_anything_to_tell_are_refused(tmp_path: Path) -> None:
    (tmp_path / "sinks.toml").write_text('[[sinks]]\nname = "log"\nkind = "jsonl"\npath = "x.jsonl"\n')
    command = [sys.executable, "-m", "vedette_server", "--port", "0", "--sinks", str(tmp_path / "sinks.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "needs monitor.state_dir" in done.stderr
