"""Stages run on the server's own engines: in their batches, with their routes, and keep them loaded."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

from support_bundles import HEIGHT, WIDTH, toy_manifest
from support_cascade import LABELS, Box, picture_of, said, seen, show, stage
from support_engines import SETTINGS, House, eventually, publish_classifier
from vedette.v1 import analysis_pb2
from vedette_engines.bundle import write_bundle
from vedette_engines.making.graph import Graph
from vedette_engines.manifest import EmbedderOutput, Task
from vedette_server.cascade.cascades import Cascades
from vedette_server.cascade.check import check_stages
from vedette_server.data.channel import StageConfig
from vedette_server.data.config import EngineRef
from vedette_server.data.engine import RouteChange
from vedette_server.data.packet import Packet
from vedette_server.data.verdict import EngineLabel, EngineOutcome, Verdict
from vedette_server.errors import InvalidError
from vedette_server.execute.client import Surface
from vedette_server.execute.engines import Engines
from vedette_server.execute.steering import Steering
from vedette_server.metrics import Metrics
from vedette_server.pipeline import Pipeline
from vedette_server.post.detections import Attached
from vedette_server.rpc.convert import write_verdict
from vedette_server.settings import MetricsSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vedette_server.cascade.channel import ChannelCascade
    from vedette_server.execute.client import LoadedInference

LEFT: Box = (0.1, 0.2, 0.3, 0.8)
RIGHT: Box = (0.6, 0.2, 0.8, 0.8)


def publish_embedder(root: Path, name: str) -> None:
    """Publish an embedder that gives the mean of each colour."""
    g = Graph(name)
    flat = g.reshape(g.op("Cast", "frames", to=1), 0, -1, 3)
    g.op("ReduceMean", flat, g.ints(1), keepdims=0, named="embedding")
    manifest = toy_manifest(name, "1", task=Task.EMBEDDER, output=EmbedderOutput(3), labels=())
    write_bundle(root, manifest, {"model.onnx": g.model("embedding", (HEIGHT, WIDTH, 3), (3,)).SerializeToString()})


class Yard:
    """A house of real engines, and cascades over them."""

    def __init__(self, root: Path) -> None:
        publish_classifier(root, "1", "tone")
        self.house = House(root, max_batch=8)
        self.cascades = Cascades(self.house.engines, self.house.pool)
        self.channels: list[ChannelCascade] = []

    def open(self, name: str, *stages: StageConfig) -> ChannelCascade:
        cascade = self.cascades.open(name, stages or (stage("tone"),))
        self.channels.append(cascade)
        eventually(lambda: all(one.seat.runs is not None for one in cascade._stages))
        return cascade

    def inference(self, name: str = "tone", version: str = "1") -> LoadedInference:
        loaded = self.house.engines.fleet.find(name, version)
        assert loaded is not None
        return loaded.inference

    def run(self, inference: LoadedInference) -> int:
        """Run what waits; return the number of batches."""
        batches = 0
        while (job := inference.take(float("inf"))) is not None:
            job()
            batches += 1
        return batches


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path)
    yield made
    for cascade in made.channels:
        cascade.close()
    made.cascades.close()
    made.house.close()


def test_crops_of_all_channels_and_frames_of_others_share_one_batch(yard: Yard) -> None:
    cascades = [yard.open(name) for name in ("a", "b", "c")]
    inference = yard.inference()
    sizes: list[int] = []
    for number, cascade in enumerate(cascades):
        show(cascade, [("one", number * 3, LEFT), ("two", 7 - number, RIGHT)], 1.0)
    slot = inference.acquire()
    assert slot is not None
    inference.submit(Surface(slot, lambda answer: sizes.append(answer.batch_size)))
    assert yard.run(inference) == 1
    assert sizes == [7]
    assert [said(cascade, "one") for cascade in cascades] == ["dark", "dark", "bright"]
    assert [said(cascade, "two") for cascade in cascades] == ["bright"] * 3
    assert yard.cascades.tallies["tone"].done == 6
    assert inference.idle


def test_an_embedder_describes_what_a_crop_shows(yard: Yard) -> None:
    publish_embedder(yard.house.root, "looks")
    cascade = yard.open("a", stage("looks"))
    show(cascade, [("one", 7, LEFT)], 1.0)
    yard.run(yard.inference("looks"))
    (result,) = cascade.results_of("one")
    assert result.embedding is not None
    # The toy's input is wider than the object: what is padded is grey, too.
    np.testing.assert_allclose(result.embedding, np.full(3, 3**-0.5), atol=1e-6)


def test_a_stage_keeps_its_version_loaded_and_lets_it_go_when_it_closes(yard: Yard) -> None:
    cascade = yard.open("a")
    fleet = yard.house.engines.fleet
    loaded = fleet.find("tone", "1")
    assert loaded is not None
    yard.house.now += 60
    assert not fleet.close_unneeded(loaded)
    assert yard.house.engines.channels(loaded) == ["a"]
    cascade.close()
    assert fleet.close_unneeded(loaded)
    assert not yard.house.pool.sources


def test_a_stage_follows_a_hot_swap_and_leaks_no_slot_of_the_old_version(yard: Yard) -> None:
    cascade = yard.open("a", stage("tone", refresh_s=1000.0))
    old = yard.inference()
    show(cascade, [("one", 7, LEFT)], 1.0)
    publish_classifier(yard.house.root, "2", "tone")
    yard.house.steering.change_route("tone", RouteChange(stable="2"))
    # What is under way ends on the old version, which stays for so long.
    loaded = yard.house.engines.fleet.find("tone", "1")
    assert loaded is not None
    yard.house.now += 60
    assert not yard.house.engines.fleet.close_unneeded(loaded)
    yard.run(old)
    assert cascade.results_of("one")[0].engine.version == "1"
    assert yard.house.engines.fleet.close_unneeded(loaded)
    show(cascade, [("one", 7, LEFT)], 1.1)
    yard.run(yard.inference(version="2"))
    assert cascade.results_of("one")[0].engine.version == "2"


def test_a_canary_is_run_by_its_share_of_the_stages(yard: Yard) -> None:
    cascades = [yard.open(name) for name in ("a", "b", "c", "d")]
    publish_classifier(yard.house.root, "2", "tone")
    yard.house.steering.change_route("tone", RouteChange(stable="1", canary="2", canary_share=0.5))
    versions = [cascade._stages[0].seat.runs for cascade in cascades]
    assert sorted(label.version for label in versions if label is not None) == ["1", "1", "2", "2"]


def test_a_version_of_another_kind_does_not_take_a_stage_over(yard: Yard) -> None:
    cascade = yard.open("a")
    yard.house.publish("2", name="tone")
    with pytest.raises(Exception, match="detector"):
        yard.house.steering.change_route("tone", RouteChange(stable="2"))
    show(cascade, [("one", 7, LEFT)], 1.0)
    assert yard.run(yard.inference()) == 1
    assert said(cascade, "one") == "bright"


@dataclass
class Serving:
    """Engines whose batches a pipeline runs."""

    engines: Engines
    cascades: Cascades


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    for name, version in (("tone", "1"), ("tone", "2"), ("other", "1")):
        publish_classifier(tmp_path, version, name)
    pipeline = Pipeline(1, 4)
    metrics = Metrics(MetricsSettings(port="off"))
    engines = Engines(replace(SETTINGS, dirs=(tmp_path,)), metrics, pipeline, lambda: None)
    made = Serving(engines, Cascades(engines, pipeline))
    yield made
    made.cascades.close()
    pipeline.close()
    engines.close()


def test_a_crop_is_run_by_the_pipeline_whatever_thread_looks(serving: Serving) -> None:
    cascade = serving.cascades.open("a", [stage("tone")])
    eventually(lambda: cascade._stages[0].seat.runs is not None)
    picture = picture_of([(7, LEFT), (1, RIGHT)])
    cascade.look(picture, Fraction(1), seen(("one", LEFT), ("two", RIGHT)), LABELS, 1.0)
    eventually(lambda: said(cascade, "one") == "bright" and said(cascade, "two") == "dark")
    cascade.close()


def stream(cascades: Cascades, number: int, wrong: list[str]) -> None:
    """Show a channel whose tracks are called as they are, and change and end it."""
    tone = stage("tone", refresh_s=0.0)
    cascade = cascades.open(f"c{number}", [tone])
    for tick in range(60):
        detections = show(cascade, [("dark", 0, LEFT), ("bright", 7, RIGHT)], float(tick))
        for track, attached in zip(detections.track_ids, detections.attached, strict=False):
            if attached is not None and attached.attributes[0][1] != track:
                wrong.append(track)
        if tick % 20 == 10:
            cascade.change([stage("other"), tone] if number % 2 else [])
        if tick % 20 == 15:
            cascade.forget(["dark"])
            cascade.change([tone])
        time.sleep(0.001)
    cascade.close()


def test_channels_that_come_change_and_go_at_once_leave_no_slot_in_use(serving: Serving) -> None:
    engines, cascades = serving.engines, serving.cascades
    steering = Steering(engines)
    engines.prepare([EngineRef("tone"), EngineRef("other")])
    wrong: list[str] = []
    threads = [threading.Thread(target=stream, args=(cascades, number, wrong)) for number in range(4)]
    for thread in threads:
        thread.start()
    for version in ("1", "2", "1", "2"):
        steering.change_route("tone", RouteChange(stable=version))
    for thread in threads:
        thread.join(30)
    eventually(lambda: all(loaded.inference.idle for loaded in engines.fleet.loaded))
    assert not wrong
    assert cascades.under_way == 0
    assert cascades.tallies["tone"].done > 0
    assert not any(engines.channels(loaded) for loaded in engines.fleet.loaded)


# -- what is refused --------------------------------------------------------------------------------


def test_stages_of_classifiers_and_one_embedder_per_label_are_taken(yard: Yard) -> None:
    root = yard.house.root
    for name in ("looks", "faces"):
        publish_embedder(root, name)
    catalogue = yard.house.engines.catalogue
    check_stages((), catalogue)
    check_stages([stage("tone"), stage("looks")], catalogue)
    check_stages([stage("looks", labels=("car",)), stage("faces", labels=("person",))], catalogue)


@pytest.mark.parametrize(
    ("stages", "reason", "message"),
    [
        ([stage("tone"), stage("nothing")], "ENGINE_NOT_FOUND", r"stages\[1\]\.engine: .*nothing"),
        ([StageConfig(EngineRef("tone", "7"))], "ENGINE_NOT_FOUND", r"stages\[0\]\.engine"),
        ([stage("toy")], "INVALID_STAGE", r"is 'toy', a detector; allowed: a classifier or an embedder"),
        ([stage("looks"), stage("faces", labels=("car",))], "INVALID_STAGE", "allowed: one embedder for each label"),
    ],
)
def test_what_cannot_look_closer_is_refused(yard: Yard, stages: list[StageConfig], reason: str, message: str) -> None:
    yard.house.publish("1")
    for name in ("looks", "faces"):
        publish_embedder(yard.house.root, name)
    with pytest.raises(InvalidError, match=message) as caught:
        check_stages(stages, yard.house.engines.catalogue)
    assert caught.value.reason == reason
    assert caught.value.metadata["field"].startswith("stages[")


# -- the wire ---------------------------------------------------------------------------------------

DETECTOR = EngineLabel("person", "3", "cpu", "detector", LABELS, ("kpt:nose:x", "kpt:nose:y", "kpt:nose:score", "age"))


def test_what_was_attached_reaches_the_wire() -> None:
    detections = seen(("t1", LEFT), ("", RIGHT), ("t2", RIGHT))
    detections.extras = np.array([[0.5, 0.25, 0.75, 30]] * 3, np.float32)
    looks = np.array([0.0, 0.6, 0.8], np.float32)
    detections.attached = (Attached((("tone", "bright", 0.9), ("tone", "dark", 0.1)), looks), None, Attached())
    wire = analysis_pb2.FrameVerdict()
    write_verdict(Verdict(Packet(1, b""), results=(EngineOutcome(DETECTOR, 1, detections),)), wire, 0, "r")
    one, none, empty = analysis_pb2.FrameVerdict.FromString(wire.SerializeToString()).analysis.results[0].detections
    assert [detection.track_id for detection in (one, none, empty)] == ["t1", "", "t2"]
    assert [(a.name, a.value, round(a.score, 3), a.HasField("score")) for a in one.attributes] == [
        ("age", "30", 0.0, False),
        ("tone", "bright", 0.9, True),
        ("tone", "dark", 0.1, True),
    ]
    np.testing.assert_allclose(list(one.embedding), looks)
    for detection in (none, empty):
        assert [attribute.name for attribute in detection.attributes] == ["age"]
        assert not detection.embedding


def test_detections_that_are_kept_keep_their_tracks_and_what_is_attached() -> None:
    detections = seen(("t1", LEFT), ("t2", RIGHT))
    detections.attached = (None, Attached((("tone", "bright", 0.9),)))
    detections.keep(np.array([False, True]))
    assert detections.track_ids == ("t2",)
    assert len(detections.attached) == len(detections) == 1
    untracked = seen(("t1", LEFT))
    untracked.track_ids = ()
    untracked.keep(np.array([True]))
    assert untracked.track_ids == untracked.attached == ()
