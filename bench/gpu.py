"""A GPU's executor: backends against the CPU, ceiling, lanes, batches, uploads, cameras; or simulated, without a GPU.

`python -m bench gpu` needs a GPU; `python -m bench gpu --simulated` runs the same executor on a simulated device. What
cannot be run is reported as not run, with the reason. Writes JSON and an HTML page. Exit codes: 0 measured, 1 a backend
disagrees with the CPU, 2 there is no GPU, or the command is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench.gpu_page import page
from bench.setting import RESULTS, circumstances

_NO_GPU = 2


def numbers(text: str) -> list[int]:
    """Read `1,2,4`."""
    found = [int(part) for part in text.split(",")]
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed are whole numbers from 1 up, like 1,2,4")
    return found


def stages(text: str) -> list[float]:
    """Read `4,4,4`: milliseconds of upload, compute and download."""
    found = [float(part) for part in text.split(",")]
    if len(found) != 3 or min(found) < 0 or max(found) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}; wanted are upload, compute and download in ms, like 2,6,1")
    return found


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulated", action="store_true", help="on a simulated device, on a virtual clock")
    parser.add_argument("--lanes", type=numbers, default=[1, 2, 3, 4], metavar="N,...")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where the results go")
    simulated = parser.add_argument_group("simulated")
    simulated.add_argument("--stage-ms", type=stages, metavar="U,C,D", help="upload, compute, download of a batch")
    simulated.add_argument("--jitter", type=float, default=0.3, metavar="0..1", help="with --stage-ms")
    simulated.add_argument("--batches", type=int, default=600)
    real = parser.add_argument_group("with a GPU")
    real.add_argument("--device", type=int, default=0)
    real.add_argument("--engine", default="resnet50", help="resnet50, or the name of a published engine")
    real.add_argument("--engines-dir", type=Path, metavar="DIR")
    real.add_argument("--precision", default="fp16", choices=("fp32", "fp16"), help="of the TensorRT plan")
    real.add_argument("--batch", type=numbers, default=[1, 4, 8, 16, 32], metavar="N,...")
    real.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    real.add_argument("--cameras", type=numbers, default=[8, 16, 32, 50, 64, 96, 128], metavar="N,...")
    real.add_argument("--camera-seconds", type=float, default=30.0)
    real.add_argument("--serve", default="", help="further flags of the server")
    options = parser.parse_args()
    if not 0 <= options.jitter <= 1:
        parser.error(f"--jitter is {options.jitter}; allowed is 0..1")
    if options.batches < 10:
        parser.error(f"--batches is {options.batches}; allowed is 10 and up")
    return options


def write(name: str, title: str, setting: dict[str, Any], figures: dict[str, Any], folder: Path) -> None:
    """Write the figures as JSON and as a page."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"setting": setting, "figures": figures}, indent=2)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    (folder / f"{name}.html").write_text(page(title, setting, figures), encoding="utf-8")
    print(f"written to {name}.json and {name}.html in {folder.name}/")


def simulate(options: argparse.Namespace) -> None:
    from bench.gpu_simulated import cases, measure

    figures = measure(cases(options.stage_ms, options.jitter), options.lanes, options.batches)
    for what, value in figures["goals"].items():
        print(f"  {what}: {value:.4f}")
    chart = {
        "title": "Share of the slowest stage's limit",
        "label": [("case", ""), ("lanes", " lanes")],
        "value": "to_limit",
        "hue": "case",
    }
    setting = {"device": "simulated, on a virtual clock: nothing of this ran on a GPU", **circumstances()}
    sections = {"Executor on the simulated device": {"chart": chart, **figures}}
    write("gpu-simulated", "The executor on a simulated device", setting, sections, options.out)


def main() -> None:
    options = parsed()
    if options.simulated:
        simulate(options)
        return
    from vedette_engines.doctor.check import Request, examine
    from vedette_engines.errors import EnginesError

    try:
        report = examine(Request(options.device), tell=lambda what: print(f"checking {what}", file=sys.stderr))
    except EnginesError as error:
        print(f"bench gpu: {error}", file=sys.stderr)
        raise SystemExit(_NO_GPU) from None
    missing = missing_for(report)
    if missing:
        print(f"bench gpu: {missing}. On a simulated device: python -m bench gpu --simulated", file=sys.stderr)
        raise SystemExit(_NO_GPU)
    from bench.gpu_measured import measure

    setting, figures = measure(report, options)
    write("gpu", f"The executor on {setting['gpu']}", setting | circumstances(), figures, options.out)
    rows = figures["Backends against the CPU"].get("rows", ())
    wrong = [*report.problems, *(f"{row['way']} disagrees with the CPU" for row in rows if not row["agrees"])]
    if wrong:
        print(f"bench gpu: {'; '.join(wrong)}", file=sys.stderr)
        raise SystemExit(1)


def missing_for(report: Any) -> str:
    """Say what the measurements cannot do without; empty: nothing is missing."""
    if all(gpu.index != report.device for gpu in report.gpus):
        return report.driver.reason or "there is no GPU"
    if report.auto["cuda_library"] == "none":
        return "no CUDA library works: pip install 'vedette[gpu]'; `vedette gpu check` says why"
    return ""


if __name__ == "__main__":
    main()
