"""What the puller is told by the server's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_server.pull.hosts import Hosts

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class PullOptions:
    """How cameras are called, and what may be opened.

    Attributes:
        folders: `file:` URLs must lie below one of these; empty: no file may be opened.
        max_channels: Most cameras that are called at once; each holds a thread.
        timeout_s: How long each step of opening, and every read, may take.
        first_wait_s: How long a lost camera is left alone before the first new try; doubles with each failure.
        longest_wait_s: The longest such wait.
        good_stretch_s: After so long a stretch of packets the wait begins at the first one again.
        max_age_s: A live frame older than this is skipped where the channel does not say.
        max_packet_bytes: Larger packets are left out, and told as dropped by the client.
        ca_file: Certificates that https and rtsps servers must be signed by; None: any is taken, since cameras mostly
            sign their own.
        hosts: Names with `*` and networks that may be called; empty: every host but loopback and link-local ones.
        playlists: Open HLS playlists; they may name any host.

    Raises:
        SettingsError: One of the hosts is none.
    """

    folders: tuple[Path, ...] = ()
    max_channels: int = 256
    timeout_s: float = 10.0
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    good_stretch_s: float = 30.0
    max_age_s: float = 2.0
    max_packet_bytes: int = 16 << 20
    ca_file: Path | None = None
    hosts: tuple[str, ...] = ()
    playlists: bool = False

    def __post_init__(self) -> None:
        Hosts.read(self.hosts)
