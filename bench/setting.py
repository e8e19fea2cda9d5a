"""What the benchmarks run on: real clips and a real model where they are, and who measured."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from vedette_engines.importing import ImportRequest, import_model

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT.parent / "shared" / "assets"
ENGINES = ROOT / "out" / "bench-engines"
RESULTS = ROOT / "bench" / "results"


def clip(name: str) -> Path:
    """Return a real clip's path, or end with the reason."""
    path = ASSETS / "clips" / name
    if not path.exists():
        raise SystemExit(f"{path.name} is not here; this benchmark needs the real clips beside the project")
    return path


def yolox() -> Path:
    """Import YOLOX-nano once, and return the folder of engines that holds it."""
    model = ASSETS / "models" / "yolox_nano_416.onnx"
    if not model.exists():
        raise SystemExit(f"{model.name} is not here; this benchmark needs the real model beside the project")
    labels = tuple((ASSETS / "models" / "coco.names").read_text(encoding="utf-8").split("\n")[:80])
    if not (ENGINES / "yolox-nano" / "1").exists():
        import_model(ImportRequest(model, labels, "yolox-nano", "1", ENGINES), say=lambda _: None)
    return ENGINES


def circumstances() -> dict[str, Any]:
    """Say on what, and with what, was measured."""
    packages = ("grpcio", "protobuf", "av", "numpy", "onnxruntime", "opencv-python-headless", "simplejpeg")
    return {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m", *sys.argv]),
        "python": platform.python_version(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "packages": {name: importlib.metadata.version(name) for name in packages},
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def keep(name: str, figures: dict[str, Any]) -> None:
    """Write figures and circumstances to the results' folder, and print them."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"setting": circumstances(), "figures": figures}, indent=2) + "\n", encoding="utf-8")
    for key, value in figures.items():
        shown = f"{value:.4g}" if isinstance(value, float) else value
        print(f"  {key:44} {shown}")
    print(f"written to {path.relative_to(ROOT)}")
