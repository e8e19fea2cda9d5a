"""Channels go over to other engines while frames wait, are converted and run: in any order, none lost, none doubled."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from support_pipeline import FakeChannel, FakeInference
from vedette_server.data.config import ChannelConfig, DeliveryPolicy, EngineRef
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.frame import Binding, Frame
from vedette_server.pipeline import Pipeline

LIVE, EVERY_FRAME = DeliveryPolicy.LIVE, DeliveryPolicy.EVERY_FRAME
PENDING = 3
CHANNELS = st.integers(0, 3)
# Two versions of one engine, one of another; channels run one engine or both.
BINDINGS = ((0,), (1,), (0, 2), (1, 2))


class Rows:
    """A reader that knows whose it is."""

    def __init__(self, names: tuple[int, ...]) -> None:
        self.names = names


class SwapChannel(FakeChannel):
    """Remembers what every frame was bound to, and every result."""

    def __init__(self, pipeline: Pipeline, config: ChannelConfig, binding: Binding) -> None:
        super().__init__(pipeline, config, ())
        self.binding = binding
        self.results: list[tuple[Frame, int]] = []

    def infer(self, frame: Frame, engine_index: int, inference: Any) -> None:
        self.results.append((frame, engine_index))
        super().infer(frame, engine_index, inference)


class SwapMachine(RuleBasedStateMachine):
    """A pipeline without threads: a step is a job that some worker would do."""

    @initialize(policies=st.lists(st.sampled_from([LIVE, EVERY_FRAME]), min_size=4, max_size=4))
    def start(self, policies: list[DeliveryPolicy]) -> None:
        self.now = 1.0
        self.pipeline = Pipeline(0, PENDING, lambda: self.now)
        self.engines = [FakeInference(slots, self.pipeline.slots_freed) for slots in (2, 2, 1)]
        self.bindings = [self.bind(names) for names in BINDINGS]
        self.channels = []
        for number, policy in enumerate(policies):
            config = ChannelConfig(
                f"camera-{number}", VideoFormat(Codec.H264), (EngineRef("toy"),), policy=policy, priority=1 + number
            )
            self.channels.append(SwapChannel(self.pipeline, config, self.bindings[0]))
            self.pipeline.add(self.channels[-1])  # type: ignore[arg-type]
        self.here = [True] * len(self.channels)

    def bind(self, names: tuple[int, ...]) -> Binding:
        engines: Any = tuple(self.engines[name] for name in names)
        reader: Any = Rows(names)
        return Binding(engines, reader)

    @rule(n=CHANNELS, count=st.integers(1, 4))
    def packets_arrive(self, n: int, count: int) -> None:
        self.channels[n].arrive(count)

    @rule(steps=st.integers(1, 6))
    def workers_work(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def step(self) -> bool:
        with self.pipeline._lock:
            job = self.pipeline._next()
        if job is not None:
            job()
        return job is not None

    @rule(engine=st.integers(0, 2), count=st.integers(1, 3))
    def an_engine_finishes(self, engine: int, count: int) -> None:
        for _ in range(count):
            if self.engines[engine].submitted:
                self.engines[engine].finish()

    @rule(n=CHANNELS, to=st.integers(0, 3))
    def a_channel_goes_over(self, n: int, to: int) -> None:
        self.channels[n].binding = self.bindings[to]
        self.pipeline.rebind(self.channels[n])  # type: ignore[arg-type]

    @rule(to=st.integers(0, 1))
    def all_go_over(self, to: int) -> None:
        for n in range(len(self.channels)):
            self.a_channel_goes_over(n, to)

    @rule(n=CHANNELS)
    def a_reader_changes(self, n: int) -> None:
        old = self.channels[n].binding
        reader: Any = Rows(old.reader.names)  # type: ignore[attr-defined]
        self.channels[n].binding = Binding(old.inferences, reader)
        self.pipeline.rebind(self.channels[n])  # type: ignore[arg-type]

    @rule(n=CHANNELS, chance=st.integers(0, 5))
    def a_channel_leaves(self, n: int, chance: int) -> None:
        if chance == 0 and self.here[n]:
            self.here[n] = False
            for frame in self.pipeline.remove(self.channels[n]):  # type: ignore[arg-type]
                self.channels[n].skip(frame, frame.place)  # type: ignore[arg-type]

    @rule(n=CHANNELS)
    def a_channel_comes_back(self, n: int) -> None:
        self.here[n] = True
        self.pipeline.add(self.channels[n])  # type: ignore[arg-type]

    @rule(tenths=st.integers(1, 5))
    def time_passes(self, tenths: int) -> None:
        self.now += tenths / 10

    @invariant()
    def a_frame_runs_on_what_it_was_bound_to_and_nothing_else(self) -> None:
        for channel in self.channels if hasattr(self, "pipeline") else ():
            for frame, index in channel.results:
                assert frame.binding is not None
                assert index < len(frame.binding.inferences)
                names = frame.binding.reader.names  # type: ignore[attr-defined]
                assert frame.binding.inferences == tuple(self.engines[name] for name in names)
            ends = [(id(frame), index) for frame, index in channel.results]
            assert len(set(ends)) == len(ends)

    @invariant()
    def no_frame_has_two_ends(self) -> None:
        for channel in self.channels if hasattr(self, "pipeline") else ():
            places = channel.analysed + [place for place, _ in channel.skipped]
            assert len(set(places)) == len(places)

    def teardown(self) -> None:
        if not hasattr(self, "pipeline"):
            return
        for n, channel in enumerate(self.channels):
            self.a_channel_comes_back(n)
            self.pipeline.wake(channel)  # type: ignore[arg-type]
        while self.step() or any(engine.submitted for engine in self.engines):
            for engine in self.engines:
                while engine.submitted:
                    engine.finish()
        assert self.pipeline.depths == (0, 0)
        assert [engine.pool.in_use for engine in self.engines] == [0, 0, 0]
        for channel in self.channels:
            self.check_end(channel)

    @staticmethod
    def check_end(channel: SwapChannel) -> None:
        """Every frame has one end, and none overtook another on its way into an engine."""
        assert channel.waiting == 0
        places = channel.analysed + [place for place, _ in channel.skipped]
        assert sorted(places) == list(range(channel.made))
        assert all(picture.closed for picture in channel.pictures)
        by_engine: dict[object, list[int]] = {}
        for frame, index in channel.results:
            assert frame.binding is not None
            by_engine.setdefault(frame.binding.inferences[index], []).append(frame.place)
        assert all(places == sorted(places) for places in by_engine.values())


SwapMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestChannelsThatGoOver = SwapMachine.TestCase
