"""What the distribution asks for, and what is in its wheel."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
THE_ONE_OPENCV = "opencv-python-headless"


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def direct(extras: set[str]) -> list[Requirement]:
    """What the base install and these extras ask for, extras of our own opened up."""
    texts = list(PROJECT["project"]["dependencies"])
    for extra in extras:
        texts += EXTRAS[extra]
    found = [Requirement(text) for text in texts]
    ours = [one for one in found if canonical(one.name) == "vedette"]
    rest = [one for one in found if canonical(one.name) != "vedette"]
    for one in ours:
        rest += direct(set(one.extras))
    return rest


def reached(requirements: list[Requirement]) -> dict[str, set[str]]:
    """Follow installed distributions: each that is asked for, directly or not, and by whom."""
    askers: dict[str, set[str]] = {}
    done: set[tuple[str, frozenset[str]]] = set()
    todo = [(one, "vedette") for one in requirements]
    while todo:
        requirement, asker = todo.pop()
        name, extras = canonical(requirement.name), frozenset(requirement.extras)
        askers.setdefault(name, set()).add(asker)
        if (name, extras) in done:
            continue
        done.add((name, extras))
        try:
            texts = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for further in map(Requirement, texts):
            marker = further.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                todo.append((further, name))
    return askers


def test_the_base_install_asks_for_no_server_library() -> None:
    names = {canonical(one.name) for one in direct(set())}
    assert not names & {"onnxruntime", "onnxruntime-gpu", "onnx", "structlog", "psutil", "simplejpeg", THE_ONE_OPENCV}


@pytest.mark.parametrize(("extra", "wanted", "other"), [("cpu", "", "-gpu"), ("gpu", "-gpu", "")])
def test_an_extra_brings_one_onnx_runtime_and_not_the_other(extra: str, wanted: str, other: str) -> None:
    names = {canonical(one.name) for one in direct({extra})}
    assert f"onnxruntime{wanted}" in names
    assert f"onnxruntime{other}" not in names


def test_the_two_runtimes_are_declared_to_exclude_each_other() -> None:
    assert [{"extra": "cpu"}, {"extra": "gpu"}] in PROJECT["tool"]["uv"]["conflicts"]


def test_only_one_opencv_is_asked_for_by_whatever_the_extras_bring() -> None:
    askers = reached(direct({"cpu", "test"}))
    opencv = {name: sorted(by) for name, by in askers.items() if name.startswith("opencv")}
    assert opencv.keys() == {THE_ONE_OPENCV}, opencv
    assert len(askers) > 40, "the walk did not follow the installed distributions"


def test_only_one_opencv_is_installed() -> None:
    names = {canonical(found.metadata["Name"]) for found in metadata.distributions() if found.metadata["Name"]}
    assert {name for name in names if name.startswith("opencv")} == {THE_ONE_OPENCV}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_committed_file_of_the_four_packages(wheel: set[str]) -> None:
    folders = ("proto/vedette", "server/vedette_server", "client/vedette_client", "engines/vedette_engines")
    try:
        listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    files = [line for line in listed.stdout.splitlines() if (ROOT / line).exists()]
    missing = {line.partition("/")[2] for line in files} - wheel
    assert files
    assert missing == set()


def test_the_wheel_holds_stubs_engines_and_type_markers(wheel: set[str]) -> None:
    assert "vedette/v1/stream_pb2.pyi" in wheel
    assert "vedette_engines/boxed/person/1/engine.toml" in wheel
    assert "vedette_engines/boxed/person/1/model.onnx" in wheel
    for package in ("vedette", "vedette_server", "vedette_client", "vedette_engines"):
        assert f"{package}/py.typed" in wheel


def test_the_wheel_holds_neither_tests_nor_benchmarks(wheel: set[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel if not name.split("/")[0].endswith(".dist-info")}
    assert tops == {"vedette", "vedette_server", "vedette_client", "vedette_engines"}
