"""In what two bundles differ, and the commands on a repository."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from support_bundles import toy_bundle, toy_manifest, toy_model
from support_plans import machine
from vedette_engines.bundle import write_bundle
from vedette_engines.cli import app
from vedette_engines.cli_page import listing, page
from vedette_engines.diff import Difference, diff_bundles
from vedette_engines.manifest import Attachment, Backend, Bench, Defaults, EngineFile, PlanInfo, Precision
from vedette_engines.repository import EngineRepository
from vedette_engines.runners.verdicts import Forecaster

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from vedette_engines.bundle import Bundle

PLAN = PlanInfo("tensorrt_rtx", "1.7.1", ("ampere+",), "linux-x86_64", ((1, 8, 32), (1, 1, 1)))


def reported(root: Path, version: str, agreement: float, **changes: object) -> Bundle:
    """Publish the toy with a report, as a build attaches one."""
    report = {
        "stages": [
            {
                "name": "compare",
                "seconds": 12.5 + agreement,
                "figures": {
                    "int8": {"map50": agreement, "seconds": agreement},
                    "tables": [{"title": "gates", "columns": ["gate", "value"], "rows": [["map50", agreement]]}],
                },
            },
            {"name": "read", "figures": {}},
        ]
    }
    manifest = toy_manifest(version=version, attachments=(Attachment("report.json"),), **changes)
    contents: dict[str, Path | bytes] = {file.path: toy_model().SerializeToString() for file in manifest.files}
    return write_bundle(root, manifest, {**contents, "report.json": json.dumps(report).encode()})


def words(one: Bundle, other: Bundle) -> list[str]:
    return [str(difference) for difference in diff_bundles(one, other)]


def run(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--engines-dir", str(root)])


def test_bundles_that_are_the_same_but_for_the_version_differ_in_that_alone(tmp_path: Path) -> None:
    one, other = toy_bundle(tmp_path), toy_bundle(tmp_path, version="2")

    assert diff_bundles(one, one) == []
    assert diff_bundles(one, other) == [Difference("engine", "version", "1", "2")]


def test_each_part_of_the_description_is_told_in_words(tmp_path: Path) -> None:
    files = (EngineFile("model.onnx"), EngineFile("model.int8.onnx", precision=Precision.INT8))
    one = toy_bundle(tmp_path, provenance={"date": "yesterday", "tool": "vedette 1"})
    other = toy_bundle(
        tmp_path,
        version="2",
        files=files,
        defaults=Defaults(0.5, 0.45),
        bench=Bench("onnxruntime:CPUExecutionProvider", 2, 8),
        provenance={"date": "today", "dataset": "street"},
    )

    told = words(one, other)

    assert "defaults min_score: 0.25 -> 0.5" in told
    size = other.manifest.files[1].size_bytes
    assert any(line.startswith("file onnxruntime/int8: added, model.int8.onnx, ") for line in told), (told, size)
    assert "bench best_batch: added, 8" in told
    assert "provenance date: yesterday -> today" in told
    assert "provenance tool: removed, was vedette 1" in told
    assert "provenance dataset: added, street" in told
    assert not any("sha256" in line for line in told)
    assert any("file onnxruntime/int8: removed" in line for line in words(other, one))


def test_labels_are_told_by_name_and_class_number(tmp_path: Path) -> None:
    one = toy_bundle(tmp_path, labels=("person", "car", "dog"))
    other = toy_bundle(tmp_path, version="2", labels=("person", "dog", "bus"))

    told = [line for line in words(one, other) if line.startswith("label")]

    assert told == [
        "label 'car': removed, was class 1",
        "label 'dog': class 2 -> class 1",
        "label 'bus': added, class 2",
    ]


def test_many_labels_are_cut_short(tmp_path: Path) -> None:
    one = toy_bundle(tmp_path, labels=tuple(f"old {number}" for number in range(20)))
    other = toy_bundle(tmp_path, version="2", labels=tuple(f"new {number}" for number in range(20)))

    told = [line for line in words(one, other) if line.startswith("label")]

    assert len(told) == 6
    assert told[-1] == "labels and 35 more: 20 in all -> 20 in all"


def test_plans_are_compared_where_their_use_is_the_same(tmp_path: Path) -> None:
    def planned(engine: str, **changes: object) -> Bundle:
        plan = EngineFile("model.plan", Backend.TENSORRT, plan=replace(PLAN, **changes))  # type: ignore[arg-type]
        return toy_bundle(tmp_path, version=engine, files=(EngineFile("model.onnx"), plan))

    told = words(planned("1"), planned("2", version="1.8.0", profiles=((1, 16, 64),)))

    assert "plan tensorrt/fp32 for ampere+ version: 1.7.1 -> 1.8.0" in told
    assert "plan tensorrt/fp32 for ampere+ profiles: 1:8:32, 1:1:1 -> 1:16:64" in told


def test_figures_of_the_attached_reports_are_compared_and_times_are_not(tmp_path: Path) -> None:
    told = words(reported(tmp_path, "1", 0.97), reported(tmp_path, "2", 0.5))

    figures = [line for line in told if line.startswith("figure")]
    assert figures == [
        "figure compare: int8.map50: 0.97 -> 0.5",
        "figure compare: gates, map50, value: 0.97 -> 0.5",
    ]


@pytest.mark.parametrize("text", ["{", "[]", '{"stages": 4}', '{"stages": [1]}', '{"stages": [{"name": 1}]}'])
def test_a_report_of_another_form_is_passed_over(tmp_path: Path, text: str) -> None:
    manifest = toy_manifest(attachments=(Attachment("report.json"),))
    model = toy_model().SerializeToString()
    one = write_bundle(tmp_path, manifest, {"model.onnx": model, "report.json": text.encode()})

    told = words(toy_bundle(tmp_path, version="2"), one)

    assert [line for line in told if line.startswith(("figure", "attachment"))] == [
        f"attachment report.json: added, {len(text)} B"
    ]


def test_diff_prints_words_or_data(tmp_path: Path) -> None:
    toy_bundle(tmp_path)
    toy_bundle(tmp_path, version="2", defaults=Defaults(0.5, 0.45))

    text = run(tmp_path, "diff", "toy@1", "@2")
    data = run(tmp_path, "diff", "toy@1", "toy", "--json")

    assert text.stdout.splitlines() == [
        "toy 1 -> toy 2",
        "  engine version: 1 -> 2",
        "  defaults min_score: 0.25 -> 0.5",
    ]
    assert json.loads(data.stdout)[1] == {
        "topic": "defaults",
        "what": "min_score",
        "before": "0.25",
        "after": "0.5",
    }
    assert run(tmp_path, "diff", "toy", "toy").stdout.splitlines()[1] == "  no difference"
    missing = run(tmp_path, "diff", "toy", "toy@7")
    assert missing.exit_code == 2
    assert "has no version '7'" in missing.stderr


def test_rollback_restore_and_history_tell_what_they_did(tmp_path: Path) -> None:
    toy_bundle(tmp_path)
    toy_bundle(tmp_path, version="2")

    back = run(tmp_path, "rollback", "toy")
    listed, inspected = run(tmp_path, "list"), run(tmp_path, "inspect", "toy@2")
    history = run(tmp_path, "history", "toy")
    again = run(tmp_path, "rollback", "toy")
    forward = run(tmp_path, "restore", "toy@2")

    assert back.stdout == "toy: rolled back from 2 to 1; `vedette engine restore toy@2` undoes it\n"
    assert [line.split()[-1] for line in listed.stdout.splitlines() if line.startswith("toy")] == ["withdrawn", "ok"]
    assert "withdrawn         rolled back to 1" in inspected.stdout
    assert [line.split()[1:3] for line in history.stdout.splitlines()[:3]] == [
        ["publish", "1"],
        ["publish", "2"],
        ["rollback", "2"],
    ]
    assert history.stdout.splitlines()[3] == "withdrawn now: 2 (rolled back to 1)"
    assert again.exit_code == 2
    assert "nothing to go back to" in again.stderr
    assert forward.stdout == "toy 2: offered\n"
    assert EngineRepository([tmp_path]).resolve("toy").version == "2"
    assert json.loads(run(tmp_path, "history", "toy", "--json").stdout.splitlines()[-1])["action"] == "restore"


def test_commands_on_what_is_not_there_or_in_the_box_say_so(tmp_path: Path) -> None:
    toy_bundle(tmp_path)

    for arguments, reason in {
        ("rollback", "tay"): "no engine is named 'tay' in",
        ("rollback", "../toy"): "no engine is named '../toy'",
        ("history", "person"): "engine 'person' comes in the box",
        ("restore", "toy"): "names no version; allowed is NAME@VERSION",
        ("restore", "toy@7"): "no version '7'",
        ("gc", "--keep", "0"): "--keep is 0",
        ("gc", "--need", "toy"): "allowed is NAME@VERSION",
    }.items():
        result = run(tmp_path, *arguments)
        assert result.exit_code == 2, arguments
        assert result.stderr.count("\n") == 1
        assert reason in result.stderr


def test_gc_tells_what_it_removes(tmp_path: Path) -> None:
    for version in ("1", "2", "3"):
        toy_bundle(tmp_path, version=version)

    dry = run(tmp_path, "gc", "--keep", "1", "--dry-run", "--need", "toy@2")
    wet = run(tmp_path, "gc", "--keep", "1", "--need", "toy@2")

    assert dry.stdout.splitlines()[0] == wet.stdout.splitlines()[0]
    assert wet.stdout.splitlines()[0].startswith(f"{tmp_path / 'toy' / '1'}: older than the newest 1, ")
    assert dry.stdout.splitlines()[-1].endswith("would be given back")
    assert [entry.version for entry in EngineRepository([tmp_path]).list("toy")] == ["3", "2"]


def test_a_page_shows_plans_and_reports(tmp_path: Path) -> None:
    plan = EngineFile("model.plan", Backend.TENSORRT, max_batch=32, plan=PLAN)
    bundle = reported(tmp_path, "1", 0.9, files=(EngineFile("model.onnx"), plan))

    text = page(bundle, Forecaster(lambda modules=True: machine()))

    assert (
        "plan              tensorrt_rtx 1.7.1, for ampere+ on linux-x86_64, batches 1:8:32, 1:1:1, built without a GPU"
        in text
    )
    assert f"report            {bundle.path / 'report.json'}, " in text
    assert "withdrawn" not in text
    assert "tensorrt/fp32" in listing(EngineRepository([tmp_path]).list(), Forecaster(lambda modules=True: machine()))
