"""How a version comes to run on the GPUs that are there, with what the settings say."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from support_bundles import toy_bundle
from support_gpu_serving import Gpus
from vedette_engines.runners.base import BatchMode
from vedette_server.errors import EngineError
from vedette_server.execute.device import DeviceInference
from vedette_server.execute.hosting import Hooks, Host, parts_of
from vedette_server.execute.loading import runner_settings
from vedette_server.execute.local import LocalInference
from vedette_server.execute.opener import GpuOpener
from vedette_server.metrics_figures import EngineMetrics
from vedette_server.settings import EngineSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vedette_engines.bundle import Bundle
    from vedette_server.execute.client import LoadedInference
    from vedette_server.execute.opener import Opener

SETTINGS = EngineSettings(tune_budget_s=0.0)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return toy_bundle(tmp_path)


class House:
    """Versions that run, and are closed at the end."""

    def __init__(self) -> None:
        self.hosted: list[LoadedInference] = []
        self.openers: list[Opener] = []
        self.lost: list[tuple[int, str]] = []

    def host(self, bundle: Bundle, opener: Opener, like: LoadedInference | None = None, **settings: Any) -> Any:
        self.openers.append(opener)
        host = Host(replace(SETTINGS, **settings), opener, lambda gpu, why: self.lost.append((gpu, why)))
        return self.on(host, bundle, like)

    def on(self, host: Host, bundle: Bundle, like: LoadedInference | None = None) -> Any:
        def nothing(*_: object) -> None:
            pass

        hooks = Hooks(nothing, nothing, nothing, nothing, EngineMetrics("toy", "1"))
        self.hosted.append(host.host(bundle, like, hooks))
        return self.hosted[-1]

    def close(self) -> None:
        for inference in self.hosted:
            inference.close()
        for opener in self.openers:
            opener.close()


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.close()


def test_one_gpu_needs_nothing_around_it_and_several_are_one_engine(bundle: Bundle, house: House):
    one = house.host(bundle, Gpus(1).opener)
    assert isinstance(one, DeviceInference)
    three = house.host(bundle, Gpus(3).opener)
    assert [part.device for part in parts_of(three)] == [0, 1, 2]
    assert three.lanes == 3 * one.lanes
    assert three.max_batch == one.max_batch
    assert three.label.backend == "simulated"


def test_only_the_gpus_that_were_named_are_used(bundle: Bundle, house: House):
    gpus = Gpus(3)
    hosted = house.host(bundle, gpus.opener, devices=(2, 1))
    assert [part.device for part in parts_of(hosted)] == [2, 1]
    assert set(gpus.devices) == {1, 2}


def test_an_engine_that_does_not_load_on_another_gpu_runs_where_it_does(
    bundle: Bundle, house: House, caplog: pytest.LogCaptureFixture
):
    gpus = Gpus(2)
    gpus.without = {1}
    hosted = house.host(bundle, gpus.opener)
    assert [part.device for part in parts_of(hosted)] == [0]
    assert "engine toy 1 does not run on GPU 1: the plan is for another GPU" in caplog.text


def test_a_gpu_without_room_for_lanes_keeps_nothing_of_the_engine(
    bundle: Bundle, house: House, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    gpus = Gpus(2)
    gpus.opener.device(1)
    monkeypatch.setattr(gpus.devices[1], "free_bytes", lambda: 0)
    hosted = house.host(bundle, gpus.opener)
    assert [part.device for part in parts_of(hosted)] == [0]
    assert "engine toy 1 does not run on GPU 1: the GPU has no room for a lane" in caplog.text
    assert [engine.closed for engine in gpus.loaded] == [False, True]


def test_where_the_first_gpu_refuses_the_next_one_is_tried(
    bundle: Bundle, house: House, caplog: pytest.LogCaptureFixture
):
    gpus = Gpus(2)
    gpus.without = {0}
    hosted = house.host(bundle, gpus.opener)
    assert [part.lanes for part in parts_of(hosted)] == [hosted.lanes]
    assert len(gpus.opener.executor(1).members) == 1
    assert not gpus.opener.executor(0).members
    assert "GPU 0: engine toy 1 cannot be loaded: the plan is for another GPU" in caplog.text
    gpus.without = {0, 1}
    with pytest.raises(EngineError, match="the plan is for another GPU"):
        house.host(bundle, gpus.opener)


def test_on_a_gpu_that_was_named_it_must_load_and_nothing_is_left_behind(bundle: Bundle, house: House):
    gpus = Gpus(2)
    gpus.without = {1}
    with pytest.raises(EngineError, match="engine toy 1 cannot be loaded: GPU 1: the plan is for another GPU"):
        house.host(bundle, gpus.opener, devices=(0, 1))
    assert all(engine.closed for engine in gpus.loaded)
    assert not gpus.opener.executor(0).members


def test_settings_reach_lanes_and_the_share_of_the_gpu(bundle: Bundle, house: House):
    gpus = Gpus(1)
    hosted = house.host(
        bundle, gpus.opener, lanes=2, max_batch=2, graphs=False, weights=("other=9", "toy=2.5"), batch_mode="exact"
    )
    (member,) = gpus.opener.executor(0).members
    assert (member.lanes, member.max_batch, member.weight) == (2, 2, 2.5)
    assert (hosted.lanes, hosted.max_batch) == (2, 2)
    settings = member.open_lanes.settings
    assert (settings.graphs, settings.mode, settings.letterbox) == (False, BatchMode.EXACT, False)


def test_where_nothing_is_said_batches_are_padded_and_pictures_come_letterboxed(bundle: Bundle, house: House):
    gpus = Gpus(1)
    house.host(bundle, gpus.opener)
    (member,) = gpus.opener.executor(0).members
    settings = member.open_lanes.settings
    assert (settings.graphs, settings.mode, settings.letterbox, member.weight) == (True, BatchMode.BUCKET, False, 1.0)
    # On the CPU they are run as they are.
    assert runner_settings(SETTINGS).batch_mode is BatchMode.EXACT
    assert runner_settings(replace(SETTINGS, batch_mode="bucket")).batch_mode is BatchMode.BUCKET


def test_options_reach_their_provider(bundle: Bundle, house: House):
    with pytest.raises(EngineError, match="options are given for cuda, which is not among the providers"):
        house.host(bundle, GpuOpener(gpus=()), providers=("cpu",), provider_options=("cuda.enable_cuda_graph=1",))


def test_the_order_of_providers_is_that_of_falling_back_where_it_is_allowed(bundle: Bundle, house: House):
    wish: dict[str, Any] = {"providers": ("NoSuchExecutionProvider", "cpu"), "lanes": 1, "max_batch": 1}
    with pytest.raises(EngineError, match="NoSuchExecutionProvider is not in this build"):
        house.host(bundle, GpuOpener(gpus=()), **wish)
    hosted = house.host(bundle, GpuOpener(gpus=()), fallback=True, **wish)
    assert hosted.label.backend == "onnxruntime:CPUExecutionProvider"
    assert "NoSuchExecutionProvider is not in this build" in hosted.engine.fallback


def test_where_the_device_letterboxes_its_lanes_take_pictures_and_pad_them_as_the_engine_wants(
    bundle: Bundle, house: House
):
    gpus = Gpus(1)
    hosted = house.host(bundle, gpus.opener, preprocess="device")
    (member,) = gpus.opener.executor(0).members
    assert member.open_lanes.settings.letterbox
    assert member.open_lanes.settings.pad == bundle.manifest.input.pad
    assert hosted.takes_pictures


def test_a_smaller_batch_is_taken_where_it_was_measured_to_be_clearly_better(bundle: Bundle, house: House):
    slow_when_large = Gpus(1, duration_s=lambda size: 0.002 if size <= 2 else 0.05)
    assert house.host(bundle, slow_when_large.opener, tune_budget_s=1.0).max_batch == 2
    same_for_each = Gpus(1, duration_s=lambda size: 0.004)
    assert house.host(bundle, same_for_each.opener, tune_budget_s=1.0).max_batch == 4


def test_a_version_like_one_that_runs_takes_its_batch_over(bundle: Bundle, house: House):
    gpus = Gpus(1, duration_s=lambda size: 0.002 if size <= 2 else 0.05)
    first = house.host(bundle, gpus.opener, max_batch=2)
    assert house.host(bundle, gpus.opener, like=first, tune_budget_s=1.0).max_batch == 2


def test_a_gpu_that_is_lost_gets_no_more_versions(bundle: Bundle, house: House):
    gpus = Gpus(2)
    house.openers.append(gpus.opener)
    host = Host(SETTINGS, gpus.opener, lambda gpu, why: None)
    host.lose(0)
    assert host.has_gpus
    assert [part.device for part in parts_of(house.on(host, bundle))] == [1]
    host.lose(1)
    assert not host.has_gpus
    with pytest.raises(EngineError, match="no GPU is left: 0, 1 are lost"):
        house.on(host, bundle)


def test_a_gpu_that_turns_out_to_be_lost_at_a_load_is_told(bundle: Bundle, house: House):
    gpus = Gpus(1)
    gpus.opener.device(0)
    gpus.devices[0].lose()
    with pytest.raises(EngineError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        house.host(bundle, gpus.opener)
    assert [gpu for gpu, _ in house.lost] == [0]


def test_an_engine_of_the_cpu_runs_in_lanes_and_opens_no_gpu(bundle: Bundle, house: House):
    def fail(_: object) -> Any:
        raise AssertionError("a GPU was asked for")

    opener = GpuOpener(gpus=(0, 1), make_devices=fail)
    hosted = house.host(bundle, opener, lanes=1, max_batch=2)
    assert isinstance(hosted, LocalInference)
    assert parts_of(hosted) == ()
    assert hosted.label.backend == "onnxruntime:CPUExecutionProvider"


def test_a_lost_gpu_is_told_once(bundle: Bundle, house: House):
    gpus = Gpus(1)
    told: list[tuple[int, str]] = []
    gpus.opener.listen(lambda gpu, why: told.append((gpu, why)))
    house.host(bundle, gpus.opener)
    gpus.devices[0].lose()
    gpus.opener.executor(0).step()
    gpus.opener.executor(0).step()
    gpus.opener._lose(0, gpus.opener.executor(0).lost)  # type: ignore[arg-type]
    assert [gpu for gpu, _ in told] == [0]
