"""Send the cameras of a load test by their schedule, and write down what comes back.

The schedule is open-loop: a frame's age is counted from when it was due, whether or not the server, or
this process, let it be sent by then; a server that stalls its senders is not flattered (Tene, "How NOT to
measure latency": coordinated omission).

Threads: one event loop.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_client.credentials import without_password
from vedette_client.errors import ClientError, StreamClosedError
from vedette_client.loadtest.clips import load_clip
from vedette_client.loadtest.judging import judge
from vedette_client.loadtest.records import CameraRecord, FrameLog, Frames
from vedette_client.options import Policy
from vedette_client.scene.truth import FrameTruth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_client.client import Client
    from vedette_client.loadtest.clips import LoadClip
    from vedette_client.loadtest.plan import CameraPlan, LoadPlan
    from vedette_client.reach import Reach
    from vedette_client.stream import Stream
    from vedette_client.verdicts import Verdict

FINISH_S = 30.0
# A recorded stream that the server slows is sent for so long after the last frame was due, and no longer.
SEND_GRACE_S = 10.0
_OPEN_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class _Sent:
    """What travels with a packet: when it was due, seconds after the start, and what is to be seen in it."""

    due_s: float
    truth: object | None


class Generator:
    """Some cameras of a plan, in one event loop: `open` them, `send` the schedule, `close`.

    Args:
        plan: The load test.
        cameras: Those of its cameras that are sent here.
        reach: Where to connect: the plan's server, or a relay before it.

    Attributes:
        records: What became of each camera.
    """

    def __init__(self, plan: LoadPlan, cameras: Sequence[CameraPlan], reach: Reach) -> None:
        self.records = [CameraRecord(one.index, one.channel, without_password(one.source)) for one in cameras]
        self._plan = plan
        self._cameras = cameras
        self._reach = reach
        self._log = FrameLog()
        self._clips: dict[str, LoadClip] = {}
        self._clients: list[Client] = []
        self._streams: list[Stream | None] = []
        self._start_s = 0.0

    async def open(self) -> None:
        """Load what is shown and connect all cameras; those that are refused keep their error.

        Raises:
            OptionsError: There is no such source.
            SourceError: A source cannot be read.
            ClientError: None of them could be connected.
        """
        for camera in self._cameras:
            if camera.source not in self._clips:
                self._clips[camera.source] = load_clip(camera.source, self._plan.fps)
        count = -(-len(self._cameras) // self._plan.per_connection)
        self._clients = [self._reach.client() for _ in range(count)]
        gate = asyncio.Semaphore(_OPEN_AT_ONCE)
        opened = await asyncio.gather(*(self._open(place, gate) for place in range(len(self._cameras))))
        self._streams = [one if not isinstance(one, ClientError) else None for one in opened]
        errors = [one for one in opened if isinstance(one, ClientError)]
        if errors and len(errors) == len(opened):
            raise errors[0]

    async def send(self, start_s: float) -> None:
        """Send the schedule, take every verdict, and have the accounts closed.

        Args:
            start_s: When the schedule begins, monotonic.
        """
        self._start_s = start_s
        await asyncio.gather(
            *(self._run(place, stream) for place, stream in enumerate(self._streams) if stream is not None)
        )

    async def close(self) -> None:
        """Close all connections; may be called twice."""
        for client in self._clients:
            await client.close()

    def frames(self) -> Frames:
        """Give all rows."""
        return self._log.finish()

    async def _open(self, place: int, gate: asyncio.Semaphore) -> Stream | ClientError:
        camera = self._cameras[place]
        client = self._clients[place // self._plan.per_connection]
        async with gate:
            try:
                return await client.open(camera.channel, self._clips[camera.source].form, self._plan.options)
            except ClientError as error:
                self.records[place].error = str(error)
                return error

    async def _run(self, place: int, stream: Stream) -> None:
        record = self.records[place]
        record.server_version = stream.accepted.server_version if stream.accepted is not None else ""
        reader = asyncio.create_task(self._read(stream, record))
        try:
            await self._send(self._cameras[place], stream, record)
            async with asyncio.timeout(FINISH_S):
                await stream.finish()
                record.agreed = True
        except TimeoutError:
            record.error = f"no closing account within {FINISH_S:g} s"
        except (ClientError, StreamClosedError) as error:
            record.error = str(error)
        finally:
            await stream.close()
            await reader
            account = stream.account
            record.sent, record.dropped, record.connections = (
                account.packets,
                account.client_dropped,
                stream.connections,
            )

    async def _send(self, camera: CameraPlan, stream: Stream, record: CameraRecord) -> None:
        live = stream.policy is Policy.LIVE
        end_s = self._start_s + self._plan.last_due_s + SEND_GRACE_S
        try:
            async with asyncio.timeout(None if live else max(0.0, end_s - time.monotonic())):
                await self._send_all(camera, stream, record, live=live)
        except TimeoutError:
            record.unsent = self._plan.frames - record.scheduled
            record.scheduled = self._plan.frames

    async def _send_all(self, camera: CameraPlan, stream: Stream, record: CameraRecord, *, live: bool) -> None:
        clip = self._clips[camera.source]
        for number, due_s in enumerate(self._plan.schedule(camera)):
            at_s = self._start_s + due_s
            delay_s = at_s - time.monotonic()
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            # A recorded stream that is behind waits for the server's credits: that is not the tester's doing.
            if delay_s > 0 or live:
                self._log.add_sent(time.monotonic() - at_s)
            scene = clip.packets[number % len(clip.packets)].truth
            await stream.send(clip.packet(number, _Sent(due_s, scene)), wait=not live)
            record.scheduled += 1

    async def _read(self, stream: Stream, record: CameraRecord) -> None:
        try:
            while verdicts := await stream.read():
                now_s = time.monotonic() - self._start_s
                for verdict in verdicts:
                    self._take(verdict, now_s, record)
        except ClientError:
            return  # whoever finishes the stream is told

    def _take(self, verdict: Verdict, now_s: float, record: CameraRecord) -> None:
        sent = verdict.packet.truth if verdict.packet is not None else None
        if isinstance(sent, _Sent):
            self._log.add_verdict(record.index, sent.due_s, now_s, verdict)
        if verdict.reason is not None:
            record.skipped[verdict.reason.name] += 1
            return
        record.analysed += 1
        if isinstance(sent, _Sent) and isinstance(sent.truth, FrameTruth):
            record.truth.add(judge(sent.truth, verdict.detections))
