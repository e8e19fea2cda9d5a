"""Refuse a channel whose engines are not there. Reads manifests: not for the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette_server.cascade.check import check_stages
from vedette_server.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from vedette_server.cascade.check import Bundles
    from vedette_server.data.channel import ChannelRecord


def check_engines(record: ChannelRecord, catalogue: Bundles) -> None:
    """Refuse engines of a channel's source, and of its stages, that cannot be run.

    Args:
        record: The channel, whose numbers were checked (`channels.check`).
        catalogue: The server's engines: `Engines.catalogue`.

    Raises:
        InvalidError: ENGINE_NOT_FOUND, ENGINE_REFUSED: it does not exist, or is bad; or what `check_stages` refuses.
            Its `field` says where.
    """
    if record.source is not None:
        for index, engine in enumerate(record.source.stream.engines):
            field = f"source.stream.engines[{index}]"
            try:
                catalogue.resolve(engine.name, engine.version)
            except NotFoundError as error:
                raise InvalidError(error.reason, f"{field}: {error.message}", field=field) from error
    check_stages(record.stages, catalogue)
