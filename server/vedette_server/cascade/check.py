"""Refuse stages that cannot look closer. Reads manifests: not for the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from vedette_server.cascade.seat import check_task
from vedette_server.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette_engines.bundle import Bundle
    from vedette_server.data.channel import StageConfig


class Bundles(Protocol):
    """Finds engines; `execute.catalogue.Catalogue` is one."""

    def resolve(self, name: str, version: str) -> Bundle:
        """Find a version; an empty one means the newest."""
        ...


def check_stages(stages: Sequence[StageConfig], catalogue: Bundles) -> None:
    """Refuse stages whose engines are missing or of the wrong kind.

    Args:
        stages: The stages of one channel, whose numbers were checked (`channels.check`).
        catalogue: The server's engines: `Engines.catalogue`.

    Raises:
        InvalidError: ENGINE_NOT_FOUND, ENGINE_REFUSED: it does not exist, or is bad; INVALID_STAGE: it is a detector,
            or a second embedder for the same objects: a detection carries one vector. Its `field` says where.
    """
    embedders: list[StageConfig] = []
    for index, stage in enumerate(stages):
        field = f"stages[{index}].engine"
        try:
            bundle = catalogue.resolve(stage.engine.name, stage.engine.version)
        except NotFoundError as error:
            raise InvalidError(error.reason, f"{field}: {error.message}", field=field) from error
        check_task(bundle.name, bundle.manifest.task, field)
        if bundle.manifest.task == "embedder":
            for other in embedders:
                if not (stage.labels and other.labels) or set(stage.labels) & set(other.labels):
                    raise InvalidError(
                        "INVALID_STAGE",
                        f"{field} is {bundle.name!r}, an embedder, as {other.engine.name!r}; allowed: one embedder "
                        "for each label",
                        field=field,
                    )
            embedders.append(stage)
