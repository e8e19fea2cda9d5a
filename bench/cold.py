"""From start to SERVING, from connect to the first verdict, and memory with idle channels (goal 7)."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from contextlib import AsyncExitStack

from bench.serving import Server
from bench.setting import keep
from vedette_client import Client
from vedette_client.sources import open_source

IDLE = (0, 16, 200)
SETTLE_S = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=5)
    options = parser.parse_args()
    starts: list[float] = []
    firsts: list[float] = []
    loads: list[float] = []
    for _ in range(options.starts):
        with Server() as server:
            starts.append(server.start_s)
            loads.append(asyncio.run(_first_verdict(server.address)))
            firsts.append(asyncio.run(_first_verdict(server.address)))
    with Server("--engine", "person") as server:
        memory = asyncio.run(_idle(server))
    keep(
        "cold",
        {
            "start to SERVING, s (median)": statistics.median(starts),
            "connect to first verdict, engine to be loaded and measured, s": statistics.median(loads),
            "connect to first verdict, engine loaded, s": statistics.median(firsts),
            **{f"server memory with {count} idle channels, MiB": value for count, value in memory.items()},
        },
    )


async def _first_verdict(address: str) -> float:
    source = open_source("synthetic:walkers?seed=1&seconds=1", pace=False)
    source.open()  # The scene is drawn before the clock starts.
    packets = list(source.packets())
    began = time.monotonic()
    async with Client(address) as client:
        stream = await client.open("cold", source.open(), engines=["person"])
        for packet in packets[:3]:
            await stream.send(packet)
        await stream.read()
        took = time.monotonic() - began
        await stream.close()
    return took


async def _idle(server: Server) -> dict[int, float]:
    source = open_source("synthetic:walkers?seed=1&seconds=1", pace=False)
    fmt = source.open()
    packets = list(source.packets())[:3]
    memory: dict[int, float] = {}
    async with Client(server.address) as client, AsyncExitStack() as stack:
        opened = 0
        for count in IDLE:
            while opened < count:
                stream = await client.open(f"idle-{opened:03}", fmt, engines=["person"])
                stack.push_async_callback(stream.close)
                for packet in packets:
                    await stream.send(packet)
                await stream.read()
                opened += 1
            await asyncio.sleep(SETTLE_S)
            memory[count] = server.rss_mib
    return memory


if __name__ == "__main__":
    main()
