"""The command `vedette engine plan`, with the real builder of TensorRT for RTX."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from onnx import helper
from typer.testing import CliRunner

from support_bundles import toy_manifest, toy_model
from support_models import LABELS, save, yolox
from vedette_engines.bundle import write_bundle
from vedette_engines.cli import app
from vedette_engines.errors import MissingRuntimeError
from vedette_engines.importing import ImportRequest, Made, make_engine
from vedette_engines.lower.fp16 import to_fp16
from vedette_engines.manifest import Attachment, Backend, EngineFile, Precision
from vedette_engines.plans.module import find_tensorrt
from vedette_engines.repository import EngineRepository

if TYPE_CHECKING:
    from typer.testing import Result


@functools.cache
def tiny() -> tuple[Made, bytes]:
    """Make an engine, and its file in half precision."""
    with tempfile.TemporaryDirectory() as folder:
        model = save(yolox(batch="N"), Path(folder) / "tiny.onnx")
        made = make_engine(ImportRequest(model, LABELS, "tiny", "1", Path(folder), max_candidates=15), lambda _: None)
        return made, to_fp16(made.content, (), lambda _: None)


class Tool:
    """The command with one engine of two precisions, and an empty cache."""

    def __init__(self, folder: Path) -> None:
        self.root, self.folder = folder / "engines", folder
        self.cache = folder / "cache"
        made, half = tiny()
        files = (EngineFile("model.onnx"), EngineFile("model.fp16.onnx", precision=Precision.FP16))
        contents: dict[str, Path | bytes] = {"model.onnx": made.content, "model.fp16.onnx": half, "report.md": b"fine"}
        manifest = replace(made.manifest, files=files, attachments=(Attachment("report.md"),))
        self.bundle = write_bundle(self.root, manifest, contents)

    def run(self, *words: object) -> Result:
        places = ["--engines-dir", str(self.root), "--cache", str(self.cache)]
        # Not what this machine would choose: it may have a GPU.
        module = () if "--tensorrt" in words else ("--tensorrt", "tensorrt_rtx")
        target = () if "--target" in words else ("--target", "sm_86")
        return CliRunner().invoke(app, ["plan", *map(str, words), *module, *target, *places])

    def newest(self, name: str = "tiny") -> tuple[str, list[EngineFile]]:
        bundle = EngineRepository([self.root]).resolve(name)
        return bundle.version, [file for file in bundle.manifest.files if file.plan is not None]


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    try:
        find_tensorrt("tensorrt_rtx")
    except MissingRuntimeError as error:
        pytest.skip(str(error))
    return Tool(tmp_path)


def assert_one_line(result: Result, code: int, *parts: str) -> None:
    assert result.exit_code == code, result.output
    (line,) = result.stderr.splitlines()
    for part in parts:
        assert part in line


def test_a_plan_is_written_to_a_file_and_built_only_once(tool: Tool) -> None:
    first = tool.run("tiny", "-o", tool.folder / "one.plan", "--profile", "1:1:1", "--profile", "1:2:4")
    assert first.exit_code == 0, first.output
    assert "model.onnx of tiny 1 (fp32) with tensorrt_rtx" in first.stdout
    assert "built in " in first.stdout
    assert "profiles 1:1:1, 1:2:4" in first.stdout
    again = tool.run("tiny", "-o", tool.folder / "two.plan", "--profile", "1:1:1", "--profile", "1:2:4")
    assert "built before: " in again.stdout
    assert (tool.folder / "one.plan").read_bytes() == (tool.folder / "two.plan").read_bytes()


def test_plans_are_published_as_another_version_with_everything_that_was_there(tool: Tool) -> None:
    both = ("--precision", "fp32,fp16", "--profile", "1:2:4", "--target", "sm_86")
    result = tool.run("tiny", *both, "--publish", "next")
    assert result.exit_code == 0, result.output
    bundle = EngineRepository([tool.root]).resolve("tiny")
    assert bundle.version == "2"
    assert [file.path for file in bundle.manifest.files] == [
        *("model.onnx", "model.fp16.onnx", "model.fp32.sm_86.plan", "model.fp16.sm_86.plan"),
    ]
    assert bundle.manifest.files[:2] == tool.bundle.manifest.files
    assert bundle.manifest.attachments == tool.bundle.manifest.attachments
    plans = bundle.manifest.files[2:]
    assert [(file.backend, file.precision, file.max_batch) for file in plans] == [
        (Backend.TENSORRT, Precision.FP32, 4),
        (Backend.TENSORRT, Precision.FP16, 4),
    ]
    assert all(file.plan is not None and file.plan.targets == ("sm_86",) for file in plans)
    assert bundle.manifest.provenance["plans"].startswith("added to version 1: model.fp32.sm_86.plan with tensorrt_rtx")


def test_a_plan_of_the_same_kind_is_replaced_and_others_are_kept(tool: Tool) -> None:
    for number, (target, profile) in enumerate((("sm_86", "1:2:4"), ("sm_89", "1:2:4"), ("sm_86", "1:1:2")), 2):
        result = tool.run("tiny", "--publish", "next", "--profile", profile, "--target", target)
        assert result.exit_code == 0, result.output
        assert tool.newest()[0] == str(number)
    _, plans = tool.newest()
    assert {file.path: file.max_batch for file in plans} == {"model.fp32.sm_89.plan": 4, "model.fp32.sm_86.plan": 2}


def test_an_engine_of_the_box_is_published_into_the_users_root_as_a_newer_one(tool: Tool) -> None:
    result = tool.run("blobs", "--publish", "next", "--profile", "1:1:2", "--target", "sm_86")
    assert result.exit_code == 0, result.output
    assert tool.newest("blobs")[0] == "2"


def test_layers_are_told_on_a_gpu_only_and_that_is_said(tool: Tool) -> None:
    result = tool.run("tiny", "-o", tool.folder / "a.plan", "--profile", "1:1:1", "--layers", tool.folder / "l.json")
    assert result.exit_code == 0, result.output
    if not (tool.folder / "l.json").exists():
        assert "TensorRT tells a plan's layers only on a GPU that it can run on" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ((), 2, "give -o FILE.plan, or --publish VERSION"),
        (("-o", "/nonexistent/folder/a.plan"), 2, "there is no folder /nonexistent/folder"),
        (("--precision", "fp32,fp16", "-o", "a.plan"), 2, "is one file, but there are 2 precisions"),
        (("--precision", "fp8", "-o", "a.plan"), 2, "--precision is 'fp8'; allowed is fp32 or fp16 or int8"),
        (("--precision", "int8", "-o", "a.plan"), 2, "no ONNX file in int8 that TensorRT takes"),
        (
            ("--publish", "2", "--strip"),
            2,
            "--strip leaves the weights out, so that nobody could run the published plan",
        ),
        (("--publish", "a/b"), 2, "--publish is 'a/b'"),
        (("--publish", "1"), 2, "engine tiny 1 exists already in"),
        (("-o", "a.plan", "--profile", "8:4:1"), 2, "--profile is '8:4:1'; allowed is MIN:OPT:MAX"),
        (("-o", "a.plan", "--workspace", "much"), 2, "--workspace is 'much'; allowed is a size like 512MiB"),
        (("-o", "a.plan", "--target", "sm_90"), 2, "does not build for sm_90; it knows sm_75"),
        (("-o", "a.plan", "--tensorrt", "trt"), 2, "'trt'; allowed is tensorrt or tensorrt_rtx"),
        (("-o", "a.plan", "--version-compatible"), 2, "cannot build version-compatible plans"),
        (("-o", "a.plan", "--hardware-compatibility", "same"), 2, "ignores hardware compatibility"),
    ],
)
def test_what_is_wrong_gets_one_line(tool: Tool, words: tuple[str, ...], code: int, part: str) -> None:
    assert_one_line(tool.run("tiny", *words), code, part)


def test_an_engine_that_tensorrt_refuses_is_not_published(tool: Tool) -> None:
    contents: dict[str, Path | bytes] = {"model.onnx": _with_odd_operator()}
    write_bundle(tool.root, toy_manifest("odd"), contents)
    result = tool.run("odd", "--publish", "next")
    assert result.exit_code == 1
    assert "(Bernoulli): the operator is not supported" in result.stderr
    assert tool.newest("odd") == ("1", [])


def _with_odd_operator() -> bytes:
    model = toy_model()
    last = model.graph.node[-1]
    model.graph.node.insert(len(model.graph.node) - 1, helper.make_node("Bernoulli", [last.input[0]], ["coin"]))
    last.input[0] = "coin"
    return bytes(model.SerializeToString())


def test_a_bundle_that_was_altered_is_not_published_again(tool: Tool) -> None:
    (tool.bundle.path / "model.fp16.onnx").write_bytes(b"altered")
    result = tool.run("tiny@1", "--publish", "2")
    assert_one_line(result, 1, "model.fp16.onnx")
    assert not (tool.root / "tiny" / "2").exists()
