"""A TensorRT plan on a device, making programs for lanes.

Threads: any may open and close programs; a program is one thread's at a time.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from typing import TYPE_CHECKING

from vedette_engines.cuda.base import CudaError
from vedette_engines.errors import LoadError
from vedette_engines.gpu.tensorrt_context import Binding, LaneShare, TensorRtProgram
from vedette_engines.gpu.tensorrt_profiles import choose_profiles, runnable_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_engines.cuda.base import Device, DeviceBuffer, Stream
    from vedette_engines.gpu.tensorrt_plan import TensorRtPlan
    from vedette_engines.manifest import EngineFile, Manifest


class TensorRtDeviceEngine:
    """A loaded plan; see `vedette_engines.gpu.base.DeviceEngine`.

    Args:
        device: Where the plan was loaded; the caller is attached to it.
        plan: The plan; closed by `close`.
        what: What messages call it.
        backend: What runs it, such as `tensorrt:11.1.0`.
        manifest: What the engine's tensors are.
        file: Which of the bundle's files it is.
        max_batch: Most frames per run that are wanted; None: all that the profiles take.

    Raises:
        LoadError: The tensors are not those of the manifest, or the profiles do not take so many frames.
        CudaError: The device is lost.
    """

    def __init__(
        self,
        device: Device,
        plan: TensorRtPlan,
        what: str,
        backend: str,
        manifest: Manifest,
        file: EngineFile,
        max_batch: int | None,
    ) -> None:
        self._device = device
        self._plan: TensorRtPlan | None = plan
        self._what = what
        self._backend = backend
        self._manifest = manifest
        plan.check(manifest, file)
        self._profiles = plan.profiles(file.batch)
        most = max(profile.largest for profile in self._profiles)
        if max_batch is not None and max_batch > most:
            raise LoadError(f"{what}: max_batch is {max_batch}; its profiles take 1..{most}")
        self._max_batch = max_batch or most
        self._sizes = runnable_sizes(self._profiles, self._max_batch)
        self._lane_bytes = plan.memory_bytes()
        self._users = [0] * len(self._profiles)
        self._lock = threading.Lock()

    @property
    def device(self) -> Device:
        """Where it is."""
        return self._device

    @property
    def backend(self) -> str:
        """What runs it."""
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
        """Batch sizes that some profile takes, up to the one that the largest batch is padded to."""
        return self._sizes

    @property
    def lane_bytes(self) -> int:
        """Device memory that the contexts of a lane work in, for the widest profile.

        What each context keeps besides (a few MiB with most engines) TensorRT does not tell.
        """
        return self._lane_bytes

    def open_programs(
        self, stream: Stream, batch: DeviceBuffer, rows: DeviceBuffer, sizes: Sequence[int]
    ) -> Sequence[TensorRtProgram]:
        """Make the programs of one lane; see `DeviceEngine.open_programs`."""
        plan = self._plan
        if plan is None:
            raise LoadError(f"{self._what}: the engine is closed")
        lacking = sorted(set(sizes) - set(self._sizes))
        if lacking:
            raise LoadError(f"{self._what}: no profile takes a batch of {', '.join(map(str, lacking))}")
        with self._lock:
            chosen = choose_profiles(sizes, self._profiles, self._users)
        left = list(chosen)
        with contextlib.ExitStack() as undo:
            undo.callback(self._release_all, left)
            share = self._share(plan, chosen)
            # Held until all programs are made, so that it is closed when the first cannot be.
            share.enter()
            undo.callback(share.leave)
            programs = []
            for size, profile in zip(sizes, chosen, strict=True):
                binding = Binding(
                    size=size,
                    profile=profile,
                    input_shape=self.input_shape,
                    output_name=self._manifest.output_name,
                    output_shape=self.output_shape,
                    batch=batch,
                    rows=rows,
                )
                program = TensorRtProgram(
                    plan, self._what, binding, share, stream, functools.partial(self._release, profile)
                )
                left.remove(profile)
                undo.callback(program.close)
                programs.append(program)
            # Setting a profile may copy something; an error of that belongs here and not to the first batch.
            stream.synchronize()
            undo.pop_all()
            share.leave()
        return programs

    def _share(self, plan: TensorRtPlan, profiles: Sequence[int]) -> LaneShare:
        size = max((plan.memory_bytes(profile) for profile in set(profiles)), default=0)
        try:
            return LaneShare(self._device, size, plan.aux_streams)
        except CudaError as error:
            if error.sticky:
                raise
            raise LoadError(f"{self._what}: a lane needs {size} bytes of device memory to work in: {error}") from error

    def _release_all(self, profiles: Sequence[int]) -> None:
        for profile in profiles:
            self._release(profile)

    def _release(self, profile: int) -> None:
        with self._lock:
            self._users[profile] -= 1

    def close(self) -> None:
        """Let go of the plan after its lanes; may be called twice."""
        plan, self._plan = self._plan, None
        if plan is not None:
            plan.close()
