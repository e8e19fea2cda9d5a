"""Check the .proto files with buf: lint, and nothing that would break a client of an earlier contract.

Run by `make check`. The earlier contract is that of the newest release tag (`v*`); while there is none, that
before the last change of the .proto files. ``--against REVISION`` names another. buf comes from the npm
registry through npx; where node is absent, the check says so and lets pass.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = "1.75.0"
ROOT = Path(__file__).resolve().parent.parent
FILES = "proto/vedette/**/*.proto"


def git(*arguments: str) -> str:
    """Run git in the project and return what it prints; empty when it fails or is not there."""
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def earlier_contract() -> str:
    """Return the revision to compare with; empty when there is none."""
    tag = git("describe", "--tags", "--abbrev=0", "--match", "v*")
    if tag:
        return tag
    changes = git("log", "-2", "--format=%H", "--", f":(glob){FILES}").splitlines()
    return changes[-1] if changes else ""


def buf(*arguments: str) -> int:
    """Run buf and return its exit code."""
    return subprocess.run(_command(*arguments), cwd=ROOT, check=False, env=_environment()).returncode


def buf_is_there() -> bool:
    """Tell whether npx gets the buf that is wanted; what npx says otherwise goes to standard error."""
    done = subprocess.run(_command("--version"), cwd=ROOT, check=False, env=_environment(), stdout=subprocess.PIPE)
    return done.returncode == 0 and done.stdout.decode().strip() == VERSION


def _command(*arguments: str) -> list[str]:
    return ["npx", "--yes", "--loglevel=error", f"@bufbuild/buf@{VERSION}", *arguments]


def _environment() -> dict[str, str]:
    """Keep npm from remarks of its own, which are no findings."""
    return os.environ | {"npm_config_update_notifier": "false"}


def main() -> int:
    """Lint and compare; return how many of the two failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", metavar="REVISION", default="", help="compare with this revision")
    against = parser.parse_args().against or earlier_contract()
    if shutil.which("npx") is None:
        print("buf: skipped, npx (node) is not installed")
        return 0
    if not buf_is_there():
        print(f"buf: npx cannot get buf {VERSION}; is the npm registry in reach?", file=sys.stderr)
        return 1
    failed = int(buf("lint") != 0)
    if against:
        print(f"buf: lint done, comparing with {against[:12]}")
        failed += buf("breaking", "--against", f".git#ref={against},subdir=proto") != 0
    else:
        print("buf: lint done, no earlier contract in this copy to compare with")
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
