"""Channels whose engines are not there are refused before anything changes."""

from __future__ import annotations

from typing import Any

import pytest

from vedette_server.channels.engines import check_engines
from vedette_server.data.channel import ChannelRecord, SourceConfig, SourceStream, StageConfig
from vedette_server.data.config import EngineRef
from vedette_server.errors import InvalidError, NotFoundError


class Shelf:
    """Engines that there are: `person` in version 1."""

    def resolve(self, name: str, version: str) -> Any:
        if name != "person" or version not in {"", "1"}:
            raise NotFoundError("ENGINE_NOT_FOUND", f"engine {name!r} is not there; there are person")
        return name


def record(*engines: EngineRef, stages: tuple[StageConfig, ...] = ()) -> ChannelRecord:
    source = SourceConfig(url="rtsp://10.0.0.7/1", stream=SourceStream(engines=engines))
    return ChannelRecord("gate", source=source, stages=stages)


def test_engines_that_are_there_and_a_channel_without_a_source_pass() -> None:
    check_engines(record(EngineRef("person", ""), EngineRef("person", "1")), Shelf())
    check_engines(ChannelRecord("gate"), Shelf())


@pytest.mark.parametrize("wrong", [EngineRef("nosuch", ""), EngineRef("person", "7")])
def test_a_sources_engine_that_is_not_there_is_refused_with_its_place(wrong: EngineRef) -> None:
    with pytest.raises(InvalidError) as refused:
        check_engines(record(EngineRef("person", ""), wrong), Shelf())
    assert (refused.value.reason, refused.value.metadata["field"]) == ("ENGINE_NOT_FOUND", "source.stream.engines[1]")
    assert "there are person" in refused.value.message


def test_a_stages_engine_that_is_not_there_is_refused_as_well() -> None:
    with pytest.raises(InvalidError, match="stages"):
        check_engines(record(EngineRef("person", ""), stages=(StageConfig(EngineRef("nosuch", "")),)), Shelf())
