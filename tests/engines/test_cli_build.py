"""How `vedette engine build` ends when it does not end well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from support_building import write_material
from vedette_engines.cli import app

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_material(tmp_path)
    return tmp_path


def build(place: Path) -> Result:
    flags = ["--name", "c", "--labels", str(place / "colours.names"), "--head", "classifier", "--logits"]
    flags += ["--work", str(place / "w"), "--engines-dir", str(place / "e")]
    return CliRunner().invoke(app, ["build", str(place / "colours.onnx"), *flags])


@pytest.mark.parametrize("step", ["sources.onnx_file.shutil.copyfile", "bundle.shutil.copyfileobj"])
def test_a_full_disk_is_no_missed_gate(place: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"vedette_engines.{step}", full)
    result = build(place)
    assert result.exit_code == 3, result.output
    assert "No space left on device" in result.output
    assert "**failed**" in (place / "w/reports/c/report.md").read_text()
    monkeypatch.undo()
    assert build(place).exit_code == 0


def test_an_interrupted_build_says_that_it_can_go_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vedette_engines.building.publishing.write_bundle", interrupt)
    result = build(place)
    assert result.exit_code == 130
    assert "interrupted; the same command goes on from here" in result.output
    assert not (place / "e/c/1").exists()


def test_no_option_explains_itself_in_what_the_terminal_takes_for_markup() -> None:
    result = CliRunner().invoke(app, ["build", "--help"], env={"COLUMNS": "200"})
    assert "measures its offsets from, four numbers each" in result.output
