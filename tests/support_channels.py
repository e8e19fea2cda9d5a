"""Channels of all kinds for tests, a disk that fails when told to, and the real ChannelService on loopback."""

from __future__ import annotations

import errno
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import grpc.aio
from hypothesis import strategies as st

from vedette.v1 import channel_pb2_grpc
from vedette_server.channels.catalogue import ChannelCatalogue
from vedette_server.channels.check import check_record
from vedette_server.channels.kept import PrivateDisk
from vedette_server.channels.record_tree import KINDS
from vedette_server.data.channel import (
    ChannelRecord,
    RecordingConfig,
    RetentionConfig,
    SourceConfig,
    SourceStream,
    StageConfig,
)
from vedette_server.data.config import DeliveryPolicy, EngineRef
from vedette_server.data.event import EventKind
from vedette_server.data.rules import (
    Anchor,
    CrossDirection,
    Dwell,
    EvidencePolicy,
    GateConfig,
    GateMode,
    HealthConfig,
    Line,
    Mask,
    MaskKind,
    Rule,
    ScheduleSpan,
    TrackingConfig,
    WatchConfig,
    Zone,
)
from vedette_server.rpc.auth import Authenticator
from vedette_server.rpc.channel_service import ChannelService
from vedette_server.rpc.pieces import PATIENCE_S
from vedette_server.settings import AuthSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from vedette_server.channels.seams import Recorded
    from vedette_server.channels.status import ChannelStatusView

WAIT_S = 20.0
YARD = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
SECRET_URL = "rtsp://viewer:hunter2@10.0.0.7:554/stream1"
SHOWN_URL = "rtsp://viewer:***@10.0.0.7:554/stream1"


def record_of(name: str = "gate", url: str = "") -> ChannelRecord:
    """One channel with a zone, a line and a rule; with an address also a source."""
    rule = Rule("loitering", Dwell("yard", 30.0), labels=("person",), cool_down_s=60.0)
    watch = WatchConfig(zones=(Zone("yard", YARD),), lines=(Line("door", YARD[:2]),), rules=(rule,))
    source = SourceConfig(url, SourceStream((EngineRef("person"),))) if url else None
    return ChannelRecord(name, watch=watch, source=source)


# -- all that there can be --

_names = st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True)
_texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
_shares = st.floats(0, 1, width=32)
_numbers = st.floats(0.001, 1000)
# To the millisecond, up to a day: a Duration holds them exactly.
_seconds = st.integers(0, 86_400_000).map(lambda ms: ms / 1000)
_points = st.lists(st.tuples(_shares, _shares), min_size=2, max_size=5).map(tuple)
_labels = st.lists(_texts, max_size=3, unique=True).map(tuple)
_engines = st.builds(EngineRef, _names, st.just("") | _names)
_spans = st.builds(
    ScheduleSpan,
    st.lists(st.integers(1, 7), max_size=7).map(tuple),
    st.integers(0, 1439),
    st.integers(1, 1440),
)
_FIELDS = {
    "zone": _names | st.just(""),
    "line": _names,
    "direction": st.sampled_from(CrossDirection),
    "at_least_s": _seconds,
    "distance": _numbers,
    "allowed_degrees": st.floats(0, 360),
    "tolerance_degrees": st.floats(1, 179),
    "min_speed": _numbers,
    "above": st.none() | _numbers,
    "below": st.none() | _numbers,
    "at_most": st.none() | st.integers(0, 100_000),
}


def _condition(kind: str) -> st.SearchStrategy[object]:
    made = KINDS[kind]
    maybe = st.none() if kind == "occupancy" else st.nothing()
    known = _FIELDS | {"at_least": maybe | st.integers(0, 100_000)}
    return st.builds(made, **{name: known[name] for name in made.__dataclass_fields__})


_rules = st.builds(
    Rule,
    name=_names,
    condition=st.one_of([_condition(kind) for kind in KINDS]),
    labels=_labels,
    min_score=_shares,
    min_time_s=_seconds,
    schedule=st.lists(_spans, max_size=2).map(tuple),
    cool_down_s=_seconds,
    anchor=st.sampled_from(Anchor),
    hysteresis=st.floats(0, 0.2),
    evidence=st.booleans(),
)
_camera_kinds = [kind.value for kind in EventKind if kind.of_camera]
_watches = st.builds(
    WatchConfig,
    time_zone=st.sampled_from(["UTC", "Europe/Berlin"]),
    zones=st.lists(st.builds(Zone, _names, _points), max_size=3, unique_by=lambda zone: zone.name).map(tuple),
    lines=st.lists(st.builds(Line, _names, _points), max_size=3, unique_by=lambda line: line.name).map(tuple),
    rules=st.lists(_rules, max_size=4).map(tuple),
    masks=st.lists(st.builds(Mask, st.sampled_from(MaskKind), _points), max_size=3).map(tuple),
    evidence=st.sampled_from(EvidencePolicy),
    tracking=st.builds(TrackingConfig, st.booleans(), _seconds, st.integers(1, 1000)),
    gate=st.builds(GateConfig, st.sampled_from(GateMode), st.floats(0, 1), st.floats(0, 100)),
    health=st.builds(
        HealthConfig, st.booleans(), st.frozensets(st.sampled_from(_camera_kinds), max_size=4), _seconds, _seconds
    ),
    width_metres=st.none() | _numbers,
    revision=st.integers(0, 2**63 - 1),
)
_streams = st.builds(
    SourceStream,
    engines=st.lists(_engines, min_size=1, max_size=3).map(tuple),
    policy=st.sampled_from(DeliveryPolicy),
    max_fps=st.none() | _numbers,
    max_age_s=st.none() | _seconds,
    min_score=st.none() | _shares,
    iou=st.none() | _shares,
    classes=_labels,
    regions=st.lists(_points, max_size=2).map(tuple),
    priority=st.integers(1, 100),
    max_detections=st.none() | st.integers(1, 1000),
    rotation_degrees=st.sampled_from([0, 90, 180, 270]),
)
_counts = st.none() | st.integers(1, 2**63 - 1)
records = st.builds(
    ChannelRecord,
    name=_names,
    display_name=st.just("") | _texts,
    watch=_watches,
    stages=st.lists(st.builds(StageConfig, _engines, _labels, st.floats(0, 1), _seconds), max_size=2).map(tuple),
    source=st.none()
    | st.builds(SourceConfig, st.sampled_from(["rtsp://h/1", "file:///a"]), _streams, st.booleans(), st.booleans()),
    recording=st.builds(RecordingConfig, st.booleans(), _seconds),
    retention=st.builds(RetentionConfig, st.none() | _seconds, _counts, _counts),
)


# -- a disk that fails, and one that counts --


class FailingDisk(PrivateDisk):
    """Fails at one of its steps, once it is told which; a write that fails leaves half of the file."""

    fails_at = ""

    def _step(self, name: str) -> None:
        if name == self.fails_at:
            raise OSError(errno.ENOSPC, "no space left")

    def write(self, path: Path, data: bytes) -> None:
        if self.fails_at == "write":
            super().write(path, data[: len(data) // 2])
        self._step("write")
        super().write(path, data)

    def sync(self, path: Path) -> None:
        self._step("sync folder" if path.is_dir() else "sync file")
        super().sync(path)

    def rename(self, source: Path, target: Path) -> None:
        self._step("rename")
        super().rename(source, target)


def catalogue_of(kept: Path | None = None, file: Path | None = None, **more: object) -> ChannelCatalogue:
    """A catalogue with the real checks."""
    return ChannelCatalogue(kept, file, check_record, **more)  # type: ignore[arg-type]


def with_rule(record: ChannelRecord, rule: Rule) -> ChannelRecord:
    """The same channel with one rule, another one."""
    return replace(record, watch=replace(record.watch, rules=(rule,)))


# -- the service --


@dataclass
class Parts:
    """What the service asks, standing in for cameras, the store of evidence and sessions."""

    statuses: dict[str, ChannelStatusView] = field(default_factory=dict)
    pictures: Callable[[str, bool, int], tuple[bytes, float]] = lambda *_: (b"jpeg", 1.5)
    recorded: Callable[[str, float, bool, Callable[[], bool]], Recorded] | None = None
    forgotten: list[str] = field(default_factory=list)
    left: int = 0

    def take(self, channel: str, annotated: bool, max_width: int) -> tuple[bytes, float]:
        return self.pictures(channel, annotated, max_width)

    @contextmanager
    def seek(self, channel: str, time_s: float, playable: bool, is_wanted: Callable[[], bool]) -> Iterator[Recorded]:
        assert self.recorded is not None
        found = self.recorded(channel, time_s, playable, is_wanted)
        try:
            yield found
        finally:
            self.left += 1


@asynccontextmanager
async def channel_server(
    catalogue: ChannelCatalogue, parts: Parts, tokens: Path | None = None, patience_s: float = PATIENCE_S
) -> AsyncIterator[tuple[str, ChannelService]]:
    """Serve the real service on loopback; give where, and the service."""
    service = ChannelService(
        catalogue,
        Authenticator(AuthSettings(tokens_file=tokens)),
        parts.statuses.get,
        parts,
        parts,
        parts.forgotten.append,
        streamed=lambda: list(parts.statuses),
        patience_s=patience_s,
    )
    server = grpc.aio.server()
    channel_pb2_grpc.add_ChannelServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", service
    finally:
        await server.stop(0)
        service.close()
