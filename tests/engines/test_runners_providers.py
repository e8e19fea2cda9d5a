from __future__ import annotations

import pytest

from vedette_engines.errors import LoadError
from vedette_engines.runners.base import RunnerSettings
from vedette_engines.runners.providers import (
    CPU,
    CUDA,
    OPENVINO,
    TENSORRT,
    TENSORRT_RTX,
    check_used,
    choose_providers,
    full_name,
    plugin_module,
    profile_options,
    provider_options,
    stream_options,
)

GPU_BUILD = (TENSORRT, CUDA, CPU)


@pytest.mark.parametrize(
    ("said", "meant"),
    [("cuda", CUDA), ("CPU", CPU), ("tensorrt", TENSORRT), ("openvino", OPENVINO), ("QNNExecutionProvider",) * 2],
)
def test_a_provider_goes_by_a_short_name_or_its_full_one(said: str, meant: str) -> None:
    assert full_name(said) == meant


def test_nothing_said_means_cuda_where_the_build_has_it_and_the_cpu_behind_it() -> None:
    assert choose_providers(RunnerSettings(), GPU_BUILD) == ((CUDA, CPU), True)
    assert choose_providers(RunnerSettings(), [CPU]) == ((CPU,), True)


def test_a_provider_that_the_build_has_not_got_is_refused_with_what_it_has() -> None:
    with pytest.raises(LoadError, match=f"{OPENVINO} is not in this build of ONNX Runtime; it has {TENSORRT}, {CUDA}"):
        choose_providers(RunnerSettings(providers=("openvino", "cpu")), GPU_BUILD)


def test_where_falling_back_is_allowed_what_is_missing_is_passed_over() -> None:
    wanted = RunnerSettings(providers=("openvino", "cuda"), allow_fallback=True)

    assert choose_providers(wanted, GPU_BUILD) == ((CUDA,), True)
    assert choose_providers(wanted, []) == ((CPU,), True)


def test_each_provider_gets_its_own_options() -> None:
    settings = RunnerSettings(
        providers=("tensorrt", "cuda", "cpu"),
        device_id=1,
        memory_limit_bytes=1 << 30,
        provider_options={"tensorrt": {"trt_engine_cache_enable": "1"}, CUDA: {"enable_cuda_graph": "1"}},
    )

    assert provider_options(TENSORRT, settings) == {"device_id": "1", "trt_engine_cache_enable": "1"}
    assert provider_options(CUDA, settings) == {
        "device_id": "1",
        "gpu_mem_limit": str(1 << 30),
        "enable_cuda_graph": "1",
    }
    assert provider_options(CPU, settings) == {}


def test_what_is_given_by_name_goes_before_the_settings_own_fields() -> None:
    settings = RunnerSettings(device_id=1, provider_options={"cuda": {"device_id": "3"}})

    assert provider_options(CUDA, settings) == {"device_id": "3"}


def test_options_for_a_provider_that_is_not_used_are_refused() -> None:
    settings = RunnerSettings(providers=("cpu",), provider_options={"cuda": {"device_id": "3"}})

    with pytest.raises(LoadError, match=f"options are given for cuda, which is not among the providers {CPU}"):
        choose_providers(settings, GPU_BUILD)


@pytest.mark.parametrize(
    ("wanted", "used"), [((CUDA, CPU), (CUDA, CPU)), ((CUDA,), (CUDA, CPU)), ((CPU,), (CPU,)), ((CPU,), (CPU, "Azure"))]
)
def test_a_session_that_uses_what_was_asked_for_is_taken(wanted: tuple[str, ...], used: tuple[str, ...]) -> None:
    check_used(wanted, used)


@pytest.mark.parametrize(
    ("wanted", "used", "missing"),
    [
        ((CUDA, CPU), (CPU,), CUDA),
        ((TENSORRT, CUDA, CPU), (TENSORRT, CPU), CUDA),
        ((TENSORRT, CUDA), (CPU,), f"{TENSORRT}, {CUDA}"),
        ((CPU,), (CUDA, CPU), CPU),
    ],
)
def test_a_session_that_passed_over_a_provider_in_silence_is_refused(
    wanted: tuple[str, ...], used: tuple[str, ...], missing: str
) -> None:
    with pytest.raises(LoadError, match=f"{missing} was asked for, but ONNX Runtime would use {', '.join(used)}"):
        check_used(wanted, used)


def test_a_plugin_is_taken_for_there_until_it_is_loaded() -> None:
    assert plugin_module(TENSORRT_RTX) == "onnxruntime_ep_nv_tensorrt_rtx"
    assert plugin_module("plugin:my_provider") == "my_provider"
    assert plugin_module(CUDA) == ""
    wish = RunnerSettings(providers=("tensorrt-rtx", "cpu"))
    assert choose_providers(wish, [CPU]) == ((TENSORRT_RTX, CPU), False)
    mine = RunnerSettings(providers=("plugin:my_provider",), provider_options={"plugin:my_provider": {"a": "b"}})
    assert choose_providers(mine, [CPU]) == (("plugin:my_provider",), False)
    assert provider_options("plugin:my_provider", mine) == {"a": "b"}


def test_a_stream_is_told_to_those_that_can_compute_in_it() -> None:
    assert stream_options(CUDA, 77) == {"user_compute_stream": "77"}
    for name in (TENSORRT, TENSORRT_RTX):
        assert stream_options(name, 77) == {"has_user_compute_stream": "1", "user_compute_stream": "77"}
    assert stream_options(CPU, 77) == {}
    # 0 is the default stream, which nobody may mean.
    assert stream_options(CUDA, 0) == {}


def test_tensorrts_providers_build_for_all_batches_at_once() -> None:
    assert profile_options(TENSORRT_RTX, "frames", (96, 160, 3), 8) == {
        "nv_profile_min_shapes": "frames:1x96x160x3",
        "nv_profile_opt_shapes": "frames:8x96x160x3",
        "nv_profile_max_shapes": "frames:8x96x160x3",
    }
    assert profile_options(CUDA, "frames", (96, 160, 3), 8) == {}
