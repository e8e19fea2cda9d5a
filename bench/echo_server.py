"""A bare grpc.aio server: reads a message, answers with one of a verdict's size, and does nothing else."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc

from vedette.v1 import analysis_pb2, stream_pb2, stream_pb2_grpc


def verdict() -> analysis_pb2.FrameVerdict:
    """Build a verdict as large as one of `blobs` with two finds."""
    wire = analysis_pb2.FrameVerdict(verdict_index=1000, sequence=1000, frame_pts=90_000, request_id="0" * 21)
    times = wire.times
    times.receive_time.seconds = times.capture_time.seconds = 1_800_000_000
    times.receive_us = times.decode_us = times.wait_us = times.convert_us = 1000
    times.batch_us = times.execute_us = times.post_us = times.total_us = 1000
    wire.picture.width, wire.picture.height = 160, 96
    result = wire.analysis.results.add(engine="blobs", version="1", batch_size=4, backend="onnxruntime:CPU")
    for _ in range(2):
        box = result.detections.add(class_id=1, label="green", score=0.9).box
        box.x_min = box.y_min = box.x_max = box.y_max = 0.5
    return wire


class Echo(stream_pb2_grpc.StreamServiceServicer):
    """Answers every packet with the same verdict."""

    async def AnalyzeStream(self, request_iterator: Any, context: Any) -> None:  # noqa: ARG002, N802 - gRPC's names
        """Answer until the client has half-closed."""
        response = stream_pb2.AnalyzeStreamResponse(verdicts=[verdict()])
        while await context.read() is not grpc.aio.EOF:
            await context.write(response)


async def main() -> None:
    server = grpc.aio.server()
    stream_pb2_grpc.add_StreamServiceServicer_to_server(Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"echo: serving on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
