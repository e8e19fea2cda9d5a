"""Which of ONNX Runtime's providers run an engine, each by name with its options.

Plain rules about names: what a build has and what a session really uses is handed in, so that the rules hold, and are
tested, for providers that this machine has not got.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_engines.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vedette_engines.runners.base import RunnerSettings

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"
TENSORRT_RTX = "NvTensorRTRTXExecutionProvider"
# By the names people say; any other provider goes by its full name.
SHORT_NAMES = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT, "tensorrt-rtx": TENSORRT_RTX, "openvino": OPENVINO}
# Providers that come as packages of their own: the module, and what to install. Any other goes by `plugin:MODULE`.
_PLUGIN_MODULES = {TENSORRT_RTX: "onnxruntime_ep_nv_tensorrt_rtx"}
PLUGIN_PACKAGES = {TENSORRT_RTX: "onnxruntime-ep-nv-tensorrt-rtx"}
_PLUGIN = "plugin:"
# Those that compute in a stream that they are given, on memory of a GPU that is bound.
ON_DEVICE = (CUDA, TENSORRT, TENSORRT_RTX)


def full_name(name: str) -> str:
    """Tell a provider's full name: `cuda` is `CUDAExecutionProvider`; a full name stays."""
    return SHORT_NAMES.get(name.lower(), name)


def plugin_module(name: str) -> str:
    """Tell the Python module of a plugin's provider; empty: it is no plugin's."""
    return name.removeprefix(_PLUGIN) if name.startswith(_PLUGIN) else _PLUGIN_MODULES.get(name, "")


def choose_providers(settings: RunnerSettings, available: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """Tell the providers to try, by their full names, and whether others may take their place.

    Args:
        settings: How the engine is to be run.
        available: The providers that the installed build has, plugins left out.

    Raises:
        LoadError: The build has not got one of them, and falling back is not allowed; or options were given for a
            provider that is not among them.
    """
    wanted = tuple(full_name(name) for name in settings.providers)
    may_fall_back = settings.allow_fallback or not wanted
    if not wanted:
        wanted = (CUDA, CPU) if CUDA in available else (CPU,)
    # Whether a plugin is there, only loading it tells.
    available = (*available, *(name for name in wanted if plugin_module(name)))
    missing = [name for name in wanted if name not in available]
    if missing and not may_fall_back:
        raise LoadError(
            f"provider {', '.join(missing)} is not in this build of ONNX Runtime; it has {', '.join(available)}"
        )
    for name in settings.provider_options:
        if full_name(name) not in wanted:
            raise LoadError(f"options are given for {name}, which is not among the providers {', '.join(wanted)}")
    return tuple(name for name in wanted if name in available) or (CPU,), may_fall_back


def check_used(wanted: Sequence[str], used: Sequence[str]) -> None:
    """Refuse a session that passed over a provider it was asked to use: ONNX Runtime does so in silence.

    Raises:
        LoadError: One is not used, or comes later than it was asked to.
    """
    if [name for name in used if name in wanted] == list(wanted) and used[0] == wanted[0]:
        return
    missing = [name for name in wanted if name not in used] or [wanted[0]]
    raise LoadError(f"{', '.join(missing)} was asked for, but ONNX Runtime would use {', '.join(used)}")


def provider_options(name: str, settings: RunnerSettings) -> dict[str, str]:
    """Tell the options of one provider: what the settings say in their own fields, then what is given by its name."""
    options: dict[str, str] = {}
    if name in ON_DEVICE:
        options["device_id"] = str(settings.device_id)
    if name == CUDA:
        if settings.memory_limit_bytes is not None:
            options["gpu_mem_limit"] = str(settings.memory_limit_bytes)
        if settings.arena_extend_strategy:
            options["arena_extend_strategy"] = settings.arena_extend_strategy
        if settings.cudnn_conv_algo_search:
            options["cudnn_conv_algo_search"] = settings.cudnn_conv_algo_search
    return options | _given(name, settings.provider_options)


def stream_options(name: str, stream: int) -> dict[str, str]:
    """Tell the options that make a provider compute in a stream; none for 0, or where it cannot.

    Args:
        name: The provider's full name.
        stream: The driver's handle.
    """
    if not stream or name not in ON_DEVICE:
        return {}
    # CUDA's takes the handle for the wish; the others are told of it, too.
    wish = {} if name == CUDA else {"has_user_compute_stream": "1"}
    return {**wish, "user_compute_stream": str(stream)}


def profile_options(name: str, tensor: str, frame: Sequence[int], most: int) -> dict[str, str]:
    """Tell the options that make TensorRT's providers build for all batches up to a size, and best for that.

    Args:
        name: The provider's full name; others get none.
        tensor: The input.
        frame: Shape of one frame.
        most: Largest batch.
    """
    prefix = {TENSORRT: "trt", TENSORRT_RTX: "nv"}.get(name)
    if prefix is None:
        return {}
    shapes = {kind: "x".join(map(str, (batch, *frame))) for kind, batch in (("min", 1), ("opt", most), ("max", most))}
    return {f"{prefix}_profile_{kind}_shapes": f"{tensor}:{shape}" for kind, shape in shapes.items()}


def _given(name: str, options: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {key: value for given, of in options.items() if full_name(given) == name for key, value in of.items()}
