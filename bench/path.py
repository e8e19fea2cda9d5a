"""The whole path in Python on a GPU of zero time, pictures already decoded: CPU per frame against a bare echo.

Both servers get the same packets from the same client, one packet a message; their rounds are interleaved, so that a
noisy machine meets both. In a run of its own the server's stages are timed, for a table of where its time goes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.path_server import ENGINE
from bench.serving import Server
from bench.setting import keep

# What of a channel may be on its way, to either server: as many packets as a client's usual window, as few bytes as
# an echo without credits needs so as not to drown in memory.
WINDOW, WINDOW_BYTES = 16, 4 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--size", default="160x96,416x416,640x640", help="of the engine and of the pictures")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one round, about")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    figures: dict[str, Any] = {"channels": options.channels}
    for size in options.size.split(","):
        width, height = (int(number) for number in size.split("x"))
        figures |= {f"{size}: {name}": value for name, value in _measure(width, height, options).items()}
    keep("path", figures)


def _measure(width: int, height: int, options: argparse.Namespace) -> dict[str, Any]:
    size = (str(width), str(height))
    with Server(*size, module="bench.path_server") as ours, Server(module="bench.echo_server") as echo:
        plan = (options.channels, width, height)
        # As many packets as fill the time, by a first try that warms both up as well.
        packets = max(int(options.seconds * _round(ours, plan, 200, analysed=True)[1] / options.channels), 50)
        _round(echo, plan, 200, analysed=False)
        rounds = [
            (_round(ours, plan, packets, analysed=True), _round(echo, plan, packets, analysed=False))
            for _ in range(options.rounds)
        ]
    table = _table(size, plan, packets)
    ratios = [mine[0] / bare[0] for mine, bare in rounds]
    cost_s = statistics.median(mine[0] for mine, _ in rounds)
    return {
        "payload, bytes": width * height * 3,
        "server, CPU us per frame": cost_s * 1e6,
        "bare echo, CPU us per frame": statistics.median(bare[0] for _, bare in rounds) * 1e6,
        "ratio, median of rounds (goal <= 2)": statistics.median(ratios),
        "ratio, all rounds": [round(ratio, 3) for ratio in ratios],
        "frames per second of one process beside its client": statistics.median(mine[1] for mine, _ in rounds),
        "frames per second that one core of CPU pays for": 1 / cost_s,
    } | {f"CPU us per frame, timed: {name}": value for name, value in table.items()}


def _table(size: tuple[str, str], plan: tuple[int, int, int], packets: int) -> dict[str, float]:
    """Time the stages of a server of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stages.json"
        with Server(*size, str(file), module="bench.path_server") as server:
            _round(server, plan, 200, analysed=True)
            os.kill(server.pid, signal.SIGUSR1)
            time.sleep(0.2)
            _round(server, plan, packets, analysed=True)
            os.kill(server.pid, signal.SIGUSR2)
            until = time.monotonic() + 20
            while not file.exists() and time.monotonic() < until:
                time.sleep(0.05)
            stages = json.loads(file.read_text(encoding="utf-8"))
    most = sorted(stages.items(), key=lambda stage: -stage[1])
    return {name: round(spent_s * 1e6 / (packets * plan[0]), 2) for name, spent_s in most}


def _round(server: Server, plan: tuple[int, int, int], packets: int, *, analysed: bool) -> tuple[float, float]:
    """Return the server's CPU seconds per frame, and frames per second, over one round."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_drive, args=(server.address, *plan, packets, analysed, theirs))
    process.start()
    theirs.close()
    ours.recv()
    before, began = server.cpu_s, time.monotonic()
    count = ours.recv()
    spent, took = server.cpu_s - before, time.monotonic() - began
    ours.send("done")
    process.join()
    return spent / count, count / took


def _drive(address: str, channels: int, width: int, height: int, packets: int, analysed: bool, pipe: Any) -> None:
    asyncio.run(_cameras(address, channels, width, height, packets, analysed, pipe))


async def _cameras(
    address: str, channels: int, width: int, height: int, packets: int, analysed: bool, pipe: Any
) -> None:
    import grpc

    from vedette.v1 import stream_pb2_grpc

    # As the server of the client library does: a raw picture is larger than gRPC takes by itself.
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub = stream_pb2_grpc.StreamServiceStub(channel)
        cameras = [_Camera(stub, index, width, height) for index in range(channels)]
        for camera in cameras:
            await camera.open(analysed)
        pipe.send("ready")
        await asyncio.gather(*(camera.run(packets) for camera in cameras))
        pipe.send(packets * channels)
        pipe.recv()
        for camera in cameras:
            camera.call.cancel()


class _Camera:
    """Sends one packet a message, as many as credits and the window allow, and reads one verdict for each."""

    def __init__(self, stub: Any, index: int, width: int, height: int) -> None:
        self._name = f"channels/cam-{index}"
        self._size = width, height
        self._window = max(min(WINDOW, WINDOW_BYTES // (width * height * 3)), 2)
        self.call = stub.AnalyzeStream(metadata=(("x-vedette-channel", self._name),))
        self._seen = 0
        self._allowed: int | None = None
        self._moved = asyncio.Event()
        # gRPC takes one message of a call at a time.
        self._pen = asyncio.Lock()

    async def open(self, analysed: bool) -> None:
        """Configure, and wait for the server's word where it gives one."""
        from vedette.v1 import media_pb2, stream_pb2

        width, height = self._size
        config = stream_pb2.StreamConfig(
            channel=self._name,
            format=media_pb2.VideoFormat(
                codec=media_pb2.CODEC_RAW, width=width, height=height, pixel_format=media_pb2.PIXEL_FORMAT_BGR24
            ),
            engines=[stream_pb2.EngineRef(name=ENGINE)],
            policy=stream_pb2.DELIVERY_POLICY_EVERY_FRAME,
            takeover=True,
        )
        if analysed:
            await self.call.write(stream_pb2.AnalyzeStreamRequest(config=config))
            accepted = await self.call.read()
            self._allowed = accepted.accepted.flow.send_through_sequence

    async def run(self, packets: int) -> None:
        """Send and read."""
        from vedette.v1 import stream_pb2

        reader = asyncio.create_task(self._read(packets))
        data = bytes([90]) * (self._size[0] * self._size[1] * 3)
        for number in range(packets):
            while number >= self._seen + self._window or (self._allowed is not None and number > self._allowed):
                self._moved.clear()
                await self._moved.wait()
            packet = stream_pb2.Packet(sequence=number, pts=number * 3000, keyframe=True, data=data)
            async with self._pen:
                await self.call.write(stream_pb2.AnalyzeStreamRequest(packets=[packet]))
        await reader

    async def _read(self, packets: int) -> None:
        from vedette.v1 import stream_pb2

        acknowledged = 0
        while self._seen < packets:
            response = await self.call.read()
            if response.HasField("flow") and self._allowed is not None:
                self._allowed = response.flow.send_through_sequence
            for verdict in response.verdicts:
                if verdict.WhichOneof("outcome") != "analysis":
                    raise SystemExit(f"a frame was not analysed: {verdict.skip}")
            self._seen += len(response.verdicts)
            self._moved.set()
            if self._allowed is not None and self._seen - acknowledged >= 500:
                acknowledged = self._seen
                request = stream_pb2.AnalyzeStreamRequest()
                request.ack_verdicts.through_index = acknowledged - 1
                async with self._pen:
                    await self.call.write(request)


if __name__ == "__main__":
    main()
