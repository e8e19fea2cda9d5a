from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from support_bundles import toy_bundle, toy_frames, toy_model
from support_fakeonnxruntime import CPU, CUDA, FakeRuntime
from support_tensorrt_engine import HandLane, OneDevice, answers
from vedette_engines.cuda.base import CudaError
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.errors import LoadError, MissingRuntimeError, RunError
from vedette_engines.gpu.onnxruntime_program import GRAPH_IDS, NO_WAIT
from vedette_engines.manifest import EngineFile
from vedette_engines.runners.base import RunnerSettings
from vedette_engines.runners.opening import open_engine
from vedette_engines.runners.providers import TENSORRT, TENSORRT_RTX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette_engines.gpu.base import DeviceEngine

BUILD = [TENSORRT, CUDA, CPU]


@pytest.fixture
def device() -> SimulatedDevice:
    return SimulatedDevice()


@pytest.fixture
def fake(device: SimulatedDevice, monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    fake = FakeRuntime(device)
    monkeypatch.setattr(ort, "get_available_providers", lambda: list(BUILD))
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)
    monkeypatch.setattr(ort, "InferenceSession", fake.open)
    return fake


@pytest.fixture
def root(tmp_path: Path, fake: FakeRuntime) -> Iterator[Path]:
    """Give a folder, and check afterwards that nothing was left on the device."""
    yield tmp_path
    fake.sessions.clear()
    fake.device.close()


def opened(root: Path, device: SimulatedDevice, **settings: Any) -> tuple[Any, DeviceEngine]:
    file = settings.pop("file", EngineFile("model.onnx"))
    bundle = toy_bundle(root, model=toy_model(file.batch), files=(file,))
    engine = open_engine(bundle, RunnerSettings(**{"max_batch": 4, **settings}), devices=OneDevice(device))
    assert engine.on_device is not None
    return engine, engine.on_device


@pytest.mark.parametrize("per_lane", [False, True])
def test_lanes_run_side_by_side_on_bound_memory(
    root: Path, device: SimulatedDevice, fake: FakeRuntime, per_lane: bool
) -> None:
    fake.duration_s = lambda batch: batch * 1e-3
    engine, on_device = opened(root, device, session_per_lane=per_lane)
    assert (engine.backend, on_device.backend) == (f"onnxruntime:{CUDA}",) * 2
    lanes = [HandLane(on_device, (1, 2, 4)) for _ in range(3)]
    for round_index in range(3):
        given = [lane.enqueue((1, 2, 4)[(place + round_index) % 3], start=place) for place, lane in enumerate(lanes)]
        for lane, frames in zip(lanes, given, strict=True):
            np.testing.assert_array_equal(lane.result(len(frames)), answers(np.stack(frames)))
    for lane in lanes:
        lane.close()
    engine.close()
    engine.close()


def test_one_session_serves_all_lanes_in_a_stream_of_its_own(
    root: Path, device: SimulatedDevice, fake: FakeRuntime
) -> None:
    engine, on_device = opened(root, device)
    lanes = [HandLane(on_device, (2,)) for _ in range(2)]
    (session,) = fake.sessions
    assert session.stream not in {lane.stream.handle for lane in lanes}
    assert session.options[CUDA]["device_id"] == "0"
    assert on_device.lane_bytes == 0
    for lane in lanes:
        lane.close()
    engine.close()


def test_a_session_for_each_lane_is_in_the_lanes_stream_and_ends_with_it(
    root: Path, device: SimulatedDevice, fake: FakeRuntime
) -> None:
    engine, on_device = opened(root, device, session_per_lane=True)
    assert on_device.lane_bytes > engine.file.size_bytes
    lanes = [HandLane(on_device, (1, 2)) for _ in range(2)]
    assert [session.stream for session in fake.sessions[1:]] == [lane.stream.handle for lane in lanes]
    fake.sessions.clear()
    free = device.free_bytes()
    lanes[0].close()
    assert device.free_bytes() == free + 4096 + lanes[0].batch.size_bytes + lanes[0].rows.size_bytes
    lanes[1].close()
    engine.close()


def test_a_run_returns_when_it_is_enqueued(root: Path, device: SimulatedDevice, fake: FakeRuntime) -> None:
    fake.duration_s = lambda _: 1.0
    engine, on_device = opened(root, device)
    lane = HandLane(on_device, (2,))
    before = device.clock()
    frames = lane.enqueue(2)
    assert device.clock() == before
    np.testing.assert_array_equal(lane.result(2), answers(np.stack(frames)))
    assert device.clock() == pytest.approx(before + 1.0)
    lane.close()
    engine.close()


def test_without_the_order_of_events_the_device_catches_the_race(
    root: Path, device: SimulatedDevice, fake: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mutation: with the session's wait taken out, its reads have no order to the lane's uploads."""
    engine, on_device = opened(root, device)
    lane = HandLane(on_device, (1,))
    compute = device.stream_of(fake.sessions[0].stream)
    with monkeypatch.context() as patch:
        patch.setattr(compute, "wait", lambda event: None)
        with pytest.raises(RunError, match="running it"):
            lane.enqueue(1)
    lane.close()
    engine.close()


def test_a_size_for_which_nothing_says_how_large_is_32(root: Path, device: SimulatedDevice) -> None:
    engine, on_device = opened(root, device, max_batch=None)
    assert (engine.max_batch, on_device.sizes) == (32, tuple(range(1, 33)))
    engine.close()


def test_a_file_of_one_batch_has_one_size(root: Path, device: SimulatedDevice) -> None:
    engine, on_device = opened(root, device, file=EngineFile("model.onnx", batch=2), max_batch=1)
    assert (on_device.max_batch, on_device.sizes) == (1, (2,))
    stream, memory = device.stream(), device.allocate(144)
    with pytest.raises(LoadError, match="a batch of 1 cannot be run"):
        on_device.open_programs(stream, memory, memory, (1,))
    stream.close()
    memory.close()
    engine.close()


def test_the_runtimes_own_graphs_have_an_id_for_each_program(
    root: Path, device: SimulatedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    engine, on_device = opened(root, device, provider_options={"cuda": {"enable_cuda_graph": "1"}})
    lanes = [HandLane(on_device, (1, 2)) for _ in range(2)]
    for lane in lanes:
        for program in lane.programs.values():
            seen.append(program._options.get_run_config_entry("gpu_graph_id"))
            assert not program.capturable
    assert seen == ["1", "2", "3", "4"]
    for lane in lanes:
        lane.close()
    engine.close()


def test_an_input_in_the_hosts_memory_is_refused(root: Path, device: SimulatedDevice, fake: FakeRuntime) -> None:
    fake.place = "Cpu"
    with pytest.raises(LoadError, match=r"engine toy 1: model\.onnx: ONNX Runtime keeps its input in the host's"):
        opened(root, device, providers=("cuda",))


def test_a_failed_run_is_one_batchs_error_and_the_next_one_runs(
    root: Path, device: SimulatedDevice, fake: FakeRuntime
) -> None:
    engine, on_device = opened(root, device)
    lane = HandLane(on_device, (2,))
    fake.fails = "Non-zero status code returned"
    with pytest.raises(RunError, match=r"model\.onnx: a batch of 2: running it: Non-zero status code"):
        lane.enqueue(2)
    fake.fails = ""
    frames = lane.enqueue(2)
    np.testing.assert_array_equal(lane.result(2), answers(np.stack(frames)))
    lane.close()
    lane.programs[2].close()
    with pytest.raises(RunError, match="the program is closed"):
        lane.programs[2].enqueue(lane.stream)
    engine.close()
    with pytest.raises(LoadError, match="the engine is closed"):
        on_device.open_programs(lane.stream, lane.batch, lane.rows, (2,))


def test_an_error_that_loses_the_device_is_sticky(tmp_path: Path, device: SimulatedDevice, fake: FakeRuntime) -> None:
    _, on_device = opened(tmp_path, device)
    lane = HandLane(on_device, (2,))
    fake.fails = "CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=x"
    with pytest.raises(CudaError, match="CUDA_ERROR_ILLEGAL_ADDRESS") as raised:
        lane.enqueue(2)
    assert raised.value.sticky


def test_a_provider_that_starts_only_in_name_is_refused_or_passed_over(
    root: Path, device: SimulatedDevice, fake: FakeRuntime
) -> None:
    fake.works = (CPU,)
    with pytest.raises(LoadError, match=f"{CUDA} was asked for, but ONNX Runtime would use {CPU}"):
        opened(root, device, providers=("cuda",))
    bundle = toy_bundle(root / "again")
    for settings, reason in (
        (RunnerSettings(), ""),
        (RunnerSettings(providers=("cuda", "cpu"), allow_fallback=True), f"{CUDA} was asked for"),
    ):
        with open_engine(bundle, settings, devices=OneDevice(device)) as engine:
            assert (engine.backend, engine.on_device) == (f"onnxruntime:{CPU}", None)
            assert reason in engine.fallback
            assert bool(engine.fallback) == bool(reason)


def test_the_order_of_providers_is_the_order_of_falling_back(
    root: Path, device: SimulatedDevice, fake: FakeRuntime
) -> None:
    options = {"tensorrt": {"trt_engine_cache_enable": "1"}, "cuda": {"cudnn_conv_use_max_workspace": "0"}}
    wish = {"providers": ("tensorrt", "cuda"), "allow_fallback": True, "provider_options": options}
    engine, on_device = opened(root, device, **wish)
    assert on_device.backend == f"onnxruntime:{CUDA}"
    assert f"{TENSORRT} was asked for" in engine.fallback
    assert fake.sessions[-1].options[CUDA].keys() == {
        "user_compute_stream",
        "device_id",
        "cudnn_conv_use_max_workspace",
    }
    engine.close()


def test_tensorrts_provider_gets_stream_and_profile(root: Path, device: SimulatedDevice, fake: FakeRuntime) -> None:
    fake.works = (TENSORRT, CUDA, CPU)
    engine, on_device = opened(root, device, providers=("tensorrt", "cuda"))
    assert on_device.backend == f"onnxruntime:{TENSORRT}"
    stream = str(fake.sessions[-1].stream)
    assert fake.sessions[-1].options[TENSORRT] == {
        "trt_profile_min_shapes": "frames:1x4x6x3",
        "trt_profile_opt_shapes": "frames:4x4x6x3",
        "trt_profile_max_shapes": "frames:4x4x6x3",
        "has_user_compute_stream": "1",
        "user_compute_stream": stream,
        "device_id": "0",
    }
    assert fake.sessions[-1].options[CUDA]["user_compute_stream"] == stream
    engine.close()


def test_without_a_cuda_library_of_ours_the_session_copies_by_itself(
    tmp_path: Path, fake: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoLibrary:
        def device(self, index: int) -> Any:
            raise MissingRuntimeError(f"GPU {index} cannot be opened: cuda-bindings: not installed")

    with open_engine(toy_bundle(tmp_path), RunnerSettings(), devices=NoLibrary()) as engine:
        assert (engine.backend, engine.on_device) == (f"onnxruntime:{CUDA}", None)
        assert "user_compute_stream" not in fake.sessions[0].options[CUDA]
    fake.sessions.clear()


# -- plugins ------------------------------------------------------------------------------------


class Plugins:
    """Stands in for the runtime's register of plugins."""

    def __init__(self, *, loads: str = "", devices: int = 1) -> None:
        self.loads, self.count = loads, devices
        self.registered: dict[str, str] = {}

    def register(self, name: str, path: str) -> None:
        if self.loads:
            raise RuntimeError(self.loads)
        assert name not in self.registered, "a library is registered twice"
        self.registered[name] = path

    def devices(self) -> list[Any]:
        return [
            SimpleNamespace(ep_name="nv_tensorrt_rtx", index=index) for index in range(self.count) if self.registered
        ]


@pytest.fixture
def plugins(fake: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    plugins = Plugins()
    package = SimpleNamespace(get_ep_names=lambda: ["nv_tensorrt_rtx"], get_library_path=lambda: "/plugin.so")
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", package)
    monkeypatch.setattr(ort, "register_execution_provider_library", plugins.register)
    monkeypatch.setattr(ort, "unregister_execution_provider_library", plugins.registered.pop)
    monkeypatch.setattr(ort, "get_ep_devices", plugins.devices)
    added: list[Any] = []

    class Options(ort.SessionOptions):
        def add_provider_for_devices(self, devices: Any, options: Any) -> None:
            added.append((devices[0].index, options))

    def open_with_plugin(model: str, sess_options: Any = None, providers: Any = None, enable_fallback: int = 1) -> Any:
        assert providers is None, "providers that are given by name replace the plugin's"
        fake.works = ("nv_tensorrt_rtx", CPU)
        return fake.open(model, sess_options, [("nv_tensorrt_rtx", added[-1][1])])

    monkeypatch.setattr(ort, "SessionOptions", Options)
    monkeypatch.setattr(ort, "InferenceSession", open_with_plugin)
    return plugins


def test_a_plugins_provider_goes_by_name_and_is_loaded_once(
    root: Path, device: SimulatedDevice, fake: FakeRuntime, plugins: Plugins
) -> None:
    for place in ("one", "two"):
        engine, on_device = opened(root / place, device, providers=("tensorrt-rtx",))
        assert on_device.backend == "onnxruntime:nv_tensorrt_rtx"
        options = fake.sessions[-1].options["nv_tensorrt_rtx"]
        assert options["has_user_compute_stream"] == "1"
        assert options["nv_profile_max_shapes"] == "frames:4x4x6x3"
        lane = HandLane(on_device, (2,))
        frames = lane.enqueue(2)
        np.testing.assert_array_equal(lane.result(2), answers(np.stack(frames)))
        lane.close()
        engine.close()
    assert plugins.registered == {"onnxruntime_ep_nv_tensorrt_rtx": "/plugin.so"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"loads": "libcuda.so.1: cannot open shared object file"},
            r"its library does not load: libcuda\.so\.1: cannot",
        ),
        ({"count": 0}, "its library finds no device that it runs on"),
    ],
)
def test_a_plugin_that_does_not_work_says_why(
    root: Path, device: SimulatedDevice, plugins: Plugins, changes: dict[str, Any], said: str
) -> None:
    for name, value in changes.items():
        setattr(plugins, name, value)
    with pytest.raises(LoadError, match=f"{TENSORRT_RTX}: {said}"):
        opened(root, device, providers=("tensorrt-rtx",))
    assert plugins.registered == {}


def test_a_plugin_that_is_not_installed_names_its_package(
    root: Path, device: SimulatedDevice, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", None)
    with pytest.raises(LoadError, match=r"plugin that is not installed \(.*pip install onnxruntime-ep-nv-tensorrt-rtx"):
        opened(root, device, providers=("tensorrt-rtx",))
    with pytest.raises(LoadError, match=r"plugin:onnxruntime_ep_of_mine is a plugin that is not installed"):
        open_engine(toy_bundle(root / "other"), RunnerSettings(providers=("plugin:onnxruntime_ep_of_mine",)))


def test_a_plugin_comes_first(root: Path, device: SimulatedDevice, plugins: Plugins) -> None:
    with pytest.raises(LoadError, match="a plugin's comes first, and alone or before the CPU"):
        opened(root, device, providers=("tensorrt-rtx", "cuda"))


# -- the real runtime, as far as a build for the CPU goes -----------------------------------------


def test_the_real_runtime_has_the_names_and_run_options_that_we_use() -> None:
    core = b"".join(path.read_bytes() for path in (Path(ort.__path__[0]) / "capi").glob("*.so*"))
    # Those of the built-in providers; `cuda_graph_annotation_id` is the plugin's.
    for key in (NO_WAIT, GRAPH_IDS[0]):
        assert key.encode() in core
    for name in ("register_execution_provider_library", "unregister_execution_provider_library", "get_ep_devices"):
        assert callable(getattr(ort, name))
    assert callable(ort.SessionOptions().add_provider_for_devices)


def test_real_sessions_bind_memory_by_address_and_run_with_our_options(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path)
    session = ort.InferenceSession(str(bundle.path / "model.onnx"), providers=[CPU])
    assert [info.name for info in session.get_input_memory_infos()] == ["Cpu"]
    frames, rows = np.stack(toy_frames(2)), np.zeros((2, 3, 6), np.float32)
    bound = session.io_binding()
    bound.bind_input("frames", "cpu", 0, np.uint8, frames.shape, frames.ctypes.data)
    bound.bind_output("candidates", "cpu", 0, np.float32, rows.shape, rows.ctypes.data)
    options = ort.RunOptions()
    for name, value in ((NO_WAIT, "1"), *((name, "3") for name in GRAPH_IDS)):
        options.add_run_config_entry(name, value)
    for start in (0, 50):
        frames[...] = np.stack(toy_frames(2, start))
        session.run_with_iobinding(bound, options)
        np.testing.assert_array_equal(rows, answers(frames))


def test_the_real_runtime_says_why_a_plugins_library_does_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "libplugin.so"
    package = SimpleNamespace(get_ep_name=lambda: "nv_tensorrt_rtx", get_library_path=lambda: str(library))
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", package)
    settings = RunnerSettings(providers=("tensorrt-rtx",))
    device = SimulatedDevice()
    for content, said in ((None, "No such file"), (b"no library", "(invalid ELF header|file too short)")):
        if content is not None:
            library.write_bytes(content)
        with pytest.raises(LoadError, match=f"its library does not load: .*{said}"):
            open_engine(toy_bundle(tmp_path / said[:4]), settings, devices=OneDevice(device))
    fallen = replace(settings, allow_fallback=True)
    with open_engine(toy_bundle(tmp_path / "fallen"), fallen, devices=OneDevice(device)) as engine:
        assert engine.backend == f"onnxruntime:{CPU}"
        assert "its library does not load" in engine.fallback
    device.close()
