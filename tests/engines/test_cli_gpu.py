"""`vedette gpu check` as people and scripts call it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support_cli import vedette
from support_doctor import installed
from vedette_engines.cuda import kernels
from vedette_engines.doctor.abilities import REQUIRABLE

pytest.importorskip("onnxruntime")
HOST = Path(__file__).with_name("host_libcuda.cpp")


def test_on_this_machine_all_that_is_found_works() -> None:
    said = vedette("gpu", "check", COLUMNS="80")
    assert said.code == 0, said.out + said.err
    assert "All that was found works" in said.out
    assert "onnxruntime:CPUExecutionProvider" in "".join(said.out.split())
    assert max(map(len, said.out.splitlines())) <= 80


def test_json_is_all_that_is_printed() -> None:
    said = vedette("gpu", "check", "--json", "--no-try")
    assert said.code == 0, said.err
    report = json.loads(said.out)
    assert report["exit_code"] == 0
    assert report["trials"] == []
    assert {library["name"] for library in report["libraries"]} >= {"onnxruntime", "cuda-bindings", "tensorrt"}


def test_what_is_required_and_not_there_ends_with_1(tmp_path: Path) -> None:
    # A module of that name that is none: this holds on a machine with TensorRT, too.
    path = installed(tmp_path, "tensorrt", "11.4.0", "raise ImportError('libnvinfer.so.11 is missing')")
    paths = os.pathsep.join([str(path), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
    roots = [str(Path(kernels.__file__).parents[3] / folder) for folder in ("proto", "server", "engines", "client")]
    said = vedette("gpu", "check", "--no-try", "--require", "tensorrt", PYTHONPATH=os.pathsep.join([paths, *roots]))
    assert said.code == 1
    assert "tensorrt is required" in said.out
    assert "libnvinfer.so.11 is missing" in " ".join(said.out.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--require", "coffee"), "--require is 'coffee'; allowed are gpu, cuda"),
        (("--device", "63"), "--device is 63; CUDA sees"),
        (("--device", "-1"), "'--device'"),
        (("--no-such-flag",), "--no-such-flag"),
        (("--timeout-s", "0"), "'--timeout-s'"),
    ],
)
def test_a_wrong_command_ends_with_2_and_one_line(arguments: tuple[str, ...], says: str) -> None:
    said = vedette("gpu", "check", "--no-try", *arguments)
    assert said.code == 2, said.out
    assert says in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_the_help_names_all_that_can_be_required() -> None:
    said = vedette("gpu", "check", "--help", COLUMNS="200")
    assert said.code == 0
    flat = " ".join(said.out.replace("│", " ").split())
    assert ", ".join(REQUIRABLE) in flat


def test_the_command_is_in_the_list_of_commands() -> None:
    assert "gpu" in vedette("--help").out


@pytest.fixture(scope="module")
def libcuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C++ compiler, or no Linux")
    target = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    flags = [
        "-std=c++17",
        "-O2",
        "-shared",
        "-fPIC",
        "-Wl,-soname,libcuda.so.1",
        "-I",
        str(Path(kernels.__file__).parent),
    ]
    subprocess.run([compiler, *flags, str(HOST), "-o", str(target), "-ldl"], check=True)
    return target


def test_with_a_driver_that_works_on_the_hosts_memory_copies_and_letterbox_are_tried(libcuda: Path) -> None:
    """The doctor's own calls of the driver and of cuda-bindings are right ones; nothing ran on a GPU."""
    pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")
    said = vedette("gpu", "check", "--json", "--require", "cuda-bindings,graphs,preprocess", LD_PRELOAD=str(libcuda))
    report = json.loads(said.out)
    assert report["driver"]["state"] == "works"
    assert report["driver"]["cuda"] == "13.0"
    assert [(gpu["index"], gpu["name"], gpu["memory_bytes"]) for gpu in report["gpus"]] == [(0, "Host", 1 << 30)]
    trials = {trial["name"]: trial for trial in report["trials"]}
    assert trials["cuda-bindings"]["state"] == "works", trials["cuda-bindings"]
    assert trials["cuda-bindings"]["worst"] == {"bytes": 0.0}
    assert all(one["met"] for one in report["requirements"]), report["requirements"]
    assert report["auto"]["cuda_library"] == "cuda-bindings"
