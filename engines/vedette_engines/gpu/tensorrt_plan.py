"""A TensorRT plan in memory; the only place where TensorRT's runtime is called, and where its versions differ.

Written against the names that TensorRT 10 and 11 and TensorRT for RTX share. What differs:

- 10.0 has the sizes of device memory without `_v2`, and takes that memory without its size;
- TensorRT for RTX compiles kernels at run time, see `tensorrt_rtx.py`.

The caller is attached to the device in every call.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from vedette_engines.contract import INPUT_NAME
from vedette_engines.errors import EnginesError, LoadError
from vedette_engines.gpu.device_failure import failure
from vedette_engines.gpu.tensorrt_messages import Messages
from vedette_engines.gpu.tensorrt_profiles import BatchProfile
from vedette_engines.gpu.tensorrt_rtx import RtxRuntime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vedette_engines.cuda.base import Device, Stream
    from vedette_engines.manifest import EngineFile, Manifest
    from vedette_engines.plans.module import TensorRT

# What an execution context reads and writes while it runs begins at such addresses.
ALIGNMENT = 256


class TensorRtPlan:
    """A plan that was loaded and agrees with its manifest.

    Args:
        tensorrt: The module that built it.
        content: Its bytes; its hash was checked.
        device: Where it is to run.
        what: What messages call it: `engine blobs 1: plan h100.plan`.
        host_code: It is version-compatible: it brings the code that runs it.
        cache: Folder where TensorRT for RTX keeps compiled kernels.

    Raises:
        LoadError: TensorRT refuses it; the message has TensorRT's reasons.
        CudaError: The device is lost.
    """

    def __init__(
        self, tensorrt: TensorRT, content: bytes, device: Device, what: str, *, host_code: bool, cache: Path
    ) -> None:
        self._trt: Any = tensorrt.module
        self._device = device
        self._what = what
        self._messages = Messages(self._trt)
        self._runtime: Any = None
        self._engine: Any = None
        self._rtx: RtxRuntime | None = None
        try:
            with self.translated(f"{what}: loading it with {tensorrt}"):
                self._runtime = self._started(host_code=host_code)
                self._engine = self._deserialised(content)
                self._refuse_stripped()
                if tensorrt.is_rtx:
                    self._rtx = RtxRuntime(self._trt, self._engine, cache)
        except BaseException:
            # Not left to whoever looks at the error, which has this object among its frames.
            self.close()
            raise

    def _started(self, *, host_code: bool) -> Any:
        self._trt.init_libnvinfer_plugins(self._messages.logger, "")
        runtime = self._trt.Runtime(self._messages.logger)
        runtime.error_recorder = self._messages.recorder
        if host_code:
            # The plan is as trusted as the bundle, whose hashes were checked.
            runtime.engine_host_code_allowed = True
        return runtime

    def _deserialised(self, content: bytes) -> Any:
        engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise LoadError(self._why_not(content))
        return engine

    def _why_not(self, content: bytes) -> str:
        said = self._messages.take()
        validity = getattr(self._runtime, "get_engine_validity", None)
        if validity is not None:
            bits = int(validity(content)[1])
            named = self._trt.EngineInvalidityDiagnostics.__members__.items()
            flags = [name for name, value in named if bits & int(value)]
            said = "; ".join(filter(None, [", ".join(flags), said]))
        return said

    def _refuse_stripped(self) -> None:
        stat = getattr(self._trt, "EngineStat", None)
        if stat is not None and self._engine.get_engine_stat(stat.STRIPPED_WEIGHTS_SIZE) > 0:
            raise LoadError(
                "its weights were left out (strip), and a bundle has no place to take them from; "
                "build it again without --strip"
            )

    @contextlib.contextmanager
    def translated(self, doing: str, kind: type[EnginesError] = LoadError) -> Iterator[None]:
        """Turn what TensorRT raises, and what is raised here where it told a failure otherwise, into our errors.

        Args:
            doing: What is being done, in words.
            kind: The error's class.
        """
        self._messages.take()
        try:
            yield
        except Exception as error:  # what the bindings raise has no common root but this
            said = "; ".join(filter(None, [str(error), self._messages.take()]))
            raise failure(self._device, doing, said, kind) from error

    @property
    def aux_streams(self) -> int:
        """Streams that a context may use besides its own."""
        return int(self._engine.num_aux_streams)

    @property
    def graphs_itself(self) -> bool:
        """Whether TensorRT captures graphs by itself."""
        return self._rtx is not None and self._rtx.graphs_itself

    def profiles(self, batch: int | None) -> tuple[BatchProfile, ...]:
        """Tell the batches of its optimisation profiles.

        Args:
            batch: The only batch that it takes; None: what the profiles say.
        """
        if batch is not None:
            return (BatchProfile(batch, batch, batch),)
        with self.translated(f"{self._what}: reading its profiles"):
            shapes = [
                self._engine.get_tensor_profile_shape(INPUT_NAME, number)
                for number in range(self._engine.num_optimization_profiles)
            ]
            return tuple(BatchProfile(*(int(next(iter(shape))) for shape in of)) for of in shapes)

    def check(self, manifest: Manifest, file: EngineFile) -> None:
        """Compare its tensors with the engine contract.

        Raises:
            LoadError: They differ; tells what is there and what is wanted.
        """
        trt = self._trt
        wanted = {
            INPUT_NAME: (trt.TensorIOMode.INPUT, trt.DataType.UINT8, (file.batch or -1, *manifest.slot_shape)),
            manifest.output_name: (
                trt.TensorIOMode.OUTPUT,
                trt.DataType.FLOAT,
                (file.batch or -1, *manifest.output_shape),
            ),
        }
        with self.translated(f"{self._what}: checking its tensors"):
            engine = self._engine
            names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
            if sorted(names) != sorted(wanted):
                raise LoadError(f"it has {', '.join(names) or 'none'}; wanted: {', '.join(wanted)}")
            for name, (mode, element, shape) in wanted.items():
                here = (
                    engine.get_tensor_mode(name),
                    engine.get_tensor_dtype(name),
                    tuple(engine.get_tensor_shape(name)),
                )
                if here != (mode, element, shape):
                    raise LoadError(f"{name} is {_tensor_text(*here)}; wanted: {_tensor_text(mode, element, shape)}")
                if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
                    raise LoadError(f"{name} is in the host's memory; wanted: the device's")
                if engine.get_tensor_format(name) != trt.TensorFormat.LINEAR:
                    raise LoadError(f"{name} is {engine.get_tensor_format_desc(name)}; wanted: plain rows")

    def memory_bytes(self, profile: int | None = None) -> int:
        """Tell the device memory that a context works in, for one profile or for any."""
        engine = self._engine
        with self.translated(f"{self._what}: asking how much memory it works in"):
            if profile is not None and hasattr(engine, "get_device_memory_size_for_profile_v2"):
                return int(engine.get_device_memory_size_for_profile_v2(profile))
            # 10.0 has the name of 8 alone.
            name = "device_memory_size_v2" if hasattr(engine, "device_memory_size_v2") else "device_memory_size"
            return int(getattr(engine, name))

    def new_context(self) -> Any:
        """Make an execution context without device memory of its own to work in; not None."""
        if self._rtx is not None:
            context = self._engine.create_execution_context(self._rtx.config)
        else:
            strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
            context = self._engine.create_execution_context(strategy)
        if context is None:
            raise LoadError("it makes no execution context")
        return context

    def capturable(self, context: Any, stream: Stream) -> bool:
        """Tell whether a context's run may be captured into a graph of ours."""
        if self.graphs_itself:
            return False
        asked = getattr(context, "is_stream_capturable", None)
        return True if asked is None else bool(asked(stream.handle))

    def close(self) -> None:
        """Let go of it, after its contexts; may be called twice."""
        if self._rtx is not None:
            self._rtx.close()
        self._rtx = None
        # In this order: the engine uses the runtime.
        self._engine = None
        self._runtime = None


def _tensor_text(mode: Any, element: Any, shape: tuple[int, ...]) -> str:
    sizes = ", ".join("N" if size == -1 else str(size) for size in shape)
    return f"{mode.name} {element.name} [{sizes}]"
