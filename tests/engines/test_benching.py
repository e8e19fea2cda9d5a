"""The bench as a whole, on engines so small that it takes tenths of a second; no figure of time is judged."""

from __future__ import annotations

import io
import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnxruntime as ort
import pytest
from rich.console import Console
from typer.testing import CliRunner

from support_bundles import HEIGHT, WIDTH, toy_bundle, toy_manifest, toy_model
from vedette_engines.benching.bench import BenchRequest, bench_ways, run_bench
from vedette_engines.benching.charts import Bar, bar_chart, nice_ticks
from vedette_engines.benching.memory import measure_memory
from vedette_engines.benching.page import page
from vedette_engines.benching.race import Ratio
from vedette_engines.benching.report import Accuracy, BenchReport, Row, WayFacts
from vedette_engines.benching.table import ways_table
from vedette_engines.benching.way import Runtime, Way
from vedette_engines.benching.ways import BASELINE, RUNNERS, find_ways, preprocessing_of
from vedette_engines.bundle import write_bundle
from vedette_engines.cli import app
from vedette_engines.errors import ImportInputError, MissingRuntimeError
from vedette_engines.graft.frames import Sample
from vedette_engines.graft.preprocess import Preprocessing
from vedette_engines.manifest import Attachment, Backend, EngineFile, Precision

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_engines.bundle import Bundle

HERE = ("ONNX Runtime CPU", "ONNX Runtime CPU, optimised", "OpenVINO CPU")
BUILD_REPORT = {
    "stages": [
        {"name": "fp32", "figures": {}},
        {
            "name": "int8-tensorrt-against-fp32",
            "figures": {"agreement": {"frames": 90, "figures": {"map50": 0.5}, "inconclusive": ""}},
        },
        {
            "name": "int8-against-fp32",
            "figures": {
                "agreement": {"frames": 90, "figures": {"recall": 0.9, "map50": 0.97, "iou": None}, "inconclusive": ""}
            },
        },
    ]
}


def two_files(root: Path, **changes: object) -> Bundle:
    """Publish the toy with a second file that calls itself INT8, and what a build wrote of it."""
    content = toy_model().SerializeToString()
    manifest = toy_manifest(
        files=(
            EngineFile("fp32.onnx"),
            EngineFile("int8.onnx", precision=Precision.INT8, max_batch=2),
        ),
        attachments=(Attachment("report.json"),),
        **changes,
    )
    report = json.dumps(BUILD_REPORT).encode()
    return write_bundle(root, manifest, {"fp32.onnx": content, "int8.onnx": content, "report.json": report})


def quick(bundle: Bundle, **changes: object) -> BenchRequest:
    request = BenchRequest(bundle, batches=(1, 3), seconds=0.1, memory=False, command="vedette engine bench toy")
    return replace(request, **changes)  # type: ignore[arg-type]


def test_every_runner_that_is_here_runs_every_file_at_every_batch(tmp_path: Path) -> None:
    report = run_bench(quick(two_files(tmp_path)))

    assert report.engine == "toy 1"
    assert report.baseline == BASELINE
    assert {way.runner for way in report.ways} == set(HERE)
    assert {(row.runner, row.precision, row.batch) for row in report.rows} == {
        (runner, precision, batch) for runner in HERE for precision in ("fp32", "int8") for batch in (1, 3)
    }
    for row in report.rows:
        if (row.precision, row.batch) == ("int8", 3):
            assert row.failed == "the file takes batches up to 2 only"
            continue
        assert row.failed == ""
        assert row.rounds >= 1
        assert row.runs >= row.rounds
        assert 0 < row.p50_ms <= row.p99_ms
        assert row.frames_per_s > 0
        if row.precision == "fp32":
            assert row.speedup is not None
            assert row.speedup.low <= row.speedup.median <= row.speedup.high
    base = report.row(BASELINE, 1)
    assert base is not None
    assert base.speedup == Ratio(1.0, 1.0, 1.0)


def test_accuracy_is_what_the_build_wrote_down_for_the_file_that_runs_here(tmp_path: Path) -> None:
    report = run_bench(quick(two_files(tmp_path), runners=("onnxruntime",)))

    by_precision = {way.precision: way.accuracy for way in report.ways}
    assert by_precision["fp32"] is None
    assert by_precision["int8"] == Accuracy(
        {"map50": 0.97, "recall": 0.9}, "90 validation frames, with ONNX Runtime, when it was built"
    )


def test_accuracy_is_measured_where_frames_are_given(tmp_path: Path) -> None:
    manifest = toy_manifest()
    random = np.random.default_rng(0)
    samples = tuple(
        Sample(f"frame {index}", random.integers(0, 150, manifest.slot_shape, np.uint8), real=True)
        for index in range(3)
    )
    said: list[str] = []

    report = run_bench(quick(two_files(tmp_path), samples=samples), said.append)

    # The toy's boxes are no boxes: nothing can follow from them, and it says so instead of claiming agreement.
    assert all(way.accuracy is None for way in report.ways)
    assert any("accuracy" in line for line in said)
    assert any("the given footage" in note for note in report.notes)


def test_a_candidate_that_cannot_run_is_kept_with_its_reason_and_the_others_run(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path)
    good = Way("good", Runtime.ONNXRUNTIME, Precision.FP32, bundle.path_of(bundle.manifest.files[0]))
    bad = replace(good, runner="bad", providers=("NoSuchExecutionProvider",))

    report = bench_ways(quick(bundle), [bad, good])

    assert report.baseline == ("good", "fp32")
    assert {row.runner: bool(row.failed) for row in report.rows} == {"bad": True, "good": False}
    assert "NoSuchExecutionProvider" in next(row.failed for row in report.rows if row.runner == "bad")


def test_where_nothing_can_be_measured_the_reasons_are_told(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path)
    bad = Way("bad", Runtime.ONNXRUNTIME, Precision.FP32, bundle.path / "model.onnx", providers=("NoSuch",))

    with pytest.raises(ImportInputError, match=r"engine toy: nothing can be measured: .*NoSuch"):
        bench_ways(quick(bundle), [bad])
    with pytest.raises(ImportInputError, match="nothing here can run its files"):
        bench_ways(quick(bundle), [])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batches": ()}, r"--batch is \[\]; allowed are whole numbers from 1"),
        ({"batches": (0,)}, r"--batch is \[0\]"),
        ({"seconds": 0.0}, "--seconds is 0; allowed is above 0"),
        ({"runners": ("cudnn",)}, f"--runner is 'cudnn'; allowed is {', '.join(RUNNERS)}"),
        ({"runners": ("torch",)}, "--runner torch runs the model's source; give --source"),
    ],
)
def test_a_value_out_of_bounds_is_refused(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(ImportInputError, match=says):
        run_bench(quick(toy_bundle(tmp_path), **changes))


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="this build has CUDA")
def test_a_runner_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path)
    said: list[str] = []

    with pytest.raises(MissingRuntimeError, match="no CUDA"):
        find_ways(bundle, tmp_path, runners=("cuda",))
    find_ways(bundle, tmp_path, say=said.append)
    assert any("left out" in line and "CUDA" in line for line in said)


def test_plans_are_left_to_their_own_runtime(tmp_path: Path) -> None:
    bundle = two_files(tmp_path)
    manifest = replace(
        bundle.manifest, files=(bundle.manifest.files[0], EngineFile("x.plan", backend=Backend.TENSORRT))
    )

    ways = find_ways(replace(bundle, manifest=manifest), tmp_path)

    assert {way.precision for way in ways} == {Precision.FP32}


def test_memory_is_measured_in_a_process_of_its_own_and_grows_with_the_batch(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path)
    way = Way("way", Runtime.ONNXRUNTIME, Precision.FP32, bundle.path_of(bundle.manifest.files[0]))

    grown = measure_memory(way, bundle.manifest, 1, (4, 1))

    assert list(grown) == [1, 4]
    assert 0 < grown[1] <= grown[4]
    assert measure_memory(replace(way, providers=("NoSuch",)), bundle.manifest, 1, (1,)) == {}


@pytest.mark.parametrize(
    "preprocessing",
    [Preprocessing(), Preprocessing("rgb", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))],
)
def test_the_preprocessing_is_read_back_from_the_provenance(preprocessing: Preprocessing) -> None:
    manifest = toy_manifest(provenance={"preprocessing": str(preprocessing)})

    found = preprocessing_of(manifest)

    assert found is not None
    assert found.order == preprocessing.order
    assert found.scale == pytest.approx(preprocessing.scale, rel=1e-5)
    assert (found.mean, found.std) == (preprocessing.mean, preprocessing.std)
    assert preprocessing_of(toy_manifest()) is None


def made_report() -> BenchReport:
    """Make up a report with all that a page shows."""
    accuracy = Accuracy({"map50": 0.98, "recall": 0.9}, "90 frames")
    return BenchReport(
        engine="cars & <vans> 2",
        task="detector",
        input="640x384",
        when="2026-01-01T00:00:00+00:00",
        command="vedette engine bench 'cars & <vans>'",
        threads=2,
        seconds=60,
        baseline=("ONNX Runtime CPU", "fp32"),
        machine={"processor": "A CPU", "cores": "2"},
        versions={"onnxruntime": "1.31.1"},
        ways=(
            WayFacts("ONNX Runtime CPU", "fp32", 100_000_000, "onnxruntime:CPU", 0.5),
            WayFacts("ONNX Runtime CPU", "int8", 26_000_000, "onnxruntime:CPU", 0.2, accuracy),
            WayFacts("PyTorch eager", "fp32", 0, note="without the head"),
        ),
        rows=(
            Row("ONNX Runtime CPU", "fp32", 1, 20.0, 31.0, 50.0, Ratio(1.0, 1.0, 1.0), 90, 9, 200_000_000),
            Row("ONNX Runtime CPU", "fp32", 8, 1600.0, 2400.0, 5.0, Ratio(1.0, 1.0, 1.0), 30, 9, 300_000_000),
            Row("ONNX Runtime CPU", "int8", 1, 10.0, 15.0, 100.0, Ratio(2.0, 1.8, 2.1), 180, 9, 90_000_000),
            Row("ONNX Runtime CPU", "int8", 8, failed="no <room>"),
            Row("PyTorch eager", "fp32", 1, 25.0, 35.0, 40.0, Ratio(0.8, 0.7, 0.9), 80, 9),
            Row("PyTorch eager", "fp32", 8, float("nan"), 1.0, 2.0, None, 1, 1),
        ),
        notes=("one", "two"),
    )


def test_the_page_holds_every_figure_and_nothing_from_outside() -> None:
    text = page(made_report())

    assert text.startswith("<!doctype html>")
    assert "cars &amp; &lt;vans&gt; 2" in text
    assert "<vans>" not in text
    for part in (
        "2.00 [1.80..2.10]",
        "no &lt;room&gt;",
        "A CPU",
        "1.31.1",
        "mAP50 0.98",
        "vedette engine bench",
        "one",
    ):
        assert part in text
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"<(script|link|img|iframe)|src=|href=|url\(|@import", text)
    assert set(re.findall(r"https?://[^\"' <]+", text)) == {"http://www.w3.org/2000/svg"}


def test_the_charts_are_well_formed_and_have_a_bar_for_each_row_that_ran() -> None:
    charts = re.findall(r"<svg.*?</svg>", page(made_report()), re.DOTALL)

    drawn: dict[str, list[int]] = {}
    for chart in charts:
        root = ET.fromstring(chart)
        title = root.attrib["aria-label"]
        drawn.setdefault(title, []).append(len([path for path in root.iter() if "hue" in path.get("class", "")]))
    assert drawn == {
        "Batch 1": [3, 3],
        "Batch 8": [2, 1],  # one does not run, and a time that is no number has no bar
        "File size": [2],
        "Memory": [1],
        "Agreement with the FP32 engine": [1],
    }


def test_json_says_null_where_a_figure_is_no_number() -> None:
    document = json.loads(made_report().to_json())

    assert document["format"] == 1
    assert document["rows"][5]["p50_ms"] is None
    assert document["rows"][2]["speedup"] == {"median": 2.0, "low": 1.8, "high": 2.1}
    assert document["ways"][1]["accuracy"]["figures"]["map50"] == 0.98


@pytest.mark.parametrize("top", [0.0, 0.03, 1.0, 7.3, 99.0, 100.0, 12345.0, math.nan, math.inf])
def test_ticks_are_few_round_and_reach_the_top(top: float) -> None:
    ticks = nice_ticks(top)

    assert ticks[0] == 0.0
    assert 2 <= len(ticks) <= 6
    if math.isfinite(top):
        assert ticks[-1] >= top * (1 - 1e-9)


def test_a_bar_is_as_long_as_its_value() -> None:
    root = ET.fromstring(bar_chart("t", [Bar("a", 10.0, "10"), Bar("b", 5.0, "5"), Bar("c", None, "not")]))

    paths = [path.attrib["d"] for path in root.iter() if "hue" in path.get("class", "")]
    lengths = [float(re.search(r"h([\d.]+)a", path)[1]) + 3.0 for path in paths]  # type: ignore[index]
    assert lengths[0] == pytest.approx(2 * lengths[1], abs=0.2)
    assert len(lengths) == 2


def invoke(tmp_path: Path, *words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*map(str, words), "--engines-dir", str(tmp_path)])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_prints_the_table_and_writes_json_and_page(tmp_path: Path) -> None:
    two_files(tmp_path)
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "one.png"), np.full((HEIGHT * 2, WIDTH * 2, 3), 90, np.uint8))

    code, out, err = invoke(
        tmp_path, "bench", "toy@1", "--seconds", "0.1", "--batch", "1, 2", "--no-memory", "--threads", 1,
        "--frames", folder, "--json", tmp_path / "b.json", "--html", tmp_path / "b.html",
    )  # fmt: skip

    assert code == 0, err
    for runner in HERE:
        assert runner in out
    assert {row["batch"] for row in json.loads((tmp_path / "b.json").read_text())["rows"]} == {1, 2}
    assert (tmp_path / "b.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("toy", "--batch", "one"), 2, "--batch is 'one'; allowed is a whole number from 1 to 1024"),
        (("toy", "--threads", "0"), 2, "--threads is '0'"),
        (("toy", "--seconds", "long"), 2, "--seconds is 'long'"),
        (("toy", "--weights", "w.pt"), 2, "--weights is w.pt, but there is no --source"),
        (("nobody",), 2, "no engine is named 'nobody'"),
        (
            ("toy", "--seconds", "0.01", "--batch", "1", "--no-memory", "--json", "/no/such/b.json"),
            1,
            "cannot be written",
        ),
    ],
)
def test_a_wrong_option_gets_one_line(tmp_path: Path, words: tuple[str, ...], code: int, says: str) -> None:
    toy_bundle(tmp_path)

    got, _, err = invoke(tmp_path, "bench", *words)

    assert got == code
    assert says in err.splitlines()[-1]


def test_the_table_has_one_figure_for_a_file_and_tells_once_where_it_was_measured() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(ways_table(made_report()))
    text = console.export_text()

    assert "mAP50 0.98" in text
    assert "recall" not in text
    assert text.count("90 frames") == 1
