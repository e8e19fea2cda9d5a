"""The programs of one lane: an execution context for each batch size, and what they share.

A context is set up once, with one profile, one shape and fixed addresses, so that a run is a single call, and a graph
that captured it stays right. Contexts of one lane never run at once, so they work in one piece of device memory, and
use one set of auxiliary streams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vedette_engines.contract import INPUT_NAME
from vedette_engines.errors import LoadError, RunError
from vedette_engines.gpu.tensorrt_plan import ALIGNMENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_engines.cuda.base import Device, DeviceBuffer, Stream
    from vedette_engines.gpu.tensorrt_plan import TensorRtPlan


class LaneShare:
    """Device memory and auxiliary streams of a lane's contexts; closed by the last of them.

    Args:
        device: Where.
        size_bytes: The most that any of the contexts works in.
        aux_streams: How many streams.

    Raises:
        CudaError: The device has no room.
    """

    def __init__(self, device: Device, size_bytes: int, aux_streams: int) -> None:
        self._users = 0
        # Never empty: whether a context takes a null pointer, no version says.
        self.memory: DeviceBuffer = device.allocate(max(size_bytes, ALIGNMENT))
        self.streams: list[Stream] = []
        try:
            for _ in range(aux_streams):
                self.streams.append(device.stream())
        except BaseException:
            self._close()
            raise

    def enter(self) -> None:
        """Count one more user."""
        self._users += 1

    def leave(self) -> None:
        """Count one less; the last closes it."""
        self._users -= 1
        if self._users <= 0:
            self._close()

    def _close(self) -> None:
        for stream in self.streams:
            stream.close()
        self.memory.close()


@dataclass(frozen=True, slots=True)
class Binding:
    """What a context is set up with.

    Attributes:
        size: Rows.
        profile: Number of the optimisation profile.
        input_shape: Shape of one frame.
        output_name: The output tensor.
        output_shape: Shape of one row of the output.
        batch: Input.
        rows: Output.
    """

    size: int
    profile: int
    input_shape: tuple[int, ...]
    output_name: str
    output_shape: tuple[int, ...]
    batch: DeviceBuffer
    rows: DeviceBuffer


class TensorRtProgram:
    """One batch size of one lane; see `vedette_engines.gpu.base.Program`.

    Args:
        plan: The plan.
        what: What messages call it.
        binding: What it runs.
        share: What it shares with the lane's other programs.
        stream: The lane's; setting the profile is enqueued in it.
        closed: Called once, when it is closed.

    Raises:
        LoadError: TensorRT refuses.
        CudaError: The device is lost.
    """

    def __init__(
        self,
        plan: TensorRtPlan,
        what: str,
        binding: Binding,
        share: LaneShare,
        stream: Stream,
        closed: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._what = f"{what}: a batch of {binding.size}"
        self._size = binding.size
        self._share = share
        self._closed = closed
        with plan.translated(f"{self._what}: setting it up"):
            self._context: Any = plan.new_context()
            _set_up(self._context, binding, share, stream)
            self._capturable = plan.capturable(self._context, stream)
        share.enter()

    @property
    def size(self) -> int:
        """Rows that it computes."""
        return self._size

    @property
    def capturable(self) -> bool:
        """Whether `enqueue` may be captured into a graph."""
        return self._capturable

    def enqueue(self, stream: Stream) -> None:
        """Enqueue the run; see `Program.enqueue`."""
        if self._context is None:
            raise RunError(f"{self._what}: the program is closed")
        with self._plan.translated(f"{self._what}: running it", RunError):
            if not self._context.execute_async_v3(stream.handle):
                raise RunError("TensorRT does not run it")

    def close(self) -> None:
        """Let go of the context, and of what is shared when it is the last; may be called twice."""
        if self._context is None:
            return
        self._context = None
        self._share.leave()
        self._closed()


def _set_up(context: Any, binding: Binding, share: LaneShare, stream: Stream) -> None:
    """Give a context its profile, shape, memory and addresses; each call tells a refusal by its result."""
    if not context.set_optimization_profile_async(binding.profile, stream.handle):
        raise LoadError(f"profile {binding.profile} is refused")
    shape = (binding.size, *binding.input_shape)
    if not context.set_input_shape(INPUT_NAME, shape):
        raise LoadError(f"the input's shape {shape} is refused by profile {binding.profile}")
    missing = context.infer_shapes()
    if missing:
        raise LoadError(f"these tensors have no shape: {', '.join(missing)}")
    gives, wanted = tuple(context.get_tensor_shape(binding.output_name)), (binding.size, *binding.output_shape)
    if gives != wanted:
        raise LoadError(f"the output {binding.output_name} would be {gives}; wanted: {wanted}")
    _set_memory(context, share.memory)
    for name, buffer in ((INPUT_NAME, binding.batch), (binding.output_name, binding.rows)):
        if not context.set_tensor_address(name, buffer.address):
            raise LoadError(f"the address {buffer.address:#x} of {name} is refused")
    if share.streams:
        context.set_aux_streams([stream.handle for stream in share.streams])


def _set_memory(context: Any, memory: DeviceBuffer) -> None:
    """Give a context the memory that it works in."""
    if hasattr(context, "set_device_memory"):
        context.set_device_memory(memory.address, memory.size_bytes)
    else:  # 10.0
        context.device_memory = memory.address
