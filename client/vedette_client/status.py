"""Turn a gRPC status into one of our errors; the only place that knows the codes."""

from __future__ import annotations

import grpc
from google.rpc import error_details_pb2, status_pb2

from vedette_client.errors import ClientError, ConnectionLostError, RefusedError

_DETAILS = "grpc-status-details-bin"

_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.DATA_LOSS,
}
_PASSING_LATER = {grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.FAILED_PRECONDITION}
"""On a reconnect the channel may be held by the dead connection for a while."""


def error_from_rpc(error: grpc.aio.AioRpcError, *, reconnecting: bool = False) -> ClientError:
    """Choose the error that fits a failed call.

    Args:
        error: As gRPC raised it.
        reconnecting: An earlier connection of the same stream may still be dying.
    """
    code, text = error.code(), error.details() or ""
    info = _error_info(error)
    if code in _PASSING or (reconnecting and code in _PASSING_LATER):
        return ConnectionLostError(f"{text or 'the connection broke'} ({code.name})")
    return RefusedError(code.name, info.reason, text or "the server gave no words", info.metadata)


def _error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info):
                    return info
    return info
