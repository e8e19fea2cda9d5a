"""EngineService, asked over real calls, in front of a control that runs no engine."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from google.protobuf import duration_pb2, field_mask_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from support_steering import WAIT_S, FakeControl, picture, sample, steering_server
from vedette.v1 import engine_pb2 as pb
from vedette.v1 import engine_pb2_grpc
from vedette_server.data.engine import EngineState, RouteChange
from vedette_server.rpc import engine_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path

TOKENS = """
[[tokens]]
name = "camera"
token = "camera-secret"
channels = ["*"]
permissions = ["publish"]

[[tokens]]
name = "desk"
token = "desk-secret"
channels = ["gate"]
permissions = ["watch"]

[[tokens]]
name = "gate keeper"
token = "keeper-secret"
channels = ["gate"]
permissions = ["watch", "administer"]

[[tokens]]
name = "head"
token = "head-secret"
channels = ["*"]
permissions = ["watch", "administer"]
"""


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.toml"
    file.write_text(TOKENS)
    return file


@asynccontextmanager
async def asking(control: FakeControl, tokens: Path | None = None) -> AsyncIterator[Any]:
    async with steering_server(control, tokens) as address, grpc.aio.insecure_channel(address) as channel:
        yield engine_pb2_grpc.EngineServiceStub(channel)


async def refusal(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str, str]:
    """Await a call that must fail; tell its code, its one reason and its words."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    rich = rpc_status.from_call(caught.value)
    assert rich is not None
    assert len(rich.details) == 1
    info = error_details_pb2.ErrorInfo()
    assert rich.details[0].Unpack(info)
    return caught.value.code(), info.reason, caught.value.details() or ""


def update(engine: str, *paths: str, revision: int | None = None, **values: Any) -> pb.UpdateRouteRequest:
    request = pb.UpdateRouteRequest(
        route=pb.Route(name=f"engines/{engine}/route", **values), update_mask=field_mask_pb2.FieldMask(paths=paths)
    )
    if revision is not None:
        request.revision = revision
    return request


async def test_engines_are_listed_by_name_with_their_versions_and_routes(control: FakeControl) -> None:
    async with asking(control) as stub:
        answer = await stub.ListEngines(pb.ListEnginesRequest())
    assert [one.name for one in answer.engines] == ["engines/person", "engines/scene", "engines/torn"]
    person, scene, torn = answer.engines
    assert [one.name for one in person.versions] == [f"engines/person/versions/{n}" for n in (3, 2, 1)]
    running = person.versions[2]
    assert (running.state, running.task) == (pb.ENGINE_STATE_READY, pb.ENGINE_TASK_DETECTOR)
    assert (running.width, running.height, list(running.labels)) == (96, 64, ["person", "car"])
    assert (running.backend, running.precision, running.file) == ("CPUExecutionProvider", "fp32", "model.onnx")
    assert (running.lanes, running.max_batch, running.memory_bytes) == (2, 8, 12_300_000)
    assert (person.route.stable, person.route.follows, person.route.persistent) == ("1", True, True)
    assert scene.versions[0].task == pb.ENGINE_TASK_CLASSIFIER
    assert (torn.versions[0].state, torn.versions[0].reason) == (pb.ENGINE_STATE_BAD, "model.onnx: its sha256 differs")
    assert not torn.HasField("route")


async def test_every_state_of_an_engine_has_its_word_in_the_contract(control: FakeControl) -> None:
    for state in EngineState:
        control.all["person", "3"] = type(control.all["person", "3"])("person", "3", state)
        async with asking(control) as stub:
            answer = await stub.GetEngine(pb.GetEngineRequest(name="engines/person"))
        assert pb.EngineState.Name(answer.engine.versions[0].state) == f"ENGINE_STATE_{state.name}"


async def test_pages_together_are_the_whole_list(control: FakeControl) -> None:
    seen, token = [], ""
    async with asking(control) as stub:
        for _ in range(3):
            answer = await stub.ListEngines(pb.ListEnginesRequest(page_size=1, page_token=token))
            seen += [one.name for one in answer.engines]
            token = answer.next_page_token
    assert seen == ["engines/person", "engines/scene", "engines/torn"]
    assert token == ""


async def test_a_version_is_loaded_and_let_go_of(control: FakeControl) -> None:
    async with asking(control) as stub:
        loaded = await stub.LoadEngine(pb.LoadEngineRequest(name="engines/person/versions/2"))
        assert loaded.version.state == pb.ENGINE_STATE_READY
        newest = await stub.LoadEngine(pb.LoadEngineRequest(name="engines/person"))
        assert newest.version.name == "engines/person/versions/3"
        gone = await stub.UnloadEngine(pb.UnloadEngineRequest(name="engines/person/versions/2"))
        assert gone.version.state == pb.ENGINE_STATE_AVAILABLE
    assert control.asked == [("load", "person", "2"), ("load", "person", ""), ("unload", "person", "2")]


async def test_only_what_the_mask_names_is_changed(control: FakeControl) -> None:
    async with asking(control) as stub:
        request = update("person", "canary", "canary_share", canary="2", canary_share=0.25, shadow="3", stable="3")
        route = (await stub.UpdateRoute(request)).route
        assert (route.stable, route.canary, route.canary_share, route.shadow) == ("1", "2", 0.25, "")
        route = (await stub.UpdateRoute(update("person", "canary_share", revision=1, canary_share=0.5))).route
        assert (route.canary, route.canary_share, route.revision) == ("2", 0.5, 2)
        route = (await stub.UpdateRoute(update("person", "canary", "stable"))).route
        assert (route.canary, route.stable, route.follows, list(route.previous)) == ("", "3", True, ["1"])
        assert (await stub.GetRoute(pb.GetRouteRequest(name="engines/person/route"))).route == route
    assert control.asked[0][2] == RouteChange(canary="2", canary_share=0.25)


async def test_a_canary_is_promoted_and_rolled_back_from(control: FakeControl) -> None:
    async with asking(control) as stub:
        await stub.UpdateRoute(update("person", "canary", "canary_share", canary="2", canary_share=0.25))
        route = (await stub.PromoteEngine(pb.PromoteEngineRequest(name="engines/person"))).route
        assert (route.stable, route.canary) == ("2", "")
        route = (await stub.RollBackEngine(pb.RollBackEngineRequest(name="engines/person"))).route
        assert route.stable == "1"
        engine = (await stub.GetEngine(pb.GetEngineRequest(name="engines/person"))).engine
        assert [one.withdrawn for one in engine.versions] == [False, True, False]
        route = (await stub.RollBackEngine(pb.RollBackEngineRequest(name="engines/person", to_version="3"))).route
        assert route.stable == "3"


async def test_what_the_control_refuses_has_its_code_and_its_reason(control: FakeControl) -> None:
    async with asking(control) as stub:
        assert await refusal(stub.UpdateRoute(update("person", "shadow", revision=9, shadow="2"))) == (
            grpc.StatusCode.ABORTED,
            "ROUTE_CHANGED",
            "the revision is 0, not 9",
        )
        code, reason, _ = await refusal(stub.PromoteEngine(pb.PromoteEngineRequest(name="engines/person")))
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOTHING_TO_PROMOTE")
        code, reason, _ = await refusal(stub.UnloadEngine(pb.UnloadEngineRequest(name="engines/person/versions/1")))
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ENGINE_IN_USE")
        code, reason, _ = await refusal(stub.GetEngine(pb.GetEngineRequest(name="engines/nobody")))
        assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "ENGINE_NOT_FOUND")
        code, reason, _ = await refusal(stub.GetShadowReport(pb.GetShadowReportRequest(name="engines/person/shadow")))
        assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "NO_SHADOW")


async def test_an_engine_that_cannot_be_loaded_is_told_with_its_words(control: FakeControl) -> None:
    control.fault = "engine person 3 needs 5 GB, 1 GB is left of the budget"
    async with asking(control) as stub:
        told = await refusal(stub.LoadEngine(pb.LoadEngineRequest(name="engines/person")))
    assert told == (grpc.StatusCode.FAILED_PRECONDITION, "ENGINE_NOT_LOADABLE", control.fault)


WRONG = [
    ("GetEngine", pb.GetEngineRequest(name="person"), "INVALID_NAME"),
    ("GetEngine", pb.GetEngineRequest(name="engines/../etc"), "INVALID_NAME"),
    ("GetRoute", pb.GetRouteRequest(name="engines/person"), "INVALID_NAME"),
    ("LoadEngine", pb.LoadEngineRequest(name="engines/person/versions/"), "INVALID_NAME"),
    ("UnloadEngine", pb.UnloadEngineRequest(name="engines/person"), "INVALID_NAME"),
    ("PromoteEngine", pb.PromoteEngineRequest(name=""), "INVALID_NAME"),
    ("RollBackEngine", pb.RollBackEngineRequest(name="engines/person", to_version="../1"), "INVALID_VERSION"),
    ("UpdateRoute", update("person"), "INVALID_UPDATE_MASK"),
    ("UpdateRoute", update("person", "stable", "follows"), "INVALID_UPDATE_MASK"),
    ("UpdateRoute", update("person", "canary_share", canary_share=1.5), "INVALID_CANARY_SHARE"),
    ("UpdateRoute", update("person", "canary_share", canary_share=float("nan")), "INVALID_CANARY_SHARE"),
    ("UpdateRoute", update("person", "shadow", shadow="a b"), "INVALID_VERSION"),
    ("ListEngines", pb.ListEnginesRequest(page_size=-1), "INVALID_PAGE_SIZE"),
    ("ListEngines", pb.ListEnginesRequest(page_size=1001), "INVALID_PAGE_SIZE"),
    ("ListEngines", pb.ListEnginesRequest(page_token="x"), "INVALID_PAGE_TOKEN"),
    ("ListShadowSamples", pb.ListShadowSamplesRequest(parent="engines/person"), "INVALID_NAME"),
]


@pytest.mark.parametrize(("method", "request_", "reason"), WRONG, ids=[f"{m} {i}" for i, (m, *_) in enumerate(WRONG)])
async def test_what_is_wrong_with_a_request_is_named(
    control: FakeControl, method: str, request_: Any, reason: str
) -> None:
    async with asking(control) as stub:
        code, told, words = await refusal(getattr(stub, method)(request_))
    assert (code, told) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert "allowed:" in words or "not one that was given" in words
    assert control.asked == []


def duration(seconds: float) -> duration_pb2.Duration:
    return duration_pb2.Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"interval": duration(0.001)}, "INVALID_INTERVAL"),
        ({"interval": duration(-1)}, "INVALID_INTERVAL"),
        ({"interval": duration(3601)}, "INVALID_INTERVAL"),
        ({"max_frames": 100_001}, "INVALID_MAX_FRAMES"),
        ({"channels": ["gate"]}, "INVALID_CHANNELS"),
    ],
)
async def test_what_is_wrong_with_a_wish_for_frames_is_named(
    control: FakeControl, fields: dict[str, Any], reason: str
) -> None:
    async with asking(control) as stub:
        request = pb.SampleFramesRequest(name="engines/person", **fields)
        code, told, _ = await refusal(anext(aiter(stub.SampleFrames(request))))
    assert (code, told) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert control.samplers == []


async def test_a_long_load_holds_up_nobody_who_looks(control: FakeControl) -> None:
    control.hold.clear()
    async with asking(control) as stub:
        load = asyncio.ensure_future(stub.LoadEngine(pb.LoadEngineRequest(name="engines/person")))
        await asyncio.to_thread(control.loading.wait, WAIT_S)
        assert len((await stub.ListEngines(pb.ListEnginesRequest(), timeout=WAIT_S)).engines) == 3
        assert not load.done()
        control.hold.set()
        assert (await load).version.state == pb.ENGINE_STATE_READY


async def test_a_load_is_finished_though_its_caller_has_gone(control: FakeControl) -> None:
    control.hold.clear()
    async with asking(control) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.LoadEngine(pb.LoadEngineRequest(name="engines/person"), timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert control.all["person", "3"].state == EngineState.AVAILABLE
        control.hold.set()
        async with asyncio.timeout(WAIT_S):
            while control.all["person", "3"].state != EngineState.READY:
                await asyncio.sleep(0.01)


async def test_more_changes_at_once_than_may_wait_are_refused(control: FakeControl) -> None:
    control.hold.clear()
    most = engine_service.CHANGERS + engine_service.CHANGES_WAITING
    async with asking(control) as stub:
        request = pb.LoadEngineRequest(name="engines/person")
        loads = [asyncio.ensure_future(stub.LoadEngine(request)) for _ in range(most)]
        await asyncio.to_thread(control.loading.wait, WAIT_S)
        async with asyncio.timeout(WAIT_S):
            told = await refusal(stub.LoadEngine(request))
        assert told[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        control.hold.set()
        await asyncio.gather(*loads)
        await stub.LoadEngine(request)


async def test_a_shadow_is_told_in_totals_and_samples(control: FakeControl) -> None:
    control.samples = [sample(index) for index in (1, 2, 3)]
    async with asking(control) as stub:
        await stub.UpdateRoute(update("person", "shadow", shadow="2"))
        report = (await stub.GetShadowReport(pb.GetShadowReportRequest(name="engines/person/shadow"))).report
        assert (report.version, report.against, report.compared, report.skipped, report.failed) == (
            "2",
            "1",
            200,
            30,
            1,
        )
        assert (report.differing, report.matched, report.only_stable, report.only_shadow) == (12, 340, 9, 4)
        assert report.score_difference == 0.0125
        answer = await stub.ListShadowSamples(pb.ListShadowSamplesRequest(parent="engines/person/shadow"))
    assert [one.name.rpartition("/")[2] for one in answer.samples] == ["3", "2", "1"]
    newest = answer.samples[0]
    assert (newest.channel, newest.sequence, newest.receive_time.ToMilliseconds()) == (
        "channels/gate",
        103,
        1_700_000_000_500,
    )
    assert [(one.label, one.unmatched) for one in newest.stable] == [("car", False), ("person", True)]
    assert [one.unmatched for one in newest.shadow] == [False]
    assert newest.stable[0].box.y_max == pytest.approx(0.6)
    assert newest.jpeg == b""


async def test_pages_of_samples_go_on_where_they_were_though_new_ones_come(control: FakeControl) -> None:
    control.samples = [sample(index) for index in (1, 2, 3)]
    async with asking(control) as stub:
        await stub.UpdateRoute(update("person", "shadow", shadow="2"))
        request = pb.ListShadowSamplesRequest(parent="engines/person/shadow", page_size=2)
        first = await stub.ListShadowSamples(request)
        control.samples = [sample(index) for index in (2, 3, 4, 5)]
        control.samples.insert(0, sample(1))
        request.page_token = first.next_page_token
        second = await stub.ListShadowSamples(request)
        assert [one.sequence for one in (*first.samples, *second.samples)] == [103, 102, 101]
        assert second.next_page_token == ""
        await stub.UpdateRoute(update("person", "shadow", shadow="3"))
        code, reason, _ = await refusal(stub.ListShadowSamples(request))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


async def test_a_page_of_pictures_stays_within_what_a_message_may_be(control: FakeControl) -> None:
    control.samples = [sample(index, jpeg=bytes(900_000)) for index in range(1, 6)]
    async with asking(control) as stub:
        await stub.UpdateRoute(update("person", "shadow", shadow="2"))
        request = pb.ListShadowSamplesRequest(parent="engines/person/shadow", include_pictures=True)
        sizes = []
        while True:
            answer = await stub.ListShadowSamples(request)
            sizes.append([len(one.jpeg) for one in answer.samples])
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
    assert sizes == [[900_000] * 3, [900_000] * 2]


async def test_frames_are_sent_until_there_are_as_many_as_wanted(control: FakeControl) -> None:
    async with asking(control) as stub:
        request = pb.SampleFramesRequest(name="engines/person", interval=duration(0.25), max_frames=6)
        frames = [answer.frame async for answer in stub.SampleFrames(request)]
        assert await asyncio.to_thread(control.stopped.wait, WAIT_S)
    assert len(frames) == 6
    assert {frame.channel for frame in frames} == {"channels/gate", "channels/yard"}
    assert frames[0].png == picture("PNG", shade=frames[0].sequence)
    assert control.samplers[0][0] == 0.25


async def test_frames_of_other_channels_than_wanted_are_left_out(control: FakeControl) -> None:
    async with asking(control) as stub:
        request = pb.SampleFramesRequest(name="engines/person", max_frames=5, channels=["channels/yard"])
        frames = [answer.frame async for answer in stub.SampleFrames(request)]
    assert {frame.channel for frame in frames} == {"channels/yard"}


async def test_sampling_stops_when_its_caller_goes(control: FakeControl) -> None:
    async with asking(control) as stub:
        call = stub.SampleFrames(pb.SampleFramesRequest(name="engines/person"))
        await anext(aiter(call))
        assert not control.stopped.is_set()
        call.cancel()
        assert await asyncio.to_thread(control.stopped.wait, WAIT_S)


async def test_what_a_slow_caller_did_not_take_is_counted(control: FakeControl) -> None:
    control.channels = ("gate",)
    async with asking(control) as stub:
        answers = []
        async for answer in stub.SampleFrames(pb.SampleFramesRequest(name="engines/person", max_frames=400)):
            answers.append(answer)
            if len(answers) == 1:
                await asyncio.sleep(0.5)
        last = answers[-1].frame.sequence
    assert last - answers[0].frame.sequence == len(answers) - 1 + sum(one.dropped_before for one in answers[1:])


async def test_too_many_samplers_are_refused(control: FakeControl) -> None:
    async with asking(control) as stub:
        request = pb.SampleFramesRequest(name="engines/person")
        calls = [stub.SampleFrames(request) for _ in range(engine_service.MOST_SAMPLERS)]
        await asyncio.gather(*(anext(aiter(call)) for call in calls))
        code, reason, _ = await refusal(anext(aiter(stub.SampleFrames(request))))
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_SAMPLERS")
        for call in calls:
            call.cancel()


CALLS = {
    "look": ("ListEngines", pb.ListEnginesRequest()),
    "look at a route": ("GetRoute", pb.GetRouteRequest(name="engines/person/route")),
    "load": ("LoadEngine", pb.LoadEngineRequest(name="engines/person")),
    "route": ("UpdateRoute", update("person", "shadow", shadow="2")),
    "see samples": ("ListShadowSamples", pb.ListShadowSamplesRequest(parent="engines/person/shadow")),
}
MAY = {
    "camera-secret": set(),
    "desk-secret": {"look", "look at a route"},
    "keeper-secret": {"look", "look at a route"},
    "head-secret": set(CALLS),
}


@pytest.mark.parametrize("token", MAY)
async def test_a_token_may_what_its_permissions_say(control: FakeControl, tokens: Path, token: str) -> None:
    control.routes["person"] = type(control.routes["person"])("person", stable="1", shadow="2")
    allowed = set()
    async with asking(control, tokens) as stub:
        for what, (method, request) in CALLS.items():
            call = getattr(stub, method)(request, metadata=(("authorization", f"Bearer {token}"),))
            try:
                await call
                allowed.add(what)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.PERMISSION_DENIED
                assert "may not" in (error.details() or "")
    assert allowed == MAY[token]


async def test_pictures_are_for_those_who_administer_their_channels(control: FakeControl, tokens: Path) -> None:
    async def sampled(stub: Any, token: str, *channels: str) -> grpc.StatusCode:
        request = pb.SampleFramesRequest(name="engines/person", max_frames=1, channels=channels)
        call = stub.SampleFrames(request, metadata=(("authorization", f"Bearer {token}"),))
        try:
            async for answer in call:
                assert not channels or answer.frame.channel in channels
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    async with asking(control, tokens) as stub:
        assert await sampled(stub, "desk-secret", "channels/gate") is grpc.StatusCode.PERMISSION_DENIED
        assert await sampled(stub, "keeper-secret", "channels/gate") is grpc.StatusCode.OK
        assert await sampled(stub, "keeper-secret", "channels/gate", "channels/yard") is (
            grpc.StatusCode.PERMISSION_DENIED
        )
        assert await sampled(stub, "keeper-secret") is grpc.StatusCode.PERMISSION_DENIED
        assert await sampled(stub, "head-secret") is grpc.StatusCode.OK
        code, reason, _ = await refusal(stub.ListEngines(pb.ListEnginesRequest()))
        assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "NO_TOKEN")
