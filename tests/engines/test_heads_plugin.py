"""Heads from outside the package: the one in docs/bringing-an-engine.md reads what no head in the box does."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from support_headcheck import border
from support_models import CLASSES, LABELS, SIDE, Draft, save
from vedette_engines.bundle import load_bundle
from vedette_engines.cli import app
from vedette_engines.errors import ImportInputError
from vedette_engines.graft.registry import boxed_heads, choose_head, known_heads
from vedette_engines.graft.session import Session

if TYPE_CHECKING:
    from onnx import ModelProto

PAGE = Path(__file__).parents[2] / "docs" / "bringing-an-engine.md"
MOST_LINES = 39

SHORT = """
from vedette_engines.graft.heads.yolov8 import YoloV8Head

class Mine(YoloV8Head):
    name = {name!r}

head = Mine()
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, what: str) -> None:
    """Put a distribution with one head on the path, as pip would."""
    (folder / "my_heads.py").write_text(code)
    info = folder / "my_heads-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-heads\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[vedette.heads]\nmine = my_heads:{what}\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "my_heads", raising=False)


def head_of_the_page() -> str:
    """Read the plug-in as the page shows it."""
    blocks = re.findall(r"```python run\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return next(block for block in blocks if "class YxRowsHead" in block)


def yx_rows() -> ModelProto:
    """Make `[N, 64, 3 + 4]`: class scores, then y1, x1, y2, x2 as fractions."""
    d = Draft()
    raw = d.add("Reshape", d.conv("images", CLASSES + 4, 8, 2.0), d.shape(0, CLASSES + 4, 64))
    d.add("Transpose", d.add("Sigmoid", raw), name="rows", perm=[0, 2, 1])
    return d.model({"rows": [64, CLASSES + 4]}, "N")


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)
    return result.exit_code, result.output


def test_a_head_written_outside_the_package_in_under_40_lines_brings_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = head_of_the_page()
    assert len(code.splitlines()) <= MOST_LINES, "the issue wants a head in under 40 lines"
    install(tmp_path, monkeypatch, code, "YxRowsHead")
    model = save(yx_rows(), tmp_path / "tiny.onnx")
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    said = ["import", model, "--labels", tmp_path / "labels.txt", "--name", "mine", "--engines-dir", tmp_path / "e"]
    code_of_auto, told = run(*said)
    assert code_of_auto != 0, "no head in the box reads it as it is meant"
    code_of_mine, told = run(*said, "--head", "yx-rows")
    assert code_of_mine == 0, told
    bundle = load_bundle(tmp_path / "e" / "mine" / "1")
    assert bundle.manifest.provenance["head"] == "yx-rows"
    assert "in batches of 1, 3" in bundle.manifest.provenance["parity"]
    pixels = np.random.default_rng(4).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    best = Session(bundle.path_of(bundle.manifest.files[0]), "engine").run({"frames": pixels})[0][0, 0]
    plain = Session(model, "model").run({"images": (pixels[..., ::-1] / np.float32(127.5) - 1).transpose(0, 3, 1, 2)})
    row = plain[0][0, plain[0][0, :, :CLASSES].max(axis=1).argmax()]
    wanted = [row[4] * SIDE, row[3] * SIDE, row[6] * SIDE, row[5] * SIDE, row[:3].max(), row[:3].argmax()]
    np.testing.assert_allclose(best, wanted, rtol=1e-4)


def test_a_mistake_in_a_plug_ins_graph_keeps_its_engine_from_being_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = head_of_the_page().replace("for i in (1, 0, 3, 2)", "for i in (0, 1, 2, 3)")
    assert wrong != head_of_the_page()
    install(tmp_path, monkeypatch, wrong, "YxRowsHead")
    model = save(yx_rows(), tmp_path / "tiny.onnx")
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    said = ["--labels", tmp_path / "labels.txt", "--name", "mine", "--engines-dir", tmp_path / "e"]
    code, told = run("import", model, *said, "--head", "yx-rows")
    assert (code, "disagrees with the original" in told) == (1, True)
    assert not (tmp_path / "e").exists()


def test_a_head_of_an_installed_plug_in_joins_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, SHORT.format(name="mine"), "head")
    heads = known_heads()
    assert [*heads] == [*(head.name for head in boxed_heads()), "mine"]
    assert choose_head("mine", border(("output0", (1, 7, 64))), heads).name == "mine"


def test_a_plug_in_cannot_take_the_name_of_another_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, SHORT.format(name="yolox"), "head")
    with pytest.raises(ImportInputError, match="the head 'yolox' of my_heads:head has a name that is taken"):
        known_heads()


def test_a_plug_in_that_is_not_there_or_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "import nothing_of_the_kind", "head")
    with pytest.raises(ImportInputError, match=r"the head 'mine' of my_heads:head cannot be loaded: No module"):
        known_heads()
