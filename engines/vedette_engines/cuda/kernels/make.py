"""Write the PTX of every kernel anew: `python -m vedette_engines.cuda.kernels.make`, with `nvcc` on the path."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vedette_engines.cuda.kernels import OLDEST_ARCHITECTURE, OLDEST_PTX, signed

FOLDER = Path(__file__).parent
_TRIED = ("sm_75", "sm_80", "sm_90", "sm_120")
_VERSION = re.compile(r"^\.version \d+\.\d+$", re.MULTILINE)


def compile_to_ptx(source: Path, nvcc: str) -> str:
    """Compile one CUDA source for the oldest architecture.

    nvcc writes its own, newest version of PTX, which drivers that are older than it refuse. Nothing new is used, so
    the version is set back; that the assembler takes it then for old and new GPUs is tried.

    Raises:
        subprocess.CalledProcessError: The compiler or the assembler refuses it; it has said why.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "kernel.ptx"
        # Fixed arguments, and a compiler that whoever calls has chosen.
        command = [nvcc, "-ptx", "-O3", f"-arch={OLDEST_ARCHITECTURE}", "-o", str(target), str(source)]
        subprocess.run(command, check=True, cwd=folder)  # noqa: S603
        code = _VERSION.sub(f".version {OLDEST_PTX}", target.read_text(encoding="utf-8"))
        target.write_text(code, encoding="utf-8")
        for architecture in _TRIED:
            command = [nvcc, "-cubin", f"-arch={architecture}", "-o", str(target.with_suffix(".cubin")), str(target)]
            subprocess.run(command, check=True, cwd=folder)  # noqa: S603
        return code


def main() -> int:
    """Compile all kernels; tell how many."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        sys.stderr.write("nvcc is not on the path: it comes with the CUDA toolkit\n")
        return 2
    sources = sorted(FOLDER.glob("*.cu"))
    for source in sources:
        code = signed(compile_to_ptx(source, nvcc), source.read_text(encoding="utf-8"))
        source.with_suffix(".ptx").write_text(code, encoding="utf-8")
    sys.stdout.write(f"{len(sources)} kernels compiled for {OLDEST_ARCHITECTURE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
