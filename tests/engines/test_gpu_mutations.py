"""Each synchronisation of the executor is needed: without it, some check fails on the simulated device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support_cuda_kernels import KERNELS
from support_gpu import COLUMNS, FRAME_BYTES, SHAPE, Rig, Store, sums
from support_gpu_mutants import MutantDevice, Mutations, notices, sites_of
from vedette_engines.cuda.letterboxing import Surface, SurfaceKind
from vedette_engines.cuda.simulated import SimulatedDevice, WallClock
from vedette_engines.errors import LoadError, RunError
from vedette_engines.gpu.base import Batch, DevicePicture, HostPicture, Outcome, PictureLayout
from vedette_engines.gpu.executor import LaneSettings
from vedette_engines.gpu.simulated_engine import SimulatedEngine
from vedette_engines.gpu.sync_lane import SyncLane

if TYPE_CHECKING:
    from collections.abc import Callable

    from support_gpu_mutants import Scenario
    from vedette_engines.cuda.base import Stream

COPY_S = 1e-3
COMPUTE_S = 2e-3


class Place:
    """A picture of the input's size, as it is."""

    rotation_degrees = 0
    fit_width, fit_height = SHAPE[1], SHAPE[0]
    left = top = 0


class Failing(SimulatedEngine):
    """An engine that refuses so many runs."""

    refusals = 0

    def open_programs(self, *arguments: Any) -> Any:
        programs = super().open_programs(*arguments)
        for program in programs:
            program.enqueue = self._refusing(program.enqueue)  # type: ignore[method-assign]
        return programs

    def _refusing(self, enqueue: Callable[[Stream], None]) -> Callable[[Stream], None]:
        def run(stream: Stream) -> None:
            if self.refusals:
                self.refusals -= 1
                raise RunError("this one not")
            enqueue(stream)

        return run


def mutant_rig(mutations: Mutations, *, graphs: bool = True) -> tuple[Rig, Failing]:
    device = SimulatedDevice(copy_s=lambda _, size: COPY_S, kernels=KERNELS, graphs=graphs)
    rig = Rig(MutantDevice(device, mutations))
    return rig, Failing(device, SHAPE, (COLUMNS,), sums, lambda _: COMPUTE_S)


def finish(rig: Rig, *stores: Store) -> None:
    for store in stores:
        assert store.problems == []
    rig.close()


def check_times(rig: Rig, outcomes: list[Outcome]) -> None:
    """The times that were told are those at which the device did it."""
    spans = {(span.engine, round(span.start_s, 9), round(span.end_s, 9)) for span in rig.device.timeline.spans}
    for outcome in outcomes:
        times = outcome.times
        assert times is not None
        for engine, (begin, end) in (
            ("upload", times.upload),
            ("compute", times.compute),
            ("download", times.download),
        ):
            assert (engine, round(begin, 9), round(end, 9)) in spans


def letterboxed_frames(mutations: Mutations, *, graphs: bool) -> None:
    rig, engine = mutant_rig(mutations, graphs=graphs)
    store = Store(rig.device)
    rig.add(store, engine, lanes=3)
    for count in (8, 3, 5, 1, 2, 7, 4, 6):
        store.put(count)
    rig.settle(store.told)
    for told in store.told:
        told.check()
    check_times(rig, [told.outcome for told in store.told])
    finish(rig, store)


def times_told_from_a_new_anchor(mutations: Mutations) -> None:
    rig, engine = mutant_rig(mutations)
    store = Store(rig.device)
    rig.add(store, engine, lanes=2)
    store.put(2)
    rig.settle(store.told)
    # An anchor that is set while its stream is not idle, as a device's own delays make it.
    rig.clock.sleep(10.0)
    rig.device.streams["Anchors.__init__"].work("delay", lambda: COPY_S / 2, (), lambda: None)
    store.put(2)
    rig.settle(store.told)
    rig.clock.sleep(10.0)
    store.put(2)
    rig.settle(store.told)
    for told in store.told:
        told.check()
    check_times(rig, [told.outcome for told in store.told])
    finish(rig, store)


def pictures_of_the_host_and_the_device(mutations: Mutations) -> None:
    rig, engine = mutant_rig(mutations)
    device: Any = rig.device
    height, width, _ = SHAPE
    picture = np.random.default_rng(1).integers(1, 256, SHAPE, np.uint8)
    layout = PictureLayout(SurfaceKind.BGR, width, height, (0,), (width * 3,), FRAME_BYTES)
    pinned, memory, decoded = device.pin(FRAME_BYTES), device.allocate(FRAME_BYTES), device.event()
    pinned.array[:] = picture.reshape(-1)
    decoder = device.stream()
    decoder.upload(memory, pinned, FRAME_BYTES)
    decoder.record(decoded)

    def order(stream: Any) -> None:
        stream.wait(decoded)

    place: Any = Place()
    frames = [
        HostPicture(pinned, layout, place, None),
        DevicePicture(Surface.packed(SurfaceKind.BGR, memory, width, height), place, None, order),
    ]
    outcomes: list[Outcome] = []

    class Once:
        left = 1

        def take(self, now: float) -> Batch | None:
            self.left -= 1
            return Batch(frames, outcomes.append)

        def due_at(self) -> float | None:
            return 0.0 if self.left else None

    rig.add(Once(), engine, lanes=1, letterbox=True)
    rig.run(lambda: bool(outcomes))
    assert outcomes[0].rows is not None
    assert np.array_equal(outcomes[0].rows, sums(np.stack([picture, picture])))
    decoder.inner.synchronize()
    for thing in (pinned, memory, decoded, decoder):
        thing.close()
    finish(rig)


def a_batch_that_the_engine_refuses(mutations: Mutations) -> None:
    rig, engine = mutant_rig(mutations, graphs=False)
    store = Store(rig.device)
    rig.add(store, engine, lanes=1)
    engine.refusals = 1
    refused = store.put(4)
    rig.settle([refused])
    assert refused.outcome.error == "this one not"
    store.put(4)
    rig.settle(store.told)
    store.told[1].check()
    finish(rig, store)


def a_refused_batch_whose_end_cannot_be_marked(mutations: Mutations) -> None:
    rig, engine = mutant_rig(mutations, graphs=False)
    store = Store(rig.device)
    rig.add(store, engine, lanes=1)
    engine.refusals = 1
    mutations.fail("record", "Lane.drain")
    refused = store.put(4)
    rig.settle([refused])
    store.put(4)
    rig.settle(store.told)
    store.told[1].check()
    finish(rig, store)


def an_engine_that_refuses_to_warm_up(mutations: Mutations) -> None:
    rig, engine = mutant_rig(mutations)
    engine.refusals = 1
    with pytest.raises(LoadError, match="lane 1 of 2 cannot be opened: this one not"):
        rig.add(Store(rig.device), engine, lanes=2)
    finish(rig)


def lanes_that_are_closed_unused(mutations: Mutations) -> None:
    rig, engine = mutant_rig(mutations)
    assert rig.executor.remove(rig.add(Store(rig.device), engine, lanes=2))
    finish(rig)


def a_batch_that_cannot_be_looked_at(mutations: Mutations) -> None:
    rig, engine = mutant_rig(mutations)
    store = Store(rig.device)
    rig.add(store, engine, lanes=2)
    failed = store.put(4)
    rig.executor.step()
    mutations.fail("done", "Lane.done")
    store.put(8)
    rig.settle(store.told)
    assert "CUDA_ERROR_INVALID_VALUE" in failed.outcome.error
    store.told[1].check()
    finish(rig, store)


def a_lane_for_one_caller(mutations: Mutations) -> None:
    class Quick(WallClock):
        """A clock on which waiting takes no time: a caller that waits is all that lets it pass."""

        def __init__(self) -> None:
            self.now_s = 0.0
            super().__init__(lambda: self.now_s, self._pass)

        def _pass(self, seconds: float) -> None:
            self.now_s += seconds

    inner = SimulatedDevice(Quick(), copy_s=lambda _, size: COPY_S)
    engine = Failing(inner, SHAPE, (COLUMNS,), sums, lambda _: COMPUTE_S)
    device: Any = MutantDevice(inner, mutations)
    engine.__class__ = type("OnMutant", (Failing,), {"device": property(lambda _: device)})
    lane = SyncLane(engine, LaneSettings(graphs=False))
    random = np.random.default_rng(2)
    for refuses in (False, True, False):
        engine.refusals = int(refuses)
        frames = list(random.integers(1, 256, (5, *SHAPE), np.uint8))
        if refuses:
            with pytest.raises(RunError, match="this one not"):
                lane.run(frames)
        else:
            assert np.array_equal(lane.run(frames), sums(np.stack(frames)))
    lane.close()
    inner.close()


def test_an_engine_that_lost_all_its_lanes_refuses_what_comes() -> None:
    mutations = Mutations()
    rig, engine = mutant_rig(mutations, graphs=False)
    store = Store(rig.device)
    member = rig.add(store, engine, lanes=1)
    # The batch is refused, its end cannot be marked, and the lane that is opened instead cannot warm up.
    engine.refusals = 2
    mutations.fail("record", "Lane.drain")
    for _ in range(3):
        store.put(1)
    rig.settle(store.told)
    assert [told.outcome.error for told in store.told] == ["this one not", *["all lanes are lost: this one not"] * 2]
    assert member.lanes == 0
    finish(rig, store)


SCENARIOS: dict[str, Scenario] = {
    "letterboxed frames": lambda mutations: letterboxed_frames(mutations, graphs=True),
    "letterboxed frames without graphs": lambda mutations: letterboxed_frames(mutations, graphs=False),
    "a new anchor": times_told_from_a_new_anchor,
    "pictures": pictures_of_the_host_and_the_device,
    "a refused batch": a_batch_that_the_engine_refuses,
    "a refused batch without a mark": a_refused_batch_whose_end_cannot_be_marked,
    "unused lanes": lanes_that_are_closed_unused,
    "a refused warm-up": an_engine_that_refuses_to_warm_up,
    "a batch that cannot be looked at": a_batch_that_cannot_be_looked_at,
    "a lane for one caller": a_lane_for_one_caller,
}
# All places in which the lanes, the executor and its timing put anything in order, and the decoder's.
LEAST_SITES = 16


def test_nothing_is_found_wrong_while_all_synchronisations_are_there() -> None:
    for scenario in SCENARIOS.values():
        assert sites_of(scenario)


def test_without_any_one_of_the_synchronisations_something_is_found_wrong() -> None:
    places: dict[str, list[Scenario]] = {}
    for scenario in SCENARIOS.values():
        for site in sites_of(scenario):
            places.setdefault(site, []).append(scenario)
    survivors = [
        site for site, scenarios in places.items() if not any(notices(scenario, site) for scenario in scenarios)
    ]
    assert survivors == []
    assert len(places) >= LEAST_SITES, sorted(places)
