"""Open sessions of ONNX Runtime: the options that all have, providers of the build, and providers of plugins.

A plugin is a package with a library that the runtime loads on demand. It gives its path and the names of its
providers, as the runtime's guide for such packages asks (`get_library_path`, `get_ep_names` or `get_ep_name`).
https://onnxruntime.ai/docs/execution-providers/plugin-ep-packaging.html
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from vedette_engines.errors import LoadError
from vedette_engines.runners.providers import (
    CPU,
    CUDA,
    PLUGIN_PACKAGES,
    check_used,
    plugin_module,
    provider_options,
    stream_options,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from vedette_engines.runners.base import RunnerSettings

# Fatal only: ONNX Runtime writes to stderr what it raises as well.
_LOG_SEVERITY = 4


def open_session(
    model: Path,
    settings: RunnerSettings,
    wanted: Sequence[str],
    *,
    stream: int = 0,
    more: Mapping[str, str] | None = None,
    strict: bool = True,
) -> Any:
    """Open a session.

    Args:
        model: The ONNX file.
        settings: Threads, the device, and the providers' options.
        wanted: The providers by their full names, in order.
        stream: Handle of the stream that it is to compute in; 0: one of its own.
        more: Further options of the first provider; what the settings say comes before them.
        strict: Refuse a session that passes over a provider, as ONNX Runtime does in silence.

    Raises:
        LoadError: The runtime refuses the file, or does not run it with these providers.
    """
    if CUDA in wanted:
        ort.preload_dlls()  # CUDA's libraries come as wheels, where the loader does not look by itself
    options = {name: stream_options(name, stream) | provider_options(name, settings) for name in wanted}
    options[wanted[0]] = {**(more or {}), **options[wanted[0]]}
    plugins = [name for name in wanted if plugin_module(name)]
    if plugins:
        return _open_with_plugin(model, settings, wanted, options)
    try:
        session = ort.InferenceSession(
            str(model),
            sess_options=session_options(settings),
            providers=list(options.items()),
            # Off: on a failure it would rebuild the session on another provider, print, and go on in silence.
            enable_fallback=0,
        )
    except Exception as error:  # what ONNX Runtime raises has no common root but this
        raise LoadError(f"ONNX Runtime refuses {model.name} on {', '.join(wanted)}: {error}") from error
    if strict:
        check_used(wanted, session.get_providers())
    return session


def session_options(settings: RunnerSettings) -> ort.SessionOptions:
    """Make the options that all sessions have."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.intra_op_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _LOG_SEVERITY
    # Idle threads that spin would take the cores from the decoders.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _open_with_plugin(
    model: Path, settings: RunnerSettings, wanted: Sequence[str], options: Mapping[str, Mapping[str, str]]
) -> Any:
    """Open a session with a plugin's provider; the runtime puts the CPU's behind it by itself."""
    first, *others = wanted
    if not plugin_module(first) or others not in ([], [CPU]):
        raise LoadError(f"the providers are {', '.join(wanted)}; a plugin's comes first, and alone or before the CPU")
    names, device = _plugin_device(first, settings.device_id)
    own = session_options(settings)
    try:
        own.add_provider_for_devices([device], dict(options[first]))
        session = ort.InferenceSession(str(model), sess_options=own, enable_fallback=0)
    except Exception as error:  # what ONNX Runtime raises has no common root but this
        raise LoadError(f"ONNX Runtime refuses {model.name} on {first}: {error}") from error
    used = session.get_providers()
    if used[0] not in names:
        raise LoadError(f"{first} was asked for, but ONNX Runtime would use {', '.join(used)}")
    return session


def _plugin_device(provider: str, device_id: int) -> tuple[tuple[str, ...], Any]:
    """Load a plugin's library once, and find a device of it; gives the names of its providers, too.

    Raises:
        LoadError: The plugin is not installed, its library does not load, or it finds no device.
    """
    module_name = plugin_module(provider)
    try:
        module = importlib.import_module(module_name)
        names = tuple(module.get_ep_names()) if hasattr(module, "get_ep_names") else (module.get_ep_name(),)
        library = module.get_library_path()
    except ImportError as error:
        package = PLUGIN_PACKAGES.get(provider, module_name)
        raise LoadError(f"{provider} is a plugin that is not installed ({error}): pip install {package}") from error
    except Exception as error:  # a plugin raises whatever it likes
        raise LoadError(f"{provider}: its package {module_name} does not tell its library: {error}") from error
    found = _devices(names)
    if not found:
        try:
            ort.register_execution_provider_library(module_name, library)
        except Exception as error:  # what ONNX Runtime raises has no common root but this
            raise LoadError(f"{provider}: its library does not load: {error}") from error
        found = _devices(names)
    if not found:
        ort.unregister_execution_provider_library(module_name)
        raise LoadError(f"{provider}: its library finds no device that it runs on")
    if device_id >= len(found):
        raise LoadError(f"{provider}: there is no device {device_id} among the {len(found)} that it runs on")
    return names, found[device_id]


def _devices(names: Sequence[str]) -> list[Any]:
    return [device for device in ort.get_ep_devices() if device.ep_name in names]
