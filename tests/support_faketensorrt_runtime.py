"""TensorRT's runtime, whose runs are work in the streams of a simulated device.

It refuses what TensorRT refuses, in TensorRT's ways: by False or None, with the reason in the error recorder or, where
there is none, in the log. A name that a version has not got is not here either, so that using it fails.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.cuda.simulated_stream import Use
from vedette_engines.plans.module import TensorRT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from vedette_engines.cuda.simulated import SimulatedDevice

Mode = Enum("Mode", ("NONE", "INPUT", "OUTPUT"))
Element = Enum("Element", ("FLOAT", "HALF", "UINT8"))
Location = Enum("Location", ("DEVICE", "HOST"))
Format = Enum("Format", ("LINEAR", "CHW32"))
Strategy = Enum("Strategy", ("STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"))
Stat = Enum("Stat", ("TOTAL_WEIGHTS_SIZE", "STRIPPED_WEIGHTS_SIZE"))
Graphs = Enum("Graphs", ("DISABLED", "WHOLE_GRAPH_CAPTURE"))
Kernels = Enum("Kernels", ("LAZY", "EAGER", "NONE"))
Diagnostics = IntEnum("Diagnostics", {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "MALFORMED_ENGINE": 32})


@dataclass(frozen=True)
class Tensor:
    """One tensor of an engine; -1 is a dynamic dimension."""

    name: str
    mode: Any
    element: Any
    shape: tuple[int, ...]
    location: Any = Location.DEVICE
    format: Any = Format.LINEAR


@dataclass(frozen=True)
class FakePlan:
    """What a plan would be built of.

    Attributes:
        tensors: Its inputs and outputs.
        profiles: Smallest, best and largest batch of each profile.
        function: Rows of the output for frames.
        duration_s: What a run takes, by batch.
        memory: Bytes that a context works in, by profile.
        aux_streams: Streams that it uses besides its own.
        stripped: Bytes of weights that were left out; -1: none.
        brings_code: It is version-compatible.
        capturable: TensorRT for RTX: its runs may be captured by others.
    """

    tensors: tuple[Tensor, ...]
    function: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    profiles: tuple[tuple[int, int, int], ...] = ((1, 2, 4),)
    duration_s: Callable[[int], float] = lambda _: 0.0
    memory: tuple[int, ...] = (4096,)
    aux_streams: int = 0
    stripped: int = -1
    brings_code: bool = False
    capturable: bool = True

    def with_tensor(self, index: int, **changes: Any) -> FakePlan:
        """Change one tensor."""
        tensors = list(self.tensors)
        tensors[index] = replace(tensors[index], **changes)
        return replace(self, tensors=tuple(tensors))


@dataclass
class FakeRuntime:
    """The module.

    Args:
        version: Its version: 10.0 has no `_v2`, others have.
        device: Where it runs.
        plans: What each plan's bytes are.
        rtx: It is TensorRT for RTX.
        fails: Names of calls that fail, and what they say.
    """

    version: str
    device: SimulatedDevice
    plans: Mapping[bytes, FakePlan]
    rtx: bool = False
    fails: dict[str, str] = field(default_factory=dict)
    contexts: list[Any] = field(default_factory=list)
    engines: list[Any] = field(default_factory=list)
    compiled: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def found(self) -> TensorRT:
        """What `find_tensorrt` would give."""
        return TensorRT(self.module, "tensorrt_rtx" if self.rtx else "tensorrt", self.version)

    @property
    def module(self) -> Any:
        """What would be imported."""
        names: dict[str, Any] = {
            "__version__": self.version,
            "Builder": object,
            "OnnxParser": object,
            "IProgressMonitor": object,
            "ILogger": _Logger,
            "IErrorRecorder": type("IErrorRecorder", (), {}),
            "Runtime": lambda logger: _Runtime(self, logger),
            "TensorIOMode": Mode,
            "DataType": Element,
            "TensorLocation": Location,
            "TensorFormat": Format,
            "ExecutionContextAllocationStrategy": Strategy,
            "init_libnvinfer_plugins": lambda logger, namespace: True,
        }
        if not self.version.startswith("10.0"):
            names["EngineStat"] = Stat
        if self.rtx:
            names |= {
                "CudaGraphStrategy": Graphs,
                "DynamicShapesKernelSpecializationStrategy": Kernels,
                "EngineInvalidityDiagnostics": Diagnostics,
            }
        return SimpleNamespace(**names)

    def allows(self, call: str, report: Callable[[str], None]) -> bool:
        """Tell whether a call works, and report why not."""
        if call in self.fails:
            report(self.fails[call])
        return call not in self.fails


class _Logger:
    Severity = Enum("Severity", ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"))


class _Runtime:
    engine_host_code_allowed = False
    error_recorder: Any = None

    def __init__(self, fake: FakeRuntime, logger: Any) -> None:
        self._fake, self._logger = fake, logger
        if fake.rtx:
            self.get_engine_validity = lambda content: (0, 0 if content in fake.plans else 32)

    def report(self, text: str) -> None:
        if self.error_recorder is not None:
            self.error_recorder.report_error(1, text)
        else:
            self._logger.log(self._logger.Severity.ERROR, text)

    def deserialize_cuda_engine(self, content: bytes) -> Any:
        plan = self._fake.plans.get(content)
        if plan is None:
            self.report("Serialization assertion header.magicTag == kEXPECTED_MAGIC_TAG failed.")
            return None
        if plan.brings_code and not self.engine_host_code_allowed:
            self.report("The engine contains host code, which is not allowed")
            return None
        if not self._fake.allows("deserialize_cuda_engine", self.report):
            return None
        engine = _Engine(self._fake, plan, self.report)
        self._fake.engines.append(engine)
        return engine


class _Engine:
    def __init__(self, fake: FakeRuntime, plan: FakePlan, report: Callable[[str], None]) -> None:
        self._fake, self.plan, self.report = fake, plan, report
        self._tensors = {tensor.name: tensor for tensor in plan.tensors}
        self.num_io_tensors = len(plan.tensors)
        self.num_optimization_profiles = len(plan.profiles)
        self.num_aux_streams = plan.aux_streams
        if fake.version.startswith("10.0"):
            self.device_memory_size = max(plan.memory)
        else:
            self.device_memory_size_v2 = max(plan.memory)
            self.get_device_memory_size_for_profile_v2 = lambda profile: plan.memory[profile]
            self.get_engine_stat = lambda stat: plan.stripped if stat is Stat.STRIPPED_WEIGHTS_SIZE else 0
        if fake.rtx:
            self.create_runtime_config = lambda: _Config(fake)

    def get_tensor_name(self, index: int) -> str:
        return self.plan.tensors[index].name

    def get_tensor_mode(self, name: str) -> Any:
        return self._tensors[name].mode

    def get_tensor_dtype(self, name: str) -> Any:
        return self._tensors[name].element

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self._tensors[name].shape)

    def get_tensor_location(self, name: str) -> Any:
        return self._tensors[name].location

    def get_tensor_format(self, name: str) -> Any:
        return self._tensors[name].format

    def get_tensor_format_desc(self, name: str) -> str:
        return f"a {self._tensors[name].format.name} tensor"

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        return [[batch, *self._tensors[name].shape[1:]] for batch in self.plan.profiles[profile]]

    def create_execution_context(self, how: Any) -> Any:
        if not self._fake.allows("create_execution_context", self.report):
            return None
        strategy = how.strategy if isinstance(how, _Config) else how
        context = _Context(self._fake, self, strategy, how if isinstance(how, _Config) else None)
        self._fake.contexts.append(context)
        return context


class _Cache:
    def __init__(self, fake: FakeRuntime) -> None:
        self._fake = fake

    def deserialize(self, content: bytes) -> bool:
        if not content.startswith(self._fake.version.encode()):
            return False
        self._fake.compiled += [tuple(map(int, line.split())) for line in content.decode().splitlines()[1:]]
        return True

    def serialize(self) -> bytes:
        return "\n".join([self._fake.version, *(" ".join(map(str, entry)) for entry in self._fake.compiled)]).encode()


class _Config:
    def __init__(self, fake: FakeRuntime) -> None:
        self._fake = fake
        self.strategy: Any = Strategy.STATIC
        self.cuda_graph_strategy: Any = Graphs.DISABLED
        self.dynamic_shapes_kernel_specialization_strategy: Any = Kernels.LAZY
        self.cache: Any = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> _Cache:
        return _Cache(self._fake)

    def set_runtime_cache(self, cache: _Cache) -> bool:
        self.cache = cache
        return True


class _Context:
    def __init__(self, fake: FakeRuntime, engine: _Engine, strategy: Any, config: Any) -> None:
        self._fake, self._engine, self.strategy, self.config = fake, engine, strategy, config
        self.profile: int | None = None
        self.batch: int | None = None
        self.memory: tuple[int, int] | None = None
        self.addresses: dict[str, int] = {}
        self.aux: list[int] = []
        if not fake.version.startswith("10.0"):
            self.set_device_memory = self._set_device_memory
        if fake.rtx:
            self.is_stream_capturable = lambda stream: engine.plan.capturable

    def _refuse(self, text: str) -> bool:
        self._engine.report(text)
        return False

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        if not self._fake.allows("set_optimization_profile_async", self._engine.report):
            return False
        if not 0 <= profile < len(self._engine.plan.profiles):
            return self._refuse(f"profileIndex {profile} is out of range")
        self._fake.device.stream_of(stream).work("profile", lambda: 0.0, (), lambda: None)
        # As documented, this throws away the shapes that were set before.
        self.profile, self.batch = profile, None
        return True

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        tensor = next(tensor for tensor in self._engine.plan.tensors if tensor.name == name)
        assert self.profile is not None, "the shape is set before the profile"
        low, _, high = self._engine.plan.profiles[self.profile]
        if tuple(shape[1:]) != tensor.shape[1:] or not low <= shape[0] <= high:
            return self._refuse(f"setInputShape: {list(shape)} does not satisfy the profile {self.profile}")
        self.batch = shape[0]
        return True

    def infer_shapes(self) -> list[str]:
        return [] if self.batch is not None else ["frames"]

    def get_tensor_shape(self, name: str) -> list[int]:
        tensor = next(tensor for tensor in self._engine.plan.tensors if tensor.name == name)
        return [self.batch if size == -1 else size for size in tensor.shape]  # type: ignore[misc]

    @property
    def device_memory(self) -> int:
        raise AttributeError("it can only be written")

    @device_memory.setter
    def device_memory(self, memory: int) -> None:
        self._set_device_memory(memory, max(self._engine.plan.memory))

    def _set_device_memory(self, memory: int, size: int) -> None:
        assert self.strategy is Strategy.USER_MANAGED, "this context has memory of its own"
        assert memory % 256 == 0, "the memory is not aligned"
        self.memory = (memory, size)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return self._fake.allows("set_tensor_address", self._engine.report)

    def set_aux_streams(self, streams: Sequence[int]) -> None:
        assert 0 not in streams
        assert len(set(streams)) == len(streams)
        self.aux = list(streams)

    def execute_async_v3(self, stream_handle: int) -> bool:
        if not self._fake.allows("execute_async_v3", self._engine.report):
            return False
        problem = self._problem(stream_handle)
        if problem:
            return self._refuse(problem)
        plan, device, batch = self._engine.plan, self._fake.device, self.batch
        assert batch is not None
        assert self.memory is not None
        source, target = plan.tensors[0], plan.tensors[1]
        reads = self._use(source, 1, writes=False)
        writes = self._use(target, 4, writes=True)
        scratch_memory, scratch_at = device.buffer_at(*self.memory)
        scratch = Use(scratch_memory, scratch_at, plan.memory[self.profile or 0], writes=True)

        def run() -> None:
            frames = reads.bytes.reshape(batch, *source.shape[1:])
            writes.bytes[:] = plan.function(frames).astype(np.float32).reshape(-1).view(np.uint8)

        shape = (batch, self.profile or 0)
        if shape not in self._fake.compiled:
            self._fake.compiled.append(shape)
        lasts = functools.partial(plan.duration_s, batch)
        device.stream_of(stream_handle).work(f"execute {batch}", lasts, (reads, scratch, writes), run)
        return True

    def _problem(self, stream_handle: int) -> str:
        plan = self._engine.plan
        if stream_handle == 0:
            return "the default stream is used"
        if self.batch is None or self.profile is None:
            return "not all shapes are specified"
        if self.memory is None or self.memory[1] < plan.memory[self.profile]:
            return f"device memory is {self.memory}, needed are {plan.memory[self.profile]} bytes"
        if set(self.addresses) != {tensor.name for tensor in plan.tensors}:
            return "not all addresses are set"
        return ""

    def _use(self, tensor: Tensor, element_bytes: int, *, writes: bool) -> Use:
        size = int(np.prod([self.batch or 0, *tensor.shape[1:]])) * element_bytes
        memory, start = self._fake.device.buffer_at(self.addresses[tensor.name], size)
        return Use(memory, start, size, writes=writes)
