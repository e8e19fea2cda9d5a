"""Generate the typed Python stubs of the contract, beside their .proto files.

Run by `make proto`; `make check` runs it with ``--check`` and fails when the committed stubs differ.
Needs the ``test`` extra (grpcio-tools and mypy-protobuf).
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
STUBS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(out: Path) -> None:
    """Write the stubs of every .proto file below ``HERE`` to ``out``.

    Raises:
        SystemExit: protoc refused a file; it has printed why.
    """
    sources = sorted(str(path.relative_to(HERE)) for path in HERE.rglob("*.proto"))
    scripts = Path(sysconfig.get_path("scripts"))
    arguments = [
        "protoc",
        f"--proto_path={HERE}",
        f"--proto_path={WELL_KNOWN}",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
        *sources,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")


def differing(out: Path) -> list[str]:
    """Return the stubs in ``out`` that are missing beside the .proto files, or not the same."""
    found = (path for pattern in STUBS for path in out.rglob(pattern))
    names = sorted(str(path.relative_to(out)) for path in found)
    return [n for n in names if not (HERE / n).exists() or not filecmp.cmp(out / n, HERE / n, shallow=False)]


def main() -> int:
    """Generate in place, or with ``--check`` compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        generate(out)
        stale = differing(out)
        if check and stale:
            print("stubs differ, run `make proto`:", *stale, sep="\n  ", file=sys.stderr)
            return 1
        for name in stale:
            shutil.copy(out / name, HERE / name)
    print(f"{len(stale)} stubs {'differ' if check else 'written'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
