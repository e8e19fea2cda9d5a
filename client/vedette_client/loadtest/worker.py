"""One sending process of a load test.

Talks with the process that started it through a pipe: it says `Ready` when its cameras are connected, is
told when to start, says `Progress` every second, and at last hands over its `WorkerRecord`, or what failed.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vedette_client.errors import ClientError
from vedette_client.loadtest.generator import Generator
from vedette_client.loadtest.records import WorkerRecord
from vedette_client.loadtest.relay import Relay

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from vedette_client.loadtest.plan import LoadPlan

_PROGRESS_S = 1.0


@dataclass(frozen=True, slots=True)
class Ready:
    """All cameras are connected, or have failed to."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What was done so far."""

    sent: int = 0
    analysed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing could be sent, and why: the error's class and words."""

    kind: str
    message: str


def work(plan: LoadPlan, number: int, pipe: Connection) -> None:
    """Run the cameras of one process; the body of that process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us ends us
    try:
        asyncio.run(_work(plan, number, pipe))
    except ClientError as error:
        pipe.send(Failed(type(error).__name__, str(error)))
    except (BrokenPipeError, EOFError):
        return  # whoever started us is gone


async def _work(plan: LoadPlan, number: int, pipe: Connection) -> None:
    async with AsyncExitStack() as stack:
        reach, relay = plan.reach, None
        if plan.reconnect_every_s:
            relay = await stack.enter_async_context(Relay(reach.host, reach.port))
            reach = reach.through(relay.address)
        generator = Generator(plan, plan.cameras(number), reach)
        stack.push_async_callback(generator.close)
        await generator.open()
        pipe.send(Ready())
        start_s: float = await asyncio.to_thread(pipe.recv)
        beside = [asyncio.create_task(_tell(generator, pipe))]
        if relay is not None:
            beside.append(asyncio.create_task(_storms(relay, start_s, plan)))
        await asyncio.sleep(max(0.0, start_s - time.monotonic()))
        cpu_s = time.process_time()
        try:
            await generator.send(start_s)
        finally:
            for task in beside:
                task.cancel()
        pipe.send(
            WorkerRecord(
                frames=generator.frames(),
                cameras=generator.records,
                cpu_s=time.process_time() - cpu_s,
                wall_s=time.monotonic() - start_s,
            )
        )


async def _tell(generator: Generator, pipe: Connection) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_S)
        records = generator.records
        skipped = sum((record.skipped for record in records), Counter[str]())
        pipe.send(Progress(sum(one.scheduled for one in records), sum(one.analysed for one in records), skipped))


async def _storms(relay: Relay, start_s: float, plan: LoadPlan) -> None:
    """Cut all connections again and again while frames are due."""
    for number in range(1, storms(plan) + 1):
        await asyncio.sleep(max(0.0, start_s + number * plan.reconnect_every_s - time.monotonic()))
        relay.cut()


def storms(plan: LoadPlan) -> int:
    """Tell how often a plan cuts all connections."""
    if not plan.reconnect_every_s:
        return 0
    whole = int(plan.duration_s / plan.reconnect_every_s)
    return whole - (whole * plan.reconnect_every_s >= plan.duration_s)
