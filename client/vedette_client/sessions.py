"""Ask a server for its sessions and their accounts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from vedette.v1 import session_pb2, session_pb2_grpc
from vedette_client.account import Account, account_from_wire
from vedette_client.status import error_from_rpc

if TYPE_CHECKING:
    from vedette_client.connection import ChannelPool

_PAGE = 1000
_TIMEOUT_S = 10.0


class SessionState(IntEnum):
    """Where a session stands."""

    UNKNOWN = 0
    CONNECTED = 1
    DETACHED = 2
    ENDED = 3


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One session of one channel, as the server tells it.

    Attributes:
        name: `channels/{channel}/sessions/{session}`.
        state: Where it stands.
        create_time_ns: When it began, nanoseconds since the epoch.
        end_time_ns: When it ended; None while it lives.
        end_reason: Why it ended, UPPER_SNAKE; empty while it lives.
        account: Its totals.
        pending: Packets that have no verdict yet.
    """

    name: str
    state: SessionState
    create_time_ns: int
    end_time_ns: int | None
    end_reason: str
    account: Account
    pending: int


class SessionService:
    """The calls about sessions, to one server."""

    def __init__(self, pool: ChannelPool, address: str) -> None:
        self._pool = pool
        self._address = address

    async def get(self, name: str) -> SessionInfo:
        """Get one session.

        Raises:
            RefusedError: It is unknown or forgotten.
            ConnectionLostError: The server cannot be reached.
        """
        lease = self._pool.acquire(self._address)
        try:
            stub = session_pb2_grpc.SessionServiceStub(lease.channel)
            answer = await stub.GetSession(
                session_pb2.GetSessionRequest(name=name), timeout=_TIMEOUT_S, metadata=self._pool.metadata
            )
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        finally:
            await self._pool.release(lease)
        return _session_info(answer.session)

    async def list(self, parent: str, limit: int) -> list[SessionInfo]:
        """List sessions, newest first, page by page.

        Raises:
            RefusedError: The token does not allow it.
            ConnectionLostError: The server cannot be reached.
        """
        found: list[SessionInfo] = []
        request = session_pb2.ListSessionsRequest(parent=parent)
        lease = self._pool.acquire(self._address)
        try:
            stub = session_pb2_grpc.SessionServiceStub(lease.channel)
            while len(found) < limit:
                request.page_size = min(_PAGE, limit - len(found))
                answer = await stub.ListSessions(request, timeout=_TIMEOUT_S, metadata=self._pool.metadata)
                found += [_session_info(session) for session in answer.sessions]
                request.page_token = answer.next_page_token
                if not request.page_token:
                    break
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        finally:
            await self._pool.release(lease)
        return found[:limit]


def _session_info(wire: session_pb2.Session) -> SessionInfo:
    known = wire.state in {state.value for state in SessionState}
    return SessionInfo(
        name=wire.name,
        state=SessionState(int(wire.state)) if known else SessionState.UNKNOWN,
        create_time_ns=wire.create_time.ToNanoseconds(),
        end_time_ns=wire.end_time.ToNanoseconds() if wire.HasField("end_time") else None,
        end_reason=wire.end_reason,
        account=account_from_wire(wire.account),
        pending=wire.account.packets_pending,
    )
