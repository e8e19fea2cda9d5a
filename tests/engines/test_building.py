"""A build goes the whole way, goes on where it was cut short, and publishes nothing that missed a gate."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from support_building import colour_model, write_material
from vedette_engines.building.build import Builder
from vedette_engines.building.report import Outcome, Report
from vedette_engines.bundle import load_bundle
from vedette_engines.cli import app
from vedette_engines.cli_build import defaults
from vedette_engines.cli_build_request import build_request
from vedette_engines.errors import BuildError, BundleError, EnginesError, ImportInputError
from vedette_engines.manifest import Backend, Precision
from vedette_engines.rollback import roll_back
from vedette_engines.runners.opening import open_engine


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_material(tmp_path)
    return tmp_path


def words(place: Path, **changes: Any) -> dict[str, Any]:
    return {
        **defaults(),
        "source": str(place / "colours.onnx"),
        "name": "colours",
        "labels": place / "colours.names",
        "head": "classifier",
        "activated": False,
        "order": "rgb",
        "scale": "1/255",
        "mean": "0",
        "std": "1",
        "engines_dir": place / "engines",
        "work": place / "work",
    } | changes


def build(place: Path, **changes: Any) -> Report:
    return Builder(build_request(words(place, **changes)), lambda line: None).run()


def whole(place: Path) -> dict[str, Any]:
    return {
        "calibration": [place / "monday"],
        "validation": [place / "tuesday"],
        "truth": place / "tuesday.csv",
        "precision": "fp16,int8",
    }


def outcomes(report: Report) -> dict[str, Outcome]:
    return {stage.name: stage.outcome for stage in report.stages}


def test_a_build_goes_the_whole_way_and_its_bundle_runs(place: Path) -> None:
    report = build(place, **whole(place))
    assert (report.outcome, report.published) == (Outcome.DONE, "colours 1")
    bundle = load_bundle(place / "engines/colours/1")
    kinds = [(file.backend, file.precision) for file in bundle.manifest.files]
    assert kinds == [
        (Backend.ONNXRUNTIME, Precision.FP32),
        (Backend.ONNXRUNTIME, Precision.FP16),
        (Backend.ONNXRUNTIME, Precision.INT8),
        (Backend.TENSORRT, Precision.INT8),
    ]
    with open_engine(bundle) as engine:
        lane = engine.open_lane()
        red = np.zeros((32, 32, 3), np.uint8)
        red[..., 2] = 200
        assert lane.run([red])[0].argmax() == 0
        lane.close()
    inside = json.loads((bundle.path / "report.json").read_text())
    assert inside["outcome"] == "done"
    assert {stage["name"] for stage in inside["stages"]} >= {"export", "engine", "truth", "fp16-against-fp32"}
    written = (bundle.path / "report.md").read_text()
    assert "# Build of colours" in written
    assert "| model.int8.onnx | onnxruntime | int8 |" in written
    assert "| top-1 agreement | 1 | >= 0.99 |" in written
    assert "nobody but the model itself" not in written


def test_a_second_build_with_nothing_changed_does_nothing(place: Path) -> None:
    build(place, **whole(place))
    again = build(place, **whole(place))
    assert (again.outcome, again.published) == (Outcome.REUSED, "colours 1")
    assert set(outcomes(again).values()) == {Outcome.REUSED}
    assert [path.name for path in (place / "engines/colours").iterdir() if path.name[0] != "."] == ["1"]


@pytest.mark.parametrize("change", ["weights", "labels", "footage"])
def test_what_changed_is_built_anew_as_the_next_version(place: Path, change: str) -> None:
    build(place, **whole(place))
    if change == "weights":
        onnx.save(colour_model(gain=50.0), str(place / "colours.onnx"))
    elif change == "labels":
        (place / "colours.names").write_text("crimson\ngreen\nblue\n")
        (place / "tuesday.csv").write_text((place / "tuesday.csv").read_text().replace("red", "crimson"))
    else:
        (place / "monday/11.png").unlink()
    report = build(place, **whole(place))
    assert (report.outcome, report.published) == (Outcome.DONE, "colours 2")
    reused = {name for name, outcome in outcomes(report).items() if outcome is Outcome.REUSED}
    assert ("export" in reused) == (change != "weights")


def test_a_build_that_was_cut_short_goes_on_where_it_stood(place: Path) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line == "fp16:":
            raise KeyboardInterrupt

    builder = Builder(build_request(words(place, **whole(place))), say)
    with pytest.raises(KeyboardInterrupt):
        builder.run()
    assert not (place / "engines").exists()
    assert "interrupted" in json.loads((builder.report_folder / "report.json").read_text())["reasons"][0]
    after = outcomes(build(place, **whole(place)))
    assert [after[name] for name in ("export", "engine", "truth")] == [Outcome.REUSED] * 3
    assert after["fp16"] is Outcome.DONE


@pytest.mark.parametrize(
    ("changes", "stage", "says"),
    [
        ({"gate": ["int8.kl_mean=0"]}, "int8-onnxruntime-against-fp32", "int8.kl_mean wants"),
        ({"order": "bgr"}, "truth", "truth.top1 wants"),
    ],
)
def test_a_missed_gate_publishes_nothing_and_keeps_the_report(
    place: Path, changes: dict[str, Any], stage: str, says: str
) -> None:
    report = build(place, **whole(place), **changes)
    assert report.outcome is Outcome.REFUSED
    assert outcomes(report)[stage] is Outcome.REFUSED
    assert any(says in reason for reason in report.reasons)
    lowered = next((entry for entry in report.stages if entry.name.startswith("int8-") and entry.reasons), None)
    assert lowered is None or any("--auto-exclude" in line for line in lowered.lines)
    assert not (place / "engines").exists()
    kept = (place / "work/reports/colours/report.md").read_text()
    assert "**refused**" in kept
    assert says in kept


def test_a_refusal_is_remembered_and_a_wider_gate_judges_again(place: Path) -> None:
    narrow = {**whole(place), "gate": ["int8.kl_mean=0"]}
    assert build(place, **narrow).outcome is Outcome.REFUSED
    assert build(place, **narrow).outcome is Outcome.REFUSED
    assert build(place, **whole(place)).outcome is Outcome.DONE


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"precision": "fp16"}, "give --validation"),
        ({"precision": "int8", "validation": ["tuesday"]}, "give --calibration"),
        ({"truth": "tuesday.csv"}, "give --validation"),
        ({"precision": "int8", "calibration": ["tuesday"], "validation": ["tuesday"]}, "give another clip"),
        ({"precision": "int4"}, "--precision is 'int4'"),
        ({"profile": ["8:1:32"]}, "--profile is '8:1:32'"),
        ({"workspace": "much", "profile": ["1:8:32"]}, "--workspace is 'much'"),
        ({"gate": ["int8.beauty=1"]}, "int8.beauty"),
        ({"source": ""}, "SOURCE is missing"),
        ({"name": ""}, "--name is missing"),
        ({"source": "nowhere.onnx"}, "nowhere.onnx"),
        ({"frames": ["monday"], "validation": ["tuesday"]}, "--frames"),
        ({"opset": "11"}, "--opset is '11'"),
        ({"name": "../../colours"}, "--name is '../../colours'"),
        ({"version": ".."}, "--version is '..'"),
        ({"head": "classifyer"}, "--head is 'classifyer'"),
    ],
)
def test_a_wrong_request_is_told_in_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], says: str
) -> None:
    monkeypatch.chdir(place)
    paths = {
        name: [Path(item) for item in value]
        for name, value in changes.items()
        if name in {"validation", "calibration", "frames"}
    }
    truth = {"truth": Path(changes["truth"])} if "truth" in changes else {}
    said: list[str] = []
    with pytest.raises(EnginesError, match=says) as caught:
        Builder(build_request(words(place, **(changes | paths | truth))), said.append).run()
    assert "\n" not in str(caught.value)
    assert said == []  # nothing was done for it
    assert not (place / "engines").exists()


def test_labels_of_the_wrong_count_are_told(place: Path) -> None:
    (place / "colours.names").write_text("red\ngreen\n")
    with pytest.raises(ImportInputError, match="2 labels"):
        build(place)


def test_a_version_that_is_another_engine_is_not_overwritten(place: Path) -> None:
    build(place, version="7")
    assert build(place, version="7").outcome is Outcome.REUSED
    onnx.save(colour_model(gain=50.0), str(place / "colours.onnx"))
    with pytest.raises(ImportInputError, match=r"exists already .* and differs"):
        build(place, version="7")


def test_what_was_rolled_back_from_does_not_come_back_by_being_built_again(place: Path) -> None:
    build(place)
    onnx.save(colour_model(gain=50.0), str(place / "colours.onnx"))
    assert build(place).published == "colours 2"
    assert roll_back(place / "engines", "colours") == ("2", "1")
    said: list[str] = []
    report = Builder(build_request(words(place)), said.append).run()
    assert (report.outcome, report.published) == (Outcome.REUSED, "colours 2")
    assert any("was withdrawn" in line for line in said)


def test_a_file_instead_of_the_engines_folder_is_told(place: Path) -> None:
    (place / "engines").write_text("")
    with pytest.raises(EnginesError, match="engines"):
        build(place, version="7")
    with pytest.raises(EnginesError, match="engines"):
        build(place)


def test_without_truth_it_is_said_that_nobody_judged(place: Path) -> None:
    assert any("--truth or --reference" in note for note in build(place).notes)


def test_what_went_wrong_first_is_told_though_the_report_cannot_be_written(place: Path) -> None:
    (place / "report").write_text("")
    (place / "colours.names").write_text("red\ngreen\n")
    with pytest.raises(ImportInputError, match="2 labels"):
        build(place, report=place / "report")


def test_a_full_disk_while_publishing_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vedette_engines.bundle.shutil.copyfileobj", full)
    with pytest.raises(BundleError, match="No space left"):
        build(place)
    monkeypatch.undo()
    assert not (place / "engines/colours/1").exists()
    assert build(place).published == "colours 1"


def test_a_report_that_cannot_be_written_is_told(place: Path) -> None:
    (place / "report").write_text("")
    with pytest.raises(BuildError, match="report"):
        build(place, report=place / "report")


def test_two_builds_at_once_publish_two_versions(place: Path) -> None:
    onnx.save(colour_model(gain=50.0), str(place / "other.onnx"))
    sources = [str(place / "colours.onnx"), str(place / "other.onnx")]
    with ThreadPoolExecutor(2) as pool:
        futures = [
            pool.submit(build, place, source=source, report=place / f"report{number}")
            for number, source in enumerate(sources)
        ]
        published = sorted(future.result(60).published for future in futures)
    assert published == ["colours 1", "colours 2"]
    for version in ("1", "2"):
        load_bundle(place / "engines/colours" / version)


def test_no_publish_stops_before_the_repository(place: Path) -> None:
    report = build(place, publish=False)
    assert (report.outcome, report.published) == (Outcome.DONE, "")
    assert not (place / "engines").exists()


def test_the_optimised_file_is_published_and_says_so(place: Path) -> None:
    build(place, optimise="extended")
    bundle = load_bundle(place / "engines/colours/1")
    assert bundle.manifest.provenance["optimised"] == "extended"


def test_layers_are_compared_on_demand(place: Path) -> None:
    report = build(place, **whole(place), per_layer=True, int8_target="onnxruntime")
    stage = next(stage for stage in report.stages if stage.name == "int8-onnxruntime-layers")
    assert len(stage.figures["tables"][0]["rows"]) >= 3


def test_sensitive_layers_are_left_in_float(place: Path) -> None:
    report = build(place, **whole(place), auto_exclude=True, int8_target="onnxruntime", gate=["int8.kl_mean=1"])
    assert report.outcome is Outcome.DONE
    stage = next(stage for stage in report.stages if stage.name == "int8-onnxruntime")
    assert any("left in float" in line for line in stage.lines)


def test_the_command_line_and_a_recipe_build_the_same_engine(place: Path) -> None:
    recipe = place / "colours.toml"
    recipe.write_text(
        """
        [source]
        model = "colours.onnx"
        [engine]
        name = "colours"
        labels = "colours.names"
        [input]
        order = "rgb"
        scale = "1/255"
        mean = 0
        std = 1
        [output]
        head = "classifier"
        activated = false
        [footage]
        calibration = "monday"
        validation = "tuesday"
        [precision]
        precision = "int8"
        int8_target = "onnxruntime"
        [gates]
        "int8.top1" = 0.9
        """.replace("        ", "")
    )
    folders = ["--engines-dir", str(place / "engines"), "--work", str(place / "work")]
    first = CliRunner().invoke(app, ["build", "--recipe", str(recipe), *folders])
    assert first.exit_code == 0, first.output
    flags = ["--name", "colours", "--labels", str(place / "colours.names"), "--order", "rgb", "--scale", "1/255"]
    flags += ["--mean", "0", "--std", "1", "--head", "classifier", "--logits", "--precision", "int8"]
    flags += ["--calibration", str(place / "monday"), "--validation", str(place / "tuesday"), *folders]
    flags += ["--int8-target", "onnxruntime", "--gate", "int8.top1=0.9"]
    second = CliRunner().invoke(app, ["build", str(place / "colours.onnx"), *flags])
    assert second.exit_code == 0, second.output
    assert "nothing changed: colours 1" in second.output


def test_exit_codes_tell_refused_from_impossible(place: Path) -> None:
    recipe = place / "r.toml"
    recipe.write_text("[engine]\nnam = 'x'\n")
    assert CliRunner().invoke(app, ["build", "--recipe", str(recipe)]).exit_code == 2
    flags = ["--name", "c", "--labels", str(place / "colours.names"), "--head", "classifier", "--logits"]
    flags += ["--order", "bgr", "--scale", "1/255", "--mean", "0", "--std", "1", "--validation", str(place / "tuesday")]
    flags += ["--truth", str(place / "tuesday.csv"), "--work", str(place / "w"), "--engines-dir", str(place / "e")]
    refused = CliRunner().invoke(app, ["build", str(place / "colours.onnx"), *flags])
    assert refused.exit_code == 1
    assert "nothing was published" in refused.output
    assert not (place / "e").exists()


def test_other_options_may_not_stand_beside_a_recipe(place: Path) -> None:
    recipe = place / "r.toml"
    recipe.write_text("[engine]\nname = 'x'\n")
    result = CliRunner().invoke(app, ["build", "--recipe", str(recipe), "--head", "yolox"])
    assert result.exit_code == 2
    assert "--head stands beside --recipe" in result.output


def test_the_workflow_that_is_shipped_calls_options_that_exist() -> None:
    workflow = Path(__file__).parents[2] / "deploy/workflows/build-engine.yaml"
    line = next(line for line in workflow.read_text().splitlines() if "vedette engine build" in line)
    flags = {word[2:].replace("-", "_") for word in line.split() if word.startswith("--")}
    assert flags
    assert flags <= {*defaults(), "recipe"}
