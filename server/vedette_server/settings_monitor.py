"""What the server can be told of monitoring: channels, the store of events, evidence, sinks; see `settings.py`."""
# ruff: noqa: RUF009 - `option` is `dataclasses.field` under a name of ours, as immutable as that

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the kinds of options are read from the annotations

from vedette_server.settings_declaring import option

MIB = 1024 * 1024
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """Tracks, rules, camera health and events; on where a folder or a file of channels is given."""

    state_dir: Path | None = option(
        None, "Folder of events, evidence and channels; one server at a time uses it.", flag="--state"
    )
    channels_file: Path | None = option(
        None, "Channels with their rules, TOML; read again when it changes.", flag="--channels"
    )
    source_dirs: tuple[Path, ...] = option(
        (), "Folders below which a channel's source may be a file.", flag="--source-dir", separator=":"
    )
    source_ca: Path | None = option(
        None, "Authorities that https and rtsps cameras must be signed by, PEM; none: any certificate is taken."
    )
    source_hosts: tuple[str, ...] = option(
        (),
        "Hosts that may be called for a source: names with *, networks; none: all but loopback and link-local ones.",
        flag="--source-host",
    )
    source_playlists: bool = option(
        False, "Open HLS playlists of sources; they may name any host.", flag="--source-playlists"
    )
    known_only: bool = option(
        False, "Take only streams of channels that were made: others would be analysed without rules and masks."
    )
    max_sources: int = option(256, "Most cameras that the server calls itself.", low=0, high=10_000)
    max_crops: int = option(64, "Crops for second stages under way at once.", low=1, high=4096)
    max_watchers: int = option(256, "Most watchers at once.", low=1, high=100_000)

    @property
    def enabled(self) -> bool:
        """Whether anything is monitored."""
        return self.state_dir is not None or self.channels_file is not None


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where events are kept, and for how long."""

    url: str = option(
        "auto",
        "SQLAlchemy's URL, sqlite:///PATH or postgresql://...; auto: events.db in the folder of the state.",
        flag="--store",
    )
    timeout_s: float = option(
        5.0, "How long a lock of the database is waited for.", unit="s", low=0.1, high=300, flag="--store-timeout-s"
    )
    queue: int = option(
        8192, "Changes of events that wait to be kept; beyond, updates are thinned.", low=64, flag="--store-queue"
    )
    max_age_s: float = option(
        2_592_000.0, "Events older than this are removed; 0: never.", unit="s", low=0, flag="--store-max-age-s"
    )
    max_events: int = option(
        100_000, "Events of one channel; beyond, the oldest are removed; 0: no limit.", low=0, flag="--store-max-events"
    )
    retain_interval_s: float = option(
        60.0,
        "How often is looked for what is not kept any more.",
        unit="s",
        low=0.1,
        high=86_400,
        flag="--store-retain-interval-s",
    )


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """Snapshots, clips and recordings."""

    enabled: bool = option(True, "Keep evidence at all.", flag="--evidence")
    dir: Path | None = option(None, "Where it lies; none: evidence in the folder of the state.", flag="--evidence-dir")
    pre_s: float = option(
        5.0, "A clip begins so long before its event.", unit="s", low=0, high=600, flag="--evidence-pre-s"
    )
    post_s: float = option(
        5.0, "A clip ends so long after its event.", unit="s", low=0, high=600, flag="--evidence-post-s"
    )
    max_clip_s: float = option(120.0, "Longest clip.", unit="s", low=1, high=3600, flag="--evidence-max-clip-s")
    ring_bytes: int = option(
        16 * MIB,
        "Packets held of one channel for what may become a clip.",
        unit="bytes",
        low=64 * 1024,
        flag="--evidence-ring-bytes",
    )
    max_bytes: int = option(
        10 * GIB,
        "Files of one channel; beyond, the oldest are removed; 0: no limit.",
        unit="bytes",
        low=0,
        flag="--evidence-max-bytes",
    )
    min_free_bytes: int = option(
        256 * MIB, "Less room on the disk counts as full.", unit="bytes", low=0, flag="--evidence-min-free-bytes"
    )
    threads: int = option(1, "Threads that write evidence, at low priority.", low=1, high=64, flag="--evidence-threads")
    max_jobs: int = option(
        512, "Clips and snapshots under way at once; more are refused.", low=1, high=100_000, flag="--evidence-max-jobs"
    )
    max_transcodes: int = option(
        1, "Clips transcoded for browsers at once.", low=1, high=64, flag="--evidence-max-transcodes"
    )


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """Where events are delivered to."""

    file: Path | None = option(None, "Sinks, TOML: webhooks, MQTT, files of JSON lines.", flag="--sinks")
