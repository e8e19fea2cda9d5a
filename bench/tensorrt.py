"""Build TensorRT plans in every precision with three profiles: what is taken, how long it takes, how large it is.

`python -m bench tensorrt [NAME...]` builds the engines in the box, one example of each head, and, where they are
there, YOLOX-nano and ResNet-50; with names only those. It needs no GPU with `tensorrt_rtx`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.setting import ASSETS, RESULTS, ROOT, circumstances
from vedette_engines.errors import EnginesError
from vedette_engines.graft.frames import made_samples
from vedette_engines.importing import ImportRequest, make_engine
from vedette_engines.lower.fp16 import to_fp16
from vedette_engines.lower.int8 import to_int8
from vedette_engines.lower.plan import CalibrationPlan
from vedette_engines.plans.building import build_plan
from vedette_engines.plans.environment import find_environment
from vedette_engines.plans.module import find_tensorrt
from vedette_engines.plans.request import PlanRequest, Profile
from vedette_engines.repository import EngineRepository, boxed_root
from vedette_engines.sources.opening import export_source
from vedette_engines.sources.spec import SourceSpec

sys.path.insert(0, str(ROOT / "tests"))
from support_heads import HEAD_EXAMPLES, HEAD_REQUESTS
from support_models import save

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette_engines.manifest import InputSpec

PROFILES = (Profile(1, 1, 1), Profile(1, 8, 8), Profile(1, 16, 32))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Subject:
    """An engine to build plans of: its FP32 file and what frames it takes."""

    content: bytes
    frames: InputSpec


def boxed(name: str) -> Subject:
    bundle = EngineRepository([boxed_root()]).resolve(name)
    return Subject(bundle.path_of(bundle.manifest.files[0]).read_bytes(), bundle.manifest.input)


def head(name: str, folder: Path) -> Subject:
    return imported(save(HEAD_EXAMPLES[name](), folder / f"{name}.onnx"), **HEAD_REQUESTS[name])


def imported(model: Path, **options: Any) -> Subject:
    request = ImportRequest(model=model, name="subject", version="1", root=model.parent, **options)
    made = make_engine(request, lambda _: None)
    return Subject(made.content, made.manifest.input)


def yolox_nano(_: Path) -> Subject:
    labels = (ASSETS / "models" / "coco.names").read_text(encoding="utf-8").split("\n")[:80]
    return imported(ASSETS / "models" / "yolox_nano_416.onnx", labels=tuple(labels))


def resnet50(folder: Path) -> Subject:
    spec = SourceSpec("support_torch_models:resnet50", input_size=(224, 224))
    exported = export_source(spec, folder / "resnet50", lambda _: None)
    labels = tuple(f"class {number}" for number in range(1000))
    return imported(exported.onnx, head="classifier", labels=labels, order="rgb", scale=1 / 255, mean=MEAN, std=STD)


def subjects() -> dict[str, Callable[[Path], Subject]]:
    found: dict[str, Callable[[Path], Subject]] = {
        "person": lambda _: boxed("person"),
        "blobs": lambda _: boxed("blobs"),
    }
    if (ASSETS / "models" / "yolox_nano_416.onnx").exists():
        found["yolox-nano"] = yolox_nano
    found["resnet-50"] = resnet50
    found |= {f"head {name}": partial(head, name) for name in HEAD_EXAMPLES}
    return found


def lowered(subject: Subject, folder: Path) -> dict[str, Callable[[], bytes]]:
    def int8() -> bytes:
        frames = made_samples(subject.frames, 8)
        return to_int8(subject.content, frames, CalibrationPlan(), "tensorrt", folder, lambda _: None).content

    return {"fp32": lambda: subject.content, "fp16": lambda: to_fp16(subject.content, (), lambda _: None), "int8": int8}


def build(content: bytes, folder: Path) -> dict[str, Any]:
    onnx = folder / "subject.onnx"
    onnx.write_bytes(content)
    plan = build_plan(PlanRequest(onnx, PROFILES), find_tensorrt(), lambda _: None)
    return {
        "accepted": True,
        "seconds": plan.seconds,
        "onnx_bytes": len(content),
        "plan_bytes": len(plan.content),
        "notes": list(plan.notes),
    }


def attempt(name: str, precision: str, make: Callable[[], bytes], folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"model": name, "precision": precision}
    began = time.monotonic()
    try:
        row |= build(make(), folder)
        tail = f"{row['seconds']:7.1f} s {row['onnx_bytes']:12,} {row['plan_bytes']:12,}"
    except EnginesError as error:
        row |= {"accepted": False, "seconds": round(time.monotonic() - began, 3), "reason": str(error)}
        tail = f"refused: {error}"
    print(f"  {name:22} {precision:5} {tail}", flush=True)
    return row


def main() -> None:
    known = subjects()
    wanted = sys.argv[1:] or list(known)
    tensorrt, environment = find_tensorrt(), find_environment(modules=False)
    gpu = environment.gpu()
    print(f"{tensorrt}, {gpu.name if gpu else 'no GPU'}, profiles {', '.join(map(str, PROFILES))}")
    print(f"  {'model':22} {'':5} {'build':>9} {'ONNX bytes':>12} {'plan bytes':>12}")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in wanted:
            subject = known[model](folder)
            rows += [attempt(model, precision, make, folder) for precision, make in lowered(subject, folder).items()]
    refused = [row for row in rows if not row["accepted"]]
    print(f"{len(rows) - len(refused)} of {len(rows)} built")
    if not sys.argv[1:]:
        figures = {"tensorrt": str(tensorrt), "gpu": gpu.name if gpu else "none", "rows": rows}
        # Not by `keep`, which prints all figures once more.
        text = json.dumps({"setting": circumstances(), "figures": figures}, indent=2)
        (RESULTS / "tensorrt.json").write_text(text + "\n", encoding="utf-8")
        print("written to bench/results/tensorrt.json")
    if refused:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
