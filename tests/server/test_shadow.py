"""A shadow sees what it is shown, is compared, and is felt by nobody; samplers copy what is due."""

from __future__ import annotations

import io
import threading
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from support_bundles import HEIGHT, WIDTH
from support_engines import House, eventually, publish_classifier
from support_pipeline import FakeChannel
from vedette_engines.making.graph import Graph
from vedette_engines.manifest import InputSpec
from vedette_server.conversion import Converter
from vedette_server.data.config import ChannelConfig, EngineRef
from vedette_server.data.engine import RouteChange, Seen
from vedette_server.data.format import Codec, VideoFormat
from vedette_server.data.packet import Packet
from vedette_server.errors import StateError
from vedette_server.execute.comparing import Comparator, Shape, match
from vedette_server.execute.shadow import MOST_SAMPLES
from vedette_server.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import onnx

    from vedette_server.data.engine import SampledFrame
    from vedette_server.execute.local import LocalInference

SHAPE = Shape(WIDTH, HEIGHT, 0, Fraction(1))


def box_model(height: int, width: int, score: float, box: tuple[float, ...]) -> onnx.ModelProto:
    """Build a detector that sees one thing, always at the same place."""
    g = Graph("toy")
    nothing = g.op("Mul", g.reduce("Sum", g.reshape(g.op("Cast", "frames", to=1), 0, -1), 1), g.number(0.0))
    row = np.array([[[*box, score, 0], [0] * 6, [0] * 6]], np.float32)
    g.op("Add", g.op("Unsqueeze", nothing, g.ints(2)), g.array(row), named="candidates")
    return g.model("candidates", (height, width, 3), (3, 6))


class Showing:
    """A house whose frames are converted and run by hand."""

    def __init__(self, root: Path) -> None:
        self.house = House(root)
        self.converter = Converter(lambda: None, lambda: self.house.pool.idle, lambda: 1.0)
        self.shown = 0
        self.channel = FakeChannel(
            None,  # type: ignore[arg-type]
            ChannelConfig("a", VideoFormat(Codec.H264), (EngineRef("toy"),)),
            (),
        )
        self.frames: list[Frame] = []

    def begin(self, shadow: str = "2") -> None:
        self.guest = self.house.open("a")
        self.house.steering.change_route("toy", RouteChange(stable="1", shadow=shadow))

    def show(self) -> None:
        """Convert one frame and run it on the stable version."""
        fake: Any = self.channel
        picture: Any = FlatPicture(self.shown % 200)
        packet = Packet(self.shown, b"", received_s=1.0)
        frame = Frame(fake, self.shown, packet, picture, None, WIDTH, HEIGHT, 0, offered_s=1.0)
        frame.binding = self.guest.binding
        (inference,) = frame.binding.inferences
        slot = inference.acquire()
        assert slot is not None
        self.converter.show(self.house.pool.taps)
        self.converter.convert(frame, frame.binding, [slot])
        assert picture.closed
        self.shown += 1
        self.frames.append(frame)
        run(inference)  # type: ignore[arg-type]

    def totals(self) -> Any:
        return self.house.steering.shadow("toy")[0]


def run(inference: LocalInference) -> None:
    job = inference.take(float("inf"))
    assert job is not None
    job()


class FlatPicture:
    """A picture of one brightness."""

    width, height, rotation_degrees = WIDTH, HEIGHT, 0

    def __init__(self, value: int) -> None:
        self.value = value
        self.closed = False

    def letterbox_into(self, slot: Any, fit: Any) -> None:
        assert not self.closed
        slot[...] = self.value

    def source(self, fit: Any) -> None:
        assert not self.closed

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def showing(tmp_path: Path) -> Iterator[Showing]:
    made = Showing(tmp_path)
    made.house.publish("1", model=box_model(HEIGHT, WIDTH, 0.9, (1, 1, 4, 3)))
    yield made
    made.house.close()


def test_a_shadow_that_sees_the_same_differs_nowhere(showing: Showing):
    showing.house.publish("2", model=box_model(HEIGHT, WIDTH, 0.8, (1, 1, 4, 3)))
    showing.begin()
    for _ in range(3):
        showing.show()
        eventually(lambda: showing.totals().compared == showing.shown)
    totals, samples = showing.house.steering.shadow("toy")
    assert totals is not None
    assert (totals.version, totals.against) == ("2", "1")
    assert (totals.differing, totals.matched, totals.failed, samples) == (0, 3, 0, ())
    assert totals.score_difference == pytest.approx(0.1, abs=1e-6)
    assert showing.channel.analysed == [0, 1, 2]


def test_a_shadow_with_another_input_is_compared_and_what_differs_is_kept(showing: Showing):
    model = box_model(2 * HEIGHT, 2 * WIDTH, 0.9, (6, 4, 12, 8))
    showing.house.publish("2", model=model, input=InputSpec(2 * WIDTH, 2 * HEIGHT))
    showing.begin()
    for _ in range(MOST_SAMPLES + 6):
        showing.show()
        eventually(lambda: showing.totals().compared == showing.shown)
    totals, samples = showing.house.steering.shadow("toy")
    assert totals is not None
    assert (totals.differing, totals.only_stable, totals.only_shadow) == (70, 70, 70)
    assert [sample.index for sample in samples] == list(range(70, 6, -1))
    assert [sample.sequence for sample in samples] == [sample.index - 1 for sample in samples]
    sample = samples[0]
    assert (sample.channel, sample.only_stable, sample.only_shadow) == ("a", (0,), (0,))
    assert sample.stable[0].box == pytest.approx((1 / 6, 1 / 4, 4 / 6, 3 / 4))
    assert sample.shadow[0].box == pytest.approx((1 / 2, 1 / 2, 1.0, 1.0))
    picture = Image.open(io.BytesIO(sample.jpeg))
    assert picture.size == (WIDTH, HEIGHT)
    assert showing.house.metrics.route("toy").shadow_differing == 70


def test_a_shadow_takes_nothing_while_workers_have_something_to_do(showing: Showing):
    showing.house.publish("2")
    showing.begin()
    showing.house.pool.idle = False
    showing.show()
    assert (showing.totals().skipped, showing.totals().compared) == (1, 0)
    assert showing.channel.analysed == [0]


def test_a_shadow_that_runs_nothing_for_want_of_capacity_costs_a_slot_of_its_own_and_no_frame(showing: Showing):
    showing.house.publish("2")
    showing.begin()
    shadow = showing.house.engines.fleet.find("toy", "2")
    assert shadow is not None
    shadow.inference.take = lambda now: None  # type: ignore[method-assign]
    for _ in range(10):
        showing.show()
    assert showing.channel.analysed == list(range(10))
    assert showing.totals().skipped == 10 - shadow.inference.depths.slots


def test_a_shadow_that_fails_is_counted_and_felt_by_nobody(showing: Showing):
    # The toy of `support_bundles` fails on bright frames; here it fails on all.
    showing.house.publish("2")
    showing.begin()
    shadow = showing.house.engines.fleet.find("toy", "2")
    assert shadow is not None

    def fail(frames: object) -> None:
        raise RuntimeError("no kernel image")

    shadow.inference._lanes[0].run = fail  # type: ignore[assignment,method-assign]
    for _ in range(4):
        showing.show()
        eventually(lambda: showing.totals().failed + showing.totals().skipped == showing.shown)
    assert showing.totals().compared == 0
    assert showing.channel.analysed == [0, 1, 2, 3]
    assert showing.house.engines.healthy


def test_a_shadow_that_hangs_is_left_alone_and_cannot_be_promoted(showing: Showing, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vedette_server.execute.shadow.LAST_BATCH_S", 0.05)
    showing.house.publish("2")
    showing.begin()
    shadow = showing.house.engines.fleet.find("toy", "2")
    assert shadow is not None
    hanging, over = threading.Event(), threading.Event()
    plain = shadow.inference._lanes[0].run

    def hang(frames: Any) -> Any:
        hanging.set()
        assert over.wait(20)
        return plain(frames)

    shadow.inference._lanes[0].run = hang  # type: ignore[method-assign]
    for _ in range(6):
        showing.show()
    assert hanging.wait(20)
    assert showing.channel.analysed == list(range(6))
    with pytest.raises(StateError) as caught:
        showing.house.steering.promote("toy")
    assert caught.value.reason == "SHADOW_HANGS"
    assert showing.house.steering.route("toy").stable == "1"
    over.set()


def test_a_shadow_that_ends_leaves_nothing_behind(showing: Showing):
    showing.house.publish("2")
    showing.begin()
    shadow = showing.house.engines.fleet.find("toy", "2")
    assert shadow is not None
    plain, shadow.inference.take = shadow.inference.take, lambda now: None  # type: ignore[method-assign]
    for _ in range(3):
        showing.show()
    assert not shadow.inference.idle
    showing.house.steering.change_route("toy", RouteChange(shadow=""))
    assert shadow.inference.idle
    shadow.inference.take = plain  # type: ignore[method-assign]
    showing.house.now += 1000
    showing.house.look()
    assert showing.house.state("2") == "available"


def test_a_promoted_shadow_runs_for_channels(showing: Showing):
    showing.house.publish("2")
    showing.begin()
    assert [source.label.version for source in showing.house.pool.sources] == ["1"]
    route = showing.house.steering.promote("toy")
    assert (route.stable, route.shadow) == ("2", "")
    assert [source.label.version for source in showing.house.pool.sources] == ["1", "2"]
    assert showing.guest.version == "2"
    assert showing.house.steering.shadow("toy") == (None, ())
    assert showing.house.pool.taps == {}


def test_a_shadow_of_another_task_is_refused(showing: Showing):
    showing.guest = showing.house.open("a")
    publish_classifier(showing.house.root, "2")
    with pytest.raises(StateError) as caught:
        showing.house.steering.change_route("toy", RouteChange(shadow="2"))
    assert caught.value.reason == "SHADOW_MISFIT"


def test_a_shadow_that_a_channel_runs_too_is_compared_no_more_and_runs_with_the_others(showing: Showing):
    showing.house.publish("2")
    showing.begin()
    pinned = showing.house.open("b", version="2")
    assert [source.label.version for source in showing.house.pool.sources] == ["1", "2"]
    showing.show()
    assert showing.totals().skipped == 1
    showing.house.engines.leave(pinned)
    showing.house.look()
    assert [source.label.version for source in showing.house.pool.sources] == ["1"]
    showing.show()
    eventually(lambda: showing.totals().compared == 1)


def test_a_shadow_goes_on_after_a_restart(showing: Showing):
    showing.house.publish("2")
    showing.begin()
    showing.house.close()
    again = House(showing.house.root)
    again.open("a")
    assert again.steering.shadow("toy")[0] is not None
    again.close()


def test_frames_are_sampled_once_per_interval_and_channel_and_as_the_engine_gets_them(showing: Showing):
    showing.guest = showing.house.open("a")
    taken: list[SampledFrame] = []
    stop = showing.house.steering.sample_frames("toy", 1e9, taken.append)
    for _ in range(3):
        showing.show()
    eventually(lambda: len(taken) == 1)
    stop()
    stop()
    assert showing.house.pool.taps == {}
    pixels = np.asarray(Image.open(io.BytesIO(taken[0].png)))
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert (pixels == 0).all()
    every: list[SampledFrame] = []
    stop = showing.house.steering.sample_frames("toy", 0.0, every.append)
    showing.show()
    eventually(lambda: len(every) == 1)
    assert (np.asarray(Image.open(io.BytesIO(every[0].png))) == 3).all()
    assert every[0].sequence == 3
    stop()


def seen(label: str, *box: float, score: float = 0.9) -> Seen:
    return Seen(label, score, (box[0], box[1], box[2], box[3]))


def test_each_thing_is_paired_once_with_what_overlaps_it_most():
    stable = [seen("car", 0.0, 0.0, 0.4, 0.4), seen("car", 0.02, 0.0, 0.42, 0.4), seen("person", 0.0, 0.0, 0.4, 0.4)]
    shadow = [seen("car", 0.02, 0.0, 0.42, 0.4), seen("dog", 0.0, 0.0, 0.4, 0.4)]
    assert match(stable, shadow) == ((1, 0),)


SIDES = st.floats(0, 0.5)


@given(st.lists(st.tuples(st.sampled_from("ab"), SIDES, SIDES), max_size=6), st.randoms(use_true_random=False))
def test_whatever_is_seen_matches_itself_in_any_order(things: list[tuple[str, float, float]], chance: Any):
    ones = [seen(label, x, y, x + 0.3, y + 0.3) for label, x, y in things]
    others = list(ones)
    chance.shuffle(others)
    pairs = match(ones, others)
    assert len(pairs) == len(ones)
    assert len({first for first, _ in pairs}) == len({second for _, second in pairs}) == len(ones)


def test_classifiers_are_compared_by_their_best_class(tmp_path: Path):
    house = House(tmp_path)
    publish_classifier(tmp_path, "1")
    client = house.engines.get(EngineRef("toy"))
    comparator = Comparator(client, client)
    dark, dim, bright = (np.array([1 - value, value], np.float32) for value in (0.1, 0.4, 0.9))
    found = comparator.compare(dark, dim, SHAPE)
    assert (found.differs, found.score_difference) == (False, pytest.approx(0.3))
    found = comparator.compare(dark, bright, SHAPE)
    assert (found.only_stable, found.only_shadow) == ((0,), (0,))
    house.close()
