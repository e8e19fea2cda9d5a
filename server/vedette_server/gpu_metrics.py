"""Tell what NVML knows of the GPUs: load, memory, codecs, temperature, power, what holds the clocks down.

A thread of its own asks once a second and leaves what it learned; a scrape takes that and asks nobody, so that a
call into a driver that hangs blocks neither scrapes nor streams. What is too old is not told as if it were new:
its series end, and `vedette_gpu_stale` turns 1. Without the package `nvidia-ml-py`, without a driver or without a
GPU there are no series, and one line in the log says why.

Limits: on a GPU that is split by MIG the driver tells no utilisation, and memory of the whole GPU only. NVML
counts GPUs by their place on the bus, CUDA by `CUDA_DEVICE_ORDER` and `CUDA_VISIBLE_DEVICES`: the UUID is what they
have in common. Jetsons have next to nothing of NVML.

Sources: the NVML API reference; names as in nvidia-ml-py 13.
"""

from __future__ import annotations

import importlib
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.core import Metric

_log = logging.getLogger(__name__)

INTERVAL_S = 1.0
STALE_S = 5.0
_CLOSE_S = 1.0
_LABELS = ("gpu", "uuid")

# What holds clocks down, by the end of the constant's name in NVML; being idle, or told to, is no throttling.
THROTTLES = {
    "power_cap": "SwPowerCap",
    "hardware": "HwSlowdown",
    "thermal": "SwThermalSlowdown",
    "hardware_thermal": "HwThermalSlowdown",
    "power_brake": "HwPowerBrakeSlowdown",
}


@dataclass(frozen=True, slots=True)
class GpuSample:
    """What NVML said of one GPU; None: this GPU or driver does not tell it.

    Attributes:
        index: Its index in NVML.
        uuid: Its UUID.
        utilisation: Share of the last moment in which a kernel ran, 0..1.
        memory_used_bytes: Memory in use, of all processes.
        memory_bytes: Memory there is.
        encoder: Load of the video encoders, 0..1.
        decoder: Load of the video decoders, 0..1.
        temperature_c: Temperature of the chip, degrees Celsius.
        power_w: Power drawn, watts.
        throttled: By each of `THROTTLES`, whether it holds the clocks down.
    """

    index: int
    uuid: str
    utilisation: float | None = None
    memory_used_bytes: float | None = None
    memory_bytes: float | None = None
    encoder: float | None = None
    decoder: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    throttled: dict[str, bool] | None = None


class Nvml:
    """NVML, opened; for one thread.

    Args:
        library: The module `pynvml`.

    Raises:
        Exception: `pynvml.NVMLError`: there is no driver.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        library.nvmlInit()
        self._gpus: list[tuple[int, str, Any]] = []
        for index in range(library.nvmlDeviceGetCount()):
            handle = library.nvmlDeviceGetHandleByIndex(index)
            self._gpus.append((index, str(library.nvmlDeviceGetUUID(handle)), handle))

    def samples(self) -> list[GpuSample]:
        """Ask for the figures of all GPUs that answer."""
        found = []
        for index, uuid, handle in self._gpus:
            try:
                found.append(self._sample(index, uuid, handle))
            except self._library.NVMLError as error:
                # It fell off the bus: it grows stale, the others are told.
                _log.debug("gpu %d does not answer: %s", index, error)
        return found

    def close(self) -> None:
        """Close NVML."""
        self._library.nvmlShutdown()

    def _sample(self, index: int, uuid: str, handle: Any) -> GpuSample:
        nvml = self._library
        load = self._ask("nvmlDeviceGetUtilizationRates", handle)
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        encoder = self._ask("nvmlDeviceGetEncoderUtilization", handle)
        decoder = self._ask("nvmlDeviceGetDecoderUtilization", handle)
        power_mw = self._ask("nvmlDeviceGetPowerUsage", handle)
        return GpuSample(
            index,
            uuid,
            None if load is None else load.gpu / 100,
            None if memory is None else memory.used,
            None if memory is None else memory.total,
            # Both come with the period over which they were taken.
            None if encoder is None else encoder[0] / 100,
            None if decoder is None else decoder[0] / 100,
            self._ask("nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU),
            None if power_mw is None else power_mw / 1000,
            self._throttled(handle),
        )

    def _throttled(self, handle: Any) -> dict[str, bool] | None:
        # The older name is for drivers before 535.
        for call, prefix in (
            ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlClocksEventReason"),
            ("nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlClocksThrottleReason"),
        ):
            reasons = self._ask(call, handle)
            if reasons is not None:
                return {name: bool(reasons & getattr(self._library, prefix + end)) for name, end in THROTTLES.items()}
        return None

    def _ask(self, call: str, *arguments: Any) -> Any:
        """Ask for one figure; None: not on this GPU, with this driver or with these rights.

        Raises:
            Exception: `pynvml.NVMLError`: the GPU does not answer at all.
        """
        nvml = self._library
        missing = (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound, nvml.NVMLError_NoPermission)
        try:
            return getattr(nvml, call)(*arguments)
        except missing:
            return None


def open_nvml() -> Nvml:
    """Open NVML.

    Raises:
        ImportError: The package `nvidia-ml-py` is not installed.
        Exception: `pynvml.NVMLError`: there is no driver.
    """
    return Nvml(importlib.import_module("pynvml"))


class GpuMetrics(Collector):
    """The latest figures of all GPUs, for Prometheus.

    Args:
        opener: Opens NVML; called by the thread that asks.
        clock: Monotonic seconds.
        interval_s: How often to ask.
        stale_s: Age at which figures are old.

    Threads: `collect` may be called from any.
    """

    def __init__(
        self,
        opener: Callable[[], Nvml] = open_nvml,
        clock: Callable[[], float] = time.monotonic,
        interval_s: float = INTERVAL_S,
        stale_s: float = STALE_S,
    ) -> None:
        self._opener = opener
        self._clock = clock
        self._interval_s = interval_s
        self._stale_s = stale_s
        # By index; replaced as a whole, so that readers need no lock.
        self._latest: dict[int, tuple[float, GpuSample]] = {}
        self._closing = threading.Event()
        # Nobody can end a thread that hangs in the driver: it must not keep the process.
        self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self) -> None:
        """Ask no more; may be called twice. A thread that hangs in the driver is left behind."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_S)

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand, so that registering asks for nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Give what is known now."""
        now = self._clock()
        latest = [(now - at_s > self._stale_s, sample) for at_s, sample in self._latest.values()]
        return families(latest)

    def _run(self) -> None:
        try:
            nvml = self._opener()
        except Exception as error:  # noqa: BLE001 - a missing package, driver or GPU; NVML has no base class without it
            _log.info("no GPU metrics: %s: %s", type(error).__name__, error)
            return
        try:
            while not self._closing.is_set():
                self._take(nvml)
                self._closing.wait(self._interval_s)
            nvml.close()
        except Exception:  # noqa: BLE001 - whatever a driver does, it costs these figures only
            _log.exception("GPU metrics ended")

    def _take(self, nvml: Nvml) -> None:
        samples = nvml.samples()
        now = self._clock()
        self._latest = self._latest | {sample.index: (now, sample) for sample in samples}


# The attributes of a sample that are one number each.
GPU_FIGURES = (*("utilisation", "memory_used_bytes", "memory_bytes", "encoder", "decoder", "temperature_c", "power_w"),)
_COLUMNS: tuple[tuple[str, str, Callable[[GpuSample], float | None]], ...] = (
    ("vedette_gpu_utilisation", "Share of time in which a kernel ran.", lambda gpu: gpu.utilisation),
    ("vedette_gpu_memory_used_bytes", "GPU memory in use by all processes.", lambda gpu: gpu.memory_used_bytes),
    ("vedette_gpu_memory_bytes", "GPU memory there is.", lambda gpu: gpu.memory_bytes),
    ("vedette_gpu_encoder_utilisation", "Load of the video encoders.", lambda gpu: gpu.encoder),
    ("vedette_gpu_decoder_utilisation", "Load of the video decoders.", lambda gpu: gpu.decoder),
    ("vedette_gpu_temperature_celsius", "Temperature of the GPU.", lambda gpu: gpu.temperature_c),
    ("vedette_gpu_power_watts", "Power that the GPU draws.", lambda gpu: gpu.power_w),
)


def families(latest: Sequence[tuple[bool, GpuSample]]) -> Iterator[Metric]:
    """Turn samples into Prometheus families.

    Args:
        latest: The latest sample of each GPU, and whether it is old.
    """
    for name, text, read in _COLUMNS:
        family = GaugeMetricFamily(name, text, labels=_LABELS)
        for stale, gpu in latest:
            value = read(gpu)
            if not stale and value is not None:
                family.add_metric((str(gpu.index), gpu.uuid), value)
        yield family
    throttled = GaugeMetricFamily(
        "vedette_gpu_throttled", "Whether it holds the clocks of the GPU down.", labels=(*_LABELS, "reason")
    )
    stales = GaugeMetricFamily("vedette_gpu_stale", "Whether the GPU has stopped to tell its figures.", labels=_LABELS)
    for stale, gpu in latest:
        stales.add_metric((str(gpu.index), gpu.uuid), stale)
        for reason, holds in (gpu.throttled or {}).items():
            if not stale:
                throttled.add_metric((str(gpu.index), gpu.uuid, reason), holds)
    yield from (throttled, stales)
