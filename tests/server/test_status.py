from __future__ import annotations

import asyncio
import logging

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from support_edge import METHOD, echo_server
from vedette_server import errors
from vedette_server.rpc import status
from vedette_server.store.errors import StoreUnavailableError, StoreUnusableError

CODES = [
    (errors.InvalidError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NotFoundError, grpc.StatusCode.NOT_FOUND),
    (errors.ConflictError, grpc.StatusCode.ALREADY_EXISTS),
    (errors.LimitError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.PictureTooLargeError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.UnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED),
    (errors.ForbiddenError, grpc.StatusCode.PERMISSION_DENIED),
    (errors.UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (errors.StateError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.OutdatedError, grpc.StatusCode.ABORTED),
    (errors.DamagedError, grpc.StatusCode.DATA_LOSS),
    (errors.SilentError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.DisplacedError, grpc.StatusCode.ABORTED),
]


async def outcome(error: BaseException) -> tuple[grpc.aio.AioRpcError, error_details_pb2.ErrorInfo]:
    """End a real call with an error, and give what the client sees of it."""

    async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await status.end(context, error)

    async with echo_server(answer) as address, grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(METHOD)(b"")
    rich = rpc_status.from_call(caught.value)
    assert rich is not None
    assert len(rich.details) == 1
    info = error_details_pb2.ErrorInfo()
    assert rich.details[0].Unpack(info)
    assert info.domain == "vedette.v1"
    return caught.value, info


@pytest.mark.parametrize(("kind", "code"), CODES)
async def test_a_refusal_ends_the_call_with_its_code_and_one_error_info(kind, code):
    seen, info = await outcome(kind("SOME_REASON", "thing is 5; allowed: 6", field="thing", channel="gate"))
    assert seen.code() is code
    assert seen.details() == "thing is 5; allowed: 6"
    assert info.reason == "SOME_REASON"
    assert dict(info.metadata) == {"field": "thing", "channel": "gate"}


def test_every_refusal_of_the_tree_has_a_code_of_its_own():
    def leaves(kind):
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]

    for kind in leaves(errors.RefusedError)[1:]:
        assert status.canonical_code(kind("R", "m")) is not grpc.StatusCode.INTERNAL, kind


async def test_an_engine_that_fails_is_internal_and_says_so(caplog):
    seen, info = await outcome(errors.EngineError("out of memory"))
    assert seen.code() is grpc.StatusCode.INTERNAL
    assert info.reason == "ENGINE_ERROR"
    assert "out of memory" in seen.details()


async def test_what_was_not_foreseen_is_logged_and_tells_the_client_nothing(caplog):
    with caplog.at_level(logging.ERROR, "vedette_server"):
        seen, info = await outcome(ZeroDivisionError("secret of the house"))
    assert seen.code() is grpc.StatusCode.INTERNAL
    assert info.reason == "INTERNAL"
    assert "secret" not in seen.details()
    assert "ZeroDivisionError" not in seen.details()
    assert "secret of the house" in caplog.text


async def test_a_refusal_of_any_length_and_script_reaches_the_client():
    long = "ü" * 50_000 + "\udc80"
    seen, info = await outcome(errors.InvalidError("TOO_LONG", long, **{f"k{n}": long for n in range(20)}))
    assert seen.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert seen.details().startswith("üüü")
    assert seen.details().endswith("...")
    assert info.reason == "TOO_LONG"


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (errors.NotFoundError("UNKNOWN_ENGINE", "engine is 'x'"), grpc.StatusCode.NOT_FOUND, "UNKNOWN_ENGINE"),
        (KeyError("secret of the house"), grpc.StatusCode.INTERNAL, "INTERNAL"),
    ],
)
async def test_whatever_leaves_an_ending_block_ends_the_call_with_its_status(error, code, reason, caplog):
    async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        async with status.ending(context):
            if request == b"end":
                await status.end(context, error)
            if request == b"raise":
                raise error
        return b"fine"

    async with echo_server(answer) as address, grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(METHOD)
        assert await call(b"") == b"fine"
        for request in (b"raise", b"end"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(request)
            assert caught.value.code() is code
            assert "secret" not in caught.value.details()
            rich = rpc_status.from_call(caught.value)
            info = error_details_pb2.ErrorInfo()
            assert rich.details[0].Unpack(info)
            assert info.reason == reason


async def test_a_client_that_reads_nothing_is_cut_without_a_traceback(caplog):
    writing: list[asyncio.Task[None]] = []

    async def answer(requests: object, context: grpc.aio.ServicerContext) -> None:
        async with status.ending(context):
            writing.append(asyncio.create_task(context.write(bytes(8 << 20))))
            await asyncio.sleep(0.2)
            raise errors.DisplacedError("TAKEN_OVER", "another has it")

    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("vedette.test.Deaf", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        call = channel.stream_stream("/vedette.test.Deaf/Call")()
        await asyncio.sleep(0.6)
        assert writing
        assert not writing[0].done() or writing[0].exception() is not None
        call.cancel()
    await server.stop(0)
    await asyncio.gather(*writing, return_exceptions=True)
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (StoreUnavailableError("FULL", "store x: the disk is full"), grpc.StatusCode.UNAVAILABLE, "STORE_FULL"),
        (StoreUnusableError("CORRUPT", "store x: damaged"), grpc.StatusCode.FAILED_PRECONDITION, "STORE_CORRUPT"),
        (errors.EvidenceError("clip.mp4 cannot be read"), grpc.StatusCode.FAILED_PRECONDITION, "EVIDENCE_ERROR"),
        (errors.EvidenceBusyError("no turn came"), grpc.StatusCode.UNAVAILABLE, "EVIDENCE_BUSY"),
    ],
)
async def test_what_fails_behind_the_services_is_told_with_its_reason(error, code, reason):
    seen, info = await outcome(error)
    assert (seen.code(), seen.details(), info.reason) == (code, str(error), reason)
