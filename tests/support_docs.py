"""The pages of the documentation as tests run them: block by block, in one folder, beside a server."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
# `run` and `python run` blocks are executed, a `serve` block is a server for those that follow it. The
# others are not run here: they install, need a container engine or make, which sets up an environment.
MARKS = {"sh run", "sh serve", "python run", "sh install", "sh docker", "sh make", "python", "toml", "proto", ""}
TOOLS = ("curl", "openssl")
_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PATHS = os.pathsep.join(str(ROOT / folder) for folder in ("proto", "server", "engines", "client"))


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its mark and what is in it."""

    mark: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(mark.strip(), text) for mark, text in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def environment(folder: Path) -> dict[str, str]:
    """A shell's environment in which `vedette` and `python` are those of this test run."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VEDETTE_")}
    bin_folder = folder / ".bin"
    bin_folder.mkdir(exist_ok=True)
    for name, arguments in {"python": "", "vedette": "-c 'from vedette_client.cli.main import main; main()' "}.items():
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments}"$@"\n', encoding="utf-8")
        script.chmod(0o755)
    return kept | {
        "HOME": str(folder),
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": _PATHS,
        "PYTHONUNBUFFERED": "1",
    }


class DocServer:
    """A server that a page starts, on free ports of loopback."""

    def __init__(self, command: str, folder: Path) -> None:
        free = {"VEDETTE_SERVER_PORT": "0", "VEDETTE_METRICS_PORT": "0", "VEDETTE_ENGINES_TUNE_BUDGET_S": "0.2"}
        self.process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=folder,
            env=environment(folder) | free,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self.ports: dict[str, str] = {}
        self._told = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._told.wait(60) or len(self.ports) < 2:
            self.stop()
            raise AssertionError(f"{command}: {''.join(self.lines)}")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            found = re.search(r"vedette: (serving|metrics) on .*:(\d+)$", line.rstrip())
            if found:
                self.ports[{"serving": ":50051", "metrics": ":9464"}[found[1]]] = f":{found[2]}"
            if len(self.ports) == 2:
                self._told.set()
        self._told.set()

    def at(self, text: str) -> str:
        """Put this server's ports where a text has the usual ones."""
        for usual, port in self.ports.items():
            text = text.replace(usual, port)
        return text

    def stop(self) -> int:
        """Ask the server to end, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self._reader.join(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@contextlib.contextmanager
def served(command: str, folder: Path) -> Iterator[DocServer]:
    server = DocServer(command, folder)
    try:
        yield server
    finally:
        code = server.stop()
    assert code == 0, "".join(server.lines)


def run_page(page: Path, folder: Path) -> list[str]:
    """Run a page's blocks in order; returns what each run block printed.

    Raises:
        AssertionError: A block failed, or a server did not end in good order.
    """
    outputs: list[str] = []
    with contextlib.ExitStack() as stack:
        server: DocServer | None = None
        for block in blocks(page):
            if block.mark == "sh serve":
                stack.close()
                server = stack.enter_context(served(block.text.strip(), folder))
            elif block.mark in {"sh run", "python run"}:
                _need_tools(block.text)
                if server is None and "50051" in block.text:
                    server = stack.enter_context(served("vedette serve", folder))
                outputs.append(_run(block, server, folder))
    return outputs


def _run(block: Block, server: DocServer | None, folder: Path) -> str:
    text = server.at(block.text) if server else block.text
    usual = {"VEDETTE_SERVER": server.at("127.0.0.1:50051")} if server else {}
    command = ["bash", "-euo", "pipefail", "-c", text] if block.mark == "sh run" else [sys.executable, "-c", text]
    done = subprocess.run(
        command, cwd=folder, env=environment(folder) | usual, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, f"{text}\n--- ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _need_tools(text: str) -> None:
    for tool in TOOLS:
        if re.search(rf"^{tool}\b", text, re.MULTILINE) and shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
