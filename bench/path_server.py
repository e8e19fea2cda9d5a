"""The whole server on a GPU of zero time: what is left is what Python and gRPC cost.

Run as `python -m bench.path_server WIDTH HEIGHT [FILE]`. The engine's device is simulated, takes no time and moves no
upload, as a real one's copy engine would do it beside the host; what it answers is always the same. With FILE, stages
are timed: SIGUSR1 begins, SIGUSR2 writes down what was counted since.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vedette_engines.bundle import write_bundle
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.cuda.simulated_clock import WallClock
from vedette_engines.gpu.devices import Devices
from vedette_engines.gpu.simulated_engine import SimulatedEngine
from vedette_engines.gpu.sync_lane import SyncLane
from vedette_engines.making.graph import Graph
from vedette_engines.manifest import Defaults, DetectorOutput, EngineFile, InputSpec, Manifest, Task
from vedette_server import app
from vedette_server.execute.opener import GpuOpener
from vedette_server.settings import EngineSettings, MetricsSettings, ServerSettings, Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vedette_engines.bundle import Bundle

ENGINE = "still"
CANDIDATES, FOUND, MAX_BATCH = 100, 2, 8


class Loaded:
    """An engine that answers at once, and always the same: two finds, one of them twice, among many that are none."""

    fallback = ""
    backend = "simulated"
    max_batch = MAX_BATCH

    def __init__(self, bundle: Bundle, device: SimulatedDevice) -> None:
        self.bundle, self.file = bundle, bundle.manifest.files[0]
        height, width, depth = bundle.manifest.slot_shape
        row = np.zeros((CANDIDATES, 6), np.float32)
        row[:3] = [[10, 10, 40, 60, 0.9, 0], [11, 10, 41, 60, 0.8, 0], [80, 20, 120, 90, 0.7, 1]]
        self._rows = np.broadcast_to(row, (MAX_BATCH, *row.shape)).copy()
        self.on_device: Any = SimulatedEngine(
            device, (height, width, depth), row.shape, self._answer, max_batch=MAX_BATCH, sizes=(1, 2, 4, 8)
        )

    def _answer(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._rows[: len(frames)]

    def open_lane(self) -> SyncLane:
        """Give a lane for those that wait for each batch."""
        return SyncLane(self.on_device)

    def close(self) -> None:
        """Let go of it."""
        self.on_device.close()

    def __enter__(self) -> Loaded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def opener() -> GpuOpener:
    """Make what opens the engine on such a device."""

    def open_device(index: int, _library: str) -> Any:
        return SimulatedDevice(WallClock(), index=index, checks=False, uploads_move=False)

    def open_one(bundle: Bundle, settings: Any, devices: Any) -> Any:
        return Loaded(bundle, devices.device(settings.device_id))

    return GpuOpener(
        gpus=(0,), make_devices=lambda on_lost: Devices(opener=open_device, on_lost=on_lost), open_one=open_one
    )


def publish(root: Path, width: int, height: int) -> None:
    """Publish an engine of this size; its model is never run."""
    graph = Graph(ENGINE)
    nothing = graph.reduce("Sum", graph.reshape(graph.op("Cast", "frames", to=1), 0, -1), 1)
    nothing = graph.op("Mul", graph.op("Unsqueeze", nothing, graph.ints(2)), graph.number(0.0))
    graph.op("Add", nothing, graph.array(np.zeros((1, CANDIDATES, 6), np.float32)), named="candidates")
    manifest = Manifest(
        name=ENGINE,
        version="1",
        task=Task.DETECTOR,
        input=InputSpec(width, height),
        output=DetectorOutput(CANDIDATES, score_floor=0.01),
        labels=("red", "green"),
        defaults=Defaults(min_score=0.3),
        files=(EngineFile("model.onnx"),),
    )
    model = graph.model("candidates", (height, width, 3), (CANDIDATES, 6))
    write_bundle(root, manifest, {"model.onnx": model.SerializeToString()})


def main() -> int:
    """Serve until told to stop."""
    width, height = int(sys.argv[1]), int(sys.argv[2])
    if len(sys.argv) > 3:
        from bench.stopwatch import Stopwatch

        watch = Stopwatch()
        watch.install()
        signal.signal(signal.SIGUSR1, lambda *_: watch.begin())
        signal.signal(signal.SIGUSR2, lambda *_: watch.write(Path(sys.argv[3])))
    with tempfile.TemporaryDirectory() as folder:
        publish(Path(folder), width, height)
        settings = Settings(
            server=ServerSettings(port=0),
            engines=EngineSettings(dirs=(Path(folder),), preload=(ENGINE,), watch_interval_s=0.0, tune_budget_s=0.0),
            metrics=MetricsSettings(port="off"),
        )
        # As `app.run` does it, with an opener of our own.
        sys.setswitchinterval(app.SWITCH_INTERVAL_S)
        app.cv2.setNumThreads(1)
        return asyncio.run(app.App(settings, opener=opener()).serve())


if __name__ == "__main__":
    raise SystemExit(main())
