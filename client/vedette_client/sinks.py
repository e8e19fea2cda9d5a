"""See where a server delivers its events to, and have it put through again what was refused.

```python
async with Client("localhost:50051") as client:
    for sink in await client.sinks.list():
        if sink.dead_letters and not sink.failing:
            print(await client.sinks.replay(sink.name))
```
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette.v1 import sink_pb2, sink_pb2_grpc
from vedette_client.calls import Calls

if TYPE_CHECKING:
    from vedette_client.connection import ChannelPool

ABSENT = "this server has no sinks; it can when it is started with --state DIR and --sinks FILE"
REPLAY_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Sink:
    """Where a server delivers events to, and how that goes.

    Attributes:
        name: Its name.
        kind: `webhook`, `mqtt`, `jsonl`, or that of a plug-in.
        delivered: Messages that were taken since the server started.
        failed: Tries that failed since then.
        dead_letters: Messages that were given up and are kept.
        dead_letters_lost: Messages that were given up and had to make room for later ones.
        lag: Records of the chain of events that it has still to look at.
        failing: Why it fails now, in words; empty: it does not.
    """

    name: str
    kind: str
    delivered: int = 0
    failed: int = 0
    dead_letters: int = 0
    dead_letters_lost: int = 0
    lag: int = 0
    failing: str = ""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of dead letters that were put through again.

    Attributes:
        delivered: Messages that were taken.
        kept: Messages that failed again and are kept.
        reason: Why the last of those failed, in words; empty: none did, or the server is too old to say.
    """

    delivered: int
    kept: int
    reason: str = ""


class Sinks:
    """The sinks of one server; `Client.sinks` gives it.

    All calls raise RefusedError, with the server's reason, and ConnectionLostError.
    """

    def __init__(self, pool: ChannelPool, address: str) -> None:
        self._calls = Calls(pool, address, sink_pb2_grpc.SinkServiceStub, ABSENT)

    async def list(self) -> list[Sink]:
        """List the sinks, by name."""
        answer = await self._calls.ask("ListSinks", sink_pb2.ListSinksRequest())
        return [_from_wire(one) for one in answer.sinks]

    async def replay(self, name: str, *, timeout_s: float = REPLAY_TIMEOUT_S) -> Replayed:
        """Put a sink's dead letters through again, the oldest first, and wait until that is done.

        Args:
            name: The sink.
            timeout_s: Wait so long; the server goes on all the same.

        Raises:
            RefusedError: There is no such sink (`NOT_FOUND`), or it does so already (`FAILED_PRECONDITION`).
        """
        request = sink_pb2.ReplayDeadLettersRequest(name=name)
        answer = await self._calls.ask("ReplayDeadLetters", request, timeout_s)
        return Replayed(answer.delivered, answer.kept, answer.reason)


def _from_wire(wire: sink_pb2.Sink) -> Sink:
    return Sink(
        name=wire.name,
        kind=wire.kind,
        delivered=wire.delivered,
        failed=wire.failed,
        dead_letters=wire.dead_letters,
        dead_letters_lost=wire.dead_letters_lost,
        lag=wire.lag,
        failing=wire.failing,
    )
