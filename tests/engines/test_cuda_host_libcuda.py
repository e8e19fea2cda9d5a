"""cuda-bindings itself, on a driver library that works on the host's memory: its calls are made as it wants them.

The GPU's own tests run, in a process of their own, with that library in place of NVIDIA's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vedette_engines.cuda import kernels

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def libcuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C++ compiler, or no Linux")
    target = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    source = Path(__file__).with_name("host_libcuda.cpp")
    includes = ["-I", str(Path(kernels.__file__).parent)]
    flags = ["-std=c++17", "-O2", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", *includes]
    subprocess.run([compiler, *flags, str(source), "-o", str(target), "-ldl"], check=True)
    return target


def test_the_gpu_tests_pass_on_the_hosts_memory(libcuda: Path) -> None:
    pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")
    chosen = "cuda-bindings and (TestSeamOnGpu or cpu_paths or letterboxes_again)"
    command = [sys.executable, "-m", "pytest", "tests/gpu/test_cuda_gpu.py", "-q", "-m", "gpu", "-k", chosen]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(libcuda)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    counts = re.search(r"(\d+) passed", done.stdout)
    assert counts is not None
    assert int(counts[1]) >= 15
    assert "skipped" not in done.stdout
