"""`python -m bench gpu`: the simulated figures keep their goals, and the parts for a GPU work on a simulated one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

ROOT = Path(__file__).resolve().parent.parent
PATHS = os.pathsep.join(str(ROOT / folder) for folder in ("proto", "server", "engines", "client"))
_FED = """
import json
import numpy as np
from bench.gpu_fed import FEEDS, Setup, ceiling, fed
from vedette_engines.cuda.letterbox_twin import simulated_letterbox
from vedette_engines.cuda.simulated import SimulatedDevice
from vedette_engines.cuda.simulated_clock import WallClock
from vedette_engines.gpu.simulated_engine import SimulatedEngine

device = SimulatedDevice(WallClock(), copy_bytes_per_s=5e9, kernels={"letterbox": simulated_letterbox()})
engine = SimulatedEngine(device, (48, 64, 3), (3,), lambda f: f.reshape(len(f), -1)[:, :3].astype(np.float32),
                         lambda size: 10e-3 * size, max_batch=2)
alone = [ceiling(engine, 2, 2, 0.3, graphs=graphs) for graphs in (True, False)]
rows = [fed(engine, Setup(2, 2, feed=feed, seconds=0.3)) for feed in FEEDS]
engine.close()
device.close()  # it tells of races and of what was left open
print(json.dumps([alone, rows]))
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": PATHS}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_simulated_executor_keeps_its_goals_and_the_page_stands_alone(tmp_path: Path) -> None:
    done = python("-m", "bench", "gpu", "--simulated", "--batches", "200", "--lanes", "1,3", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "gpu-simulated.json").read_text())
    figures = report["figures"]["Executor on the simulated device"]
    rows = {(row["case"], row["lanes"]): row for row in figures["rows"]}
    assert rows["equal stages", 3]["to_limit"] >= 0.95
    assert rows["equal stages", 1]["to_limit"] == pytest.approx(1 / 3, abs=0.01)
    assert rows["equal stages", 1]["overlap"] == 0
    assert all(row["to_best"] >= 0.97 for row in rows.values()), rows
    assert all(row["best_s"] >= row["limit_s"] for row in rows.values())
    assert "nothing of this ran on a GPU" in report["setting"]["device"]
    page = (tmp_path / "gpu-simulated.html").read_text()
    assert "<svg" in page
    assert not re.search(r"<script|<link|src=|@import|url\(", page)


def test_the_figures_that_are_kept_are_those_of_the_command() -> None:
    kept = json.loads((ROOT / "bench/results/gpu-simulated.json").read_text())
    assert kept["setting"]["command"].endswith("bench gpu --simulated")
    figures = kept["figures"]["Executor on the simulated device"]
    assert {row["lanes"] for row in figures["rows"]} == {1, 2, 3, 4}
    assert {row["case"] for row in figures["rows"]} == {case["name"] for case in figures["cases"]}


def test_durations_can_be_given(tmp_path: Path) -> None:
    options = ("--stage-ms", "1,4,1", "--jitter", "0", "--batches", "50", "--lanes", "2", "--out", str(tmp_path))
    done = python("-m", "bench", "gpu", "--simulated", *options)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "gpu-simulated.json").read_text())["figures"]["Executor on the simulated device"][
        "rows"
    ]
    assert row["limit_s"] == pytest.approx(0.2)
    assert row["to_limit"] > 0.95


@pytest.mark.parametrize(
    "arguments",
    [("--stage-ms", "1,2"), ("--lanes", "0"), ("--jitter", "2"), ("--batches", "1"), ("--engine",), ("--tpu",)],
)
def test_a_wrong_command_ends_with_2(arguments: tuple[str, ...]) -> None:
    done = python("-m", "bench", "gpu", "--simulated", *arguments)
    assert done.returncode == 2
    assert "usage: bench gpu" in done.stderr


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU here")
def test_without_a_gpu_it_says_what_is_missing_and_measures_nothing(tmp_path: Path) -> None:
    done = python("-m", "bench", "gpu", "--out", str(tmp_path))
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("bench gpu: ")
    assert "--simulated" in last
    assert list(tmp_path.iterdir()) == []


def test_ceiling_and_executor_are_measured_alike_on_a_device_in_real_time() -> None:
    done = python("-c", _FED)
    assert done.returncode == 0, done.stderr
    alone, rows = json.loads(done.stdout)
    # The engine takes 10 ms a frame, whoever else is on this machine.
    assert all(0 < rate <= 101 for rate in alone)
    assert [row["feed"] for row in rows] == ["letterboxed, uploaded", "1080p, uploaded", "1080p, on the device"]
    assert all(0 < row["frames_per_s"] <= 115 for row in rows)
    assert rows[0]["computing"] > 0


def test_its_parts_are_not_listed_as_benchmarks() -> None:
    done = python("-m", "bench")
    assert re.search(r"^  gpu ", done.stdout, re.MULTILINE)
    assert "gpu_" not in done.stdout
