"""SessionService: the accounts of sessions, while they live and after."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from vedette.v1 import session_pb2, session_pb2_grpc
from vedette_server.errors import InvalidError
from vedette_server.rpc.answers import session_to_wire
from vedette_server.rpc.auth import Permission
from vedette_server.rpc.status import ending

if TYPE_CHECKING:
    import grpc

    from vedette_server.rpc.auth import Authenticator
    from vedette_server.session.registry import Registry

_NAME = re.compile(r"channels/([A-Za-z0-9._-]{1,128})/sessions/([A-Za-z0-9_-]{1,64})")
_PARENT = re.compile(r"channels/([A-Za-z0-9._-]{1,128})")
DEFAULT_PAGE = 100
LARGEST_PAGE = 1000


class SessionService(session_pb2_grpc.SessionServiceServicer):
    """Tells about sessions.

    Args:
        registry: The sessions.
        authenticator: Knows who may watch.
    """

    def __init__(self, registry: Registry, authenticator: Authenticator) -> None:
        self._registry = registry
        self._authenticator = authenticator

    async def GetSession(  # noqa: N802 - the contract's name
        self, request: session_pb2.GetSessionRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> session_pb2.GetSessionResponse:
        """Get the account of a session."""
        async with ending(context):
            return self._get(request, context)

    async def ListSessions(  # noqa: N802 - the contract's name
        self, request: session_pb2.ListSessionsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> session_pb2.ListSessionsResponse:
        """List the sessions that the server remembers."""
        async with ending(context):
            return self._list(request, context)

    def _get(
        self, request: session_pb2.GetSessionRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> session_pb2.GetSessionResponse:
        match = _NAME.fullmatch(request.name)
        if match is None:
            raise InvalidError(
                "INVALID_NAME", f"name is {request.name!r}; allowed: channels/{{channel}}/sessions/{{session}}"
            )
        self._authenticator.authorize(context.invocation_metadata() or (), Permission.WATCH, match[1])
        return session_pb2.GetSessionResponse(session=session_to_wire(self._registry.get(match[1], match[2])))

    def _list(
        self, request: session_pb2.ListSessionsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> session_pb2.ListSessionsResponse:
        match = _PARENT.fullmatch(request.parent)
        if match is None:
            raise InvalidError("INVALID_NAME", f"parent is {request.parent!r}; allowed: channels/{{channel}}")
        if not 0 <= request.page_size <= LARGEST_PAGE:
            raise InvalidError(
                "INVALID_PAGE_SIZE", f"page_size is {request.page_size}; allowed: 0 (100) to {LARGEST_PAGE}"
            )
        channel = "" if match[1] == "-" else match[1]
        self._authenticator.authorize(context.invocation_metadata() or (), Permission.WATCH, channel)
        sessions = [one for one in self._registry.all() if channel in {"", one.identity.channel}]
        start = _position(request.page_token, [one.identity.name for one in sessions])
        page = sessions[start : start + (request.page_size or DEFAULT_PAGE)]
        more = start + len(page) < len(sessions)
        return session_pb2.ListSessionsResponse(
            sessions=[session_to_wire(one) for one in page],
            next_page_token=page[-1].identity.name if page and more else "",
        )


def _position(token: str, names: list[str]) -> int:
    """Find where a page starts: behind the last session of the page before."""
    if not token:
        return 0
    try:
        return names.index(token) + 1
    except ValueError:
        raise InvalidError("INVALID_PAGE_TOKEN", f"page_token {token!r} is not one that was given") from None
