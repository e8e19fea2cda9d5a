"""Read CPU time and memory of processes from /proc (Linux, proc(5)); elsewhere there is nothing to tell."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its descendants use.

    Attributes:
        cpu_s: CPU time so far, seconds.
        rss_bytes: Resident memory.
    """

    cpu_s: float
    rss_bytes: int


class MachineLoad:
    """How busy all cores are, from one look to the next."""

    def __init__(self) -> None:
        self._last = _machine_ticks()

    def busy_share(self) -> float:
        """Tell the share since the look before, 0..1; 0 where there is no /proc."""
        busy, total = _machine_ticks()
        was_busy, was_total = self._last
        self._last = busy, total
        return (busy - was_busy) / (total - was_total) if total > was_total else 0.0


def usage(pid: int) -> Usage | None:
    """Tell what a process and its descendants use; None when it is gone or there is no /proc."""
    family = _family(pid)
    found = [one for one in map(_own_usage, family) if one is not None]
    if not found:
        return None
    return Usage(sum(one.cpu_s for one in found), sum(one.rss_bytes for one in found))


def find_listener(port: int) -> int | None:
    """Find the process of this machine that listens on a TCP port; None when it is not ours to see."""
    sockets = {f"socket:[{inode}]" for name in ("tcp", "tcp6") for inode in _listening(_PROC / "net" / name, port)}
    if not sockets:
        return None
    for folder in _PROC.glob("[0-9]*"):
        try:
            if any(os.readlink(link) in sockets for link in (folder / "fd").iterdir()):  # noqa: PTH115  a Path is dear here
                return int(folder.name)
        except OSError:
            continue  # gone, or another user's
    return None


def _listening(table: Path, port: int) -> list[str]:
    """Find the inodes of the sockets that listen on a port."""
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [row[9] for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port]


def _family(pid: int) -> list[int]:
    family, place = [pid], 0
    while place < len(family):
        for table in _PROC.glob(f"{family[place]}/task/*/children"):
            try:
                family += [int(child) for child in table.read_text().split()]
            except OSError:
                continue  # the thread is gone
        place += 1
    return family


def _own_usage(pid: int) -> Usage | None:
    try:
        # Field 2 is the command's name in brackets and may hold anything; utime and stime are fields 14 and 15.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        pages = int((_PROC / str(pid) / "statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"))


def _machine_ticks() -> tuple[int, int]:
    """Ticks in which cores were busy, and all ticks, since the machine's start."""
    try:
        ticks = [int(field) for field in (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return 0, 0
    idle = ticks[3] + ticks[4]  # idle and waiting for I/O
    return sum(ticks) - idle, sum(ticks)
