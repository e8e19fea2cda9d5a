"""What tests of the store share: events, a PostgreSQL of their own on loopback, a store that fails where it is told."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import event as sqlalchemy_event

from vedette_server.data.event import Event, EventKind, EventState, Evidence, EvidenceState, TrailPoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

DAY_S = 86400.0
BEGIN_S = 1_790_000_000.0


def an_event(name: str = "e1", *, channel: str = "gate", at_s: float = 0.0, **more: Any) -> Event:
    """An event that began at BEGIN_S + at_s; it goes on unless `state` says otherwise."""
    start_s = BEGIN_S + at_s
    fields: dict[str, Any] = {
        "event_id": name,
        "channel": channel,
        "kind": EventKind.ENTER,
        "rule": "yard",
        "state": EventState.ACTIVE,
        "start_s": start_s,
        "update_s": start_s,
        "label": "person",
        "track_ids": (f"{name}-t",),
        "peak_score": 0.75,
        "box": (0.1, 0.2, 0.3, 0.4),
        "measures": {"dwell_s": 1.5},
        "trail": (TrailPoint(start_s, 0.2, 0.4),),
    }
    return Event(**(fields | more))


def ended(name: str = "e1", *, at_s: float = 0.0, after_s: float = 5.0, **more: Any) -> Event:
    """The same event, over."""
    end_s = BEGIN_S + at_s + after_s
    return an_event(name, at_s=at_s, **({"state": EventState.ENDED, "update_s": end_s, "end_s": end_s} | more))


def ready(size_bytes: int = 100) -> Evidence:
    return Evidence(EvidenceState.READY, size_bytes, "ab" * 32, "video/mp4")


class InjectedError(Exception):
    """A failure that a test asked for."""


class Failing:
    """Makes the n-th statement or commit of an engine fail, before it is done or after it; 0: none."""

    def __init__(self, engine: Engine) -> None:
        self.at = 0
        self.count = 0
        sqlalchemy_event.listen(engine, "before_cursor_execute", self._step)
        sqlalchemy_event.listen(engine, "after_cursor_execute", self._step)
        sqlalchemy_event.listen(engine, "commit", self._step)

    def _step(self, *_about: object) -> None:
        self.count += 1
        if self.count == self.at:
            raise InjectedError(f"step {self.count}")


def postgres_binaries() -> Path | None:
    """The folder with `initdb` and `postgres`; None: there is none."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    places += [Path(on_path).resolve().parent] if on_path else []
    return next((place for place in places if (place / "postgres").exists() and (place / "initdb").exists()), None)


def _other_user() -> list[str]:
    """What a command begins with so that it does not run as root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return []
    nobody = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]


class Postgres:
    """A server of PostgreSQL on loopback, in a temporary folder; started and stopped at will."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
        self._call("initdb", "--username=vedette", "--auth=trust", "--encoding=UTF8", "--no-sync", "-D", self._data)

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def url(self, name: str) -> str:
        return f"postgresql://vedette@127.0.0.1:{self.port}/{name}"

    def make_database(self, name: str) -> str:
        self._call("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "vedette", name)
        return self.url(name)

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        log = str(self._folder / "log")
        self._call("pg_ctl", "start", "-w", "-D", self._data, "-l", log, "-o", options)

    def stop(self) -> None:
        self._call("pg_ctl", "stop", "-w", "-m", "immediate", "-D", self._data)

    def _call(self, name: str, *arguments: str) -> None:
        command = [*_other_user(), str(self._binaries / name), *arguments]
        # A file and no pipe: what pg_ctl leaves running would hold a pipe open.
        with (self._folder.parent / f"{self._folder.name}.out").open("ab") as output:
            subprocess.run(
                command,
                check=True,
                cwd="/",
                stdout=output,
                stderr=output,
                env={**os.environ, "LC_ALL": "C"},
                timeout=60,
            )


@contextmanager
def a_postgres() -> Iterator[Postgres | None]:
    """A running server of PostgreSQL; None where it is not installed."""
    binaries = postgres_binaries()
    if binaries is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="vedette-pg-") as outer:
        Path(outer).chmod(0o755)
        folder = Path(outer) / "pg"
        folder.mkdir()
        server = Postgres(binaries, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
