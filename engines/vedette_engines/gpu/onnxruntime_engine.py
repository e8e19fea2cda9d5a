"""An ONNX file on a GPU with ONNX Runtime, making programs for lanes.

Inputs and outputs are bound to the lanes' device memory, and the run option `disable_synchronize_execution_providers`
lets a run return when its work is enqueued. The stream is an option of the session, so there are two ways:

- one session for all lanes, as is the default. It computes in a stream of its own, which waits for a lane's upload
  and which the lane's download waits for. Weights and the arena are there once; batches take turns computing, and only
  copies overlap it. An arena cannot be shared in any other way: runs that were not waited for give their memory back
  to it when they were enqueued, which is right within one stream only.
- a session for each lane, in the lane's stream (`session_per_lane`). Batches compute side by side; weights, arena and
  loading cost as many times as there are lanes.

Graphs: `enable_cuda_graph` of the provider makes the runtime capture each size under an id of its own (`gpu_graph_id`);
since version 1.27 its replays are not waited for either. Others may not capture a run: it allocates as it goes.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.cuda.base import CudaError
from vedette_engines.errors import LoadError
from vedette_engines.gpu.device_failure import failure
from vedette_engines.gpu.onnxruntime_program import LaneSession, OnnxRuntimeProgram, RunBinding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette_engines.cuda.base import Device, DeviceBuffer, Stream
    from vedette_engines.manifest import EngineFile, Manifest

# Frames per run where neither the file nor the settings have a limit.
USUAL_MAX_BATCH = 32
# A guess: what a network keeps at once, in its input's pixels as float32.
_ACTIVATIONS = 16


class OnnxRuntimeDeviceEngine:
    """A loaded ONNX file; see `vedette_engines.gpu.base.DeviceEngine`.

    Args:
        device: Where; the caller is attached to it.
        open_session: Opens a session that computes in the stream of a handle.
        what: What messages call it.
        manifest: What the engine's tensors are.
        file: Which of the bundle's files it is.
        max_batch: Most frames per run; None: 32.
        session_per_lane: Each lane has a session of its own.
        graphs: The sessions capture graphs by themselves.

    Raises:
        LoadError: The runtime refuses, or keeps the engine's input or output in the host's memory.
        CudaError: The device is lost.
    """

    def __init__(
        self,
        device: Device,
        open_session: Callable[[int], Any],
        what: str,
        manifest: Manifest,
        file: EngineFile,
        max_batch: int | None,
        *,
        session_per_lane: bool = False,
        graphs: bool = False,
    ) -> None:
        self._device = device
        self._open_session = open_session
        self._what = what
        self._manifest = manifest
        self._file = file
        self._max_batch = max_batch or USUAL_MAX_BATCH
        self._graph_ids = itertools.count(1) if graphs else None
        self._lock = threading.Lock()
        self._closed = False
        # With a session for each lane this one only tells whether and where it runs.
        first = self._new_session(device.stream(), owns_stream=True)
        try:
            _check_places(first.session, what)
            self._backend = f"onnxruntime:{first.session.get_providers()[0]}"
        except BaseException:
            first.close()
            raise
        self._shared: LaneSession | None = first
        if session_per_lane:
            first.close()
            self._shared = None

    @property
    def device(self) -> Device:
        """Where it is."""
        return self._device

    @property
    def backend(self) -> str:
        """The provider that really runs it."""
        return self._backend

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of one frame."""
        return self._manifest.slot_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one row of the output."""
        return self._manifest.output_shape

    @property
    def max_batch(self) -> int:
        """Most rows of a run."""
        return self._max_batch

    @property
    def sizes(self) -> tuple[int, ...]:
        """Every size up to the largest, or the one that the file is made for."""
        return (self._file.batch,) if self._file.batch is not None else tuple(range(1, self._max_batch + 1))

    @property
    def lane_bytes(self) -> int:
        """Guess the device memory of a lane's own session: weights and arena; nothing where one is shared."""
        if self._shared is not None:
            return 0
        return self._file.size_bytes + self.sizes[-1] * int(np.prod(self.input_shape)) * 4 * _ACTIVATIONS

    def open_programs(
        self, stream: Stream, batch: DeviceBuffer, rows: DeviceBuffer, sizes: Sequence[int]
    ) -> Sequence[OnnxRuntimeProgram]:
        """Make the programs of one lane; see `DeviceEngine.open_programs`."""
        if self._closed:
            raise LoadError(f"{self._what}: the engine is closed")
        lacking = sorted(set(sizes) - set(self.sizes))
        if lacking:
            raise LoadError(f"{self._what}: a batch of {', '.join(map(str, lacking))} cannot be run")
        with contextlib.ExitStack() as undo:
            session = self._shared or self._new_session(stream)
            session.enter()
            undo.callback(session.leave)
            programs = []
            for size in sizes:
                program = self._program(session, batch, rows, size)
                undo.callback(program.close)
                programs.append(program)
            undo.pop_all()
            session.leave()
        return programs

    def _program(self, session: LaneSession, batch: DeviceBuffer, rows: DeviceBuffer, size: int) -> OnnxRuntimeProgram:
        binding = RunBinding(
            size=size,
            input_shape=(size, *self.input_shape),
            output_name=self._manifest.output_name,
            output_shape=(size, *self.output_shape),
            batch=batch,
            rows=rows,
        )
        graph_id = next(self._graph_ids) if self._graph_ids is not None else None
        try:
            return OnnxRuntimeProgram(self._device, session, f"{self._what}: a batch of {size}", binding, graph_id)
        except CudaError:
            raise
        except Exception as error:  # what ONNX Runtime raises has no common root but this
            doing = f"{self._what}: a batch of {size}: setting it up"
            raise failure(self._device, doing, str(error), LoadError) from error

    def _new_session(self, stream: Stream, *, owns_stream: bool = False) -> LaneSession:
        try:
            session = self._open_session(stream.handle)
        except Exception as error:
            if owns_stream:
                stream.close()
            if isinstance(error, CudaError):
                raise
            raise failure(self._device, self._what, str(error), LoadError) from error
        return LaneSession(session, stream, owns_stream=owns_stream, lock=self._lock)

    def close(self) -> None:
        """Let go of the sessions after the lanes; may be called twice."""
        self._closed = True
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.close()


def _check_places(session: Any, what: str) -> None:
    """Refuse a session whose input or output is not in device memory.

    Binding device memory to an input that a node on the CPU reads copies it once, when it is bound, and never again.
    """
    for ask, kind in (("get_input_memory_infos", "input"), ("get_output_memory_infos", "output")):
        infos = getattr(session, ask, None)
        if infos is not None and any(info.name.lower() == "cpu" for info in infos()):
            raise LoadError(
                f"{what}: ONNX Runtime keeps its {kind} in the host's memory, for a node that has no kernel"
            )
