"""Bench an engine: every candidate side by side, in turns."""

from __future__ import annotations

import datetime
import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vedette_engines.benching import accuracy
from vedette_engines.benching.memory import measure_memory
from vedette_engines.benching.race import Contestant, Race, percentile, ratio
from vedette_engines.benching.report import BenchReport, Row, WayFacts
from vedette_engines.benching.way import Runtime, open_way
from vedette_engines.benching.ways import BASELINE, find_ways
from vedette_engines.building.versions import library_versions, machine
from vedette_engines.errors import EnginesError, ImportInputError
from vedette_engines.manifest import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from vedette_engines.benching.race import Laps
    from vedette_engines.benching.report import Accuracy
    from vedette_engines.benching.way import OpenWay, Way
    from vedette_engines.bundle import Bundle
    from vedette_engines.graft.frames import Sample
    from vedette_engines.graft.preprocess import Preprocessing
    from vedette_engines.manifest import Manifest
    from vedette_engines.sources.spec import SourceSpec

Key = tuple[str, str]
MOST_BATCH = 1024


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """What is to be measured.

    Attributes:
        bundle: The engine.
        batches: Batch sizes.
        seconds: Budget of the race, for all candidates together.
        threads: Threads of one run; None: as many as there are cores.
        runners: Which runners; empty: all that can run here.
        source: The model in PyTorch, to run beside the engines.
        preprocessing: What goes before it.
        samples: Frames to run and to compare on; empty: noise, and the accuracy that the build measured.
        memory: Measure memory, in a process for each candidate.
        command: What the user called.
        seed: Of the order of turns and of the noise.
    """

    bundle: Bundle
    batches: tuple[int, ...] = (1, 8, 32)
    seconds: float = 60.0
    threads: int | None = None
    runners: tuple[str, ...] = ()
    source: SourceSpec | None = None
    preprocessing: Preprocessing | None = None
    samples: tuple[Sample, ...] = ()
    memory: bool = True
    command: str = ""
    seed: int = 0


def run_bench(request: BenchRequest, say: Callable[[str], None] = lambda _: None) -> BenchReport:
    """Measure all candidates of an engine.

    Raises:
        ImportInputError: A value is out of bounds, or nothing can run.
        MissingRuntimeError: A runner that was asked for is not installed.
    """
    _check(request)
    with tempfile.TemporaryDirectory(prefix="vedette-bench-") as folder:
        ways = find_ways(
            request.bundle,
            Path(folder),
            runners=request.runners,
            source=request.source,
            preprocessing=request.preprocessing,
            say=say,
        )
        return bench_ways(request, ways, say)


def bench_ways(request: BenchRequest, ways: Sequence[Way], say: Callable[[str], None] = lambda _: None) -> BenchReport:
    """Measure these candidates.

    Raises:
        ImportInputError: There is none.
    """
    if not ways:
        raise ImportInputError(f"engine {request.bundle.name} {request.bundle.version}: nothing here can run its files")
    manifest = request.bundle.manifest
    threads = request.threads or cores()
    with ExitStack() as stack:
        field = _Field(request, manifest, threads, say)
        stack.callback(field.close)
        field.measure_memory(ways)
        field.open(ways)
        field.compare()
        field.race()
        return field.report()


def cores() -> int:
    """Tell how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(request: BenchRequest) -> None:
    if not request.batches or not all(1 <= batch <= MOST_BATCH for batch in request.batches):
        raise ImportInputError(f"--batch is {list(request.batches)}; allowed are whole numbers from 1 to {MOST_BATCH}")
    if not 0 < request.seconds <= 86400:
        raise ImportInputError(f"--seconds is {request.seconds:g}; allowed is above 0, up to 86400")


class _Field:
    """The candidates of one bench and what was found out about them."""

    def __init__(self, request: BenchRequest, manifest: Manifest, threads: int, say: Callable[[str], None]) -> None:
        self._request = request
        self._manifest = manifest
        self._threads = threads
        self._say = say
        self._batches = tuple(sorted(set(request.batches)))
        self._frames = _frames(request, max(self._batches))
        self._ways: dict[Key, Way] = {}
        self._opened: dict[Key, OpenWay] = {}
        self._facts: dict[Key, WayFacts] = {}
        self._memory: dict[Key, Mapping[int, int]] = {}
        self._failed: dict[Key, str] = {}
        self._laps: dict[tuple[Key, int], Laps] = {}

    def measure_memory(self, ways: Sequence[Way]) -> None:
        """Measure each candidate's memory before any of them is loaded here."""
        if not self._request.memory:
            return
        for way in ways:
            self._say(f"memory of {way.runner} {way.precision}")
            batches = [batch for batch in self._batches if way.takes(batch)]
            self._memory[way.key] = measure_memory(way, self._manifest, self._threads, batches) if batches else {}

    def open(self, ways: Sequence[Way]) -> None:
        """Load all; one that cannot be loaded is kept with its reason."""
        for way in ways:
            self._ways[way.key] = way
            began = time.perf_counter()
            try:
                opened = open_way(way, self._manifest, self._threads)
            except EnginesError as error:
                self._failed[way.key] = str(error)
                self._facts[way.key] = WayFacts(*way.key, way.size_bytes, note=way.note)
                self._say(f"{way.runner} {way.precision} cannot run: {error}")
                continue
            load_s = time.perf_counter() - began
            self._opened[way.key] = opened
            self._facts[way.key] = WayFacts(*way.key, way.size_bytes, opened.backend, load_s, note=way.note)

    def compare(self) -> None:
        """Note how far each candidate agrees with the FP32 engine."""
        known = accuracy.reported(self._request.bundle)
        for key, way in self._ways.items():
            found: Accuracy | None = known.get(way.precision)
            if (
                self._request.samples
                and key in self._opened
                and way.runtime not in {Runtime.EAGER, Runtime.TORCHSCRIPT}
            ):
                found = self._measured(key)
            elif way.source is not None or way.precision is Precision.FP32:
                found = None
            self._facts[key] = replace(self._facts[key], accuracy=found)

    def _measured(self, key: Key) -> Accuracy | None:
        reference = self._opened.get(BASELINE)
        if reference is None or key == BASELINE:
            return None
        try:
            return accuracy.measured(self._manifest, reference, self._opened[key], self._request.samples, self._say)
        except EnginesError as error:
            self._say(f"accuracy of {' '.join(key)} was not measured: {error}")
            return None

    def race(self) -> None:
        """Run all batches of all candidates in turns."""
        contestants = {
            (key, batch): self._contestant(opened, batch, settles=self._ways[key].runtime is Runtime.OPENVINO)
            for batch in self._batches
            for key, opened in self._opened.items()
            if self._ways[key].takes(batch)
        }
        if not contestants:
            reasons = "; ".join(self._failed.values()) or f"no file takes a batch of {self._batches}"
            raise ImportInputError(f"engine {self._request.bundle.name}: nothing can be measured: {reasons}")
        self._say(f"{len(contestants)} candidates run in turns for {self._request.seconds:g} s")
        self._laps = Race(contestants, self._request.seconds, seed=self._request.seed).run()

    def _contestant(self, opened: OpenWay, batch: int, *, settles: bool) -> Contestant:
        frames = self._frames[:batch]
        return Contestant(lambda: opened.run(frames), batch, group=batch, settles=settles)

    def report(self) -> BenchReport:
        """Put all together."""
        manifest = self._manifest
        spec = manifest.input
        return BenchReport(
            engine=f"{manifest.name} {manifest.version}",
            task=str(manifest.task),
            input=f"{spec.width}x{spec.height}",
            when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            command=self._request.command,
            threads=self._threads,
            seconds=self._request.seconds,
            baseline=self._baseline(),
            machine={**machine(), "cores": str(cores()), **_total_memory()},
            versions=library_versions(),
            ways=tuple(self._facts.values()),
            rows=tuple(self._row(key, batch) for key in self._ways for batch in self._batches),
            notes=self._notes(),
        )

    def _baseline(self) -> Key:
        return BASELINE if BASELINE in self._opened else next(iter(self._opened))

    def _row(self, key: Key, batch: int) -> Row:
        if key in self._failed:
            return Row(*key, batch, failed=self._failed[key])
        laps = self._laps.get((key, batch))
        if laps is None:
            return Row(*key, batch, failed=f"the file takes batches up to {self._ways[key].max_batch or 1} only")
        if laps.failed:
            return Row(*key, batch, failed=laps.failed)
        base = self._laps.get((self._baseline(), batch))
        return Row(
            *key,
            batch,
            p50_ms=percentile(laps.runs_s, 0.5) * 1e3,
            p99_ms=percentile(laps.runs_s, 0.99) * 1e3,
            frames_per_s=float(np.median(laps.rates)),
            speedup=None if base is None or base.failed else ratio(laps, base),
            runs=len(laps.runs_s),
            rounds=len(laps.rates),
            memory_bytes=self._memory.get(key, {}).get(batch),
        )

    def _notes(self) -> tuple[str, ...]:
        many = f"{self._threads} thread" + ("s" if self._threads > 1 else "")
        content = "the given footage" if self._request.samples else "noise"
        return (
            f"One caller; each run takes {many}. Frames are {content}, uint8 BGR; what is timed is from them to the "
            "engine's output, preprocessing and the head's decoding included.",
            "The candidates ran in turns, in shuffled order, round after round. Frames per second are the median over "
            "the rounds; a factor is the median of the rounds' ratios, in brackets the smallest and the largest.",
            "p99 of fewer than a hundred runs is the longest run.",
            "Memory is the growth of a process of its own, from before the engine is loaded to the highest point while "
            "it runs batches up to this size; the runtime's libraries are not counted.",
            *(
                ("PyTorch runs the model with its preprocessing, without the head's decoding.",)
                if self._has_source()
                else ()
            ),
        )

    def _has_source(self) -> bool:
        return any(way.source is not None for way in self._ways.values())

    def close(self) -> None:
        """Let go of all candidates."""
        for opened in self._opened.values():
            opened.close()


def _frames(request: BenchRequest, count: int) -> list[NDArray[np.uint8]]:
    """Take the given frames, over and over if they are few; noise without them."""
    if request.samples:
        return [request.samples[index % len(request.samples)].pixels for index in range(count)]
    shape = request.bundle.manifest.slot_shape
    return list(np.random.default_rng(request.seed).integers(0, 256, (count, *shape), np.uint8))


def _total_memory() -> dict[str, str]:
    try:
        first = Path("/proc/meminfo").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return {}
    return {"memory": f"{int(first) / 1024**2:.1f} GiB"}
