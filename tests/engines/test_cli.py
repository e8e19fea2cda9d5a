"""The commands of the engine tool: what they print and how they end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from support_models import LABELS, classifier, save, yolox
from vedette_engines.cli import app
from vedette_engines.cli_import import next_version
from vedette_engines.cli_page import readable_bytes
from vedette_engines.cli_roots import user_roots
from vedette_engines.repository import EngineRepository

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


class Tool:
    """The tool with one model and one root of engines."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "engines"
        self.model = save(yolox(), folder / "tiny.onnx")
        self.labels = folder / "labels.txt"
        self.labels.write_text("\n".join(LABELS) + "\n")

    def run(self, *words: object) -> Result:
        return CliRunner().invoke(app, [*map(str, words), "--engines-dir", str(self.root)])

    def import_model(self, *words: object) -> Result:
        return self.run("import", self.model, "--labels", self.labels, "--name", "tiny", *words)


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    return Tool(tmp_path)


def assert_one_line(result: Result, code: int, *parts: str) -> None:
    assert result.exit_code == code, result.output
    assert len(result.stderr.splitlines()) == 1
    for part in parts:
        assert part in result.stderr


def test_import_says_what_it_assumed_and_publishes(tool: Tool) -> None:
    result = tool.import_model()
    assert result.exit_code == 0, result.output
    assert "head yolox" in result.stdout
    assert "scores are probabilities" in result.stdout
    assert "batch made dynamic" in result.stdout
    assert "agrees with the original: 8 frames (0 real)" in result.stdout
    assert (tool.root / "tiny" / "1" / "engine.toml").is_file()


def test_the_default_version_is_the_next_whole_number(tool: Tool) -> None:
    tool.import_model()
    tool.import_model("--version", "9")
    tool.import_model("--version", "beta")
    assert tool.import_model().stdout.splitlines()[-1].startswith("published tiny 10 in ")
    assert next_version(tool.root, "other") == "1"


def test_every_option_reaches_the_engine(tool: Tool) -> None:
    result = tool.import_model(
        *("--head", "yolox", "--order", "rgb", "--scale", "1/255", "--mean", "0.1,0.2,0.3", "--std", "0.5"),
        *("--letterbox", "centre", "--pad", "0", "--max-candidates", "7", "--score-floor", "0.2", "--simplify"),
        *("--min-score", "0.4", "--iou", "0.6", "--activated", "--input-size", "64x64", "--version", "v2"),
    )
    assert result.exit_code == 0, result.output
    manifest = EngineRepository([tool.root]).resolve("tiny", "v2").manifest
    assert (manifest.input.letterbox, manifest.input.pad) == ("centre", 0)
    assert manifest.output_shape == (7, 6)
    assert (manifest.defaults.min_score, manifest.defaults.iou) == (0.4, 0.6)
    assert manifest.provenance["preprocessing"] == "rgb, (pixel * 0.00392157 - (0.1, 0.2, 0.3)) / (0.5, 0.5, 0.5)"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--head", "retina"], ["--head is 'retina'", "yolox, yolov5, "]),
        (["--head", "classifier"], ["output [1, 84, 8]", "wants one output [N, classes]", "these fit: yolox"]),
        (["--order", "gbr"], ["--order is 'gbr'", "bgr or rgb"]),
        (["--scale", "1/0"], ["--scale is '1/0'", "a number"]),
        (["--mean", "1,2"], ["--mean is '1,2'", "three separated by commas"]),
        (["--std", "0"], ["--std is (0.0, 0.0, 0.0)"]),
        (["--letterbox", "left"], ["--letterbox is 'left'", "top-left or centre"]),
        (["--pad", "300"], ["--pad is '300'", "from 0 to 255"]),
        (["--pad", "x"], ["--pad is 'x'"]),
        (["--max-candidates", "5000"], ["--max-candidates is '5000'", "from 1 to 3840"]),
        (["--score-floor", "2"], ["--score-floor is '2'", "0 to 1"]),
        (["--score-floor", "0"], ["--score-floor is 0.0", "above 0"]),
        (["--iou", "many"], ["--iou is 'many'"]),
        (["--input-size", "64"], ["--input-size is '64'", "WIDTHxHEIGHT"]),
        (["--input-size", "32x32"], ["--input-size is 32x32", "takes 64x64 only"]),
        (["--box-format", "xywh"], ["--box-format is 'xywh'", "xyxy or cxcywh"]),
        (["--version", "../1"], ["--version is '../1'"]),
        (["--frames", "/nowhere"], ["--frames /nowhere"]),
    ],
)
def test_a_wrong_value_gets_one_line_that_names_it_and_what_is_allowed(
    tool: Tool, words: list[str], parts: list[str]
) -> None:
    assert_one_line(tool.import_model(*words), 2, *parts)
    assert not tool.root.exists()


def test_a_wrong_model_or_labels_file_gets_one_line(tool: Tool, tmp_path: Path) -> None:
    missing = tmp_path / "missing.onnx"
    assert_one_line(tool.run("import", missing, "--labels", tool.labels, "--name", "a"), 2, "missing.onnx: not an ONNX")
    assert_one_line(tool.run("import", tool.labels, "--labels", tool.labels, "--name", "a"), 2, "not an ONNX file")
    assert_one_line(tool.run("import", tool.model, "--labels", missing, "--name", "a"), 2, "--labels", "missing.onnx")
    assert_one_line(tool.run("import", tool.model, "--labels", tool.labels, "--name", "A b"), 2, "--name is 'A b'")
    tool.labels.write_text("one\n\nthree\n")
    assert_one_line(tool.import_model(), 2, "line 2 is empty")
    tool.labels.write_text("one\ntwo\n")
    assert_one_line(tool.import_model(), 2, "there are 2 labels", "have 3 classes")


def test_a_version_that_exists_gets_one_line(tool: Tool) -> None:
    tool.import_model("--version", "1")
    assert_one_line(tool.import_model("--version", "1"), 2, "engine tiny 1 exists already")


def test_a_model_that_the_gate_refuses_ends_with_1_and_is_not_published(tool: Tool, tmp_path: Path) -> None:
    model = classifier()
    bias = model.graph.initializer[1]
    bias.raw_data = b"\x00\x00\xc0\x7f" * 3  # NaN
    path = save(model, tmp_path / "nan.onnx")
    assert_one_line(tool.run("import", path, "--labels", tool.labels, "--name", "nan"), 1, "NaN")
    assert not (tool.root / "nan").exists()


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_a_missing_library_gets_one_line_that_names_the_extra(
    tool: Tool, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    assert_one_line(tool.import_model(), 2, f"{library} not installed", "pip install 'vedette[cpu]'")


def test_list_shows_good_engines_and_bad_ones_with_the_reason(tool: Tool) -> None:
    tool.import_model()
    tool.import_model("--version", "2")
    (tool.root / "tiny" / "1" / "model.onnx").write_bytes(b"changed")
    result = tool.run("list")
    assert result.exit_code == 0
    lines = {tuple(line.split()[:2]): line for line in result.stdout.splitlines()}
    assert lines["NAME", "VERSION"].split() == ["NAME", "VERSION", "TASK", "INPUT", "BACKENDS", "SIZE", "HERE", "STATE"]
    good = lines["tiny", "2"].split()
    assert good[2:5] == ["detector", "64x64", "onnxruntime/fp32"]
    assert good[-2:] == ["onnxruntime:CPUExecutionProvider", "ok"]
    assert "bad: " in lines["tiny", "1"]
    assert "model.onnx has 7 bytes" in lines["tiny", "1"]


def test_the_engines_in_the_box_are_always_listed(tool: Tool) -> None:
    boxed = {line.split()[0] for line in tool.run("list").stdout.splitlines()[1:]}
    assert "blobs" in boxed


def test_inspect_shows_the_whole_manifest(tool: Tool) -> None:
    tool.import_model("--version", "1")
    tool.import_model("--version", "2", "--pad", "7")
    newest, first = tool.run("inspect", "tiny"), tool.run("inspect", "tiny@1")
    assert newest.stdout.startswith("tiny 2\n")
    assert "pad 7" in newest.stdout
    assert first.stdout.startswith("tiny 1\n")
    for part in ("candidates float32 [N, 84, 6]", "0 person, 1 car, 2 dog", "any batch", "source_sha256", "IoU 0.45"):
        assert part in first.stdout


def test_inspect_of_an_unknown_engine_gets_one_line(tool: Tool) -> None:
    assert_one_line(tool.run("inspect", "nobody"), 2, "no engine is named 'nobody'")


def test_verify_tells_good_from_bad_by_its_exit_code(tool: Tool) -> None:
    tool.import_model("--version", "1")
    tool.import_model("--version", "2")
    good = tool.run("verify", "tiny")
    assert (good.exit_code, good.stdout.splitlines()) == (0, ["tiny 2: ok", "tiny 1: ok"])
    model = tool.root / "tiny" / "1" / "model.onnx"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    bad = tool.run("verify", "tiny")
    assert bad.exit_code == 1
    assert "sha256" in bad.stdout
    assert tool.run("verify", "tiny@2").exit_code == 0
    assert_one_line(tool.run("verify", "nobody"), 2, "no engine 'nobody'")


def test_engines_are_looked_for_where_the_option_then_the_variable_then_the_default_says(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert user_roots([one], {"VEDETTE_ENGINES_DIR": str(two)}) == (one,)
    assert user_roots(None, {"VEDETTE_ENGINES_DIR": f"{two}:{one}"}) == (two, one)
    assert user_roots(None, {})[0].parts[-3:] == ("share", "vedette", "engines")


def test_sizes_are_written_shortly() -> None:
    assert [readable_bytes(count) for count in (7, 3_797_360, 2_500_000_000)] == ["7 B", "3.8 MB", "2.5 GB"]
