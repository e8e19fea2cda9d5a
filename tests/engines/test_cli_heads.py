"""The options of `vedette engine import` that tell a head what shapes cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from support_heads import HEAD_EXAMPLES, ssd, ssd_priors
from support_models import LABELS, save
from vedette_engines.cli import app
from vedette_engines.manifest import DetectorOutput
from vedette_engines.repository import EngineRepository

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

    from vedette_engines.manifest import Manifest


class Bench:
    """A folder to import in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.labels = folder / "labels.txt"
        self.labels.write_text("\n".join(LABELS) + "\n")

    def run(self, model: ModelProto, *words: object, labels: bool = True) -> tuple[int, str]:
        path = save(model, self.folder / "tiny.onnx")
        said = ["import", path, "--name", "tiny", "--engines-dir", self.folder / "e", *words]
        result = CliRunner().invoke(
            app, [str(word) for word in [*said, *(["--labels", self.labels] if labels else [])]]
        )
        return result.exit_code, result.stdout if result.exit_code == 0 else result.stderr

    def publish(self, model: ModelProto, *words: object, labels: bool = True) -> Manifest:
        code, told = self.run(model, *words, labels=labels)
        assert code == 0, told
        return EngineRepository([self.folder / "e"]).resolve("tiny").manifest

    def refusal(self, model: ModelProto, *words: object) -> str:
        code, told = self.run(model, *words)
        assert (code, len(told.splitlines())) == (2, 1), told
        return told


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_an_embedder_needs_no_labels_and_may_be_scaled(bench: Bench) -> None:
    manifest = bench.publish(HEAD_EXAMPLES["embedder"](), "--unit-length", labels=False)
    assert manifest.task == "embedder"
    assert manifest.provenance["head_options"] == "scaled to length 1"


def test_anchors_are_a_published_set_or_numbers(bench: Bench) -> None:
    model = HEAD_EXAMPLES["yolov5-raw"]()
    named = bench.publish(model, "--anchors", "yolov7").provenance["head_options"]
    assert "12x16, 19x36, 40x28, 36x75" in named
    numbers = ",".join(str(side) for side in range(1, 19))
    said = bench.publish(model, "--anchors", numbers).provenance["head_options"]
    assert "anchors 1x2, 3x4, 5x6" in said
    assert "wants 9 pairs of width and height" in bench.refusal(model)
    assert "--anchors has 3 numbers" in bench.refusal(model, "--anchors", "1,2,3")
    assert "--anchors is 'yolov9'; allowed is yolov5, yolov7, or W,H" in bench.refusal(model, "--anchors", "yolov9")


def test_priors_come_from_a_file_with_variances_and_the_background_beside_them(bench: Bench, tmp_path: Path) -> None:
    np.save(tmp_path / "priors.npy", ssd_priors())
    words = ["--head", "ssd", "--priors", tmp_path / "priors.npy", "--variances", "0.2,0.3"]
    told = bench.publish(ssd(priors=False), *words).provenance["head_options"]
    assert "background class first" in told
    assert "64 priors, variances 0.2, 0.3" in told
    last = bench.publish(ssd(priors=False), *words, "--background", "last").provenance["head_options"]
    assert "background class last" in last


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no array", "not an array of NumPy's"),
        (b"", "not an array of NumPy's"),
        (np.zeros((64, 3), np.float32), r"is float32 [64, 3]; allowed is floating-point [anchors, 4]"),
        (np.zeros((64, 4), np.int64), "is int64 [64, 4]"),
        (np.full((64, 4), np.nan, np.float32), "finite numbers"),
        (np.zeros((3, 4), np.float32), "3 boxes; the model has 64 anchors"),
        (np.asarray([{"a": 1}], object), "not an array of NumPy's"),
    ],
)
def test_priors_that_are_none_are_refused(content: object, message: str, bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "priors.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    assert message in bench.refusal(ssd(priors=False), "--head", "ssd", "--priors", path)


def test_keypoints_are_named(bench: Bench, tmp_path: Path) -> None:
    bench.labels.write_text("hand\n")
    names = [f"p{number}" for number in range(17)]
    output = bench.publish(HEAD_EXAMPLES["yolov8-pose"](), "--keypoints", ",".join(names)).output
    assert isinstance(output, DetectorOutput)
    assert output.extras[-1] == "kpt:p16:score"
    assert "each once" in bench.refusal(HEAD_EXAMPLES["yolov8-pose"](), "--keypoints", "a,a")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--background", "middle"], "--background is 'middle'; allowed is none or first or last"),
        (["--variances", "0.1"], "--variances is '0.1'; allowed is two numbers above 0"),
        (["--variances", "0,1"], "--variances is '0,1'"),
        (["--reg-max", "0"], "--reg-max is '0'; allowed is a whole number from 1 to 64"),
        (["--keypoints", "a,,b"], "--keypoints is 'a,,b'"),
        (["--priors", "/nowhere.npy"], "--priors /nowhere.npy: not an array"),
        (["--reg-max", "7"], "--reg-max means nothing to the head yolov8; leave it out"),
        (["--own-length"], "--unit-length/--own-length means nothing to the head yolov8; leave it out"),
    ],
)
def test_a_wrong_value_or_one_said_in_vain_gets_one_line(words: list[str], message: str, bench: Bench) -> None:
    assert message in bench.refusal(HEAD_EXAMPLES["yolov8"](), *words)


def test_a_detector_without_labels_is_refused(bench: Bench) -> None:
    code, told = bench.run(HEAD_EXAMPLES["yolov8"](), labels=False)
    assert code == 2
    assert "--labels is missing, but the outputs output0 [1, 7, 64] have 3 classes for the head yolov8" in told
