"""The rule of imports, what the base install may need, and the bounds on files and functions."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "vedette": ROOT / "proto/vedette",
    "vedette_engines": ROOT / "engines/vedette_engines",
    "vedette_server": ROOT / "server/vedette_server",
    "vedette_client": ROOT / "client/vedette_client",
}
MAY_IMPORT = {
    "vedette": set(),
    "vedette_engines": set(),
    "vedette_server": {"vedette", "vedette_engines"},
    "vedette_client": {"vedette"},
}
# What comes with an extra only: a client's install has none of it.
EXTRAS_ONLY = (
    *("cv2", "onnx", "onnxconverter_common", "onnxruntime", "onnxscript", "onnxslim", "openvino", "netron"),
    *("pycocotools", "simplejpeg", "structlog", "psutil", "prometheus_client", "torch", "tensorrt", "tensorrt_rtx"),
    *("pynvml", "nvtx", "PyNvVideoCodec", "scipy", "shapely", "sqlalchemy", "alembic", "cryptography", "psycopg"),
    *("httpcore", "httpx", "paho"),
)
MOST_LINES = 400
MOST_FUNCTION_LINES = 60


def sources(package: str) -> Iterator[Path]:
    return (path for path in sorted(FOLDERS[package].rglob("*.py")) if "_pb2" not in path.name)


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Give the top-level package of every import, wherever in the file it stands, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield (node.module or "").partition(".")[0], node.lineno


def forbidden(package: str, code: str) -> list[tuple[str, int]]:
    ours = FOLDERS.keys() - MAY_IMPORT[package] - {package}
    return [(name, line) for name, line in imported(ast.parse(code)) if name in ours]


def long_functions(code: str) -> list[tuple[str, int]]:
    functions = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    lengths = ((node.name, (node.end_lineno or 0) - node.lineno + 1) for node in functions)
    return [(name, length) for name, length in lengths if length > MOST_FUNCTION_LINES]


@pytest.mark.parametrize("package", FOLDERS)
def test_a_package_imports_only_what_the_house_allows(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(package)
        for name, line in forbidden(package, path.read_text(encoding="utf-8"))
    ]
    assert wrong == []


def test_a_forbidden_import_is_seen_wherever_it_stands() -> None:
    assert forbidden("vedette_client", "def f():\n    from vedette_server.data import config") == [
        ("vedette_server", 2)
    ]
    assert forbidden("vedette_engines", "import vedette.v1.media_pb2 as m") == [("vedette", 1)]
    assert forbidden("vedette_server", "import vedette_engines, vedette.v1, numpy") == []


@pytest.mark.parametrize("package", FOLDERS)
def test_no_file_and_no_function_is_longer_than_the_house_bears(package: str) -> None:
    wrong = []
    for path in sources(package):
        code = path.read_text(encoding="utf-8")
        lines = code.count("\n")
        if lines > MOST_LINES:
            wrong.append(f"{path.relative_to(ROOT)} has {lines} lines")
        wrong += [f"{path.relative_to(ROOT)}: {name} has {length}" for name, length in long_functions(code)]
    assert wrong == []


def test_a_long_function_is_seen() -> None:
    assert long_functions("def f():\n" + "    a = 1\n" * 60) == [("f", 61)]


def without_extras(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process in which nothing of the extras can be imported."""
    prelude = f"""
import importlib.abc, importlib.util, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS_ONLY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {EXTRAS_ONLY!r} else real(name, package)
sys.path[:0] = {[str(folder.parent) for folder in FOLDERS.values()]!r}
"""
    return subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True, check=False)


def test_the_client_imports_nothing_of_the_extras() -> None:
    modules = [
        ".".join(path.relative_to(FOLDERS["vedette_client"].parent).with_suffix("").parts)
        for path in sources("vedette_client")
        if path.name != "__main__.py"
    ]
    done = without_extras(f"import importlib\nfor name in {modules!r}: importlib.import_module(name)")
    assert done.returncode == 0, done.stderr


def test_the_absence_of_the_extras_is_real() -> None:
    done = without_extras("import cv2")
    assert "No module named 'cv2'" in done.stderr


def test_a_server_command_without_its_extra_says_which_to_install() -> None:
    done = without_extras("from vedette_client.cli.main import main\nmain(['serve', '--port', '0'])")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert re.search(r"pip install 'vedette\[cpu\]'", done.stderr)


def test_the_commands_can_be_listed_without_any_extra() -> None:
    done = without_extras("from vedette_client.cli.main import main\nmain(['--help'])")
    assert done.returncode == 0, done.stderr
    for command in ("serve", "stream", "watch", "loadtest", "demo", "engine"):
        assert command in done.stdout


def test_the_client_package_alone_brings_the_library_in() -> None:
    done = without_extras(
        "import vedette_client, sys\nprint(sorted(n for n in sys.modules if n in ('av', 'rich', 'typer')))"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
