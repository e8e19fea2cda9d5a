"""Engines without a server around them: real bundles, a pool that only takes note, channels that only are bound."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from support_bundles import HEIGHT, WIDTH, toy_bundle, toy_manifest
from vedette_engines.bundle import write_bundle
from vedette_engines.making.graph import Graph
from vedette_engines.manifest import ClassifierOutput, Task
from vedette_server.data.config import ChannelConfig, EngineRef
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.execute.engines import Engines
from vedette_server.execute.keeper import Keeper
from vedette_server.execute.steering import Steering
from vedette_server.frame import Binding
from vedette_server.metrics import Metrics
from vedette_server.settings import EngineSettings, MetricsSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from vedette_server.conversion import Tap
    from vedette_server.execute.client import InferenceClient, LoadedInference

SETTINGS = EngineSettings(lanes=1, max_batch=2, tune_budget_s=0.0)


def publish_classifier(root: Path, version: str, name: str = "toy") -> None:
    """Publish a classifier that says how bright a frame of the toy's size is: dark or bright."""
    g = Graph(name)
    mean = g.reduce("Mean", g.reshape(g.op("Cast", "frames", to=1), 0, -1), 1)
    bright = g.op("Mul", mean, g.number(1 / 255))
    dark = g.op("Sub", g.number(1.0), bright)
    g.op("Concat", dark, bright, axis=1, named="scores")
    manifest = toy_manifest(name, version, task=Task.CLASSIFIER, output=ClassifierOutput(2), labels=("dark", "bright"))
    write_bundle(root, manifest, {"model.onnx": g.model("scores", (HEIGHT, WIDTH, 3), (2,)).SerializeToString()})


class NotingPool:
    """Knows whose batches it would run."""

    def __init__(self) -> None:
        self.sources: list[LoadedInference] = []
        self.taps: dict[InferenceClient, tuple[Tap, ...]] = {}
        self.idle = True

    def add_source(self, source: LoadedInference, lanes: int) -> None:
        assert source not in self.sources
        self.sources.append(source)

    def remove_source(self, source: LoadedInference, lanes: int) -> None:
        if source in self.sources:
            self.sources.remove(source)

    def slots_freed(self) -> None:
        pass

    def jobs_ready(self) -> None:
        pass

    def show(self, taps: Mapping[InferenceClient, Sequence[Tap]]) -> None:
        self.taps = {inference: tuple(those) for inference, those in taps.items() if those}


class Channel:
    """A session as far as engines know it."""

    def __init__(self, name: str, engines: tuple[EngineRef, ...], classes: tuple[str, ...] = ()) -> None:
        self.config = ChannelConfig(name, VideoFormat(Codec.H264), engines, classes=classes)
        self.binding = self.bound(())
        self.ended = ""

    @staticmethod
    def bound(inferences: tuple[InferenceClient, ...]) -> Binding:
        reader: Any = None
        return Binding(inferences, reader)

    def rebind(self, inferences: tuple[InferenceClient, ...]) -> None:
        self.binding = self.bound(inferences)

    def end(self, end_reason: str, skip: object, error: object = None) -> None:
        self.ended = end_reason

    @property
    def version(self) -> str:
        """What its first engine runs."""
        return self.binding.inferences[0].label.version


class House:
    """Engines in a folder, with channels, a steersman, and a keeper that looks when it is told to."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root = root
        self.now = 1000.0
        self.pool = NotingPool()
        self.metrics = Metrics(MetricsSettings(port="off"))
        self.settings = replace(SETTINGS, dirs=(root,), **settings)
        self.engines = Engines(self.settings, self.metrics, self.pool, lambda: None, lambda: self.now)
        self.steering = Steering(self.engines)
        self.keeper = Keeper(self.engines, 1e-9, 60.0)
        # Its thread ends: tests look by themselves, so that they know when.
        self.keeper.close()
        self.keeper._stopping.clear()

    def publish(self, version: str, name: str = "toy", **changes: Any) -> None:
        toy_bundle(self.root, name, version, **changes)

    def open(self, name: str, engine: str = "toy", version: str = "", classes: tuple[str, ...] = ()) -> Channel:
        """Open a channel as the server does."""
        channel = Channel(name, (EngineRef(engine, version),), classes)
        self.engines.prepare(channel.config.engines)
        channel.rebind(self.engines.choose(channel.config))
        self.engines.join(channel)
        return channel

    def look(self) -> None:
        self.keeper.look()

    def close(self) -> None:
        self.engines.close()

    def state(self, version: str) -> str:
        """Tell where a version of the toy stands."""
        return next(str(one.state) for one in self.steering.versions("toy") if one.version == version)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
