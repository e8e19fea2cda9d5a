"""One call between a scripted connection and a session."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from support_session import Rig
from vedette.v1 import stream_pb2
from vedette_server.errors import DisplacedError, InvalidError, LimitError, SilentError, UnavailableError
from vedette_server.rpc import stream_call
from vedette_server.rpc.bell import Bell
from vedette_server.rpc.stream_call import StreamCall
from vedette_server.settings import ServerSettings, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

INTERVAL_S = 10.0
SETTINGS = Settings(server=ServerSettings(heartbeat_interval_s=INTERVAL_S, max_message_bytes=64 * 1024))


class FakeContext:
    """A connection: what the client says is put in, what it is told is kept; `deaf` holds up every write."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[Any] = asyncio.Queue()
        self.told: list[stream_pb2.AnalyzeStreamResponse] = []
        self.hears = asyncio.Event()
        self.hears.set()
        self.broken = False

    async def read(self) -> Any:
        return await self.says.get()

    async def write(self, message: stream_pb2.AnalyzeStreamResponse) -> None:
        await self.hears.wait()
        if self.broken:
            raise grpc.aio.InternalError("execute_batch failed")
        self.told.append(message)

    def say(self, **fields: Any) -> None:
        self.says.put_nowait(stream_pb2.AnalyzeStreamRequest(**fields))

    def half_close(self) -> None:
        self.says.put_nowait(grpc.aio.EOF)


class Line:
    """A session with a call on it."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.context = FakeContext()
        bell = Bell(asyncio.get_running_loop())
        context: Any = self.context
        host: Any = object()
        self.call = StreamCall(context, self.rig.session, host, SETTINGS, bell, "1.0")
        self.attachment = self.rig.session.attach(self.call, None, None)
        self.running = asyncio.create_task(self.call.run(self.attachment))

    async def settle(self) -> None:
        """Let the pipeline and the loop do what there is to do."""
        for _ in range(20):
            self.rig.settle_all()
            await asyncio.sleep(0)

    async def ends_with(self, kind: type[Exception]) -> Exception:
        with pytest.raises(kind) as caught:
            await asyncio.wait_for(self.running, 10)
        return caught.value

    def packet(self, sequence: int, kind: str = "K") -> stream_pb2.Packet:
        return stream_pb2.Packet(sequence=sequence, data=kind.encode(), pts=sequence, keyframe=kind == "K")


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    made = Line()
    yield made
    made.running.cancel()
    await asyncio.gather(made.running, return_exceptions=True)


async def test_accepted_comes_first_and_the_account_last(line: Line):
    line.context.say(packets=[line.packet(0), line.packet(1, "P")])
    await line.settle()
    line.context.half_close()
    await asyncio.sleep(2 * stream_call.HALF_CLOSE_GUARD_S)
    await line.settle()
    await asyncio.wait_for(line.running, 10)
    assert line.context.told[0].WhichOneof("control") == "accepted"
    assert line.context.told[-1].closing_account.analysed == 2
    indices = [verdict.verdict_index for message in line.context.told for verdict in message.verdicts]
    assert indices == [0, 1]
    assert not line.rig.session.connected


async def test_a_silent_client_is_ended(line: Line):
    line.call.tick(line.call._heard_s + 3 * INTERVAL_S)
    await asyncio.sleep(0)
    assert not line.running.done()
    line.call.tick(line.call._heard_s + 3 * INTERVAL_S + 0.1)
    await line.ends_with(SilentError)
    assert not line.rig.session.connected


async def test_a_silent_client_is_ended_although_it_does_not_read(line: Line):
    await line.settle()
    line.context.hears.clear()
    line.context.say(packets=[line.packet(n) for n in range(3)])
    await line.settle()
    line.call.tick(line.call._heard_s + 4 * INTERVAL_S)
    await line.settle()
    assert not line.rig.session.connected, "the session does not wait for the client to read"
    assert line.call.is_over
    line.context.hears.set()
    await line.ends_with(SilentError)


async def test_silence_is_no_fault_of_a_client_that_has_half_closed(line: Line):
    line.context.say(packets=[line.packet(0)])
    line.context.half_close()
    await asyncio.sleep(2 * stream_call.HALF_CLOSE_GUARD_S)
    line.call.tick(line.call._heard_s + 100 * INTERVAL_S)
    await line.settle()
    await asyncio.wait_for(line.running, 10)


async def test_a_heartbeat_is_sent_when_nothing_else_was(line: Line):
    await line.settle()
    line.call.tick(line.call._spoke_s + INTERVAL_S + 0.1)
    await line.settle()
    assert line.context.told[-1].WhichOneof("control") == "heartbeat"


@pytest.mark.parametrize("ends", ["displaced", "refused"])
async def test_a_call_ends_only_after_the_message_that_is_being_written(line: Line, ends: str):
    await line.settle()
    line.context.hears.clear()
    line.context.say(packets=[line.packet(0)])
    await line.settle()
    told = len(line.context.told)
    if ends == "displaced":
        line.rig.connect()
    else:
        line.context.say(config=stream_pb2.StreamConfig())
    await line.settle()
    assert not line.running.done(), "gRPC refuses a status while a message is being written"
    line.call.drain(1.0)
    line.context.hears.set()
    await line.ends_with(DisplacedError if ends == "displaced" else InvalidError)
    assert len(line.context.told) == told + 1, "nothing is begun after the end"


async def test_a_client_that_reads_nothing_does_not_hold_up_the_end(line: Line, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream_call, "LAST_WRITE_S", 0.05)
    await line.settle()
    line.context.hears.clear()
    line.context.say(packets=[line.packet(0)])
    await line.settle()
    line.rig.connect()
    await line.ends_with(DisplacedError)


async def test_a_displaced_call_takes_and_tells_nothing_more(line: Line):
    line.context.hears.clear()
    line.context.say(packets=[line.packet(0)])
    await line.settle()
    line.rig.connect()
    line.context.say(packets=[line.packet(1)])
    line.context.half_close()
    line.context.hears.set()
    await line.ends_with(DisplacedError)
    await asyncio.sleep(2 * stream_call.HALF_CLOSE_GUARD_S)
    assert line.rig.session.connected
    assert line.rig.session.account.packets_received == 1
    line.rig.settle_all()
    line.rig.session.finish()
    line.rig.settle_all()
    # The verdict waits for the connection that has the session now.
    line.rig.hear()
    assert [index for index, _ in line.rig.told] == [0]


async def test_a_config_that_comes_twice_ends_the_call(line: Line):
    line.context.say(config=stream_pb2.StreamConfig())
    error = await line.ends_with(InvalidError)
    assert isinstance(error, InvalidError)
    assert error.reason == "CONFIG_TWICE"


async def test_a_message_over_the_limit_ends_the_call_before_it_is_taken(line: Line):
    line.context.say(packets=[stream_pb2.Packet(sequence=0, data=bytes(65 * 1024))])
    await line.ends_with(LimitError)
    assert line.rig.session.account.packets_received == 0


async def test_the_clock_is_answered(line: Line):
    asked = stream_pb2.ClockSync()
    asked.client_send_time.FromSeconds(5)
    line.context.say(clock_sync=asked)
    await line.settle()
    answer = next(message.clock_sync for message in line.context.told if message.HasField("clock_sync"))
    assert answer.client_send_time.seconds == 5
    assert answer.server_receive_time.ToNanoseconds() <= answer.server_send_time.ToNanoseconds()


async def test_a_client_that_does_not_read_its_answers_is_not_read_either(line: Line):
    await line.settle()
    line.context.hears.clear()
    asked = 4 * stream_call.MAX_WAITING_REPLIES
    for _ in range(asked):
        line.context.say(clock_sync=stream_pb2.ClockSync())
        await line.settle()
    assert line.context.says.qsize() >= 2 * stream_call.MAX_WAITING_REPLIES
    line.context.hears.set()
    await line.settle()
    for _ in range(asked):
        await line.settle()
    assert sum(message.HasField("clock_sync") for message in line.context.told) == asked


async def test_a_client_that_never_reads_its_answers_is_ended(line: Line):
    await line.settle()
    line.context.hears.clear()
    for _ in range(4 * stream_call.MAX_WAITING_REPLIES):
        line.context.say(clock_sync=stream_pb2.ClockSync())
        await line.settle()
    line.call.tick(line.call._heard_s + 4 * INTERVAL_S)
    await line.settle()
    assert not line.rig.session.connected
    line.context.hears.set()
    error = await line.ends_with(LimitError)
    assert isinstance(error, LimitError)
    assert error.reason == "UNREAD_REPLIES"


async def test_heartbeats_do_not_pile_up_before_a_client_that_does_not_read(line: Line):
    await line.settle()
    line.context.hears.clear()
    for beats in range(1, 20):
        line.call._heard_s = line.call._spoke_s + beats * (INTERVAL_S + 1)
        line.call.tick(line.call._heard_s)
        await line.settle()
    line.context.hears.set()
    await line.settle()
    assert sum(message.HasField("heartbeat") for message in line.context.told) <= 2


async def test_a_client_is_told_of_a_drain(line: Line):
    line.call.drain(7.5)
    await line.settle()
    assert line.context.told[-1].drain.grace.ToMilliseconds() == 7500


async def test_a_connection_that_cannot_be_written_to_is_no_error_of_ours(line: Line, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream_call, "GONE_S", 0.01)
    await line.settle()
    line.context.broken = True
    line.context.say(packets=[line.packet(0)])
    await line.settle()
    await line.ends_with(UnavailableError)


async def test_verdicts_come_in_messages_of_bounded_size(line: Line, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream_call, "VERDICTS_PER_MESSAGE", 4)
    await line.settle()
    line.context.hears.clear()
    for sequence in range(11):
        line.context.say(packets=[line.packet(sequence)])
        await line.settle()
    line.context.hears.set()
    await line.settle()
    sizes = [len(message.verdicts) for message in line.context.told]
    # The last picture waits for one after it, or for the end.
    assert sum(sizes) == 10
    assert max(sizes) == 4
