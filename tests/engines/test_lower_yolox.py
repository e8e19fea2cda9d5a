"""YOLOX-nano in eight bits on real clips: calibrated on some, judged on others."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette_engines.compare.agreement import compare_engines
from vedette_engines.compare.running import infer_with_onnxruntime
from vedette_engines.footage.clips import split_clips
from vedette_engines.footage.frames import read_frames
from vedette_engines.importing import ImportRequest, make_engine
from vedette_engines.lower.int8 import to_int8
from vedette_engines.lower.plan import CalibrationPlan

ASSETS = Path(__file__).parents[2].parent / "shared" / "assets"
MODEL = ASSETS / "models" / "yolox_nano_416.onnx"
CALIBRATION = ("intel_one-by-one-person-detection.mp4", "intel_store-aisle-detection_h264_pingpong4.mp4")
VALIDATION = ("intel_classroom_h264_pingpong4.mp4", "intel_worker-zone-detection_h264_pingpong4.mp4")
# The first ones, where 416x416 points have few channels, some of them ten times the others.
COARSE = {
    f"/backbone/backbone/{name}/conv/Conv"
    for name in ("stem/conv", "dark2/dark2.0/dconv", "dark2/dark2.0/pconv", "dark2/dark2.1/conv3")
}

pytestmark = pytest.mark.skipif(not MODEL.exists(), reason="../shared/assets is not there")


def silent(line: str) -> None:
    del line


def test_yolox_nano_sees_in_eight_bits_what_it_saw_before(tmp_path: Path) -> None:
    labels = tuple((ASSETS / "models" / "coco.names").read_text().strip().splitlines())
    made = make_engine(ImportRequest(MODEL, labels, "yolox", "1", tmp_path, head="yolox"), silent)
    split = split_clips(*([ASSETS / "clips" / name for name in names] for names in (CALIBRATION, VALIDATION)))
    spec = made.manifest.input
    frames = read_frames(split.calibration, spec, 8)
    quantised = to_int8(made.content, frames, CalibrationPlan(), "onnxruntime", tmp_path, silent)
    # Nor the nine layers of the answer.
    assert set(quantised.kept_nodes) > COARSE
    assert len(quantised.kept_nodes) <= 17
    agreement = compare_engines(
        made.manifest,
        infer_with_onnxruntime(made.content),
        infer_with_onnxruntime(quantised.content),
        read_frames(split.validation, spec, 10),
        batch=4,
    )
    assert agreement.figures["map50"] >= 0.9
    assert agreement.figures["precision"] >= 0.85
    assert agreement.figures["recall"] >= 0.85
