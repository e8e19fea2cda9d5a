"""Small raw frames through `blobs`: the server's CPU time per message against a bare echo (goal 4).

Both servers get the same packets on the same schedule, one packet a message, from a client that does the
same for both; their shares of the time are interleaved, so that a noisy machine meets both.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import time
from typing import Any

from bench.serving import Server
from bench.setting import keep

WIDTH, HEIGHT = 160, 96
# The last packet that each call's server has given credit for; the echo gives none and asks for none.
ALLOWED: dict[Any, int] = {}
# Verdicts of each call so far; so many packets more may be on their way.
SEEN: dict[Any, int] = {}
WINDOW = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--fps", type=float, default=0.0, help="of each channel; 0: as fast as the server takes them")
    parser.add_argument("--packets", type=int, default=1000, help="packets of each channel in one round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with (
        Server("--engine", "blobs") as ours,
        Server(module="bench.echo_server") as echo,
    ):
        rounds = [
            (_round(ours, options, analysed=True), _round(echo, options, analysed=False)) for _ in range(options.rounds)
        ]
    mine = [cost for cost, _ in rounds]
    bare = [cost for _, cost in rounds]
    keep(
        "edge-paced" if options.fps else "edge-flood",
        {
            "payload, bytes": WIDTH * HEIGHT * 3,
            "channels": options.channels,
            "messages per second asked": options.channels * options.fps or f"all, {WINDOW} a channel on their way",
            "server, CPU us per message": statistics.median(mine) * 1e6,
            "bare echo, CPU us per message": statistics.median(bare) * 1e6,
            "ratio, median of rounds (goal <= 2)": statistics.median(a / b for a, b in rounds),
            "ratio, all rounds": [round(a / b, 3) for a, b in rounds],
        },
    )


def _round(server: Server, options: argparse.Namespace, *, analysed: bool) -> float:
    """Return the server's CPU seconds per message over one round."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (server.address, options.channels, options.fps, options.packets, analysed, theirs)
    process = context.Process(target=_drive, args=arguments)
    process.start()
    ours.recv()
    before = server.cpu_s
    theirs.close()
    count = ours.recv()
    spent = server.cpu_s - before
    ours.send("done")
    process.join()
    return spent / count


def _drive(address: str, channels: int, fps: float, packets: int, analysed: bool, pipe: Any) -> None:
    asyncio.run(_cameras(address, channels, fps, packets, analysed, pipe))


async def _cameras(address: str, channels: int, fps: float, packets: int, analysed: bool, pipe: Any) -> None:
    import grpc

    from vedette.v1 import stream_pb2_grpc

    async with grpc.aio.insecure_channel(address) as channel:
        stub = stream_pb2_grpc.StreamServiceStub(channel)
        calls = [await _open(stub, index, analysed) for index in range(channels)]
        pipe.send("ready")
        began = time.monotonic()
        step = 1.0 / fps if fps else 0.0
        await asyncio.gather(
            *(_camera(call, index / channels * step, step, packets, began) for index, call in enumerate(calls))
        )
        pipe.send(packets * channels)
        pipe.recv()
        for call in calls:
            call.cancel()


async def _open(stub: Any, index: int, analysed: bool) -> Any:
    from vedette.v1 import media_pb2, stream_pb2

    name = f"channels/cam-{index}"
    call = stub.AnalyzeStream(metadata=(("x-vedette-channel", name),))
    video = media_pb2.VideoFormat(
        codec=media_pb2.CODEC_RAW, width=WIDTH, height=HEIGHT, pixel_format=media_pb2.PIXEL_FORMAT_BGR24
    )
    config = stream_pb2.StreamConfig(
        channel=name,
        format=video,
        engines=[stream_pb2.EngineRef(name="blobs")],
        policy=stream_pb2.DELIVERY_POLICY_EVERY_FRAME,
        takeover=True,
    )
    if analysed:
        await call.write(stream_pb2.AnalyzeStreamRequest(config=config))
        accepted = await call.read()
        ALLOWED[call] = accepted.accepted.flow.send_through_sequence
    return call


async def _camera(call: Any, phase: float, step: float, count: int, began: float) -> None:
    """Send on schedule, one packet a message, and read one verdict for each."""
    credit = asyncio.Condition()
    SEEN[call] = 0
    reader = asyncio.create_task(_read(call, count, credit))
    from vedette.v1 import stream_pb2

    data = _frame()
    for number in range(count):
        delay = began + phase + number * step - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        async with credit:
            await credit.wait_for(lambda: _may_send(call, number))  # noqa: B023 - waited for here
        packet = stream_pb2.Packet(sequence=number, pts=number * 3000, keyframe=True, data=data)
        await call.write(stream_pb2.AnalyzeStreamRequest(packets=[packet]))
    await reader


async def _read(call: Any, count: int, credit: asyncio.Condition) -> None:
    while SEEN[call] < count:
        response = await call.read()
        if response.HasField("flow"):
            ALLOWED[call] = response.flow.send_through_sequence
        for verdict in response.verdicts:
            if verdict.WhichOneof("outcome") != "analysis":
                raise SystemExit(f"a frame was not analysed: {verdict.skip}")
        async with credit:
            SEEN[call] += len(response.verdicts)
            credit.notify_all()


def _may_send(call: Any, number: int) -> bool:
    return number < SEEN[call] + WINDOW and number <= ALLOWED.get(call, number)


def _frame() -> bytes:
    import numpy as np

    frame = np.full((HEIGHT, WIDTH, 3), 70, np.uint8)
    frame[20:34, 30:44] = (0, 0, 255)
    frame[50:64, 90:104] = (0, 255, 0)
    return frame.tobytes()


if __name__ == "__main__":
    main()
