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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one round")
    parser.add_argument("--rounds", type=int, default=4)
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
        "edge",
        {
            "payload, bytes": WIDTH * HEIGHT * 3,
            "channels": options.channels,
            "messages per second": options.channels * options.fps,
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
    arguments = (server.address, options.channels, options.fps, options.seconds, analysed, theirs)
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


def _drive(address: str, channels: int, fps: float, seconds: float, analysed: bool, pipe: Any) -> None:
    asyncio.run(_cameras(address, channels, fps, seconds, analysed, pipe))


async def _cameras(address: str, channels: int, fps: float, seconds: float, analysed: bool, pipe: Any) -> None:
    import grpc

    from vedette.v1 import stream_pb2_grpc

    async with grpc.aio.insecure_channel(address) as channel:
        stub = stream_pb2_grpc.StreamServiceStub(channel)
        calls = [await _open(stub, index, analysed) for index in range(channels)]
        pipe.send("ready")
        began = time.monotonic()
        sent = int(seconds * fps)
        await asyncio.gather(
            *(_camera(call, index / channels / fps, fps, sent, began) for index, call in enumerate(calls))
        )
        pipe.send(sent * channels)
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


async def _camera(call: Any, phase: float, fps: float, count: int, began: float) -> None:
    """Send on schedule, one packet a message, and read one verdict for each."""
    credit = asyncio.Condition()
    reader = asyncio.create_task(_read(call, count, credit))
    from vedette.v1 import stream_pb2

    data = _frame()
    for number in range(count):
        delay = began + phase + number / fps - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        async with credit:
            await credit.wait_for(lambda: number <= ALLOWED.get(call, count))  # noqa: B023 - waited for here
        packet = stream_pb2.Packet(sequence=number, pts=int(number * 90_000 / fps), keyframe=True, data=data)
        await call.write(stream_pb2.AnalyzeStreamRequest(packets=[packet]))
    await reader


async def _read(call: Any, count: int, credit: asyncio.Condition) -> None:
    seen = 0
    while seen < count:
        response = await call.read()
        if response.HasField("flow"):
            async with credit:
                ALLOWED[call] = response.flow.send_through_sequence
                credit.notify_all()
        for verdict in response.verdicts:
            if verdict.WhichOneof("outcome") != "analysis":
                raise SystemExit(f"a frame was not analysed: {verdict.skip}")
            seen += 1


def _frame() -> bytes:
    import numpy as np

    frame = np.full((HEIGHT, WIDTH, 3), 70, np.uint8)
    frame[20:34, 30:44] = (0, 0, 255)
    frame[50:64, 90:104] = (0, 255, 0)
    return frame.tobytes()


if __name__ == "__main__":
    main()
