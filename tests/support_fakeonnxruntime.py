"""Sessions of ONNX Runtime on a simulated device: bound to its memory, run in its streams, computed by the real CPU's.

As with the real provider a run is only enqueued, and works in an arena of its session; that two runs which nothing
puts in order use one arena is caught by the device.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from vedette_engines.cuda.simulated_stream import Use

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vedette_engines.cuda.simulated import SimulatedDevice

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_ARENA_BYTES = 4096


@dataclass
class FakeRuntime:
    """What stands in for the module's functions.

    Args:
        device: Where sessions run.
        works: Providers that really start; the others are passed over in silence, as the real runtime does.
        place: Where the runtime wants input and output.
        duration_s: What a run takes, by batch.
        fails: What runs raise; empty: nothing.
    """

    device: SimulatedDevice
    works: tuple[str, ...] = (CUDA, CPU)
    place: str = "Cuda"
    duration_s: Callable[[int], float] = lambda _: 0.0
    fails: str = ""
    sessions: list[FakeSession] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._real = ort.InferenceSession

    def open(
        self,
        model: str,
        sess_options: Any = None,
        providers: Sequence[tuple[str, Mapping[str, str]]] | None = None,
        enable_fallback: int = 1,
    ) -> Any:
        """Stand in for `InferenceSession`."""
        names = [name for name, _ in providers or ()]
        real = self._real(model, sess_options=sess_options, providers=[CPU])
        if not any(name in self.works for name in names if name != CPU):
            return real
        session = FakeSession(self, real, dict(providers or ()))
        self.sessions.append(session)
        return session


class FakeSession:
    """A session on the device."""

    def __init__(self, fake: FakeRuntime, real: Any, options: Mapping[str, Mapping[str, str]]) -> None:
        self._fake, self.real, self.options = fake, real, options
        self.arena = fake.device.allocate(_ARENA_BYTES)
        self.runs: list[dict[str, str]] = []

    def __del__(self) -> None:
        self.arena.close()

    def get_providers(self) -> list[str]:
        used = [name for name in self.options if name in self._fake.works]
        return used if CPU in used else [*used, CPU]

    def get_input_memory_infos(self) -> list[Any]:
        return [SimpleNamespace(name=self._fake.place)]

    def get_output_memory_infos(self) -> list[Any]:
        return [SimpleNamespace(name=self._fake.place)]

    def io_binding(self) -> FakeBinding:
        return FakeBinding(self._fake.device)

    @property
    def stream(self) -> int:
        """Handle of the stream that it computes in."""
        return int(next(iter(self.options.values()))["user_compute_stream"])

    def run_with_iobinding(self, binding: FakeBinding, run_options: ort.RunOptions) -> None:
        if self._fake.fails:
            raise RuntimeError(self._fake.fails)
        waits = run_options.get_run_config_entry("disable_synchronize_execution_providers") != "1"
        stream = self._fake.device.stream_of(self.stream)
        (source, shape), (target, _) = binding.inputs["frames"], next(iter(binding.outputs.values()))
        output = next(iter(binding.outputs))
        arena = Use(self.arena, 0, _ARENA_BYTES, writes=True)

        def run() -> None:
            frames = source.bytes.reshape(shape)
            rows = self.real.run([output], {"frames": frames})[0]
            target.bytes[:] = np.ascontiguousarray(rows, np.float32).reshape(-1).view(np.uint8)

        stream.work(f"session {shape[0]}", lambda: self._fake.duration_s(shape[0]), (source, arena, target), run)
        if waits:
            stream.synchronize()


class FakeBinding:
    """Inputs and outputs by name, bound to device memory."""

    def __init__(self, device: SimulatedDevice) -> None:
        self._device = device
        self.inputs: dict[str, tuple[Use, tuple[int, ...]]] = {}
        self.outputs: dict[str, tuple[Use, tuple[int, ...]]] = {}

    def bind_input(
        self, name: str, device: str, index: int, element: Any, shape: tuple[int, ...], address: int
    ) -> None:
        self.inputs[name] = (self._use(device, index, element, shape, address, writes=False), shape)

    def bind_output(
        self, name: str, device: str, index: int, element: Any, shape: tuple[int, ...], address: int
    ) -> None:
        self.outputs[name] = (self._use(device, index, element, shape, address, writes=True), shape)

    def _use(self, device: str, index: int, element: Any, shape: tuple[int, ...], address: int, *, writes: bool) -> Use:
        assert (device, index) == ("cuda", self._device.facts.index)
        size = int(np.prod(shape)) * np.dtype(element).itemsize
        memory, start = self._device.buffer_at(address, size)
        return Use(memory, start, size, writes=writes)
