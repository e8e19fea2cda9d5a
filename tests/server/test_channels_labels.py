"""The labels that rules may name: those of the channel's own engines where they are known, else those of any."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vedette_server.channels.labels import KnownLabels
from vedette_server.data.channel import ChannelRecord, SourceConfig, SourceStream
from vedette_server.data.config import EngineRef
from vedette_server.errors import NotFoundError


@dataclass
class Named:
    """A bundle, or what lists one, with labels."""

    labels: tuple[str, ...]

    @property
    def manifest(self) -> Named:
        return self

    @property
    def bundle(self) -> Named | None:
        return self if self.labels else None


@dataclass
class Shelf:
    """A catalogue of engines."""

    engines: dict[str, tuple[str, ...]] = field(default_factory=dict)
    looks: int = 0

    def list(self) -> list[Named]:
        self.looks += 1
        return [Named(labels) for labels in self.engines.values()]

    def resolve(self, name: str, _version: str) -> Named:
        if name not in self.engines:
            raise NotFoundError("ENGINE_NOT_FOUND", f"engine {name!r}", engine=name)
        return Named(self.engines[name])


def record(*engines: str) -> ChannelRecord:
    if not engines:
        return ChannelRecord("gate")
    stream = SourceStream(tuple(EngineRef(engine) for engine in engines))
    return ChannelRecord("gate", source=SourceConfig("rtsp://127.0.0.1/", stream))


def known(shelf: Shelf, now: list[float]) -> KnownLabels:
    engines: Any = shelf
    return KnownLabels(engines, lambda: now[0])


def test_a_channel_whose_engines_are_told_may_name_theirs_and_any_other_those_of_all() -> None:
    shelf = Shelf({"coco": ("person", "car"), "blobs": ("red", "car"), "broken": ()})
    labels = known(shelf, [0.0])
    assert labels(record("blobs")) == ("car", "red")
    assert labels(record("blobs", "coco")) == ("car", "person", "red")
    assert labels(record()) == ("car", "person", "red")
    assert labels(record("missing")) == labels(record()), "whoever calls the camera will say so"
    assert known(Shelf(), [0.0])(record()) == ()


def test_a_file_of_thousands_of_channels_costs_one_look_and_new_engines_are_seen_soon() -> None:
    shelf, now = Shelf({"coco": ("person",)}), [100.0]
    labels = known(shelf, now)
    for _ in range(1000):
        labels(record())
    assert shelf.looks == 1
    shelf.engines["blobs"] = ("red",)
    now[0] += 6
    assert labels(record()) == ("person", "red")
