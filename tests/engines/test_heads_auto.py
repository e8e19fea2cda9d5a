"""`--head auto`: what it recognises, by what, and when it refuses to choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_headcheck import border
from support_heads import HEAD_EXAMPLES, HEAD_REQUESTS, HEAD_VARIANTS, detr, embedder, ssd, yolov5
from support_models import LABELS, Draft, boxes_scores, classifier, save, yolov8, yolox
from vedette_engines.errors import ImportInputError
from vedette_engines.graft.head import Fit, HeadOptions
from vedette_engines.graft.registry import choose_head, known_heads
from vedette_engines.graft.session import Session, measure_signature
from vedette_engines.importing import ImportRequest, make_engine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto

    from vedette_engines.graft.head import Head
    from vedette_engines.graft.signature import Signature

HEADS = known_heads()
ALL = {**{name: (make, HEAD_REQUESTS[name]) for name, make in HEAD_EXAMPLES.items()}, **HEAD_VARIANTS}

# What the border alone leaves in question, by example; the others are told by shapes or names.
IN_QUESTION = {
    "yolox": ["yolox", "yolov5"],
    "yolov8-pose": ["yolov8", "yolov8-pose"],
    "yolov10": ["yolov5", "yolov10"],
    "nanodet": ["yolov5", "nanodet"],
    "nanodet, reg_max 10": ["yolov5", "nanodet"],
    "ssd, priors said": ["ssd", "boxes-scores"],
}


def signature_of(model: ModelProto) -> Signature:
    return measure_signature(Session(model.SerializeToString(), "example"), None)


def imported(model: ModelProto, folder: Path, **wanted: Any) -> tuple[str, list[str]]:
    """Import with `--head auto`, and return the head and what was said."""
    said: list[str] = []
    given = {"model": save(model, folder / "tiny.onnx"), "labels": LABELS, "name": "tiny", "version": "1"}
    made = make_engine(ImportRequest(**{**given, "root": folder, **wanted, "head": "auto"}), said.append)
    return made.original.head.name, said


@pytest.mark.parametrize("name", ALL)
def test_the_border_alone_tells_each_example_or_names_exactly_those_in_question(name: str) -> None:
    signature = signature_of(ALL[name][0]())
    head = ALL[name][1]["head"]
    if name not in IN_QUESTION:
        assert choose_head("auto", signature, HEADS).name == head
        return
    with pytest.raises(ImportInputError, match="more than one head fits") as refused:
        choose_head("auto", signature, HEADS)
    told = str(refused.value).partition(": ")[2]
    assert [part.split(" (")[0].strip() for part in told.rpartition("; say")[0].split("; ")] == IN_QUESTION[name]


@pytest.mark.parametrize("name", ALL)
def test_labels_and_values_tell_each_example_apart(name: str, tmp_path: Path) -> None:
    make, said = ALL[name]
    assert imported(make(), tmp_path, **said)[0] == said["head"]


@pytest.mark.parametrize("name", IN_QUESTION)
def test_what_decided_is_said(name: str, tmp_path: Path) -> None:
    make, request = ALL[name]
    _, said = imported(make(), tmp_path, **request)
    other = next(head for head in IN_QUESTION[name] if head != request["head"])
    assert any(
        f"rather than {other}, by the number of labels, {len(request['labels'])}" in line
        or f"ruled out by the values of the outputs: {other}" in line
        for line in said
    )


@pytest.mark.parametrize(
    ("head", "outputs", "classes"),
    [
        ("yolov5", [("output", (1, 25200, 85)), ("a", (1, 3, 8, 8, 85)), ("b", (1, 3, 4, 4, 85))], 80),
        ("yolov8", [("output0", (1, 7, 64))], 3),
        ("boxes-scores", [("boxes", (1, 30, 4)), ("scores", (1, 30, 9))], 9),
        ("boxes-scores", [("boxes", (1, 30, 4)), ("scores", (1, 30))], 1),
        ("boxes-scores", [("scores", (1, 30, 4)), ("pred_boxes", (1, 30, 4))], 4),
        ("detr", [("pred_logits", (1, 300, 91)), ("pred_boxes", (1, 300, 4))], 91),
        ("detr", [("dets", (1, 300, 4)), ("labels", (1, 300, 91))], 91),
        ("ssd", [("bbox_regression", (1, 90, 4)), ("cls_logits", (1, 90, 21)), ("anchors", (1, 90, 4))], 20),
        ("cells", [("preds", (1, 85, 22, 22))], 80),
        ("centernet", [("offset", (1, 2, 16, 16)), ("size", (1, 2, 16, 16)), ("heatmap", (1, 2, 16, 16))], 2),
        ("classifier", [("prob", (1, 1000))], 1000),
        ("classifier", [("logits", (1, 1000, 1, 1))], 1000),
        ("embedder", [("image_embeds", (1, 512))], 512),
    ],
)
def test_auto_recognises_the_borders_that_exporters_write(
    head: str, outputs: list[tuple[str, tuple[int, ...]]], classes: int
) -> None:
    signature = border(*outputs)
    chosen = choose_head("auto", signature, HEADS)
    assert (chosen.name, chosen.fits(signature).classes) == (head, classes)


def test_auto_refuses_outputs_that_two_heads_could_read_and_names_both() -> None:
    # At 64x64 there are 84 anchors: 85 columns of YOLOX, or 85 anchors of YOLOv8 with 4 + 80 rows.
    with pytest.raises(ImportInputError, match=r"more than one head fits .*yolox .*yolov8 .*--head"):
        choose_head("auto", border(("output", (1, 84, 85))), HEADS)


def test_decoded_fractions_with_as_many_anchors_as_yolox_has_are_not_guessed_at(tmp_path: Path) -> None:
    """Values between 0 and 1 may be offsets and logarithms as well as fractions: nothing is left to tell by."""
    d = Draft()
    levels = [
        d.add("Reshape", d.conv("images", 8, stride, 2.0), d.shape(0, 8, (64 // stride) ** 2)) for stride in (8, 16, 32)
    ]
    d.add("Transpose", d.add("Sigmoid", d.add("Concat", *levels, axis=2)), name="output", perm=[0, 2, 1])
    model = d.model({"output": [84, 8]}, "N")
    with pytest.raises(ImportInputError, match=r"more than one head fits .*: yolox \(.*\); yolov5 \(.*\); say which"):
        imported(model, tmp_path)
    for head in ("yolox", "yolov5"):
        request = ImportRequest(tmp_path / "tiny.onnx", LABELS, "tiny", "1", tmp_path, head=head)
        assert make_engine(request, lambda line: None).original.head.name == head


@pytest.mark.parametrize(
    ("model", "wanted", "head"),
    [
        (lambda: detr(names=("a", "b")), {}, "detr"),
        (lambda: renamed(boxes_scores(), scores="a", boxes="b"), {}, "none"),
        (lambda: renamed(ssd(priors=False, classes=2), locations="a", confidences="b"), {"labels": LABELS[:2]}, "ssd"),
        (lambda: classifier(name="output"), {}, "classifier"),
        (lambda: embedder(name="output"), {"labels": ()}, "embedder"),
    ],
    ids=["detr", "boxes of noise", "ssd", "classifier", "embedder"],
)
def test_without_names_the_values_and_the_number_of_labels_decide(
    model: Any, wanted: dict[str, Any], head: str, tmp_path: Path
) -> None:
    if head == "none":
        with pytest.raises(ImportInputError, match=r"but not the values .*detr: .*boxes-scores: \d+% of the boxes"):
            imported(model(), tmp_path, **wanted)
    elif head == "ssd":
        with pytest.raises(ImportInputError, match=r"--priors: not given; the head ssd wants the 64 boxes"):
            imported(model(), tmp_path, **wanted)
    else:
        assert imported(model(), tmp_path, **wanted)[0] == head


def renamed(model: ModelProto, **names: str) -> ModelProto:
    """Rename outputs."""
    for node in model.graph.node:
        node.output[:] = [names.get(name, name) for name in node.output]
    for output in model.graph.output:
        output.name = names.get(output.name, output.name)
    return model


def test_a_line_too_few_in_the_labels_does_not_make_another_head_of_a_model(tmp_path: Path) -> None:
    # One label and eight rows could be a keypoint of one class; the values say that these are scores.
    with pytest.raises(ImportInputError, match="the keypoints would all lie in one pixel"):
        imported(four_classes(), tmp_path, labels=("person",))
    assert imported(four_classes(), tmp_path, labels=("a", "b", "c", "d"))[0] == "yolov8"


def four_classes() -> ModelProto:
    """Make YOLOv8's `[N, 4 + 4, 64]`."""
    d = Draft()
    shares = d.add("Sigmoid", d.add("Reshape", d.conv("images", 8, 8, 2.0), d.shape(0, 8, 64)))
    factors = np.asarray([64] * 4 + [1] * 4, np.float32)[:, None]
    d.add("Mul", shares, d.const(factors), name="output0")
    return d.model({"output0": [8, 64]}, "N")


def test_outputs_that_nothing_fits_are_refused_with_what_each_head_wants() -> None:
    signature = border(("output", (1, 4, 85)), side=416)
    with pytest.raises(
        ImportInputError, match=r"no head fits the outputs output \[1, 4, 85\]: yolox wants .*3549"
    ) as no:
        choose_head("auto", signature, HEADS)
    assert all(f"{name} wants" in str(no.value) for name in HEADS)


def test_an_unknown_head_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(ImportInputError, match=f"--head is 'retina'; allowed is {', '.join(HEADS)}, auto"):
        choose_head("retina", border(("output", (1, 3549, 85)), side=416), HEADS)


class Paper:
    """A head that says what it is told to say."""

    def __init__(self, name: str, fit: Fit, doubt: str) -> None:
        self.name, self.task, self.fit, self.objection = name, "detector", fit, doubt

    def fits(self, signature: Signature) -> Fit:
        return self.fit

    def doubt(self, raw: Sequence[NDArray[Any]], signature: Signature) -> str:
        return self.objection


fits = st.builds(
    Fit,
    classes=st.integers(0, 3),
    reason=st.just("fits"),
    named=st.booleans(),
    counted=st.booleans(),
    auto=st.booleans(),
)


@given(st.lists(st.tuples(fits, st.sampled_from(["", "no"])), min_size=1, max_size=5), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_auto_takes_the_one_head_that_is_left_and_never_one_of_two(said: list[tuple[Fit, str]], labels: int) -> None:
    heads: dict[str, Any] = {f"h{i}": Paper(f"h{i}", fit, doubt) for i, (fit, doubt) in enumerate(said)}
    possible = {name for name, head in heads.items() if head.fit.ok and head.fit.auto}
    named = {name for name in possible if heads[name].fit.named} or possible
    counting = {
        name for name in named if labels and labels in {heads[name].fit.classes, labels * uncounted(heads[name])}
    }
    believed = {name for name in counting or named if not heads[name].objection}
    try:
        chosen: Head = choose_head("auto", border(("o", (1, 2))), heads, labels, lambda head: [])
    except ImportInputError as error:
        assert not any(heads[name].fit.named for name in named) or len(named) > 1
        assert len(believed) != 1
        assert all(f"{name} (" in str(error) for name in believed)
        return
    assert {chosen.name} == (named if len(named) == 1 and chosen.fit.named else believed)  # type: ignore[attr-defined]


def uncounted(head: Paper) -> bool:
    return not head.fit.counted


@pytest.mark.parametrize("options", [{}, {"labels": ("a",) * 80}])
def test_a_plain_yolov8_and_yolov5_need_no_head(options: dict[str, Any], tmp_path: Path) -> None:
    if not options:
        assert imported(yolov8(), tmp_path)[0] == "yolov8"
        assert imported(yolov5(), tmp_path)[0] == "yolov5"
        assert imported(yolox(logits=True), tmp_path)[0] == "yolox"
        return
    with pytest.raises(ImportInputError, match=r"there are 80 labels, but the outputs .* have 3 classes"):
        imported(yolov8(), tmp_path, **options)


@pytest.mark.parametrize(
    ("head", "said", "message"),
    [
        ("yolox", {"reg_max": 7}, "--reg-max means nothing to the head yolox"),
        ("yolov5", {"anchors": ((1, 2),)}, "--anchors means nothing to the head yolov5"),
        ("yolov5-raw", {"normalised": True}, "--normalised/--pixels means nothing"),
        ("yolov8", {"keypoints": ("a",)}, "--keypoints means nothing to the head yolov8"),
        ("yolov8-pose", {"background": "last"}, "--background means nothing"),
        ("yolov10", {"priors": ((0, 0, 1, 1),)}, "--priors means nothing"),
        ("detr", {"variances": (0.1, 0.2)}, "--variances means nothing"),
        ("ssd", {"reg_max": 3}, "--reg-max means nothing"),
        ("boxes-scores", {"unit_length": True}, "--unit-length/--own-length means nothing"),
        ("nanodet", {"box_format": "xyxy"}, "--box-format means nothing"),
        ("cells", {"background": "first"}, "--background means nothing"),
        ("centernet", {"normalised": True}, "--normalised/--pixels means nothing"),
        ("classifier", {"unit_length": True}, "--unit-length/--own-length means nothing"),
        ("embedder", {"activated": True}, "--activated/--logits means nothing"),
        ("yolov5-raw", {"anchors": ((1, 2),) * 6}, "--anchors: 6 pairs; the head yolov5-raw wants 9 pairs"),
        ("yolov8-pose", {"keypoints": ("a",) * 18}, r"--keypoints names 18; allowed is 1\.\.17 with 56 rows"),
        ("ssd", {"priors": ((0.0, 0.0, 1.0, 1.0),)}, "--priors: 1 boxes; the model has 64 anchors"),
        ("nanodet", {"reg_max": 8}, r"--reg-max is 8; allowed is 1\.\.7 with 35 columns"),
    ],
)
def test_an_option_that_means_nothing_to_the_head_or_does_not_go_with_the_model_is_refused(
    head: str, said: dict[str, Any], message: str, tmp_path: Path
) -> None:
    request = {**HEAD_REQUESTS[head], "options": HeadOptions(**{**own_options(head), **said})}
    model = save(HEAD_EXAMPLES[head](), tmp_path / "tiny.onnx")
    with pytest.raises(ImportInputError, match=message):
        make_engine(ImportRequest(model=model, name="tiny", version="1", root=tmp_path, **request), lambda line: None)


def own_options(head: str) -> dict[str, Any]:
    """Tell what the head's example needs."""
    return {"anchors": HEAD_REQUESTS[head]["options"].anchors} if head == "yolov5-raw" else {}


@pytest.mark.parametrize(
    ("head", "labels", "message"),
    [
        (
            "yolov5",
            ("a",),
            r"there are 1 labels, but the outputs output \[1, 192, 8\] have 3 classes for the head yolov5",
        ),
        ("yolov5", (), "--labels is missing, but .* have 3 classes"),
        ("embedder", ("a",), "--labels means nothing to the head embedder"),
        ("yolov10", ("a",), r"there are 1 labels, but the model gives class [12]"),
        ("detr", ("a", "b"), "say --background last, or give the missing label"),
        ("ssd", ("none", *LABELS), "there are 4 labels, but .* have 3 classes"),
        ("yolov8-pose", ("a", "b"), "there are 2 labels, but .* have 1 classes"),
    ],
)
def test_the_wrong_number_of_labels_is_refused_by_every_family(
    head: str, labels: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    model = save(HEAD_EXAMPLES[head](), tmp_path / "tiny.onnx")
    request = {**HEAD_REQUESTS[head], "labels": labels}
    with pytest.raises(ImportInputError, match=message):
        make_engine(ImportRequest(model=model, name="tiny", version="1", root=tmp_path, **request), lambda line: None)
