"""The programs of one lane with ONNX Runtime: inputs and outputs bound to device memory once, then runs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from vedette_engines.contract import INPUT_NAME
from vedette_engines.errors import RunError
from vedette_engines.gpu.device_failure import failure

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from vedette_engines.cuda.base import Device, DeviceBuffer, Event, Stream

# Run options, by the names of onnxruntime_run_options_config_keys.h; the plugin for RTX has another for graphs.
NO_WAIT = "disable_synchronize_execution_providers"
GRAPH_IDS = ("gpu_graph_id", "cuda_graph_annotation_id")


class LaneSession:
    """A session and the stream that it computes in; closed by the last of its users, or by `close`.

    Args:
        session: ONNX Runtime's.
        stream: Its stream.
        owns_stream: The stream is nobody else's, and is closed with it.
        lock: Held during each run in a stream that several lanes share.
    """

    def __init__(self, session: Any, stream: Stream, *, owns_stream: bool, lock: threading.Lock) -> None:
        self.session: Any = session
        self.stream = stream
        self._owns_stream = owns_stream
        self._lock = lock
        self._users = 0

    def enter(self) -> None:
        """Count one more user."""
        self._users += 1

    def leave(self) -> None:
        """Count one less; the last closes a session that is in its lane's stream."""
        self._users -= 1
        if self._users <= 0 and not self._owns_stream:
            self.close()

    @contextlib.contextmanager
    def ordered(self, stream: Stream, events: tuple[Event, Event]) -> Iterator[None]:
        """Let what is enqueued in the session's stream come after all in a lane's, and before what follows there."""
        if not self._owns_stream:
            yield
            return
        arrived, left = events
        with self._lock:
            stream.record(arrived)
            self.stream.wait(arrived)
            try:
                yield
            finally:
                # Also behind a run that failed half-way: what it enqueued still uses the lane's memory.
                self.stream.record(left)
                stream.wait(left)

    def close(self) -> None:
        """Let go of the session, when all that it enqueued is done; may be called twice."""
        if self.session is None:
            return
        self.stream.synchronize()
        self.session = None
        if self._owns_stream:
            self.stream.close()


@dataclass(frozen=True, slots=True)
class RunBinding:
    """What a program is bound to.

    Attributes:
        size: Rows.
        input_shape: Shape of the input, batch first.
        output_name: The output tensor.
        output_shape: Shape of the output, batch first.
        batch: Input.
        rows: Output.
    """

    size: int
    input_shape: tuple[int, ...]
    output_name: str
    output_shape: tuple[int, ...]
    batch: DeviceBuffer
    rows: DeviceBuffer


class OnnxRuntimeProgram:
    """One batch size of one lane; see `vedette_engines.gpu.base.Program`.

    Args:
        device: Where.
        session: Runs it.
        what: What messages call it.
        binding: What it is bound to.
        graph_id: The runtime captures it under this number; None: it does not.
    """

    def __init__(
        self, device: Device, session: LaneSession, what: str, binding: RunBinding, graph_id: int | None
    ) -> None:
        self._device = device
        self._session = session
        self._what = what
        self._size = binding.size
        index = device.facts.index
        bound = session.session.io_binding()
        bound.bind_input(INPUT_NAME, "cuda", index, np.uint8, binding.input_shape, binding.batch.address)
        bound.bind_output(binding.output_name, "cuda", index, np.float32, binding.output_shape, binding.rows.address)
        self._bound: Any = bound
        self._options = ort.RunOptions()
        self._options.add_run_config_entry(NO_WAIT, "1")
        if graph_id is not None:
            for name in GRAPH_IDS:
                self._options.add_run_config_entry(name, str(graph_id))
        self._events = (device.event(), device.event())
        session.enter()

    @property
    def size(self) -> int:
        """Rows that it computes."""
        return self._size

    @property
    def capturable(self) -> bool:
        """Never: the runtime allocates and frees while it enqueues."""
        return False

    def enqueue(self, stream: Stream) -> None:
        """Enqueue the run; see `Program.enqueue`."""
        if self._bound is None:
            raise RunError(f"{self._what}: the program is closed")
        with self._session.ordered(stream, self._events):
            try:
                self._session.session.run_with_iobinding(self._bound, self._options)
            except Exception as error:  # what ONNX Runtime raises has no common root but this
                doing = f"{self._what}: running it"
                raise failure(self._device, doing, str(error), RunError) from error

    def close(self) -> None:
        """Let go of the binding, and of a session that was the lane's own; may be called twice."""
        if self._bound is None:
            return
        self._bound = None
        for event in self._events:
            event.close()
        self._session.leave()
