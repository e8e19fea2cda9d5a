"""Give every error its canonical code and exactly one `google.rpc.ErrorInfo`.

The only place that knows both our errors and gRPC's codes. Called from the event loop by the services,
when a call ends with anything but OK.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from vedette_server import errors
from vedette_server.store.errors import StoreUnavailableError, StoreUnusableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

DOMAIN = "vedette.v1"

# Message and details travel in the trailing metadata, of which a peer takes 8 KiB; a character of the
# message takes up to 12 bytes there.
_MAX_MESSAGE_CHARS = 400
_MAX_VALUE_CHARS = 128
_MAX_VALUES = 8

_CODES: tuple[tuple[type[errors.VedetteError], grpc.StatusCode], ...] = (
    (errors.InvalidError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NotFoundError, grpc.StatusCode.NOT_FOUND),
    (errors.ConflictError, grpc.StatusCode.ALREADY_EXISTS),
    (errors.LimitError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.UnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED),
    (errors.ForbiddenError, grpc.StatusCode.PERMISSION_DENIED),
    (errors.UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (errors.StateError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.OutdatedError, grpc.StatusCode.ABORTED),
    (errors.DamagedError, grpc.StatusCode.DATA_LOSS),
    (errors.SilentError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.DisplacedError, grpc.StatusCode.ABORTED),
    (StoreUnusableError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.EvidenceBusyError, grpc.StatusCode.UNAVAILABLE),
    (errors.EvidenceError, grpc.StatusCode.FAILED_PRECONDITION),
)

_log = logging.getLogger(__name__)


def canonical_code(error: BaseException) -> grpc.StatusCode:
    """Tell the canonical code of an error; INTERNAL for whatever was not foreseen."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return grpc.StatusCode.INTERNAL


def rich_status(error: BaseException) -> grpc.Status:
    """Turn an error into a status with code, message and one ErrorInfo.

    Only what a RefusedError, an EngineError, or an error of the store or of evidence says reaches the client; of any
    other error it learns nothing but that it happened.
    """
    code = canonical_code(error)
    reason, message, metadata = _facts(error)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=_short(metadata))
    status = status_pb2.Status(code=code.value[0], message=_clean(message, _MAX_MESSAGE_CHARS))
    status.details.add().Pack(info)
    return rpc_status.to_status(status)


async def end(context: grpc.aio.ServicerContext[Any, Any], error: BaseException) -> NoReturn:
    """End a call with the status of ``error``; what was not foreseen is logged with its traceback.

    A client that does not read what was written before cannot be told: its call is cancelled.

    Raises:
        grpc.aio.AbortError: The call has its status; that is how grpc.aio ends a call.
        asyncio.CancelledError: It could not be told.
    """
    if not isinstance(error, errors.RefusedError):
        _log.error("call failed", exc_info=error)
    try:
        await context.abort_with_status(rich_status(error))
    except grpc.aio.AbortError:
        raise
    except grpc.aio.InternalError:
        _log.info("a call was cut: its client cannot be told %s", error)
        raise asyncio.CancelledError from None
    raise AssertionError("abort_with_status returned")


@asynccontextmanager
async def ending(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """End the call with the status of whatever error leaves the block.

    Left to itself, grpc.aio would tell the client type and text of an error that nobody foresaw.
    """
    try:
        yield
    except grpc.aio.AbortError:
        raise
    except Exception as error:  # noqa: BLE001 - `end` logs what was not foreseen
        await end(context, error)


def _facts(error: BaseException) -> tuple[str, str, Mapping[str, str]]:
    if isinstance(error, StoreUnavailableError | StoreUnusableError):
        # The store's own reasons, as FULL, would say too little beside those of the services.
        return f"STORE_{error.reason}", str(error), {}
    if isinstance(error, errors.RefusedError):
        return error.reason, error.message, error.metadata
    if isinstance(error, errors.EngineError):
        return "ENGINE_ERROR", f"the engine failed: {error}", {}
    if isinstance(error, errors.EvidenceError):
        return "EVIDENCE_BUSY" if isinstance(error, errors.EvidenceBusyError) else "EVIDENCE_ERROR", str(error), {}
    return "INTERNAL", "the server met an error that it did not foresee; its log tells more", {}


def _short(metadata: Mapping[str, str]) -> dict[str, str]:
    items = list(metadata.items())[:_MAX_VALUES]
    return {key: _clean(value, _MAX_VALUE_CHARS) for key, value in items}


def _clean(text: str, limit: int) -> str:
    """Cut a text to what a status can carry: valid UTF-8 of bounded length."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= limit else text[: limit - 3] + "..."
