"""GPU figures over an NVML of the test's own, whose names are those of the real package."""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from vedette_server import gpu_metrics
from vedette_server.gpu_metrics import GpuMetrics, Nvml, open_nvml
from vedette_server.metrics import Metrics
from vedette_server.settings import MetricsSettings

if TYPE_CHECKING:
    from collections.abc import Callable

pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
ONE = 'gpu="0",uuid="GPU-0"'
TWO = 'gpu="1",uuid="GPU-1"'


class FakeNvml:
    """The module `pynvml` over two GPUs: takes nothing that the real one has not.

    Attributes:
        broken: By name of a call, what it raises; or for one GPU, by call and index.
        before: Called before every call, by the thread that calls.
    """

    def __init__(self) -> None:
        self.broken: dict[object, Exception] = {}
        self.before: Callable[[], None] = lambda: None
        self.open = 0
        self.reasons = 0
        self.answers: dict[str, Callable[..., object]] = {
            "nvmlInit": lambda: self.turn(1),
            "nvmlShutdown": lambda: self.turn(-1),
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetUUID": lambda gpu: f"GPU-{gpu}",
            "nvmlDeviceGetUtilizationRates": utilisation,
            "nvmlDeviceGetMemoryInfo": memory,
            "nvmlDeviceGetEncoderUtilization": lambda gpu: [5, 20_000],
            "nvmlDeviceGetDecoderUtilization": lambda gpu: [61, 20_000],
            "nvmlDeviceGetTemperature": lambda gpu, sensor: {pynvml.NVML_TEMPERATURE_GPU: 55}[sensor],
            "nvmlDeviceGetPowerUsage": lambda gpu: 123_456,
            "nvmlDeviceGetCurrentClocksEventReasons": lambda gpu: self.reasons,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda gpu: self.reasons,
        }

    def __getattr__(self, name: str) -> Any:
        real = getattr(pynvml, name)
        if name not in self.answers:
            assert isinstance(real, int | type), f"{name} is not foreseen"
            return real

        def call(*arguments: Any) -> object:
            self.before()
            inspect.signature(real).bind(*arguments)
            error = self.broken.get(name) or self.broken.get((name, *arguments[:1]))
            if error is not None:
                raise error
            return self.answers[name](*arguments)

        return call

    def turn(self, step: int) -> None:
        """Count who has opened it."""
        self.open += step


def utilisation(gpu: int) -> object:
    rates = pynvml.c_nvmlUtilization_t()
    rates.gpu, rates.memory = 42 + gpu, 7
    return rates


def memory(gpu: int) -> object:
    told = pynvml.c_nvmlMemory_t()
    told.total, told.free, told.used = 80 << 30, 79 << 30, 1 << 30
    return told


class Bench:
    """GPU metrics over a fake, on a clock that the test turns; its thread asks all the time."""

    def __init__(self, library: FakeNvml) -> None:
        self.now = 100.0
        self.metrics = GpuMetrics(lambda: Nvml(library), lambda: self.now, interval_s=0.001)
        self.registry = CollectorRegistry()
        self.registry.register(self.metrics)
        self.metrics.start()

    def scrape(self) -> dict[str, float]:
        lines = generate_latest(self.registry).decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    def wait(self, holds: Callable[[dict[str, float]], object]) -> dict[str, float]:
        until = time.monotonic() + 10
        while not holds(found := self.scrape()):
            assert time.monotonic() < until, found
            time.sleep(0.002)
        return found


@pytest.fixture
def library() -> FakeNvml:
    return FakeNvml()


@pytest.fixture
def bench(library: FakeNvml):
    bench = Bench(library)
    yield bench
    library.before = lambda: None
    bench.metrics.close()


def test_every_figure_of_every_gpu_is_told_in_base_units(bench: Bench) -> None:
    found = bench.wait(len)
    assert {name: value for name, value in found.items() if TWO in name and "throttled" not in name} == {
        f"vedette_gpu_utilisation{{{TWO}}}": 0.43,
        f"vedette_gpu_memory_used_bytes{{{TWO}}}": 1 << 30,
        f"vedette_gpu_memory_bytes{{{TWO}}}": 80 << 30,
        f"vedette_gpu_encoder_utilisation{{{TWO}}}": 0.05,
        f"vedette_gpu_decoder_utilisation{{{TWO}}}": 0.61,
        f"vedette_gpu_temperature_celsius{{{TWO}}}": 55,
        f"vedette_gpu_power_watts{{{TWO}}}": 123.456,
        f"vedette_gpu_stale{{{TWO}}}": 0,
    }
    assert found[f"vedette_gpu_utilisation{{{ONE}}}"] == 0.42


@pytest.mark.parametrize("old", [False, True])
def test_what_holds_the_clocks_down_is_told_with_old_drivers_too_and_idling_is_not_throttling(
    library: FakeNvml, old: bool
) -> None:
    library.reasons = pynvml.nvmlClocksEventReasonSwPowerCap | pynvml.nvmlClocksEventReasonGpuIdle
    if old:
        library.broken["nvmlDeviceGetCurrentClocksEventReasons"] = pynvml.NVMLError_FunctionNotFound()
    bench = Bench(library)
    found = bench.wait(len)
    bench.metrics.close()
    held = {name: value for name, value in found.items() if "throttled" in name and 'gpu="0"' in name}
    power_cap = 'vedette_gpu_throttled{gpu="0",reason="power_cap",uuid="GPU-0"}'
    assert len(held) == len(gpu_metrics.THROTTLES)
    assert [name for name, value in held.items() if value] == [power_cap]


@pytest.mark.parametrize("error", ["NotSupported", "NoPermission", "FunctionNotFound"])
def test_a_figure_that_a_gpu_does_not_have_is_absent_and_the_others_are_there(library: FakeNvml, error: str) -> None:
    """As on a GPU that is split by MIG, which tells no utilisation."""
    for call in ("UtilizationRates", "EncoderUtilization", "DecoderUtilization"):
        library.broken[f"nvmlDeviceGet{call}"] = getattr(pynvml, f"NVMLError_{error}")()
    bench = Bench(library)
    found = bench.wait(len)
    bench.metrics.close()
    assert not [name for name in found if "utilisation" in name]
    assert found[f"vedette_gpu_power_watts{{{ONE}}}"] == 123.456


def test_a_gpu_that_is_lost_grows_stale_and_the_other_is_told(bench: Bench, library: FakeNvml) -> None:
    bench.wait(len)
    library.broken["nvmlDeviceGetMemoryInfo", 0] = pynvml.NVMLError_GpuIsLost()
    bench.now += gpu_metrics.STALE_S + 1
    found = bench.wait(lambda found: found[f"vedette_gpu_stale{{{TWO}}}"] == 0)
    assert found[f"vedette_gpu_stale{{{ONE}}}"] == 1
    assert [name for name in found if ONE in name] == [f"vedette_gpu_stale{{{ONE}}}"]
    assert f"vedette_gpu_utilisation{{{TWO}}}" in found


def test_a_call_that_hangs_blocks_no_scrape_and_no_end_and_is_told_as_stale(bench: Bench, library: FakeNvml) -> None:
    bench.wait(len)
    hanging, released = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        released.wait(30)

    library.before = hang
    assert hanging.wait(10)
    fresh = bench.scrape()
    assert fresh[f"vedette_gpu_utilisation{{{ONE}}}"] == 0.42
    bench.now += gpu_metrics.STALE_S + 0.1
    assert bench.scrape() == {f"vedette_gpu_stale{{{ONE}}}": 1, f"vedette_gpu_stale{{{TWO}}}": 1}
    bench.metrics.close()  # gives up on the thread
    assert library.open == 1
    released.set()


def test_it_recovers_from_a_call_that_hung_for_a_while(bench: Bench, library: FakeNvml) -> None:
    released = threading.Event()
    bench.wait(len)
    library.before = lambda: released.wait(30)
    bench.now += 60
    bench.wait(lambda found: found[f"vedette_gpu_stale{{{ONE}}}"] == 1)
    released.set()
    assert f"vedette_gpu_utilisation{{{ONE}}}" in bench.wait(lambda found: found[f"vedette_gpu_stale{{{ONE}}}"] == 0)


def test_nvml_is_closed_at_the_end_and_closing_twice_is_allowed(bench: Bench, library: FakeNvml) -> None:
    bench.wait(len)
    assert library.open == 1
    bench.metrics.close()
    bench.metrics.close()
    assert library.open == 0


@pytest.mark.parametrize(
    "error",
    [ModuleNotFoundError("No module named 'pynvml'"), pynvml.NVMLError_LibraryNotFound(), OSError("bad library")],
)
def test_without_package_or_driver_there_are_no_series_and_one_line_says_why(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> Nvml:
        raise error

    with caplog.at_level(logging.INFO, "vedette_server"):
        metrics = GpuMetrics(refuse)
        metrics.start()
        metrics.close()
    assert [sample for family in metrics.collect() for sample in family.samples] == []
    [record] = caplog.records
    assert record.getMessage() == f"no GPU metrics: {type(error).__name__}: {error}"


def test_an_error_that_nobody_foresaw_ends_the_figures_and_nothing_else(
    library: FakeNvml, caplog: pytest.LogCaptureFixture
) -> None:
    library.broken["nvmlDeviceGetPowerUsage"] = ctypes.ArgumentError("odd")
    metrics = GpuMetrics(lambda: Nvml(library))
    metrics.start()
    until = time.monotonic() + 10
    while "GPU metrics ended" not in caplog.text:
        assert time.monotonic() < until
        time.sleep(0.002)
    metrics.close()
    assert [sample for family in metrics.collect() for sample in family.samples] == []


def test_every_name_that_is_asked_for_exists_in_the_real_package() -> None:
    reasons = [
        f"{prefix}{end}"
        for prefix in ("nvmlClocksEventReason", "nvmlClocksThrottleReason")
        for end in gpu_metrics.THROTTLES.values()
    ]
    assert all(isinstance(getattr(pynvml, name), int) for name in (*reasons, "NVML_TEMPERATURE_GPU"))


def test_the_real_package_without_a_driver_is_one_of_the_errors_that_are_answered() -> None:
    with contextlib.suppress(pynvml.NVMLError):
        open_nvml().close()


def test_the_metrics_port_serves_what_a_machine_without_a_gpu_has_and_can_be_told_not_to_ask() -> None:
    for wanted in (True, False):
        with Metrics(MetricsSettings(port=0, gpu=wanted)) as metrics:
            names = [family.name for family in metrics.registry.collect()]
            assert ("vedette_gpu_stale" in names) is wanted
            assert metrics.port
