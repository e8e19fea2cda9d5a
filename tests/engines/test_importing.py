"""Importing from end to end: what is published, and what is not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from support_models import ANCHORS, LABELS, SIDE, boxes_scores, classifier, save, stubborn, yolov8, yolox
from vedette_engines.bundle import load_bundle
from vedette_engines.errors import ImportInputError, ImportRefusedError
from vedette_engines.graft.head import HeadContext, HeadOptions
from vedette_engines.graft.heads import steps
from vedette_engines.graft.heads.yolox import YoloxHead
from vedette_engines.graft.preprocess import Preprocessing
from vedette_engines.graft.registry import known_heads
from vedette_engines.graft.session import Session
from vedette_engines.graft.trial import try_engine
from vedette_engines.importing import ImportRequest, import_model
from vedette_engines.manifest import ClassifierOutput, DetectorOutput, Placement, Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto

    from vedette_engines.bundle import Bundle
    from vedette_engines.graft.builder import GraphBuilder
    from vedette_engines.graft.signature import Signature


def request(model: ModelProto, folder: Path, **wanted: Any) -> ImportRequest:
    path = save(model, folder / "tiny.onnx")
    return ImportRequest(
        **{"model": path, "labels": LABELS, "name": "tiny", "version": "1", "root": folder / "e", **wanted}
    )


def publish(model: ModelProto, folder: Path, **wanted: Any) -> Bundle:
    return import_model(request(model, folder, **wanted), lambda line: None)


def frames(count: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(9).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def engine_of(bundle: Bundle) -> Session:
    return Session(bundle.path_of(bundle.manifest.files[0]), "engine")


DETECTORS = {
    "yolox": yolox(),
    "yolox logits": yolox(logits=True),
    "yolox opset 11": yolox(opset=11),
    "yolov8": yolov8(),
    "yolov8 logits, fractions": yolov8(logits=True, normalised=True),
    "boxes and scores": boxes_scores(),
    "boxes and scores, fixed batch": boxes_scores(batch=1),
    "boxes and scores, one class": boxes_scores(one_class=True),
}


@pytest.mark.parametrize("family", DETECTORS)
def test_a_detector_of_each_family_is_published_and_keeps_the_contract(family: str, tmp_path: Path) -> None:
    labels = LABELS[:1] if "one class" in family else LABELS
    bundle = publish(DETECTORS[family], tmp_path, labels=labels, max_candidates=50)
    manifest = load_bundle(bundle.path).manifest
    assert isinstance(manifest.output, DetectorOutput)
    assert (manifest.output.max_candidates, manifest.labels) == (50, labels)
    assert manifest.files[0].batch is None
    assert try_engine(bundle) == 1
    engine = engine_of(bundle)
    together = engine.run({"frames": frames()})[0]
    alone = np.concatenate([engine.run({"frames": frames()[i : i + 1]})[0] for i in range(3)])
    assert (together[..., 4] > 0).any()
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-3)


def test_boxes_are_the_same_whichever_way_the_model_writes_them(tmp_path: Path) -> None:
    results = []
    for number, (logits, normalised) in enumerate([(False, False), (True, True)]):
        bundle = publish(yolov8(logits=logits, normalised=normalised), tmp_path, version=str(number))
        results.append(engine_of(bundle).run({"frames": frames()})[0])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("softmax", [False, True])
def test_a_classifier_gives_probabilities_whether_the_model_does_or_not(softmax: bool, tmp_path: Path) -> None:
    bundle = publish(classifier(softmax=softmax), tmp_path)
    assert bundle.manifest.output == ClassifierOutput(3)
    scores = engine_of(bundle).run({"frames": frames()})[0]
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    assert np.ptp(scores, axis=0).max() > 1e-4


def test_names_of_the_model_that_are_the_contracts_own_do_not_collide(tmp_path: Path) -> None:
    bundle = publish(classifier(name="scores"), tmp_path)
    assert engine_of(bundle).output_names == ["scores"]


def test_a_batch_that_cannot_be_opened_is_said_in_the_manifest(tmp_path: Path) -> None:
    bundle = publish(stubborn(), tmp_path)
    assert bundle.manifest.files[0].batch == 1
    assert engine_of(bundle).inputs[0].shape == [1, SIDE, SIDE, 3]


def test_a_model_in_half_precision_is_called_so_and_answers_in_single(tmp_path: Path) -> None:
    bundle = publish(yolox(elem=TensorProto.FLOAT16), tmp_path)
    assert bundle.manifest.files[0].precision is Precision.FP16
    assert engine_of(bundle).run({"frames": frames()})[0].dtype == np.float32


def test_more_candidates_than_anchors_are_cut_to_the_anchors(tmp_path: Path) -> None:
    bundle = publish(yolox(), tmp_path, max_candidates=3840)
    assert bundle.manifest.output == DetectorOutput(ANCHORS, 0.01)


def test_the_manifest_tells_placement_and_where_the_engine_comes_from(tmp_path: Path) -> None:
    bundle = publish(yolox(), tmp_path, letterbox=Placement.CENTRE, pad=0)
    assert (bundle.manifest.input.letterbox, bundle.manifest.input.pad) == (Placement.CENTRE, 0)
    told = bundle.manifest.provenance
    assert told["head"] == "yolox"
    assert len(told["source_sha256"]) == 64
    assert "8 frames (0 real) in batches of 1, 3" in told["parity"]
    assert {"onnx", "onnxruntime", "tool", "date", "preprocessing", "parity_tolerance"} <= told.keys()


def test_pictures_of_the_users_own_are_compared_too(tmp_path: Path) -> None:
    picture = tmp_path / "pictures" / "street.png"
    picture.parent.mkdir()
    with av.open(str(picture), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 50, 30, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frames(1)[0, :30, :50], "rgb24")))
        container.mux(stream.encode())
    bundle = publish(yolox(), tmp_path, frames=(picture.parent,))
    assert "9 frames (1 real)" in bundle.manifest.provenance["parity"]


def test_labels_that_stand_twice_are_numbered(tmp_path: Path) -> None:
    said: list[str] = []
    bundle = import_model(request(classifier(), tmp_path, labels=("crane", "cat", "crane")), said.append)
    assert bundle.manifest.labels == ("crane", "cat", "crane (2)")
    assert any("numbered: crane" in line for line in said)


PLAIN = Preprocessing()

# Bugs planted into the graph, while the reading of the original stays right.


@dataclass(frozen=True)
class WrongPreprocessing(Preprocessing):
    """Builds another preprocessing than it tells."""

    built: Preprocessing = PLAIN

    def build(self, graph: GraphBuilder, frames: str, signature: Signature) -> str:
        return self.built.build(graph, frames, signature)


class BuggyHead(YoloxHead):
    """A YOLOX head whose graph can be spoilt."""

    def __init__(self, bug: str, preset: Preprocessing) -> None:
        super().__init__()
        self.bug = bug
        self.preset = preset  # type: ignore[misc]
        self.building = False

    def cells(self, signature: Signature) -> NDArray[np.float32]:
        cells = super().cells(signature)
        if self.building and self.bug == "stride order":
            return YoloxHead((32, 16, 8)).cells(signature)
        if self.building and self.bug == "columns for rows":
            return cells[:, [1, 0, 2]]
        return cells

    def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
        self.building = True
        if self.bug == "logits":
            context = HeadContext(context.signature, HeadOptions(activated=False), context.max_candidates, 0.01)
        if self.bug == "floor":
            context = HeadContext(context.signature, context.options, context.max_candidates, 0.3)
        result = super().build(graph, outputs, context)
        self.building = False
        if self.bug == "box order":
            result = graph.add("Gather", result, graph.constant([1, 0, 3, 2, 4, 5]), axis=2)
        if self.bug == "class":
            result = graph.add("Add", result, graph.constant(np.asarray([0, 0, 0, 0, 0, 1], np.float32)))
        if self.bug == "unsorted":
            result = graph.add("Gather", result, graph.constant(range(context.max_candidates)[::-1]), axis=1)
        return result


def import_with(bug: str, folder: Path, told: Preprocessing = PLAIN, **wanted: Any) -> Bundle:
    heads = {**known_heads(), "yolox": BuggyHead(bug, told)}
    return import_model(request(yolox(**wanted), folder), lambda line: None, heads)


def test_a_head_without_a_bug_passes(tmp_path: Path) -> None:
    import_with("none", tmp_path)


@pytest.mark.parametrize(
    "bug", ["stride order", "columns for rows", "logits", "floor", "box order", "class", "unsorted"]
)
def test_a_bug_in_the_heads_graph_keeps_the_engine_from_being_published(bug: str, tmp_path: Path) -> None:
    with pytest.raises(ImportRefusedError, match=r"disagrees with the original on noise 0, batch 1: .*allowed: scores"):
        import_with(bug, tmp_path)
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("told", "built"),
    [
        (Preprocessing("bgr"), Preprocessing("rgb")),
        (Preprocessing("rgb"), Preprocessing("bgr")),
        (Preprocessing("bgr", scale=1 / 255), Preprocessing("bgr")),
        (Preprocessing("bgr", mean=(100, 110, 120)), Preprocessing("bgr", mean=(120, 110, 100))),
        (Preprocessing("bgr", std=(50, 50, 50)), Preprocessing("bgr")),
    ],
    ids=["rgb for bgr", "bgr for rgb", "no scale", "mean in the wrong order", "no std"],
)
def test_a_bug_in_the_preprocessings_graph_keeps_the_engine_from_being_published(
    told: Preprocessing, built: Preprocessing, tmp_path: Path
) -> None:
    wrong = WrongPreprocessing(told.order, told.scale, told.mean, told.std, built=built)
    with pytest.raises(ImportRefusedError, match="disagrees with the original"):
        import_with("none", tmp_path, wrong)
    assert not (tmp_path / "e").exists()


def test_a_bug_that_shows_in_larger_batches_only_is_found(tmp_path: Path) -> None:
    class FirstFrameHead(YoloxHead):
        def build(self, graph: GraphBuilder, outputs: Sequence[str], context: HeadContext) -> str:
            first = graph.slice(steps.as_float32(graph, outputs[0]), 0, 1, 0)
            return graph.add(
                "Add",
                super().build(graph, [first], context),
                graph.add("Mul", super().build(graph, outputs, context), graph.scalar(0)),
            )

    with pytest.raises(ImportRefusedError, match="batch 3"):
        import_model(request(yolox(), tmp_path), lambda line: None, {"yolox": FirstFrameHead()})


def test_a_model_that_gives_nan_is_refused(tmp_path: Path) -> None:
    model = classifier()
    nan = onnx.numpy_helper.from_array(np.full(3, np.nan, np.float32), model.graph.initializer[1].name)
    model.graph.initializer[1].CopyFrom(nan)
    with pytest.raises(ImportRefusedError, match="NaN"):
        publish(model, tmp_path)


def test_the_number_of_labels_must_be_the_number_of_classes(tmp_path: Path) -> None:
    with pytest.raises(
        ImportInputError, match=r"there are 2 labels, but the outputs output \[1, 84, 8\] have 3 classes"
    ):
        publish(yolox(), tmp_path, labels=("a", "b"))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"name": "No/good"}, r"--name is 'No/good'; allowed is \["),
        ({"version": ".."}, r"--version is '\.\.'; allowed is \["),
        ({"max_candidates": 3841}, r"--max-candidates is 3841; allowed is 1\.\.3840"),
        ({"score_floor": 0.0}, "--score-floor is 0.0; allowed is above 0"),
        ({"pad": 256}, r"--pad is 256; allowed is 0\.\.255"),
        ({"std": (1.0, 0.0, 1.0)}, "--std is .*; allowed is anything but 0"),
        ({"options": HeadOptions(normalised=True)}, "--normalised/--pixels means nothing to the head yolox"),
        ({"head": "yolov8"}, "yolov8 does not fit .*these fit: yolox"),
        ({"frames": (Path("/nowhere.mp4"),)}, "--frames /nowhere.mp4: cannot be read"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_is_allowed(wanted: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ImportInputError, match=message):
        publish(yolox(), tmp_path, **wanted)
    assert not (tmp_path / "e").exists()


def test_a_version_that_exists_is_refused_before_any_work(tmp_path: Path) -> None:
    publish(yolox(), tmp_path)
    with pytest.raises(ImportInputError, match="tiny 1 exists already"):
        publish(yolox(), tmp_path)
