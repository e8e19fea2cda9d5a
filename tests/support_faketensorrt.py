"""A module with the names of full TensorRT that writes down how it is called, and builds nothing.

Only for what cannot run here: which flags are passed to versions 10 and 11, and in which order. A name that a version
has not got is not here either, so that using it fails.
"""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace
from typing import Any

from vedette_engines.plans.module import TensorRT

# https://docs.nvidia.com/deeplearning/tensorrt/11.4.0/api/migration/tensorrt-10x-to-11x-python-api-reference.html
_FLAGS = ("REFIT", "STRIP_PLAN", "TF32", "VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME", "WEIGHT_STREAMING")
_ONLY_IN_10 = ("FP16", "INT8", "BF16")


class FakeTensorRT:
    """The module.

    Args:
        version: Its version, 10.x or 11.x.
        answer: What a build gives; None: it fails.
        errors: What it logs as errors in a build.
        matching: Timing caches that this version and GPU take.
    """

    def __init__(
        self,
        version: str,
        *,
        answer: bytes | None = b"a plan",
        errors: tuple[str, ...] = (),
        matching: tuple[bytes, ...] = (b"",),
    ) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.answer = answer
        self.errors = errors
        self.matching = matching
        ten = version.startswith("10.")
        self.flag = Enum("BuilderFlag", (*_FLAGS, *(_ONLY_IN_10 if ten else ())))
        creation = ("EXPLICIT_BATCH", "STRONGLY_TYPED") if ten else ("STRONGLY_TYPED",)
        self.module = SimpleNamespace(
            __version__=version,
            ILogger=_logger_class(),
            IProgressMonitor=type("IProgressMonitor", (), {}),
            Builder=lambda logger: _Builder(self, logger),
            OnnxParser=lambda network, logger: _Parser(self),
            Runtime=lambda logger: _Runtime(self),
            BuilderFlag=self.flag,
            NetworkDefinitionCreationFlag=SimpleNamespace(**{name: index for index, name in enumerate(creation)}),
            MemoryPoolType=SimpleNamespace(WORKSPACE="WORKSPACE"),
            ProfilingVerbosity=SimpleNamespace(DETAILED="DETAILED", LAYER_NAMES_ONLY="LAYER_NAMES_ONLY"),
            HardwareCompatibilityLevel=SimpleNamespace(
                NONE="NONE", AMPERE_PLUS="AMPERE_PLUS", SAME_COMPUTE_CAPABILITY="SAME_COMPUTE_CAPABILITY"
            ),
            LayerInformationFormat=SimpleNamespace(JSON="JSON"),
        )
        self.creation = creation
        self.found = TensorRT(self.module, "tensorrt", version)

    def names(self) -> list[str]:
        """Tell what was called, in order."""
        return [call[0] for call in self.calls]

    def arguments(self, name: str) -> list[tuple[Any, ...]]:
        """Tell what one function was called with."""
        return [call[1:] for call in self.calls if call[0] == name]


def _logger_class() -> Any:
    class ILogger:
        Severity = Enum("Severity", ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"))

    return ILogger


class _Builder:
    def __init__(self, fake: FakeTensorRT, logger: Any) -> None:
        self._fake, self._logger = fake, logger

    def create_network(self, flags: int) -> Any:
        self._fake.calls.append(("create_network", flags))
        tensor = SimpleNamespace(name="frames", shape=(-1, 8, 8, 3))
        return SimpleNamespace(get_input=lambda index: tensor)

    def create_builder_config(self) -> _Config:
        return _Config(self._fake)

    def create_optimization_profile(self) -> Any:
        def set_shape(*shapes: Any) -> None:
            self._fake.calls.append(("set_shape", *shapes))

        return SimpleNamespace(set_shape=set_shape)

    def build_serialized_network(self, network: Any, config: _Config) -> bytes | None:
        self._fake.calls.append(("build", config.progress_monitor is not None))
        monitor = config.progress_monitor
        monitor.phase_start("Building engine", None, 1)
        for message in self._fake.errors:
            self._logger.log(self._logger.Severity.ERROR, message)
        going_on = monitor.step_complete("Building engine", 0)
        monitor.phase_finish("Building engine")
        return self._fake.answer if going_on else None


class _Parser:
    num_errors = 0

    def __init__(self, fake: FakeTensorRT) -> None:
        self._fake = fake

    def parse(self, content: bytes) -> bool:
        self._fake.calls.append(("parse", len(content)))
        return True


class _Config:
    """The builder's configuration: attributes are written down as they are set."""

    def __init__(self, fake: FakeTensorRT) -> None:
        object.__setattr__(self, "_fake", fake)
        object.__setattr__(self, "progress_monitor", None)

    def __setattr__(self, name: str, value: Any) -> None:
        assert name in {"profiling_verbosity", "hardware_compatibility_level", "progress_monitor"}, name
        self._fake.calls.append((name, value))
        object.__setattr__(self, name, value)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self._fake.calls.append(("workspace", size))

    def set_flag(self, flag: Any) -> None:
        self._fake.calls.append(("set_flag", flag.name))

    def clear_flag(self, flag: Any) -> None:
        self._fake.calls.append(("clear_flag", flag.name))

    def add_optimization_profile(self, profile: Any) -> int:
        self._fake.calls.append(("add_optimization_profile",))
        return 0

    def create_timing_cache(self, content: bytes) -> bytes:
        return content

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        self._fake.calls.append(("set_timing_cache", cache, ignore_mismatch))
        return cache in self._fake.matching

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: b"new timings")


class _Runtime:
    engine_host_code_allowed = False

    def __init__(self, fake: FakeTensorRT) -> None:
        self._fake = fake

    def deserialize_cuda_engine(self, content: bytes) -> Any:
        self._fake.calls.append(("deserialize", content, self.engine_host_code_allowed))
        inspector = SimpleNamespace(get_engine_information=lambda form: f'{{"Layers": [], "as": "{form}"}}')
        return SimpleNamespace(create_engine_inspector=lambda: inspector)
