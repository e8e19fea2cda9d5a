"""List the benchmarks, or run one: `python -m bench NAME [OPTIONS]`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent
PARTS = {
    "__init__",
    "__main__",
    "setting",
    "stages",
    "cameras",
    "serving",
    "echo_server",
    "timeline",
    "path_server",
    "stopwatch",
    "monitor_blobs",
    "kills_store",
    "kills_site",
    "clips_scenes",
    "clips_told",
}
PARTS |= {"gpu_simulated", "gpu_measured", "gpu_fed", "gpu_cameras", "gpu_page"}


def describe(path: Path) -> str:
    """Return the first line of a benchmark's docstring."""
    return path.read_text(encoding="utf-8").split('"""', 2)[1].strip().split("\n")[0]


def main() -> int:
    names = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in PARTS)
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        print("usage: python -m bench NAME [OPTIONS]\n")
        for name in names:
            print(f"  {name:12} {describe(HERE / f'{name}.py')}")
        return 0 if len(sys.argv) < 2 else 2
    name = sys.argv[1]
    sys.argv = [f"bench {name}", *sys.argv[2:]]
    importlib.import_module(f"bench.{name}").main()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
